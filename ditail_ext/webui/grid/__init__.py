"""The m x m sheet: every model's content in every model's style, cell by cell.

Others import these modules, and nothing else of the room.
"""

__all__ = ["announced", "controls", "grid"]
