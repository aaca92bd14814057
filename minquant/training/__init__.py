"""Adapters, fine-tuning, and quantization-aware training."""
