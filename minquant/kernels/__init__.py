"""Packed weights, and how to multiply by them. Importing it does not load triton."""
