"""What several lessons draw, and what they draw it with."""
