"""Layers: torch modules that keep codes. See README.md beside this file."""
