"""Numerics: from weights to codes and back. See README.md beside this file."""
