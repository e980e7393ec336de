"""The controls, and everybody else who reads the table of settings: paste, API routes, axes of the X/Y/Z plot.

Others import these modules, and nothing else of the room.
"""

__all__ = ["api", "controls", "layout", "paste", "wiring", "xyz"]
