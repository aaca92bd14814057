"""The quantization methods, one file for each."""
