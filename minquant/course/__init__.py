"""Course: what exists for the lessons. See README.md beside this file."""
