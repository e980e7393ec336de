"""The authors' Ditail takes its picture from the page alone; beside this it takes the API's, too."""

import functools

from modules import script_callbacks, scripts
from modules.api.api import decode_base64_to_image


def install(_demo, _app):
    for entry in scripts.scripts_data:
        if entry.script_class.__name__ == "DitailScript":
            entry.script_class.process = with_decoded(entry.script_class.process)


def with_decoded(process):
    @functools.wraps(process)
    def process_it(self, p, picture, *args):
        return process(self, p, decode_base64_to_image(picture) if isinstance(picture, str) else picture, *args)

    return process_it


script_callbacks.on_app_started(install)
