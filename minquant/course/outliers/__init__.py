"""outliers."""
