"""The quick look at generated layouts: the base told a style stands in for its checkpoint."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from bench.quality import quick
from demo import classifier
from demo.nets import Vae, make_unet
from demo.parts import Models


class Words:
    """Captions to rows: their lengths, and a note of what was asked."""

    def __init__(self):
        self.asked = []

    def batch(self, texts):
        self.asked += texts
        return torch.tensor([[len(text)] for text in texts])


def text(rows):
    return (rows.float()[..., None] / 50).expand(-1, 77, 64)


def test_told_names_the_style_in_every_caption_but_the_empty_one():
    words = Words()
    quick.Told(words, "ink").batch(["a red circle", ""])
    assert words.asked == ["a red circle, ink style", ""]


def test_a_base_that_hears_nothing_redraws_its_own_picture():
    torch.manual_seed(0)
    words = Words()
    base = Models(Vae().eval(), text, make_unet().eval(), words, 1.0)  # a fresh UNet answers zero, whatever it is told
    methods = [replace(method, steps=2) for method in quick.METHODS]
    found = quick.pairs(base, classifier.Judge(), 7, methods, side=64)
    assert list(found) == ["off", "default", "full 0.6"]
    for rows in found.values():
        assert rows.shape == (7, 2)
        assert rows[:, 0] == pytest.approx(np.ones(7))
    told = {text.rsplit(", ", 1)[1] for text in words.asked if text}
    assert told == {"shaded style", "ink style", "mosaic style"}
