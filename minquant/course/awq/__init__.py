"""Lesson 07: AWQ."""
