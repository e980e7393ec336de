"""The source checkpoint at work: it inverts the picture, or generates it.

Others import these modules, and nothing else of the room.
"""

__all__ = ["at_work", "generator", "inverter", "models", "prompts", "run_request"]
