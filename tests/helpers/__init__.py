"""What several tests need: small models, a seeded layer, a browser."""
