"""minquant: quantize language models, every method from scratch.

Each module is one idea and opens with it; the README lists them in reading order.
"""
