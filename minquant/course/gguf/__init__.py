"""Lesson 13: a file of llama.cpp, byte by byte."""
