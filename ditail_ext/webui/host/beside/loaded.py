"""What the host keeps outside of a model about the one that it believes to be loaded.

Precision, VAE, text encoder and embeddings of the loaded model lie in variables of the host's modules. A second model
can only be built, or be at work, if these become its own for that time and are afterwards what they were.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import devices, paths_internal, script_callbacks, sd_hijack, sd_models, sd_unet, sd_vae, shared

from .. import kinds

_OPTIONS = ("sd_model_checkpoint", "sd_checkpoint_hash")
"""The host's options that loading a checkpoint writes."""

_ABSENT = object()
"""Stands for a variable that the host does not have: Forge's models have themselves what is in most of them."""


def _variables() -> tuple[tuple[Any, tuple[str, ...]], ...]:
    """The host's objects, and their variables that belong to the loaded model."""
    encoders = sys.modules.get("modules.sd_text_encoder")  # reForge's
    return (
        (sd_models.model_data, ("sd_model",)),
        (devices, ("dtype_unet", "fp8", "unet_needs_upcast")),
        (sd_vae, ("base_vae", "loaded_vae_file", "checkpoint_info")),
        (sd_hijack.model_hijack, ("clip", "layers", "circular_enabled")),
        (sd_unet, ("original_forward",)),
        (shared, ("parallel_processing_allowed",)),
        *([(encoders, ("current_text_encoder_option", "current_text_encoder"))] if encoders is not None else []),
    )


def loaded_model() -> Any:
    """The model that is loaded; ``None`` for none, and for what stands for one before the first request (Forge)."""
    model = sd_models.model_data.sd_model
    return model if hasattr(model, "sd_checkpoint_info") else None


def held_models() -> list[Any]:
    """The models that the host itself holds, the loaded one among them; none where it has no such list (Forge)."""
    held: list[Any] = getattr(sd_models.model_data, "loaded_sd_models", [])
    return held


@dataclass(frozen=True)
class LoadedState:
    """A model, and the host's variables as they are while that model is the loaded one."""

    model: Any
    _values: tuple[tuple[Any, ...], ...]

    @classmethod
    def now(cls) -> LoadedState:
        """Of the model that is loaded now."""
        values = tuple(tuple(getattr(owner, name, _ABSENT) for name in names) for owner, names in _variables())
        return cls(sd_models.model_data.sd_model, values)

    def with_model(self, model: Any) -> LoadedState:
        """The same with another model, on a host that has nothing else for a loaded one."""
        return LoadedState(model, ((model,), *self._values[1:]))

    @classmethod
    def of(cls, model: Any) -> LoadedState:
        """Of a model that the host holds beside the loaded one, as the host would set them for it."""
        vae = (getattr(model, "base_vae", None), getattr(model, "loaded_vae_file", None), model.sd_checkpoint_info)
        values = (
            (model,),
            (devices.dtype_unet, bool(sd_models.check_fp8(model)), devices.unet_needs_upcast),
            vae,
            (model.cond_stage_model, list(model.modules()), False),
            (sd_unet.original_forward,),
            (not getattr(model, "lowvram", False),),
            *cls.now()._values[6:],
        )
        return cls(model, values)

    def install(self) -> None:
        """Make the host believe that this model is the loaded one; its list of loaded models stays."""
        for (owner, names), values in zip(_variables(), self._values, strict=True):
            for name, value in zip(names, values, strict=True):
                if value is not _ABSENT:
                    setattr(owner, name, value)


@contextmanager
def as_if_none_were_loaded() -> Iterator[None]:
    """A context in which the host holds no model, so that it builds another one beside; all is put back at the end.

    The host throws the loaded model away before it builds one, and counts its models against the user's limit: it
    finds neither a loaded one nor a list here. The new model is not on the list afterwards either.
    """
    data = sd_models.model_data
    state, held, options = LoadedState.now(), data.loaded_sd_models, shared.opts.data
    written = {name: options[name] for name in _OPTIONS if name in options}
    try:
        data.sd_model, data.loaded_sd_models = None, []
        yield
    finally:
        data.loaded_sd_models = held
        state.install()
        for name in _OPTIONS:
            options.pop(name, None)
        options.update(written)


@contextmanager
def among_ourselves() -> Iterator[None]:
    """Let the host's loader do to a second model what it does to the loaded one, and nothing to anybody else.

    - The attention optimisation is a patch of classes, in force already; to apply it again would undo other
      extensions' patches of the same classes.
    - The textual inversions are the target's.
    - Callbacks for a loaded model are for the target's. Only the host's own are called (its Lora extension names the
      layers): another extension would take the second model for the one that is going to sample.
    """
    with ExitStack() as undo:
        hijack = sd_hijack.model_hijack
        _replace(undo, hijack, "apply_optimizations", lambda option=None: None)
        _replace(undo, hijack.embedding_db, "load_textual_inversion_embeddings", lambda force_reload=False: None)
        _replace(undo, script_callbacks, "model_loaded_callback", _tell_the_host_s_own)
        encoders = sys.modules.get("modules.sd_text_encoder")
        if encoders is not None:  # reForge would throw the target's text encoder away
            _replace(undo, encoders, "apply_text_encoder", lambda option=None: None)
        yield


def _replace(undo: ExitStack, owner: Any, name: str, value: Callable[..., Any]) -> None:
    had_own, before = name in vars(owner), vars(owner).get(name)
    undo.callback(lambda: setattr(owner, name, before) if had_own else delattr(owner, name))
    setattr(owner, name, value)


def _tell_the_host_s_own(model: Any) -> None:
    for entry in script_callbacks.ordered_callbacks("model_loaded"):
        if Path(entry.script).is_relative_to(paths_internal.extensions_builtin_dir):
            entry.callback(model)


@contextmanager
def looked_at(look: Callable[[Any], None]) -> Iterator[None]:
    """A context in which the weights that the host reads of a file are looked at before it makes a model of them."""
    original = sd_models.get_checkpoint_state_dict

    def read(*args: Any, **kwargs: Any) -> Any:
        weights = original(*args, **kwargs)
        look(weights)
        return weights

    with ExitStack() as undo:
        _replace(undo, sd_models, "get_checkpoint_state_dict", read)
        yield


@contextmanager
def embeddings_of(model: Any) -> Iterator[None]:
    """A context in which textual inversions are those that fit a model, which is the loaded one for the host.

    Those of the target serve every model whose text encoder has the target's width. For another one the host's table
    is filled anew, and put back as it was, object by object: others hold references to its dictionaries.
    """
    table = getattr(sd_hijack.model_hijack, "embedding_db", None)
    if table is None or table.expected_shape in (-1, _width_of(model)):  # the former: each model has its own
        yield
        return
    dictionaries = (table.ids_lookup, table.word_embeddings, table.skipped_embeddings)
    contents = [dict(found) for found in dictionaries]
    shape, shown = table.expected_shape, table.previously_displayed_embeddings
    try:
        table.load_textual_inversion_embeddings(force_reload=True)
        yield
    finally:
        for found, before in zip(dictionaries, contents, strict=True):
            found.clear()
            found.update(before)
        table.expected_shape, table.previously_displayed_embeddings = shape, shown


def reload_embeddings_for(model: Any) -> None:
    """Fill the host's table of textual inversions anew if those of the model before do not fit the one loaded now."""
    table = sd_hijack.model_hijack.embedding_db
    if table.expected_shape not in (-1, _width_of(model)):
        table.load_textual_inversion_embeddings(force_reload=True)


def _width_of(model: Any) -> int:
    width: int = model.cond_stage_model.encode_embedding_init_text(",", 1).shape[1]
    return width


@contextmanager
def notes_restored() -> Iterator[None]:
    """Keep what the host notes while it encodes prompts of another model: it would go into the target's infotext."""
    model = sd_models.model_data.sd_model
    noted = kinds.of(model).notes(model)
    comments, parameters = list(noted.comments), noted.extra_generation_params
    noted.extra_generation_params = {}
    try:
        yield
    finally:
        noted.comments[:] = comments
        noted.extra_generation_params = parameters
