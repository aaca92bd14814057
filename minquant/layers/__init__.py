"""Layers that stand where nn.Linear stood: of codes, and with adapters beside them."""
