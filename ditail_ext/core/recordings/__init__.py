"""Which levels are recorded when, and where their banks are kept: beside the UNet, or in pinned memory."""

from .bank_cache import BankCache, BankSlot
from .device_memory import free_bytes, is_out_of_memory
from .pinned_memory import PinnedBank, PinnedMemory
from .prefetch import PrefetchingCache
from .recorder import RunSource, SourcePass, SourceRecorder, rows_worth_a_call

__all__ = [
    "BankCache",
    "BankSlot",
    "PinnedBank",
    "PinnedMemory",
    "PrefetchingCache",
    "RunSource",
    "SourcePass",
    "SourceRecorder",
    "free_bytes",
    "is_out_of_memory",
    "rows_worth_a_call",
]
