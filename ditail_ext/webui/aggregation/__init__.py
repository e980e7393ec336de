"""Further checkpoints, whose latents are merged with the target's in the first steps (AMDM, arXiv 2410.01262).

Others import these modules, and nothing else of the room.
"""

__all__ = ["asked", "merged"]
