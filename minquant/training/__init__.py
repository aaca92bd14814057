"""Training: teach a quantized model. See README.md beside this file."""
