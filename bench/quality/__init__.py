"""Structure against style on held-out scenes: `python -m bench.quality`."""
