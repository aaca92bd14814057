"""Lesson 03: many short rulers."""
