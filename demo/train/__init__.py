"""How the demonstration's checkpoints are trained: `python -m demo.train`."""
