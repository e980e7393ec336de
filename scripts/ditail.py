"""The script that the WebUI loads: the order of events and nothing else."""

import functools
from typing import Any

from modules import script_callbacks, scripts

from ditail_ext.errors import DitailError
from ditail_ext.webui import flow, notes, options, rates, shown
from ditail_ext.webui.cache import identity
from ditail_ext.webui.comparing import runs
from ditail_ext.webui.failure import before_init, fail_at_init, fail_at_prompts, forget_init
from ditail_ext.webui.grid import controls as grid_controls
from ditail_ext.webui.grid import grid
from ditail_ext.webui.grid.announced import Announced
from ditail_ext.webui.host import foreign
from ditail_ext.webui.host.progress import InversionStopped
from ditail_ext.webui.panel import api, layout, xyz
from ditail_ext.webui.panel.wiring import Wiring
from ditail_ext.webui.request.arguments import OVERRIDES, Request, is_asked_for, parse_request
from ditail_ext.webui.source import models
from ditail_ext.webui.target.sampling import TargetSampling


class Ditail(scripts.Script):
    """Diffusion Cocktail in the img2img and txt2img tabs."""

    section = "accordions"
    create_group = False

    def title(self) -> str:
        """The name in the API."""
        return "Ditail"

    def show(self, is_img2img: bool) -> Any:
        """In both tabs."""
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        """One tab's panel."""
        panel = layout.build_panel(is_img2img, self.elem_id)
        self.infotext_fields = panel.infotext_fields
        self.paste_field_names = panel.paste_field_names
        self._wiring_of_tab.panel_is(panel)
        return panel.components

    def after_component(self, component: Any, **_kwargs: Any) -> None:
        """A control was made, the host's or another script's."""
        self._wiring_of_tab.host_has(component)
        self._costs_of_tab.host_has(component)

    @functools.cached_property
    def _wiring_of_tab(self) -> Wiring:
        return Wiring(is_img2img=self.is_img2img)

    @functools.cached_property
    def _costs_of_tab(self) -> Announced:
        return Announced(is_img2img=self.is_img2img)

    def before_process(self, p: Any, *args: Any) -> None:
        """Before the host loads the request's checkpoint: it may be one that waits as a source."""
        if not is_asked_for(args, getattr(p, OVERRIDES, None)):
            flow.give_way()
            return
        try:
            flow.refuse_other_ditail(p)
        except DitailError as error:  # the host would swallow it; it is raised again
            fail_at_prompts(p, error)
            return
        runs.keep_request(p)
        flow.settle_models(p)

    def process(self, p: Any, *args: Any) -> None:
        """Leave everything for ``p.init``, when all extensions have said what the prompts are."""
        try:
            self._prepare(p, args)
        except Exception as error:  # noqa: BLE001 - the host would swallow it; it is raised again
            fail_at_init(p, error)

    def _prepare(self, p: Any, args: Any) -> None:
        self._end(p)
        p.extra_generation_params = notes.without_ours(p.extra_generation_params)
        request = parse_request(args, getattr(p, OVERRIDES, None))
        if request is None:
            return
        if flow.has_no_first_pass(p):
            notes.say_no_part(p)
            return
        before_init(p, lambda: self._begin(p, request))

    def _begin(self, p: Any, request: Request) -> None:
        """Let the source do its part, and take hold of the target's sampling."""
        try:
            sampling = flow.begin(p, request)
        except InversionStopped:
            flow.make_nothing(p)
        else:
            sampling.install(p)

    def process_before_every_sampling(self, p: Any, *args: Any, **kwargs: Any) -> None:
        """Take hold of the first pass's sampler, which in txt2img does not exist before."""
        sampling = TargetSampling.of(p)
        if sampling is None or getattr(p, "is_hr_pass", False):
            return
        try:
            sampling.attach(p.sampler, kwargs["noise"])
        except Exception as error:  # noqa: BLE001 - the host would swallow it; it is raised again
            sampling.failed_to_attach(error)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        """Show what the source generated, if that is wanted, say where the time went, and let go of the request."""
        sampling = TargetSampling.of(p)
        try:
            if sampling is not None:
                runs.remember(p, processed, parse_request(args, getattr(p, OVERRIDES, None)))
                shown.append(p, processed, sampling.contents)
                sampling.times.tell(processed)
                rates.last.learn(sampling.times, p, len(processed.all_seeds))
            shown.tell(p, processed)
        finally:
            self._end(p)

    def _end(self, p: Any) -> None:
        """Let go of a request; a copy that another extension made of one has nothing of it."""
        forget_init(p)
        flow.make_again(p)
        sampling = TargetSampling.of(p)
        if sampling is not None:
            sampling.remove(p)


class DitailGrid(scripts.Script):
    """Every model's content in every model's style, in the Script menu of both tabs."""

    def title(self) -> str:
        """The name in the menu and in the API."""
        return grid_controls.TITLE

    def show(self, is_img2img: bool) -> Any:
        """In both tabs, when selected."""
        return True

    def ui(self, is_img2img: bool) -> list[Any]:
        """One tab's controls."""
        components, self.infotext_fields = grid_controls.build_controls(self.elem_id)
        return components

    def run(self, p: Any, *args: Any) -> Any:
        """Make the grid, with the settings of Ditail's own panel."""
        ditail = next(script for script in p.scripts.alwayson_scripts if isinstance(script, Ditail))
        panel = p.script_args[ditail.args_from : ditail.args_to]
        return grid.make_grid(p, args, slice(self.args_from, self.args_to), panel)


models.watch_unloading()
script_callbacks.on_model_loaded(identity.remember)
script_callbacks.on_model_loaded(foreign.remember_classes)
script_callbacks.on_ui_settings(options.add_options)
script_callbacks.on_before_ui(xyz.add_axes)
script_callbacks.on_app_started(api.add_routes)
