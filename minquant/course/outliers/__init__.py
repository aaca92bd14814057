"""Lesson 05: outliers, LLM.int8() and SmoothQuant."""
