"""A scene's source passes as a recorder asks for them, for the tests of recordings."""

from __future__ import annotations

from ditail_ext.core import FeatureBank, SourcePass, SourceRecorder, expand_rows


class Source:
    """The scene's source passes, and a count of the rows of each call."""

    def __init__(self, scene, trajectory):
        self.calls: list[int] = []
        self._scene = scene
        self.passes = [SourcePass(step, level, trajectory.at(level)) for step, level in enumerate(scene.levels)]

    def run(self, rows, levels):
        self.calls.append(len(rows))
        self._scene.predict(rows, levels, expand_rows(self._scene.prompts.empty, len(rows)))

    def recorder(self, injection, most, slots=None):
        return SourceRecorder(injection, self.run, slots, None if most is None else lambda latents: most)

    def banks(self, recorder):
        return [recorder.bank(due, iter(self.passes[due.step + 1 :])) for due in self.passes]


def same(one: FeatureBank | None, other: FeatureBank | None, tolerance=1e-5):
    """Whether two banks hold the same sites and, but for rounding, the same values."""
    if one is None or other is None:
        return one is other
    mine, theirs = dict(one.items()), dict(other.items())
    return list(mine) == list(theirs) and all(
        bool((value - theirs[name]).norm() <= tolerance * value.norm()) for name, value in mine.items()
    )
