"""Hand a quantized model on: export, card, server."""
