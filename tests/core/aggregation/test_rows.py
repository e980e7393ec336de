"""Several models in one batch of a host's sampler: k-diffusion's scaling, history, noise, second evaluations."""

import math
import queue
import threading

import pytest
import torch

from ditail_ext.core import (
    Aggregation,
    Companion,
    Companions,
    Level,
    NoiseSchedule,
    Pull,
    ReleasedMix,
    RowGroups,
    Scaling,
    Slerp,
    Window,
    sample,
    ve_to_vp,
    vp_to_ve,
)
from ditail_ext.errors import AggregationError

SCHEDULE = NoiseSchedule.stable_diffusion()
STEPS, WINDOW = 8, Window(1, 4)
LEVELS = SCHEDULE.ddim_levels(STEPS)
SIGMAS = [level.sigma for level in LEVELS] + [0.0]
RULE = Slerp((0.6, 0.4))


def euler(model, x, sigmas, noise):
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i], first=True)) / sigmas[i]
        x = x + d * (sigmas[i + 1] - sigmas[i])
    return x


def ancestral(model, x, sigmas, noise):
    for i in range(len(sigmas) - 1):
        up = min(sigmas[i + 1], (sigmas[i + 1] ** 2 * (sigmas[i] ** 2 - sigmas[i + 1] ** 2) / sigmas[i] ** 2) ** 0.5)
        down = (sigmas[i + 1] ** 2 - up**2) ** 0.5
        d = (x - model(x, sigmas[i], first=True)) / sigmas[i]
        x = x + d * (down - sigmas[i]) + (noise() * up if sigmas[i + 1] else 0.0)
    return x


def heun(model, x, sigmas, noise):
    for i in range(len(sigmas) - 1):
        d = (x - model(x, sigmas[i], first=True)) / sigmas[i]
        dt = sigmas[i + 1] - sigmas[i]
        if sigmas[i + 1] == 0:
            x = x + d * dt
        else:
            there = x + d * dt
            x = x + (d + (there - model(there, sigmas[i + 1], first=False)) / sigmas[i + 1]) / 2 * dt
    return x


def dpmpp_2m(model, x, sigmas, noise):
    old, t = None, [-math.log(sigma) if sigma else math.inf for sigma in sigmas]
    for i in range(len(sigmas) - 1):
        denoised, h = model(x, sigmas[i], first=True), t[i + 1] - t[i]
        mean = denoised
        if old is not None and sigmas[i + 1]:
            r = (t[i] - t[i - 1]) / h
            mean = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x = sigmas[i + 1] / sigmas[i] * x - math.expm1(-h) * mean
        old = denoised
    return x


SAMPLERS = (euler, ancestral, heun, dpmpp_2m)


def denoiser(estimate):
    """A model as k-diffusion sees it: VE latent and sigma to the denoised latent."""

    def denoise(x, sigma):
        level = SCHEDULE.at_sigma(sigma)
        return x - sigma * estimate(ve_to_vp(x, level), level)

    return denoise


def noises():
    generator = torch.Generator().manual_seed(4)
    return lambda: torch.randn(2, 4, 16, 16, generator=generator)


def grouped(pair, sampler, aggregation, calls=None):
    """The host's sampler on one batch of both models' rows."""
    groups, step, drawn = RowGroups(aggregation, SCHEDULE), -1, noises()
    models = [denoiser(estimate) for estimate in pair.estimates]

    def model(x, sigma, *, first):
        nonlocal step
        level = SCHEDULE.at_sigma(sigma)
        if first:
            step += 1
            x.copy_(groups.begin(step, level, x))
        if calls is not None:
            calls.append(groups.evaluating)
        of = [lambda rows, own=own: own(rows, sigma) for own in models]
        denoised = groups.evaluate(x, of, idle=lambda rows: rows)
        groups.note_epsilon((x - denoised) / sigma)
        return denoised

    x = sampler(model, groups.spread(vp_to_ve(pair.start, LEVELS[0])), SIGMAS, lambda: groups.spread(drawn()))
    return groups.finish(x)


def by_hand(pair, sampler, rule):
    """Both models' samplers run by turns: whoever reaches a step's first evaluation waits for the other."""
    waiting = [queue.Queue(), queue.Queue()]
    going, results = [queue.Queue(), queue.Queue()], [None, None]

    def runner(at):
        denoise = denoiser(pair.estimates[at])

        def model(x, sigma, *, first):
            if first:
                waiting[at].put((x, sigma))
                x.copy_(going[at].get(timeout=60))
            return denoise(x, sigma)

        results[at] = sampler(model, vp_to_ve(pair.start, LEVELS[0]).clone(), SIGMAS, noises())

    threads = [threading.Thread(target=runner, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    for step in range(STEPS):
        states = [one.get(timeout=60) for one in waiting]
        level = SCHEDULE.at_sigma(states[0][1])
        rows = [state for state, _ in states]
        if step - 1 in WINDOW:
            rows = [vp_to_ve(rule([ve_to_vp(row, level) for row in rows]), level)] * 2
        for one, row in zip(going, rows, strict=True):
            one.put(row.clone())
    for thread in threads:
        thread.join()
    return results[0]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
def test_each_model_s_sampler_runs_as_if_alone_but_for_the_merging(pair, sampler):
    merged = grouped(pair, sampler, Aggregation(RULE, WINDOW))
    assert torch.allclose(merged, by_hand(pair, sampler, RULE), atol=1e-3)


@pytest.mark.parametrize("rule", ["slerp", "released"])
def test_euler_on_sigma_is_the_ddim_run(pair, rule):
    """Both scalings and both drivers give one picture; with a pull, too."""
    released = Aggregation(ReleasedMix((0.5,)), WINDOW, Pull((55.0, 45.0)))
    aggregation = released if rule == "released" else Aggregation(RULE, WINDOW)
    companions = Companions(aggregation, [Companion(pair.estimates[1])], SCHEDULE)
    ddim = sample(pair.predicts[0], pair.start, LEVELS, pair.prompts[0], cfg_scale=2.0, companions=companions)
    assert torch.allclose(grouped(pair, euler, aggregation), ddim, atol=2e-3)


def test_a_window_to_the_end_is_merged_behind_the_sampler(pair):
    aggregation = Aggregation(RULE, Window(0, STEPS))
    companions = Companions(aggregation, [Companion(pair.estimates[1])], SCHEDULE)
    ddim = sample(pair.predicts[0], pair.start, LEVELS, pair.prompts[0], cfg_scale=2.0, companions=companions)
    assert torch.allclose(grouped(pair, euler, aggregation), ddim, atol=2e-3)


@pytest.mark.parametrize(("sampler", "evaluations"), [(euler, 4), (heun, 8)])
def test_the_companions_compute_the_window_s_steps_alone(pair, sampler, evaluations):
    calls = []
    grouped(pair, sampler, Aggregation(RULE, WINDOW), calls)
    assert calls == sorted(calls, reverse=True)
    assert sum(calls) == evaluations


def test_release_and_idle_rows(pair):
    released = []
    groups = RowGroups(Aggregation(RULE, Window(0, 1)), SCHEDULE, Scaling.VP, release=lambda: released.append(True))
    rows = groups.spread(pair.start, -pair.start)
    assert torch.equal(groups.begin(0, LEVELS[0], rows), rows)
    assert not released
    merged = groups.begin(1, LEVELS[1], rows)
    assert released == [True]
    expected = RULE([pair.start, -0.5 * pair.start])
    assert merged.shape == rows.shape
    assert torch.equal(merged[:2], merged[2:])
    assert not torch.allclose(merged[:2], expected)
    out = groups.evaluate(merged, [torch.sin, torch.cos], idle=torch.zeros_like)
    assert torch.equal(out, torch.cat([merged[:2].sin(), torch.zeros(2, 4, 16, 16)]))
    assert torch.equal(groups.finish(merged), merged[:2])


def test_rows_that_do_not_fit_are_refused():
    groups = RowGroups(Aggregation(RULE, WINDOW), SCHEDULE)
    with pytest.raises(AggregationError, match="3 rows for 2 models; another extension changes the batch"):
        groups.split(torch.zeros(3, 4, 8, 8))
    with pytest.raises(AggregationError, match="own latents of 2 models for 1; give one for each"):
        groups.spread(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    pulled = RowGroups(Aggregation(ReleasedMix((0.5,)), Window(1, 2), Pull((1.0, 1.0))), SCHEDULE)
    rows = torch.ones(2, 4, 8, 8)
    pulled.begin(0, Level(900, 0.01), rows)
    with pytest.raises(AggregationError, match="this sampler gives none: use slerp"):
        pulled.begin(1, Level(800, 0.02), rows)
