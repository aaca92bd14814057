"""Methods: ways to quantize one matrix. See README.md beside this file."""
