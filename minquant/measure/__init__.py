"""What quantizing cost: perplexity, KL, probes, and how sure a number is."""
