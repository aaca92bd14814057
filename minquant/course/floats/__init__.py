"""Lesson 01: numbers are bits."""
