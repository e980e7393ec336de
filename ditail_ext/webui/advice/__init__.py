"""What Ditail can say before a generation: what it would do, which source suits a picture, how well it inverts.

Others import these modules, and nothing else of the room.
"""

__all__ = ["origin", "preview", "question", "sentence", "situation", "suggestion"]
