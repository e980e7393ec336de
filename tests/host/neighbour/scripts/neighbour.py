"""Stands in for other extensions: does to a request what its one argument asks for, in the ways that theirs have.

Installed twice, before and after Ditail in the alphabet. What it changes in the model it takes away again in its next
``process``, as ControlNet and others do: so it stays after the request, and after one that failed.
"""

import copy
import functools
import re
from pathlib import Path

import gradio as gr
import torch
from modules import processing, script_loading, scripts, sd_hijack_unet, shared

FOLDER = Path(scripts.basedir())
NAME = FOLDER.name
reference = script_loading.load_module(str(FOLDER / "neighbour_reference.py"))
"""Each neighbour's own, so that its functions are of its folder."""
CHOICE = re.compile(r"\{([^}]*)\}")


class Ways:
    """Into the model, and into a request."""

    def __init__(self):
        self.undo = []

    def take_away(self):
        while self.undo:
            self.undo.pop()()

    # ways into the model

    def forward(self, p):
        unet = shared.sd_model.model.diffusion_model
        self._replace(unet, "forward", changed(unet.forward))

    def cross_attention(self, p):
        for block in blocks():
            self._replace(block.attn2, "forward", changed(block.attn2.forward))

    def self_attention(self, p):
        for block in blocks():
            self._replace(block.attn1, "forward", changed(block.attn1.forward))

    def projections(self, p):
        """LLLite's way."""
        for block in blocks():
            for layer in (block.attn1.to_q, block.attn1.to_v):
                self._replace(layer, "forward", changed(layer.forward))

    def block(self, p):
        for block in blocks():
            self._replace(block, "_forward", changed(block._forward))

    def reference(self, p):
        """ControlNet's reference types' way: see ``reference.py``."""
        for owner, name, value in reference.ways_of(shared.sd_model.model.diffusion_model, blocks()):
            self._replace(owner, name, value)

    def aligned(self, p):
        """ControlNet's StyleAlign, which has the same functions, and lets rows see each other."""
        for owner, name, value in reference.ways_of(shared.sd_model.model.diffusion_model, blocks(), align=True):
            self._replace(owner, name, value)

    def hook(self, p):
        handles = [block.attn1.to_v.register_forward_hook(lambda *args: args[-1] * 1.6) for block in blocks()]
        self.undo.append(lambda: [handle.remove() for handle in handles])

    def cat(self, p):
        self._replace(sd_hijack_unet.th, "cat", changed(sd_hijack_unet.th.cat))

    def apply_model(self, p):
        self._replace(shared.sd_model, "apply_model", changed(shared.sd_model.apply_model))

    def linear_class(self, p):
        self._replace(torch.nn.Linear, "forward", changed(torch.nn.Linear.forward))

    def vae_tiles(self, p):
        encoder = shared.sd_model.first_stage_model.encoder
        self._replace(encoder, "original_forward", encoder.forward)
        self._replace(encoder, "forward", Brighter(encoder))

    def _replace(self, owner, name, value):
        had, before = name in vars(owner), vars(owner).get(name)
        setattr(owner, name, value)
        self.undo.append(lambda: setattr(owner, name, before) if had else delattr(owner, name))

    # ways into the request

    def sample(self, p):
        """ControlNet's way: the first ``p.sample`` that it meets is kept for ever."""
        if getattr(p, "sample_before", None) is None:
            p.sample_before = p.sample
        p.sample = lambda *args, **kwargs: p.sample_before(*args, **kwargs)

    def prompts(self, p):
        p.all_prompts = [CHOICE.sub(lambda found: found[1].split("|")[0], prompt) for prompt in p.all_prompts]

    def combinatorial(self, p):
        """One image for each alternative, however many were asked for."""
        found = CHOICE.search(p.all_prompts[0])
        p.all_prompts = [CHOICE.sub(choice, p.all_prompts[0]) for choice in found[1].split("|")]
        p.all_negative_prompts = p.all_negative_prompts[:1] * len(p.all_prompts)
        p.all_seeds = [p.all_seeds[0]] * len(p.all_prompts)
        p.all_subseeds = [p.all_subseeds[0]] * len(p.all_prompts)
        p.n_iter = len(p.all_prompts)

    def late_prompts(self, p):
        """In ``process_batch``."""

    def copies(self, p):
        """ADetailer's way, in ``postprocess_image``."""


class Neighbour(Ways, scripts.Script):
    def title(self):
        return NAME

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox("", visible=False)]

    def process(self, p, ways):
        self.take_away()
        for way in ways if isinstance(ways, list) else ():
            getattr(self, way)(p)

    def process_batch(self, p, ways, **kwargs):
        if "late_prompts" in (ways or ()):
            p.prompts = [CHOICE.sub(lambda found: found[1].split("|")[-1], prompt) for prompt in p.prompts]

    def postprocess_image(self, p, pp, ways):
        if "copies" in (ways or ()) and not getattr(p, "is_a_copy", False):
            inner = copy.copy(p)
            inner.is_a_copy = True
            p.scripts.postprocess(inner, processing.Processed(inner, []))
            p.scripts.process(inner)


if NAME.startswith("z"):

    class Cocktail(Ways, scripts.Script):
        """Stands in for the authors' Ditail, where that is not: takes its changes away only after sampling."""

        def title(self):
            return "DiffusionCocktail"

        def show(self, is_img2img):
            return scripts.AlwaysVisible

        def ui(self, is_img2img):
            return [gr.Textbox(None, visible=False), gr.Checkbox(False, visible=False)]

        def process(self, p, picture, enabled):
            if enabled and picture:
                self.self_attention(p)

        def post_sample(self, p, ps, *args):
            self.take_away()


class Brighter:
    """Tiled VAE's way: an object that holds the encoder stands for its ``forward``."""

    def __init__(self, net):
        self.net = net

    def __call__(self, x):
        return self.net.original_forward(x) * 1.1


def blocks():
    return [module for module in shared.sd_model.model.diffusion_model.modules() if hasattr(module, "attn1")]


def changed(function):
    @functools.wraps(function)
    def more(*args, **kwargs):
        result = function(*args, **kwargs)
        return result * 1.2 if isinstance(result, torch.Tensor) else result

    # as a function of another extension's own looks, whatever it wraps
    more.__module__ = "a_neighbour"
    return more
