"""low_bits."""
