"""A base whose layout comes through decoder block 4: the bottom first, then the rest on it.

- The encoder's residual branches and transformers above stride 4 and block 4's shortcut have zero weights for good, so
  the skips above block 4 are linear in the noisy latent and all from below comes through the injected feature.
- The bottom (strides 4 and 8) is trained alone, with a head that reads a clean latent from block 4's output: not the
  picture's own but that of the same scene in one plain style. So what the bottom says is what is drawn, not how.
- Then all is trained; the bottom goes on learning from its head alone, and what lies above learns to draw in the style
  that the text and the noisy latent tell. In some rows the bottom is shown a less noisy latent of the same picture, so
  that what lies above learns to believe it. No row sees anything of another picture: nothing is trained on the method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo import parts
from demo.nets import UNET_CONFIG, alphas_cumprod, make_unet
from demo.styles import CHECKPOINT_STYLES
from demo.train import stage, workers
from demo.train.unet import SIDE, SMALL_PICTURES, Pool, loss_weight, noised

SILENT = (1, 2, 4, 5)  # encoder blocks at strides 1 and 2 that are more than a convolution
BLOCK = 4  # decoder block whose residual branch is the method's feature
STRIDE = 4  # its cells' side, in latents
LEAST_NOISY = 100  # timestep below which the bottom is not asked for the clean latent
KNOWS_MORE = 0.6  # share of rows whose bottom is shown a less noisy latent
PLAIN = "shaded"  # the style in which the bottom sees every scene
MINUTES = {"bottom": 6.0, "whole": 42.0}  # of two workers, a thread each
ROWS = {"bottom": {128: 24, SIDE: 12}, "whole": {128: 8, SIDE: 4}}  # by the pictures' side

Pools = Mapping[int, Pool]  # by the pictures' side, in pixels


def silence(unet: Any) -> None:
    """Zero, and freeze, what would find the layout above the bottom or lead it past block 4's residual branch."""
    for number in SILENT:
        resnet, transformer = unet.input_blocks[number]
        for last in (resnet.out_layers[3], transformer.proj_out):
            _zero(last)
        unet.input_blocks[number].requires_grad_(False)
    _zero(unet.output_blocks[BLOCK][0].skip_connection)
    unet.output_blocks[BLOCK][0].skip_connection.requires_grad_(False)


@torch.no_grad()
def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.zero_()


def embedding(unet: Any, timestep: Tensor) -> Tensor:
    """Timesteps (n,) to what the residual blocks are told of them: (n, 4 w)."""
    from ldm.modules.diffusionmodules.util import timestep_embedding

    return unet.time_embed(timestep_embedding(timestep, unet.model_channels))


def skips_above(unet: Any, noisy: Tensor, told: Tensor, context: Tensor) -> list[Tensor]:
    """The skips of the decoder's blocks above `BLOCK`, in the order in which they are read, of a silenced UNet."""
    whole = unet.input_blocks[0](noisy, told, context)
    half = unet.input_blocks[3](whole, told, context)
    quarter = unet.input_blocks[6](half, told, context)
    return [quarter, *[half] * 3, *[whole] * 3]


def bottom(unet: Any, noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """Block 4's output (n, w, h/4, w/4) of a silenced UNet, without computing what is silent."""
    told = embedding(unet, timestep)
    h, skips = skips_above(unet, noisy, told, context)[0], []
    for block in unet.input_blocks[7:]:
        h = block(h, told, context)
        skips.append(h)
    h = unet.middle_block(h, told, context)
    for block in unet.output_blocks[: BLOCK + 1]:
        h = block(torch.cat([h, skips.pop()], 1), told, context)
    return h


def top(unet: Any, below: Tensor, noisy: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
    """The noise estimate (n, 4, h, w) from block 4's output and the noisy latent."""
    told = embedding(unet, timestep)
    h = below
    for block, skip in zip(unet.output_blocks[BLOCK + 1 :], skips_above(unet, noisy, told, context), strict=True):
        h = block(torch.cat([h, skip], 1), told, context)
    return unet.out(h)


def make_head() -> nn.Module:
    """Block 4's output to the plain clean latent (n, 4, h, w); dropped when training ends."""
    return nn.Sequential(nn.Conv2d(UNET_CONFIG["model_channels"], 4 * STRIDE**2, 1), nn.PixelShuffle(STRIDE))


def train_bottom(plan: stage.Plan, pools: Pools, models: parts.Models, device: torch.device) -> None:
    """Train strides 4 and 8 alone: the squared error of the plain clean latent, evenly over the noise levels."""
    torch.manual_seed(plan.seed)
    unet, head = make_unet().to(device), make_head().to(device)
    silence(unet)

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        clean, plain, context = _draw(pools, models, "bottom", (number, progress), rng, device)
        timestep = _spread(rng, len(clean), LEAST_NOISY).to(device)
        noisy, _ = noised(clean, alphas_cumprod().to(device)[timestep], rng)
        error = F.mse_loss(head(bottom(unet, noisy, timestep, context)), plain)
        return error, {"plain": error.item()}

    modules = {"unet": unet, "head": head}
    stage.run(plan, modules, step, {name: stage.Average(module, 0.99) for name, module in modules.items()})


def train_whole(plan: stage.Plan, start: Path, pools: Pools, models: parts.Models, device: torch.device) -> None:
    """Train everything, from the state of `train_bottom`."""
    torch.manual_seed(plan.seed)
    unet, head = make_unet(), make_head()
    averages = stage.load_state(start)["averages"]
    unet.load_state_dict(averages["unet"])
    head.load_state_dict(averages["head"])
    silence(unet)
    modules = {"unet": unet.to(device), "head": head.to(device)}

    def step(number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng(workers.seeds(plan.seed, number))
        clean, plain, context = _draw(pools, models, "whole", (number, progress), rng, device)
        timestep = _spread(rng, len(clean), 0).to(device)
        alpha_bar = alphas_cumprod().to(device)
        noisy, noise = noised(clean, alpha_bar[timestep], rng)
        shown, earlier = know_more(clean, noisy, timestep, rng)
        below = bottom(unet, shown, earlier, context)
        guess = F.mse_loss(head(below), plain)
        said = top(unet, below.detach(), noisy, timestep, context)  # the bottom is not asked how things are drawn
        loss = ((said - noise).square().mean((1, 2, 3)) * loss_weight(alpha_bar[timestep])).mean()
        return loss + guess, {"loss": loss.item(), "plain": guess.item()}

    stage.run(plan, modules, step, {name: stage.Average(module, 0.99) for name, module in modules.items()})


def know_more(clean: Tensor, noisy: Tensor, timestep: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """What the bottom is shown: latents (n, 4, h, w) and timesteps (n,).

    In a share `KNOWS_MORE` of the rows the same picture at an earlier timestep with noise of its own, else the noisy
    latent itself.
    """
    count = len(timestep)
    more = torch.from_numpy(rng.random(count) < KNOWS_MORE).to(timestep.device)
    share = torch.from_numpy(rng.random(count)).to(timestep.device)
    earlier = torch.where(more, (timestep * share).long(), timestep)
    fresh, _ = noised(clean, alphas_cumprod().to(clean.device)[earlier], rng)
    return torch.where(more.view(-1, 1, 1, 1), fresh, noisy), earlier


def side_of(pools: Pools, number: int, progress: float) -> int:
    """The side of a step's pictures: small ones first, then mostly those the checkpoints are made for."""
    small = progress < SMALL_PICTURES or number % 10 == 0
    return min(pools) if small else max(pools)


def _draw(
    pools: Pools,
    models: parts.Models,
    stage_name: str,
    at: tuple[int, float],
    rng: np.random.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents (n, 4, h, w), the plain ones and embeddings (n, 77, 64); `at`: the step and the budget's spent share."""
    side = side_of(pools, *at)
    more = 1 if device.type == "cpu" else 8
    pool = pools[side]
    rows, texts = pool.pick(rng, ROWS[stage_name][side] * more, style_word=0.85)
    plain = pool.latents if pool.plain is None else pool.plain
    with torch.no_grad():
        context = models.text(models.vocabulary.batch(texts, rng).to(device))
    return pool.latents[rows].to(device), plain[rows].to(device), context


def _spread(rng: np.random.Generator, count: int, first: int) -> Tensor:
    """Timesteps (count,) from `first` to 999, one in each of `count` equal parts."""
    strata = (np.arange(count) + rng.uniform(size=count)) / count
    return torch.from_numpy((first + strata * (1000 - first)).astype(np.int64))


def seen_as(style: str) -> tuple[str, ...]:
    """The styles in which a style's scenes have to be drawn and encoded."""
    return tuple(dict.fromkeys((style, PLAIN)))


def train(folder: Path, models: parts.Models, sides: Sequence[int], share: float, device: torch.device) -> Path:
    """Train the bottom, then the whole, on the folder's latents; what is done is skipped. Returns the base's state."""
    models.text.to(device)
    pools = {side: Pool.load(folder, CHECKPOINT_STYLES, side, models.scale_factor, PLAIN) for side in sides}
    first = stage.Plan("bottom", folder, MINUTES["bottom"] * 60 * share, 1e-3, 40)
    if not stage.is_done(first):
        train_bottom(first, pools, models, device)
    then = stage.Plan("whole", folder, MINUTES["whole"] * 60 * share, 1e-3, 41)
    if not stage.is_done(then):
        train_whole(then, first.state_file, pools, models, device)
    return then.state_file
