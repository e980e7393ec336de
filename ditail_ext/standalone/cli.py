"""``python -m ditail_ext``: arguments in, files out, and one sentence when something is wrong."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import DitailError, OutputError, SettingsError
from ..settings import TABLE, Settings
from .further import MOST, RATIO, WEIGHT, Aggregated

WRONG_INPUT = 2
INTERRUPTED = 130
_INVERSION_SETTINGS = (
    "positive_scale",
    "negative_scale",
    "inversion_prompt",
    "inversion_negative_prompt",
    "inversion_rule",
    "refinements",
)
SETTINGS = {name: setting for name, setting in TABLE.items() if not setting.webui_only and name != "source_checkpoint"}
"""The settings with an option of their own; the source checkpoint is ``--source``."""

logger = logging.getLogger("ditail")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one sentence, without the usage."""
        sentence = message[:1].upper() + message[1:]
        raise SettingsError("command line", f"{sentence.rstrip('.')}; see --help.")


def build_parser() -> argparse.ArgumentParser:
    """The command line, Ditail's settings from their table."""
    parser = _Parser(
        prog="python -m ditail_ext",
        description="Make this picture in that model's style: Diffusion Cocktail (arXiv 2312.08873).",
    )
    parser.add_argument("picture", type=Path, help="the content picture")
    parser.add_argument("--target", type=Path, required=True, help="checkpoint that gives the style (.safetensors)")
    parser.add_argument("--source", type=Path, help="checkpoint that inverts the picture; the target if left out")
    parser.add_argument("--prompt", default="", help="what the picture shows")
    parser.add_argument("--negative-prompt", default="", help="what it shall not show")
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps, of inversion and sampling (50)")
    parser.add_argument("--cfg-scale", type=float, default=7.5, help="classifier-free guidance (7.5)")
    parser.add_argument(
        "--size", type=int, default=512, help="pixels of the shorter side; 0 keeps the picture's (512)"
    )
    parser.add_argument(
        "--mask", type=Path, help="grey picture of the picture's size: grey is strength, white injects"
    )
    ditail = parser.add_argument_group("Ditail")
    for name, setting in SETTINGS.items():
        default = f"({setting.default})" if setting.default != "" else ""
        ditail.add_argument(
            option(name), type=setting.kind, choices=setting.choices, help=f"{setting.help} {default}".strip()
        )
    _add_aggregation(parser)
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, default=Path("ditail.png"), help="the PNG to write (ditail.png)")
    output.add_argument("--sheet", type=Path, help="also write a contact sheet with the alternatives")
    output.add_argument("--save-trajectory", type=Path, help="also write the inversion, for --load-trajectory")
    output.add_argument("--load-trajectory", type=Path, help="use an inversion written before instead of inverting")
    output.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    compute = parser.add_argument_group("compute")
    compute.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    compute.add_argument("--precision", default="auto", choices=("auto", "fp32", "fp16", "bf16"))
    compute.add_argument("--threads", type=int, help="CPU threads; torch's own choice if left out")
    return parser


def _add_aggregation(parser: argparse.ArgumentParser) -> None:
    """Options for further checkpoints; each but the window's may be given once a checkpoint, in the same order."""
    group = parser.add_argument_group("aggregation")
    often: dict[str, Any] = {"action": "append", "default": []}
    group.add_argument(
        "--aggregate",
        type=Path,
        metavar="CHECKPOINT",
        help=f"a further checkpoint whose latents are merged with the target's in the first steps; up to {MOST} times",
        **often,
    )
    shared = f"its share of the merged latent, the target has the rest ({WEIGHT} shared by all)"
    group.add_argument("--aggregate-weight", type=float, metavar="SHARE", help=shared, **often)
    group.add_argument("--aggregate-prompt", metavar="TEXT", help="its prompt; the main one if empty", **often)
    group.add_argument("--aggregate-negative-prompt", metavar="TEXT", help="its negative prompt, likewise", **often)
    group.add_argument("--aggregate-ratio", type=float, help=f"share of the steps at which merging ends ({RATIO})")
    group.add_argument("--aggregate-start", type=float, help="share of the steps that pass before it begins (0.0)")


def option(name: str) -> str:
    """A setting's name as a command-line option."""
    return f"--{name.replace('_', '-')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        args = build_parser().parse_args(arguments)
        _check(args)
        _run(args)
    except DitailError as error:
        logger.error("%s", error)
        return WRONG_INPUT
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        logger.error("Interrupted; no file is left half-written.")
        return INTERRUPTED
    return 0


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of it; torch's contexts, interrupted, raise errors of their own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _run(args: argparse.Namespace) -> None:
    """The job, with the imports that take seconds."""
    try:
        import torch

        from ..sheet import contact_sheet
        from .job import run
        from .model import Compute
        from .picture import save_png
    except ImportError as error:
        raise DitailError(
            f"The package {error.name} is not installed; run the set-up that README.md names."
        ) from error
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        result = run(_job(args), Compute.choose(args.device, args.precision))
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        raise DitailError("There is not enough memory; use a smaller --size, or --precision fp16.") from error
    save_png(result.picture, args.output, result.parameters)
    written = [args.output]
    if args.sheet:
        save_png(contact_sheet(result.panels), args.sheet)
        written.append(args.sheet)
    if args.save_trajectory:
        result.trajectory.save(args.save_trajectory)
        written.append(args.save_trajectory)
    logger.info("Wrote %s.", ", ".join(str(path) for path in written))


def _job(args: argparse.Namespace):  # type: ignore[no-untyped-def]  # noqa: ANN202  (imported late)
    from .job import Job
    from .parameters import Sampling

    return Job(
        picture=args.picture,
        target=args.target,
        source=args.source,
        sampling=Sampling(args.prompt, args.negative_prompt, args.steps, args.cfg_scale),
        settings=_settings(args),
        mask=args.mask,
        shorter_side=args.size,
        loaded_trajectory=args.load_trajectory,
        with_sheet=args.sheet is not None,
        aggregated=_aggregated(args),
    )


def _settings(args: argparse.Namespace) -> Settings:
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    return Settings.from_mapping(given)


def _aggregated(args: argparse.Namespace) -> Aggregated | None:
    return Aggregated.of(
        args.aggregate,
        args.aggregate_weight,
        args.aggregate_prompt,
        args.aggregate_negative_prompt,
        (args.aggregate_ratio, args.aggregate_start),
    )


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be meant, before anything is loaded.

    Raises:
        DitailError: a number is out of range, options contradict each other, or an output cannot be written.
    """
    _settings(args)
    _aggregated(args)
    if not 1 <= args.steps <= 999:
        raise SettingsError("steps", f"--steps must be from 1 to 999, not {args.steps}.")
    if not 1.0 <= args.cfg_scale <= 100.0:
        raise SettingsError("cfg_scale", f"--cfg-scale must be from 1 to 100, not {args.cfg_scale:g}.")
    if args.size != 0 and not 64 <= args.size <= 4096:
        raise SettingsError("size", f"--size must be 0 or from 64 to 4096, not {args.size}.")
    if args.threads is not None and args.threads < 1:
        raise SettingsError("threads", f"--threads must be at least 1, not {args.threads}.")
    if args.load_trajectory is not None:
        _check_loaded_trajectory(args)
    _check_outputs(args)


def _check_loaded_trajectory(args: argparse.Namespace) -> None:
    others = {"--source": args.source, "--save-trajectory": args.save_trajectory, "--sheet": args.sheet}
    others |= {option(name): getattr(args, name) for name in _INVERSION_SETTINGS}
    for name, value in others.items():
        if value is not None:
            raise SettingsError(
                name, f"--load-trajectory takes a finished inversion, so {name} contradicts it; leave one out."
            )


def _check_outputs(args: argparse.Namespace) -> None:
    inputs = [args.picture, args.target, args.source, args.mask, args.load_trajectory, *args.aggregate]
    taken = {path.resolve() for path in inputs if path is not None}
    for path, ending in ((args.output, ".png"), (args.sheet, ".png"), (args.save_trajectory, ".safetensors")):
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise OutputError(f"{path} should end in {ending}; give it that ending.")
        if path.resolve() in taken:
            raise OutputError(f"{path} is named twice, as an output and as another file; choose another output.")
        taken.add(path.resolve())
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise OutputError(f"{path} cannot be written; name a file in a folder that exists and can be written to.")
        if path.exists() and not args.overwrite:
            raise OutputError(f"{path} exists already; use --overwrite to replace it.")
