"""The flow's parts that need no WebUI: cache, checkpoint files, levels, failures."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from ditail_ext.core import Level, NoiseSchedule, SourceTrajectory
from ditail_ext.errors import CheckpointError, ScheduleError

SCHEDULE = NoiseSchedule.stable_diffusion()


def trajectory(rows: int = 1) -> SourceTrajectory:
    levels = [Level.clean(), SCHEDULE.at_timestep(100), SCHEDULE.at_timestep(500)]
    return SourceTrajectory(levels, torch.zeros(3, rows, 4, 8, 8))


SIZE = 3 * 4 * 8 * 8 * 4
"""Bytes of :func:`trajectory`."""


class TestCache:
    @pytest.fixture
    def cache(self, host: Any) -> Any:
        return host.load("cache").TrajectoryCache()

    def test_the_longest_unused_goes_first(self, cache: Any):
        for key in "abc":
            cache.put(key, trajectory(), 3 * SIZE)
        assert cache.get("a") is not None
        cache.put("d", trajectory(), 3 * SIZE)
        assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
        assert cache.nbytes == 3 * SIZE

    def test_too_large_a_trajectory_is_not_kept(self, cache: Any):
        cache.put("a", trajectory(2), SIZE)
        assert (len(cache), cache.nbytes) == (0, 0)

    def test_clear(self, cache: Any):
        cache.put("a", trajectory(), SIZE)
        cache.clear()
        assert cache.get("a") is None


class TestHeader:
    @pytest.fixture
    def read(self, host: Any) -> Any:
        return host.load("checkpoint").read_header

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


def ddim(model, x, timesteps, eta=0.0): ...


def unipc(model, x, timesteps, is_img2img=False): ...


def euler(model, x, sigmas, s_churn=0.0): ...


def fast(model, x, sigma_min, sigma_max, n, eta=1.0): ...


class Wrap:
    """k-diffusion's wrapped model."""

    sigmas = torch.tensor([SCHEDULE.at_timestep(step).sigma for step in range(1000)])

    def sigma_to_t(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.tensor([SCHEDULE.at_sigma(float(sigma)).timestep])


class Sampler:
    """What the plan reads of the host's samplers."""

    eta_option_field = "eta_ancestral"

    def __init__(self, func: Any, wrap: Any = None, name: str = "X", values: list[float] | None = None) -> None:
        self.func, self.values = func, values
        self.model_wrap = wrap or SimpleNamespace()
        self.model_wrap_cfg = SimpleNamespace(inner_model=self.model_wrap)
        self.config = SimpleNamespace(name=name, options={})

    def get_timesteps(self, p: Any, steps: int) -> list[int]:
        return list(range(1, 1001, 1000 // steps))

    def get_sigmas(self, p: Any, steps: int) -> torch.Tensor:
        return torch.tensor(self.values)


class TestLevels:
    @pytest.fixture
    def plan(self, host: Any) -> Any:
        modules = sys.modules["modules"]
        common = ModuleType("modules.sd_samplers_common")
        common.setup_img2img_steps = lambda p, _: (p.steps, int(min(p.denoising_strength, 0.999) * p.steps))
        sys.modules["modules.sd_samplers_common"] = modules.sd_samplers_common = common
        modules.shared.opts = SimpleNamespace(uni_pc_order=3, eta_ancestral=1.0, s_churn=0.0)
        module = host.load("levels")

        def plan(sampler: Sampler, steps: int = 10, strength: float = 0.75, img2img: bool = True) -> Any:
            p = SimpleNamespace(steps=steps, denoising_strength=strength, eta=None, s_churn=0.0, sampler_name="X")
            return module.plan_sampler(p, sampler, SCHEDULE, img2img=img2img)

        return plan

    def test_ddim_neither_starts_at_the_last_nor_visits_the_first(self, plan: Any):
        found = plan(Sampler(ddim))
        assert [level.timestep for level in found.levels] == [601, 501, 401, 301, 201, 101]
        assert (found.clean.timestep, found.in_timesteps, found.stochastic) == (1, True, True)

    def test_ddim_txt2img(self, plan: Any):
        assert [level.timestep for level in plan(Sampler(ddim), steps=4, img2img=False).levels] == [751, 501, 251]

    def test_unipc_walks_in_equal_fractions_to_the_clean_end(self, plan: Any):
        found = plan(Sampler(unipc))
        assert found.levels[0].timestep == 601
        assert found.levels[1].timestep == pytest.approx(601 * 6 / 7)
        assert (len(found.levels), found.clean.timestep) == (7, 0)

    def test_unipc_has_an_order(self, plan: Any):
        with pytest.raises(ScheduleError, match="UniPC needs at least 3"):
            plan(Sampler(unipc), steps=2, strength=1.0)

    def test_repeated_sigmas_are_one_level(self, plan: Any):
        found = plan(Sampler(euler, Wrap(), values=[10.0, 5.0, 5.0, 1.0, 1.0, 0.0]), steps=5, strength=1.0)
        assert [level.sigma for level in found.levels] == pytest.approx([10, 5, 1])
        assert not found.stochastic

    def test_an_evaluation_between_two_levels_belongs_to_the_first(self, plan: Any):
        found = plan(Sampler(euler, Wrap(), values=[10.0, 5.0, 1.0, 0.0]), steps=3, strength=1.0)
        assert [found.step_at(sigma) for sigma in (11, 10, 7, 5.0001, 5, 4.9999, 2, 1, 0.5)] == [
            0,
            0,
            0,
            1,
            1,
            1,
            1,
            2,
            2,
        ]

    def test_the_whole_range_of_samplers_with_limits_of_their_own(self, plan: Any):
        found = plan(Sampler(fast, Wrap(), values=[20.0, 5.0, 0.0]), steps=2, img2img=False)
        ends = float(Wrap.sigmas[-1]), float(Wrap.sigmas[0])
        assert [level.sigma for level in found.levels] == pytest.approx([ends[0], 5.0, ends[1]])
        assert found.stochastic

    @pytest.mark.parametrize(("steps", "strength"), [(10, 0.1), (10, 0.0), (1, 0.75)])
    def test_nothing_to_do(self, plan: Any, steps: int, strength: float):
        with pytest.raises(ScheduleError, match=r"raise|needs"):
            plan(Sampler(ddim), steps=steps, strength=strength)


class TestFailure:
    @pytest.fixture
    def failure(self, host: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        class HTTPException(Exception):  # noqa: N818
            def __init__(self, status_code: int, detail: str) -> None:
                self.status_code, self.detail = status_code, detail

        module = ModuleType("fastapi.exceptions")
        module.HTTPException = HTTPException
        monkeypatch.setitem(sys.modules, "fastapi", ModuleType("fastapi"))
        monkeypatch.setitem(sys.modules, "fastapi.exceptions", module)
        return host.load("failure")

    def test_the_users_error_is_a_sentence_with_a_status(self, failure: Any):
        error = failure.visible(CheckpointError("Choose another."))
        assert (error.status_code, error.detail, str(error)) == (422, "Choose another.", "Choose another.")

    def test_a_bug_stays_what_it_is(self, failure: Any):
        bug = KeyError("x")
        assert failure.visible(bug) is bug

    def test_init_raises_once_and_is_as_before(self, failure: Any):
        class Request:
            def init(self) -> str:
                return "made"

        p = Request()
        failure.fail_at_init(p, CheckpointError("No."))
        with pytest.raises(failure.Refusal, match="No"):
            p.init()
        assert (p.init(), vars(p)) == ("made", {})
