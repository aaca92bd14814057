"""Lesson 04: measuring the damage."""
