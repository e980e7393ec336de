"""Diffusion Cocktail (Ditail, arXiv 2312.08873): mix Stable Diffusion checkpoints.

Importing this package loads neither torch nor a host.
"""

__version__ = "0.2.0"
