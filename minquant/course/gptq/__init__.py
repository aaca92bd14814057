"""Lesson 06: GPTQ."""
