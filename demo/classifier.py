"""A judge of pictures: which style, and which things where.

A small convolutional network trained on drawings only (never on model output). For a picture it gives the
style's probabilities and, at every pixel of a quarter-size map, whether there is a thing and of what colour
and shape. Connected areas of the map are the things found.

Train with `python -m demo.classifier --out demo/checkpoints/judge.safetensors`.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from demo.styles import STYLES, draw
from demo.world import COLOURS, SHAPES, Wanted, make_scene, masks

log = logging.getLogger(__name__)

JUDGE_SEEDS = 5_000_000  # scenes nobody else draws
SIDE = 128  # pictures are judged at this size
DRAWN = (192, 256)  # and drawn at these to train the judge: textures are in pixels, so the size matters
MAP = 64  # side of the map of things
LEAST_AREA = 0.004  # of the picture; smaller areas are specks (a small thing covers 0.015 or more)
SHAPE_NAMES, COLOUR_NAMES, STYLE_NAMES = list(SHAPES), list(COLOURS), list(STYLES)


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in one picture."""

    style: str
    style_probability: dict[str, float]
    things: tuple[Wanted, ...]  # shape and colour of every area found
    mask: np.ndarray  # (64, 64) bool: where there is a thing

    def shows(self, wanted: tuple[Wanted, ...]) -> bool:
        """Whether the things found are exactly the wanted ones, in shape and colour."""
        return _pairs(self.things) == _pairs(wanted)

    def count_right(self, wanted: tuple[Wanted, ...]) -> int:
        """How many of the wanted things are there."""
        return (_pairs(self.things) & _pairs(wanted)).total()


def _pairs(things: tuple[Wanted, ...]) -> Counter[tuple[str, str]]:
    return Counter((thing.shape, thing.colour) for thing in things)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Judge(nn.Module):
    """Picture (n, 3, 128, 128) in -1..1 to style logits (n, 4) and maps (n, 11, 64, 64).

    The maps: thing or not, then one per colour, then one per shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to64 = _block(3, 16, 2)
        self.to32 = nn.Sequential(_block(16, 32, 2), _block(32, 32))
        self.to16 = nn.Sequential(_block(32, 48, 2), _block(48, 48))
        self.to8 = nn.Sequential(_block(48, 64, 2), _block(64, 64))
        self.up16 = _block(64 + 48, 48)
        self.up32 = _block(48 + 32, 32)
        self.up64 = _block(32 + 16, 32)
        self.map = nn.Conv2d(32, 1 + len(COLOURS) + len(SHAPES), 1)
        self.style = nn.Linear(32 + 64, len(STYLES))

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Judge a batch of pictures."""
        x64 = self.to64(picture)
        x32 = self.to32(x64)
        x16 = self.to16(x32)
        x8 = self.to8(x16)
        style = self.style(torch.cat([x32.mean((2, 3)), x8.mean((2, 3))], 1))
        y = self.up16(torch.cat([F.interpolate(x8, scale_factor=2.0), x16], 1))
        y = self.up32(torch.cat([F.interpolate(y, scale_factor=2.0), x32], 1))
        y = self.up64(torch.cat([F.interpolate(y, scale_factor=2.0), x64], 1))
        return style, self.map(y)

    @torch.no_grad()
    def judge(self, pictures: np.ndarray) -> list[Verdict]:
        """Judge pictures (n, h, w, 3) uint8 of any size."""
        styles, maps = self.eval()(shrink(pictures) / 127.5 - 1)
        return [_verdict(s, m) for s, m in zip(styles.softmax(1), maps, strict=True)]


def _verdict(style: torch.Tensor, maps: torch.Tensor) -> Verdict:
    """Read one picture's outputs: style (4,) probabilities, maps (11, 64, 64) logits."""
    mask = (maps[0] > 0).numpy()
    colours = maps[1 : 1 + len(COLOURS)].softmax(0).numpy()
    shapes = maps[1 + len(COLOURS) :].softmax(0).numpy()
    things = []
    for area in areas(mask):
        if area.mean() >= LEAST_AREA:
            shape = SHAPE_NAMES[int(shapes[:, area].mean(1).argmax())]
            things.append(Wanted(shape, COLOUR_NAMES[int(colours[:, area].mean(1).argmax())]))
    chances = {name: float(p) for name, p in zip(STYLE_NAMES, style, strict=True)}
    return Verdict(max(chances, key=chances.__getitem__), chances, tuple(things), mask)


def areas(mask: np.ndarray) -> list[np.ndarray]:
    """The connected areas (4 neighbours) of a mask (h, w) bool, each as a mask."""
    rest, found = mask.copy(), []
    while rest.any():
        area = np.zeros_like(rest)
        start = np.unravel_index(int(rest.argmax()), rest.shape)
        stack = [(int(start[0]), int(start[1]))]
        while stack:
            y, x = stack.pop()
            if 0 <= y < rest.shape[0] and 0 <= x < rest.shape[1] and rest[y, x]:
                rest[y, x], area[y, x] = False, True
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        found.append(area)
    return found


def shrink(pictures: np.ndarray) -> torch.Tensor:
    """Pictures (n, h, w, 3) uint8 to (n, 3, 128, 128), still 0 to 255."""
    tensor = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    return F.interpolate(tensor, (SIDE, SIDE), mode="area")


def example(index: int) -> tuple[np.ndarray, np.ndarray, int]:
    """A drawing (128, 128, 3) uint8, its map (64, 64) int64 and its style's number.

    The map holds colour * 5 + shape where there is a thing, -1 elsewhere.
    """
    scene, style = make_scene(JUDGE_SEEDS + index), index % len(STYLES)
    picture = draw(scene, STYLE_NAMES[style], DRAWN[index // len(STYLES) % len(DRAWN)])
    small = shrink(picture[None])[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
    target = np.full((MAP, MAP), -1, np.int64)
    for thing, mask in zip(scene.things, masks(scene, MAP), strict=True):
        target[mask] = COLOUR_NAMES.index(thing.colour) * len(SHAPES) + SHAPE_NAMES.index(thing.shape)
    return small, target, style


def _roughen(picture: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur, noise, brightness and contrast, so that a decoder's softness is nothing new: (n, 3, h, w)."""
    n = len(picture)
    blurred = F.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    amounts = torch.rand((5, n, 1, 1, 1), generator=generator)
    picture = torch.lerp(picture, blurred, amounts[0])
    noise = torch.randn(picture.shape, generator=generator)
    return (picture * (0.8 + 0.4 * amounts[1]) + 0.3 * (amounts[2] - 0.5) + 0.1 * amounts[3] * noise).clamp(-1, 1)


def train(count: int, epochs: int, seed: int = 0) -> Judge:
    """Draw `count` pictures and train on them; the same seed gives the same judge."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    drawn = [example(index) for index in tqdm(range(count), desc="drawings", mininterval=10)]
    pictures = torch.from_numpy(np.stack([d[0] for d in drawn])).permute(0, 3, 1, 2)
    targets = torch.from_numpy(np.stack([d[1] for d in drawn]))
    styles = torch.tensor([d[2] for d in drawn])
    judge = Judge()
    batch = 32
    steps = epochs * (count // batch)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, steps)
    for step in tqdm(range(steps), desc="judge", mininterval=10):
        rows = torch.randint(count, (batch,), generator=generator)
        picture = _roughen(pictures[rows].float() / 127.5 - 1, generator)
        loss = _loss(judge, picture, targets[rows], styles[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            log.info("step %d loss %.4f", step, loss.item())
    return judge.eval()


def _loss(judge: Judge, picture: torch.Tensor, target: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
    """Style, thing or not, and colour and shape where there is a thing."""
    logits, maps = judge(picture)
    there = target >= 0
    loss = F.cross_entropy(logits, style) + F.binary_cross_entropy_with_logits(maps[:, 0], there.float())
    at = maps.permute(0, 2, 3, 1)[there]
    colours, shapes = at[:, 1 : 1 + len(COLOURS)], at[:, 1 + len(COLOURS) :]
    label = target[there]
    return loss + F.cross_entropy(colours, label // len(SHAPES)) + F.cross_entropy(shapes, label % len(SHAPES))


def save(judge: Judge, path: Path) -> None:
    """Write the judge in fp16."""
    from safetensors.torch import save_file

    state = {k: v.half() if v.is_floating_point() else v for k, v in judge.state_dict().items()}
    save_file(state, str(path))


def load(path: Path) -> Judge:
    """Read a judge."""
    from safetensors.torch import load_file

    judge = Judge()
    judge.load_state_dict(load_file(str(path)))
    return judge.eval()


def main() -> None:
    """Train, report on unseen drawings, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(options.threads)
    judge = train(options.count, options.epochs)
    save(judge, options.out)
    seeds = range(options.count, options.count + 400)
    verdicts = load(options.out).judge(np.stack([example(index)[0] for index in seeds]))
    right_style = np.mean([v.style == STYLE_NAMES[i % len(STYLES)] for v, i in zip(verdicts, seeds, strict=True)])
    scenes = [make_scene(JUDGE_SEEDS + index) for index in seeds]
    right = [
        v.shows(tuple(Wanted(t.shape, t.colour) for t in s.things)) for v, s in zip(verdicts, scenes, strict=True)
    ]
    log.info("on 400 unseen drawings: style %.3f, all things exactly right %.3f", right_style, np.mean(right))


if __name__ == "__main__":
    main()
