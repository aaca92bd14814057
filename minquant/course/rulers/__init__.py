"""rulers."""
