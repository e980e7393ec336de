"""The target mixed with a second checkpoint, for as long as the sampler of Ditail's pass runs.

Only UNets are mixed: the prompts are encoded before sampling starts, and the VAE is at work before and after it, so
those two stay the target's. The source never sees the mix: it has done its part by then, even where it is the target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import sd_models, shared
from safetensors import SafetensorError, safe_open  # type: ignore[attr-defined]
from torch import Tensor, nn

from ...core import check_fit, interpolate, mixed_weights
from ...errors import CheckpointError, UnsupportedModelError
from ...settings import NO_MIX, Settings
from ..cache import identity
from ..host import kinds, networks
from ..host.checkpoints import read_keys
from ..host.installed import find_checkpoint
from ..host.model import unet_of
from ..timing import Part, TimeSplit

_UNET = "model.diffusion_model."
_AVERAGED = "model_ema."


@dataclass(frozen=True)
class Mix:
    """What the target is mixed with: a checkpoint of the host, and its share, above 0."""

    info: Any
    weight: float

    def identity(self) -> list[Any]:
        """What tells this mix from others of the same target."""
        return [identity.of_checkpoint(self.info), self.weight]


def find_mix(settings: Settings, model: Any) -> Mix | None:
    """The mix that a request asks for; ``None`` if the target stays as it is.

    Args:
        settings: checked.
        model: the target, loaded.

    Raises:
        CheckpointError: there is no such checkpoint, its file is damaged, or it has another architecture.
    """
    if not _is_named(settings):
        return None
    info = find_checkpoint(settings.mix_checkpoint, "mix_checkpoint")
    if settings.mix_weight == 0.0 or info.filename == model.sd_checkpoint_info.filename:
        return None
    if kinds.of(model).is_packed(model):
        raise UnsupportedModelError(
            "mix_checkpoint: the target's UNet is kept in a packed form (NF4, FP4 or GGUF), which cannot be mixed; "
            f"choose '{NO_MIX}', or a target that is not."
        )
    keys = read_keys(info, "mix_checkpoint")
    if keys is not None:
        names = _names(keys, model)
        check_fit({name: tuple(keys[key]["shape"]) for name, key in names.items()}, unet_of(model), info.name)
    return Mix(info, settings.mix_weight)


def why_no_mix(settings: Settings) -> str:
    """Why :func:`find_mix` found none, as the end of a sentence."""
    if not _is_named(settings):
        return "there is no checkpoint to mix the target with"
    if settings.mix_weight == 0.0:
        return "the mix weight is 0"
    return "the target would be mixed with itself"


def mix_file(settings: Settings) -> list[Any] | None:
    """What identifies the file that a request names to mix with.

    Raises:
        CheckpointError: there is no such checkpoint.
    """
    if not _is_named(settings):
        return None
    return identity.of_checkpoint(find_checkpoint(settings.mix_checkpoint, "mix_checkpoint"))


def _is_named(settings: Settings) -> bool:
    return settings.mix_checkpoint not in ("", NO_MIX)


@contextmanager
def mixed_target(model: Any, mix: Mix, times: TimeSplit) -> Iterator[None]:
    """A context in which the loaded target's UNet is a mix; its own weights come back bit for bit.

    The host merges LoRAs into weights when a layer is called and keeps copies of what was there before. So before and
    after, its layers are unmerged: LoRAs add to the mix as they would to such a checkpoint, and no copy of mixed
    weights outlives it. Should the host load another checkpoint into this UNet (a refiner), the mix ends just before.

    Args:
        model: the host's, loaded.
        mix: with what.
        times: takes the seconds of reading, mixing and putting back.

    Raises:
        CheckpointError: the second checkpoint cannot be read, or has another architecture.
    """
    unet = unet_of(model)
    undo = ExitStack()
    loading = unet._register_load_state_dict_pre_hook(lambda *_: undo.close())
    try:
        with times.part(Part.MIX):
            _mix(model, unet, mix, undo)
        yield
    finally:
        loading.remove()
        with times.part(Part.MIX):
            undo.close()


def _mix(model: Any, unet: nn.Module, mix: Mix, undo: ExitStack) -> None:
    networks.unmerge(model, unet)
    with _weights_of(mix.info, model) as other:
        check_fit(other.shapes(), unet, mix.info.name)
        undo.enter_context(mixed_weights(unet, other, mix.weight, name=mix.info.name))
        undo.enter_context(_halves_mixed(unet, other, mix.weight))
    undo.callback(networks.unmerge, model, unet)
    networks.merge(model)


@contextmanager
def _halves_mixed(unet: nn.Module, other: Mapping[str, Tensor], gamma: float) -> Iterator[None]:
    """Mix the copies in half precision, too, that the host keeps beside 8-bit weights to merge LoRAs into."""
    own: list[tuple[nn.Module, str, Tensor]] = []
    try:
        for path, layer in unet.named_modules():
            for name in ("weight", "bias"):
                kept = vars(layer).get(f"fp16_{name}")
                if kept is not None:
                    own.append((layer, f"fp16_{name}", kept))
                    setattr(layer, f"fp16_{name}", interpolate(kept, other[f"{path}.{name}"], gamma))
        yield
    finally:
        for layer, name, kept in own:
            setattr(layer, name, kept)


class _Weights(Mapping[str, Tensor]):
    """A checkpoint file's UNet by the names in the UNet, each tensor read when it is asked for."""

    def __init__(self, keys: Mapping[str, str], read: Callable[[str], Tensor], shape: Callable[[str], Any]) -> None:
        self._keys, self._read, self._shape = keys, read, shape

    def __getitem__(self, name: str) -> Tensor:
        return self._read(self._keys[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, without reading them."""
        return {name: tuple(self._shape(key)) for name, key in self._keys.items()}


@contextmanager
def _weights_of(info: Any, model: Any) -> Iterator[_Weights]:
    """A second checkpoint's weights, on the CPU: one at a time where the file's format and the host's options let us.

    Raises:
        CheckpointError: the file cannot be read.
    """
    path = Path(info.filename)
    try:
        if path.suffix.lower() == ".safetensors" and not shared.opts.disable_mmap_load_safetensors:
            with safe_open(str(path), framework="pt", device="cpu") as file:  # type: ignore[attr-defined]
                names = _names(file.keys(), model)
                yield _Weights(names, file.get_tensor, lambda key: file.get_slice(key).get_shape())
            return
        tensors = _unet_alone(_read_whole(info), model)
        try:
            yield _Weights(_names(tensors, model), tensors.__getitem__, lambda key: tensors[key].shape)
        finally:
            tensors.clear()
    except (SafetensorError, OSError) as error:
        raise _unreadable(info, error) from error


def _read_whole(info: Any) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = sd_models.read_state_dict(info.filename, map_location="cpu")
    except Exception as error:  # what a damaged pickle, or the host's check of it, makes of it is anything
        raise _unreadable(info, error) from error
    return state


def _unreadable(info: Any, error: BaseException) -> CheckpointError:
    said = (str(error).strip().splitlines() or ["no message"])[0][:200]
    return CheckpointError(
        f"mix_checkpoint: '{info.title}' could not be read ({type(error).__name__}: {said}); choose another "
        "checkpoint or replace the file."
    )


def _unet_alone(state: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
    wanted = set(_names(state, model).values())
    return {key: tensor for key, tensor in state.items() if key in wanted}


def _names(keys: Iterable[str], model: Any) -> dict[str, str]:
    """A checkpoint file's keys by the names that they have in the UNet.

    A model whose configuration says so samples with the averages that its file holds beside the weights; then the
    second checkpoint's averages are the ones to mix.
    """
    listed = set(keys)
    names = {key[len(_UNET) :]: key for key in listed if key.startswith(_UNET)}
    if getattr(model, "use_ema", False):
        averages = {name: f"{_AVERAGED}diffusion_model{name.replace('.', '')}" for name in names}
        names |= {name: key for name, key in averages.items() if key in listed}
    return names
