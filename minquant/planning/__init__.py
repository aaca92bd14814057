"""Planning: what fits, and what to choose. See README.md beside this file."""
