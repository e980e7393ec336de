"""Replay: recorded values stand in every row's place, however the rows are laid out."""

import pytest
import torch

from ditail_ext.core import Injection, Region, Window, expand_rows, find_sites

OPEN = Window(0, 3)


def injected(scene, **options):
    return Injection(scene.target, feature_window=OPEN, attention_window=OPEN, **options)


def record(scene, injection, trajectory, step=0):
    level = scene.levels[step]
    empty = expand_rows(scene.prompts.empty, trajectory.batch_size)
    (bank,) = injection.record([step], lambda: scene.predict(trajectory.at(level), level, empty))
    return bank


def rows_of(count, seed=0, size=(16, 16)):
    return torch.randn(count, 4, *size, generator=torch.Generator().manual_seed(seed))


class Watch:
    """What sites compute, and what the UNet gets instead; entered around an injection and within it."""

    def __init__(self, unet):
        self.sites = find_sites(unet)
        self.handles = []

    def __enter__(self):
        self.seen = {}
        for site in self.sites:
            self.handles.append(site.module.register_forward_hook(self._hook(site.name)))
        return self.seen

    def _hook(self, name):
        return lambda module, args, output: self.seen.__setitem__(name, output.clone())

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()


def test_every_row_gets_what_was_recorded(scene):
    latent, cond = rows_of(5), expand_rows(scene.prompts.positive, 5)
    with Watch(scene.target) as own, injected(scene) as injection, Watch(scene.target) as given:
        bank = record(scene, injection, scene.one)
        with injection.replay(0, bank):
            scene.predict(latent, scene.levels[0], cond)
        assert len(given) == 17
        for site in injection.sites:
            recorded = bank.for_rows(site.name, tuple(own[site.name].shape), None)
            assert torch.equal(given[site.name], recorded), site.name
            assert torch.equal(given[site.name][0], given[site.name][4])
            assert not torch.equal(own[site.name], given[site.name])


def test_rows_take_their_own_source_in_any_order(scene):
    sources = [2, 0, 0, 1, 2]
    with injected(scene) as injection, Watch(scene.target) as given:
        bank = record(scene, injection, scene.three)
        with injection.replay(0, bank, sources):
            scene.predict(rows_of(5), scene.levels[0], expand_rows(scene.prompts.positive, 5))
        for site in injection.sites:
            like = given[site.name][:3]
            recorded = bank.for_rows(site.name, tuple(like.shape), torch.tensor([0, 1, 2]))
            assert not torch.equal(recorded[0], recorded[1])
            assert torch.equal(given[site.name], recorded[sources])


@pytest.mark.parametrize("sizes", [(6,), (3, 3), (1,) * 6, (2, 4), (5, 1)])
@pytest.mark.parametrize("several", [False, True], ids=["one source", "three sources"])
def test_rows_split_into_any_calls_give_the_same(scene, sizes, several):
    trajectory = scene.three if several else scene.one
    latents = rows_of(6)
    conds = torch.cat([expand_rows(scene.prompts.positive, 3), expand_rows(scene.prompts.negative, 3)])
    sources = [0, 1, 2, 0, 1, 2] if several else [0] * 6

    def run(sizes):
        outputs = []
        with injected(scene) as injection:
            bank = record(scene, injection, trajectory)
            for latent, cond, source in zip(
                latents.split(sizes), conds.split(sizes), torch.tensor(sources).split(sizes), strict=True
            ):
                with injection.replay(0, bank, source.tolist()):
                    outputs.append(scene.predict(latent, scene.levels[0], cond))
        return torch.cat(outputs)

    together = run((6,))
    assert torch.allclose(run(sizes), together, atol=2e-6 * float(together.abs().max()))


def test_calls_within_one_replay_may_have_any_number_of_rows(scene):
    latents, positive = rows_of(4), scene.prompts.positive
    with injected(scene) as injection:
        bank = record(scene, injection, scene.one)
        with injection.replay(0, bank):
            together = scene.predict(latents, scene.levels[0], expand_rows(positive, 4))
            apart = [scene.predict(row, scene.levels[0], expand_rows(positive, len(row))) for row in latents.split(3)]
    assert torch.allclose(torch.cat(apart), together, atol=2e-6 * float(together.abs().max()))


def test_a_kept_bank_can_be_replayed(scene):
    latent, cond = rows_of(1), scene.prompts.positive
    with injected(scene) as injection:
        first = record(scene, injection, scene.one, 0)
        with injection.replay(0, first):
            expected = scene.predict(latent, scene.levels[0], cond)
        record(scene, injection, scene.one, 1)
        with injection.replay(0, first):
            assert torch.equal(scene.predict(latent, scene.levels[0], cond), expected)
    with injected(scene) as injection, injection.replay(0, first):
        assert torch.equal(scene.predict(latent, scene.levels[0], cond), expected)


def test_outside_of_record_and_replay_the_unet_is_its_own(scene):
    latent, cond = rows_of(2), expand_rows(scene.prompts.positive, 2)
    plain = scene.predict(latent, scene.levels[0], cond)
    with injected(scene) as injection:
        assert torch.equal(scene.predict(latent, scene.levels[0], cond), plain)
        bank = record(scene, injection, scene.one)
        assert torch.equal(scene.predict(latent, scene.levels[0], cond), plain)
        with injection.replay(0, bank):
            assert not torch.equal(scene.predict(latent, scene.levels[0], cond), plain)
        assert torch.equal(scene.predict(latent, scene.levels[0], cond), plain)


def half_mask(value=1.0):
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = value
    return mask


def test_region_leaves_the_outside_bit_for_bit(scene):
    latent, cond = rows_of(2), expand_rows(scene.prompts.positive, 2)
    region = Region(half_mask())
    with Watch(scene.target) as own, injected(scene, region=region) as injection, Watch(scene.target) as given:
        bank = record(scene, injection, scene.one)
        with injection.replay(0, bank):
            scene.predict(latent, scene.levels[0], cond)
        for site in injection.sites:
            mine, got = own[site.name], given[site.name]
            source = bank.for_rows(site.name, tuple(mine.shape), None)
            if mine.ndim == 3:
                side = int(mine.shape[1] ** 0.5)
                mine, got, source = (t.unflatten(1, (side, side)).permute(0, 3, 1, 2) for t in (mine, got, source))
            middle = mine.shape[-1] // 2
            assert torch.equal(got[..., middle:], mine[..., middle:]), site.name
            assert torch.equal(got[..., :middle], source[..., :middle]), site.name


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_whole_regions_are_plain_or_full_injection_bit_for_bit(scene, value):
    latent, cond = rows_of(2), expand_rows(scene.prompts.positive, 2)

    def run(region):
        with injected(scene, region=region) as injection:
            bank = record(scene, injection, scene.one)
            with injection.replay(0, bank):
                return scene.predict(latent, scene.levels[0], cond)

    expected = run(None) if value else scene.predict(latent, scene.levels[0], cond)
    assert torch.equal(run(Region(torch.full((1, 1, 16, 16), value))), expected)


def test_soft_region_lies_between(scene):
    latent, cond = rows_of(1), scene.prompts.positive
    region = Region(torch.full((1, 1, 16, 16), 0.25))
    with Watch(scene.target) as own, injected(scene, region=region) as injection, Watch(scene.target) as given:
        bank = record(scene, injection, scene.one)
        with injection.replay(0, bank):
            scene.predict(latent, scene.levels[0], cond)
        for site in injection.sites:
            expected = 0.25 * bank.for_rows(site.name, tuple(own[site.name].shape), None) + 0.75 * own[site.name]
            assert torch.allclose(given[site.name], expected, atol=1e-6)


def test_each_picture_has_its_own_region(scene):
    masks = torch.cat([half_mask(), torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)])
    latents, sources = rows_of(4), [1, 2, 0, 1]
    cond = expand_rows(scene.prompts.positive, 4)

    def run(region, rows, sources):
        with injected(scene, region=region) as injection:
            bank = record(scene, injection, scene.three)
            with injection.replay(0, bank, sources):
                return scene.predict(rows, scene.levels[0], cond[: len(rows)])

    together = run(Region(masks), latents, sources)
    for row, source in enumerate(sources):
        alone = run(Region(masks[source : source + 1]), latents[row : row + 1], [source])
        assert torch.allclose(together[row : row + 1], alone, atol=2e-6 * float(together.abs().max()))
