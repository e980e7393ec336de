"""Checkpoint files are looked at before anything is touched."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ditail_ext.errors import CheckpointError


class TestHeader:
    @pytest.fixture
    def read(self, host: Any) -> Any:
        return host.load("host.checkpoints").read_header

    def write(self, path: Path, entries: dict[str, Any], data: bytes) -> Path:
        header = json.dumps(entries).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + data)
        return path

    def test_tensors_are_listed_without_metadata(self, read: Any, tmp_path: Path):
        entries = {"__metadata__": {"a": "b"}, "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        assert list(read(self.write(tmp_path / "a.safetensors", entries, bytes(8)))) == ["x"]

    @pytest.mark.parametrize(
        "content", [b"", b"123", b"\xff" * 64, struct.pack("<Q", 4) + b"[1,]", b"\2" + bytes(7) + b"[]"]
    )
    def test_garbage(self, read: Any, tmp_path: Path, content: bytes):
        path = tmp_path / "a.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged"):
            read(path)

    def test_cut_short(self, read: Any, tmp_path: Path):
        entries = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        with pytest.raises(CheckpointError, match="cut short"):
            read(self.write(tmp_path / "a.safetensors", entries, bytes(7)))
