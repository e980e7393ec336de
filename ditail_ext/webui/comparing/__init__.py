"""A finished picture beside its content and beside what the target makes alone of the same start.

Others import these modules, and nothing else of the room.
"""

__all__ = ["comparison", "runs"]
