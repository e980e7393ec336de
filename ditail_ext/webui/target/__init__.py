"""The target checkpoint at work: the host's sampler, started at the source's latent and injected at every evaluation.

Others import these modules, and nothing else of the room.
"""

__all__ = ["batch", "features", "injected", "mix", "region_mask", "sampling", "surroundings"]
