"""Lesson 12: a real model."""
