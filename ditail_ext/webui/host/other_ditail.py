"""The authors' own Ditail for the WebUI (ditail/sd-webui-ditail), switched on in a request of this one's."""

from __future__ import annotations

from typing import Any

from . import foreign

_NAME = "diffusioncocktail"
"""Its script's title, as the host keeps it: in small letters."""


def is_on(p: Any) -> str | None:
    """The folder of the authors' Ditail, if it is to take part in a request; ``None`` if it is not.

    It inverts and changes the target in its ``process``, and takes its changes away only after sampling. So whoever
    refuses it has to do that before: what it left would be in every later picture.

    Args:
        p: the host's request, whose scripts have their arguments.
    """
    for script in getattr(p.scripts, "alwayson_scripts", ()):
        if script.name == _NAME:
            picture, enabled = (*p.script_args[script.args_from : script.args_to], None, None)[:2]
            if enabled and picture is not None:
                return foreign.name_of(type(script).ui)
    return None
