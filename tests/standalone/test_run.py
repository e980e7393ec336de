"""The command line, end to end on small checkpoints."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ditail_ext.core import NoiseSchedule, SourceTrajectory
from ditail_ext.standalone.cli import INTERRUPTED, main

# Started in the background of a shell, the tests inherit an ignored SIGINT and would pass it on.
INTERRUPTIBLE = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('ditail_ext', run_name='__main__', alter_sys=True)"
)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_writes_the_picture_with_its_parameters(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--positive-scale=2.5", "--layer-profile=strong"]) == 0

    result = Image.open(tmp_path / "out.png")
    assert result.size == (96, 64)
    lines = result.info["parameters"].split("\n")
    assert lines[:2] == ["a red circle, on grey", "Negative prompt: blurry"]
    for part in (
        "Steps: 4, Sampler: DDIM, CFG scale: 7.5, Size: 96x64",
        "Model: target",
        "Ditail source: source [",
        "Ditail positive scale: 2.5, Ditail negative scale: 0.5, Ditail feature ratio: 0.8",
        "Ditail layers: strong",
    ):
        assert part in lines[2]
    assert [file.name for file in tmp_path.iterdir()] == ["out.png"]


def test_the_same_command_gives_the_same_picture_and_the_settings_matter(arguments: list[str], tmp_path: Path) -> None:
    def picture(*more: str) -> np.ndarray:
        assert main([*arguments, "--overwrite", *more]) == 0
        return pixels(tmp_path / "out.png").astype(int)

    reference = picture()
    assert np.array_equal(reference, picture())
    for option in (
        "--positive-scale=1",
        "--negative-scale=2",
        "--feature-ratio=0",
        "--attention-ratio=0",
        "--inversion-prompt=a blue square",
        "--inversion-negative-prompt=a blue square",
        "--inversion-rule=warm start",
        "--refinements=1",
        "--layer-profile=strong",
        "--prompt=a blue square",
        "--negative-prompt=",
        "--cfg-scale=3",
        "--steps=5",
    ):
        assert np.abs(picture(option) - reference).max() >= 2, option


def test_contact_sheet_and_trajectory(arguments: list[str], tmp_path: Path, picture: Path) -> None:
    sheet, trajectory = tmp_path / "sheet.png", tmp_path / "inverted.safetensors"
    assert main([*arguments, f"--sheet={sheet}", f"--save-trajectory={trajectory}"]) == 0

    panels = pixels(sheet)
    first = panels[12 : 12 + 64, 12 : 12 + 96]
    last = panels[12 : 12 + 64, -(96 + 12) : -12]
    assert np.array_equal(first, pixels(picture))
    assert np.array_equal(last, pixels(tmp_path / "out.png"))
    assert panels.shape[1] == 6 * 96 + 7 * 12
    each = [panels[12 : 12 + 64, 12 + at * 108 : 108 + at * 108] for at in range(6)]
    assert all(np.abs(a - b).max() >= 2 for a, b in itertools.combinations(each, 2))  # no panel twice

    saved = SourceTrajectory.load(trajectory)
    timesteps = [level.timestep for level in NoiseSchedule.stable_diffusion().ddim_levels(4)]
    assert [level.timestep for level in saved.levels] == [0.0, *reversed(timesteps)]
    assert saved.start.shape == (1, 4, 8, 12)
    assert saved.metadata["source"].startswith("source [")


def test_a_saved_trajectory_replaces_the_inversion(
    arguments: list[str], tmp_path: Path, checkpoints: Path, picture: Path
) -> None:
    trajectory = tmp_path / "inverted.safetensors"
    assert main([*arguments, f"--save-trajectory={trajectory}"]) == 0
    again = [argument for argument in arguments if not argument.startswith(("--source", "--output"))]
    assert main([*again, f"--load-trajectory={trajectory}", f"--output={tmp_path / 'again.png'}"]) == 0
    assert np.array_equal(pixels(tmp_path / "out.png"), pixels(tmp_path / "again.png"))
    parameters = [Image.open(tmp_path / name).info["parameters"] for name in ("out.png", "again.png")]
    assert parameters[0] == parameters[1]


def test_a_mask_confines_the_injection(arguments: list[str], tmp_path: Path) -> None:
    masks = {"white": np.full((64, 96), 255), "left": np.repeat([[255] * 48 + [0] * 48], 64, 0)}
    pictures = {}
    for name, mask in masks.items():
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / f"{name}.png")
        output = tmp_path / f"out-{name}.png"
        assert main([*arguments, f"--mask={tmp_path / f'{name}.png'}", f"--output={output}"]) == 0
        pictures[name] = pixels(output)
    assert main(arguments) == 0
    assert np.array_equal(pictures["white"], pixels(tmp_path / "out.png"))
    assert not np.array_equal(pictures["left"], pictures["white"])


def test_windows_and_weights_reach_the_injection(arguments: list[str], tmp_path: Path) -> None:
    options = {
        "shut": ("--feature-ratio=0", "--attention-ratio=0"),
        "late": ("--feature-start=1", "--attention-start=1"),
        "weightless": ("--feature-weight=0", "--attention-weight=0"),
        "half": ("--feature-weight=0.5", "--attention-start=0.25"),
        "method": (),
    }
    pictures = {}
    for name, given in options.items():
        assert main([*arguments, *given, f"--output={tmp_path / f'{name}.png'}"]) == 0
        pictures[name] = pixels(tmp_path / f"{name}.png")
    assert np.array_equal(pictures["late"], pictures["shut"])
    assert np.array_equal(pictures["weightless"], pictures["shut"])
    for one, other in itertools.combinations(("shut", "half", "method"), 2):
        assert not np.array_equal(pictures[one], pictures[other])
    parameters = Image.open(tmp_path / "half.png").info["parameters"]
    assert "Ditail attention start: 0.25, Ditail feature weight: 0.5" in parameters


@pytest.mark.parametrize("size", [(100, 77), (65, 131)])
def test_any_size_is_fitted_and_said(
    arguments: list[str], tmp_path: Path, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    odd = tmp_path / "odd.png"
    Image.new("RGB", size, (90, 120, 30)).save(odd)
    with caplog.at_level("INFO"):
        assert main([str(odd), *arguments[1:], "--size=0"]) == 0
    fitted = tuple(side // 8 * 8 for side in size)
    assert Image.open(tmp_path / "out.png").size == fitted
    assert f"The picture of {size[0]}x{size[1]} is fitted to {fitted[0]}x{fitted[1]}." in caplog.text


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close(arguments: list[str], tmp_path: Path, precision: str) -> None:
    calm = [*arguments, "--overwrite", "--cfg-scale=1", "--positive-scale=1", "--negative-scale=0"]
    assert main(calm) == 0
    full = pixels(tmp_path / "out.png").astype(int)
    assert main([*calm, f"--precision={precision}"]) == 0
    half = pixels(tmp_path / "out.png").astype(int)
    assert 0 < np.abs(full - half).mean() < 4


def test_interrupt_leaves_no_file(arguments: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", INTERRUPTIBLE, *arguments, "--steps=900"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    seen = ""
    deadline = time.monotonic() + 120
    while not re.search(r"[1-9]\d*/900", seen) and time.monotonic() < deadline:  # the bar is there, and moves
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    seen += process.communicate(timeout=60)[1]
    assert process.returncode == INTERRUPTED, seen[-2000:]
    assert seen.rstrip().endswith("Interrupted; no file is left half-written.")
    assert "Traceback" not in seen
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_that_made_torch_fail_is_one(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise AssertionError("a context of torch did not end well")

    monkeypatch.setattr("ditail_ext.standalone.job.invert", interrupted)
    assert main(arguments) == INTERRUPTED
    assert caplog.messages[-1] == "Interrupted; no file is left half-written."


def test_a_bug_keeps_its_traceback(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("ditail_ext.standalone.job.invert", broken)
    with pytest.raises(AssertionError, match="a bug"):
        main(arguments)


@pytest.mark.parametrize("role", ["source", "target"])
def test_a_checkpoint_that_computes_no_numbers_is_said_and_makes_no_file(
    arguments: list[str], checkpoints: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, role: str
) -> None:
    """Every weight is finite, but not what comes of them."""
    original = checkpoints / f"{role}.safetensors"
    tensors = {name: value.float() for name, value in load_file(original).items()}
    tensors["model.diffusion_model.out.2.weight"] *= 1e38
    broken = checkpoints / f"broken-{role}.safetensors"
    save_file(tensors, broken)
    shutil.copyfile(original.with_suffix(".yaml"), broken.with_suffix(".yaml"))
    before = sorted(tmp_path.iterdir())
    assert main([*arguments, f"--{role}={broken}"]) == 2
    assert caplog.messages[-1].startswith(f"broken-{role} computed something that is not a number; use --precision")
    assert sorted(tmp_path.iterdir()) == before


def test_out_of_memory_is_said(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ditail_ext.standalone.job.invert", no_memory)
    assert main(arguments) == 2
    assert caplog.messages[-1] == "There is not enough memory; use a smaller --size, or --precision fp16."
