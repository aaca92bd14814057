"""Measure: what did quantizing cost? See README.md beside this file."""
