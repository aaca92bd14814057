"""Lesson 10: packing and the Triton kernel."""
