"""What fits in memory, how fast it can be, and which file to take."""
