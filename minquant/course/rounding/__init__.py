"""Lesson 02: rounding."""
