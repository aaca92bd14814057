"""Lesson 08: NF4 and double quantization."""
