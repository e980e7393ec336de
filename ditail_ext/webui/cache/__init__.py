"""What is cached between generations: the keys, the LRU in memory, the folder on disk.

Others import these modules, and nothing else of the room.
"""

__all__ = ["disk", "identity", "keys", "memory"]
