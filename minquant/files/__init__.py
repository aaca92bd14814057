"""Formats on disk that know tensors, and no models."""
