"""Files: formats on disk. See README.md beside this file."""
