"""Models: whole models. See README.md beside this file."""
