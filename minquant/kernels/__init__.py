"""Kernels: products from packed codes. See README.md beside this file."""
