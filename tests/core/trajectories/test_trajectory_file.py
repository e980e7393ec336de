"""A trajectory's file comes back bit for bit, or says in a sentence why it does not."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ditail_ext.core import NoiseSchedule, SourceTrajectory
from ditail_ext.core.trajectories import trajectory
from ditail_ext.errors import TrajectoryError

SCHEDULE = NoiseSchedule.stable_diffusion()


@pytest.fixture
def kept():
    levels = [SCHEDULE.at_sigma(sigma) for sigma in (0.0, 0.1, 1 / 3, 14.6)]
    latents = torch.randn(4, 2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
    return SourceTrajectory(levels, latents, {"source": "a checkpoint – ü", "prompt": '"quoted"\n', "": ""})


@pytest.fixture
def path(kept, tmp_path) -> Path:
    kept.save(tmp_path / "kept.safetensors")
    return tmp_path / "kept.safetensors"


def header(**changed):
    levels = [[level.timestep, level.alpha_bar] for level in SCHEDULE.ddim_levels(2)[::-1]]
    right = {"format": "ditail-trajectory", "version": "1", "levels": json.dumps(levels), "metadata": "{}"}
    return {key: value for key, value in {**right, **changed}.items() if value is not None}


def refuse(path, *parts):
    with pytest.raises(TrajectoryError) as caught:
        SourceTrajectory.load(path)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message
    return message


def test_round_trip(kept, path):
    read = SourceTrajectory.load(path)
    assert torch.equal(read.latents, kept.latents)
    assert read.latents.dtype == torch.float32
    assert read.levels == kept.levels, "levels must come back to the last bit"
    assert read.metadata == kept.metadata
    assert [entry.name for entry in path.parent.iterdir()] == ["kept.safetensors"]


def test_save_replaces_an_older_file_and_takes_text_paths(kept, path):
    SourceTrajectory(kept.levels, kept.latents * 2).save(str(path))
    assert torch.equal(SourceTrajectory.load(str(path)).latents, kept.latents * 2)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_the_file_has_an_ordinary_file_s_permissions(path):
    (path.parent / "ordinary").touch()
    assert path.stat().st_mode == (path.parent / "ordinary").stat().st_mode


def test_a_view_is_saved_whole(kept, tmp_path):
    half = SourceTrajectory(kept.levels, kept.latents[:, 1:].transpose(-1, -2))
    half.save(tmp_path / "view.safetensors")
    assert torch.equal(SourceTrajectory.load(tmp_path / "view.safetensors").latents, half.latents)


def test_missing(tmp_path):
    refuse(tmp_path / "none.safetensors", "There is no trajectory file")
    refuse(tmp_path, "There is no trajectory file")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_truncated_at_any_point(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refuse(path, "damaged", "invert the picture again")


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff" * 64, bytes(range(256)) * 20, b"PK\x03\x04 a zip"])
def test_bytes_of_something_else(tmp_path, content):
    other = tmp_path / "other.safetensors"
    other.write_bytes(content)
    refuse(other, "damaged")


def test_foreign_safetensors(tmp_path, golden_folder):
    refuse(golden_folder / "full_mask_10_steps.safetensors", "not a Ditail trajectory")
    other = tmp_path / "other.safetensors"
    save_file({"latents": torch.zeros(3, 1, 4, 2, 2)}, other)
    refuse(other, "not a Ditail trajectory")
    save_file({"weights": torch.zeros(3)}, other, metadata=header())
    refuse(other, "not a Ditail trajectory")


def test_another_version(tmp_path):
    other = tmp_path / "other.safetensors"
    save_file({"latents": torch.zeros(2, 1, 4, 2, 2)}, other, metadata=header(version="2"))
    refuse(other, "version 2", "invert the picture again")
    save_file({"latents": torch.zeros(2, 1, 4, 2, 2)}, other, metadata=header())
    assert SourceTrajectory.load(other).batch_size == 1, "the refusals above are for another reason"


@pytest.mark.parametrize(
    "changed",
    [
        {"levels": None},
        {"levels": "[[1, 0.9], [2"},
        {"levels": "7"},
        {"levels": "[1, 2]"},
        {"levels": "[[1, 0.9, 3], [2, 0.8, 3]]"},
        {"levels": '[["a", 0.9], [2, 0.8]]'},
        {"levels": "[[null, 0.9], [2, 0.8]]"},
        {"levels": "[[1, 0.9], [2, 0.0]]"},
        {"levels": "[[1, 0.9], [2, NaN]]"},
        {"levels": "[[1, 0.9], [Infinity, 0.5]]"},
        {"metadata": None},
        {"metadata": "{"},
        {"metadata": "[1]"},
        {"metadata": "3"},
    ],
)
def test_broken_header(tmp_path, changed):
    other = tmp_path / "other.safetensors"
    save_file({"latents": torch.zeros(2, 1, 4, 2, 2)}, other, metadata=header(**changed))
    refuse(other, "damaged header")


@pytest.mark.parametrize(
    ("levels", "shape"),
    [
        ("[[1, 0.9]]", (1, 1, 4, 2, 2)),
        ("[[1, 0.5], [2, 0.9]]", (2, 1, 4, 2, 2)),
        ("[[1, 0.9], [2, 0.5]]", (3, 4, 2, 2)),
    ],
)
def test_header_and_latents_that_do_not_fit(tmp_path, levels, shape):
    other = tmp_path / "other.safetensors"
    save_file({"latents": torch.zeros(shape)}, other, metadata=header(levels=levels))
    with pytest.raises(TrajectoryError):
        SourceTrajectory.load(other)


def test_a_place_that_cannot_be_written_to(kept, tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "none" / "a.safetensors", tmp_path / "file" / "a.safetensors", tmp_path / "folder"):
        with pytest.raises(TrajectoryError) as caught:
            kept.save(target)
        assert str(target) in str(caught.value)
        assert str(caught.value).endswith(".")
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder"}


@pytest.mark.parametrize("when", ["write", "replace"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_save_leaves_the_older_file_and_nothing_else(kept, path, monkeypatch, when, error):
    before = path.read_bytes()

    class HalfFile:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise error

    def broken(*_):
        raise error

    if when == "write":
        whole = Path.open
        monkeypatch.setattr(trajectory.Path, "open", lambda *a: HalfFile(whole(*a)))
    else:
        monkeypatch.setattr(trajectory.Path, "replace", broken)
    with pytest.raises(TrajectoryError if isinstance(error, OSError) else KeyboardInterrupt):
        SourceTrajectory(kept.levels, kept.latents * 2).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
