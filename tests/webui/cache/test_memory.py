"""The LRU of trajectories in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ditail_ext.core import Level, NoiseSchedule, SourceTrajectory

SCHEDULE = NoiseSchedule.stable_diffusion()


def trajectory(rows: int = 1) -> SourceTrajectory:
    levels = [Level.clean(), SCHEDULE.at_timestep(100), SCHEDULE.at_timestep(500)]
    return SourceTrajectory(levels, torch.zeros(3, rows, 4, 8, 8))


SIZE = 3 * 4 * 8 * 8 * 4
"""Bytes of :func:`trajectory`."""


class TestCache:
    @pytest.fixture
    def cache(self, host: Any) -> Any:
        return host.load("cache.memory").TrajectoryCache()

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
