"""What a person or an API client asks for: arguments by name and position, pictures and masks, checked.

Others import these modules, and nothing else of the room.
"""

__all__ = ["arguments", "pictures", "presets"]
