"""The levels that a sampler of the host will visit."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from ditail_ext.core import NoiseSchedule
from ditail_ext.errors import ScheduleError

SCHEDULE = NoiseSchedule.stable_diffusion()


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
        listed = ModuleType("modules.sd_samplers")
        listed.all_samplers_map = {}
        sys.modules["modules.sd_samplers"] = modules.sd_samplers = listed
        common = ModuleType("modules.sd_samplers_common")
        common.setup_img2img_steps = lambda p, _: (p.steps, int(min(p.denoising_strength, 0.999) * p.steps))
        sys.modules["modules.sd_samplers_common"] = modules.sd_samplers_common = common
        modules.shared.opts = SimpleNamespace(uni_pc_order=3, eta_ancestral=1.0, s_churn=0.0)
        module = host.load("host.samplers")

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

    def test_a_timestep_sampler_walks_along_the_table_that_its_model_notes(self, plan: Any):
        """Forge puts zero terminal SNR in force after img2img's sampler was made."""
        noted = SCHEDULE.alpha_bar**2
        wrap = SimpleNamespace(inner_model=SimpleNamespace(alphas_cumprod=noted.float()))
        found = plan(Sampler(ddim, wrap))
        assert [level.timestep for level in found.levels] == [601, 501, 401, 301, 201, 101]
        assert found.levels[0].alpha_bar == pytest.approx(float(noted[601]))

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


@pytest.mark.parametrize(
    ("name", "options", "steps", "noisy"),
    [
        ("DDIM", {}, 20, False),
        ("Euler", {}, 20, False),
        ("DPM++ 2M", {"scheduler": "karras"}, 20, False),
        ("Euler a", {"uses_ensd": True}, 20, True),
        ("DPM++ 2M SDE", {"brownian_noise": True}, 20, True),
        ("LCM", {}, 4, True),
        ("Restart", {"second_order": True}, 19, False),
        ("Restart", {"second_order": True}, 20, True),
        ("nothing", None, 20, None),
    ],
)
def test_who_adds_noise_by_name(host: Any, name: str, options: Any, steps: int, noisy: bool | None):
    known = {} if options is None else {name: SimpleNamespace(options=options)}
    host.fake(sd_samplers={"all_samplers_map": known}, sd_samplers_common={})
    assert host.load("host.samplers").adds_noise(name, steps) is noisy
