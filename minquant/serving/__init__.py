"""Serving: hand a model on. See README.md beside this file."""
