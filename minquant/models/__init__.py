"""Whole models: load, calibrate, quantize, fold, rotate and pack them."""
