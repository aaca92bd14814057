"""Lesson 09: QLoRA."""
