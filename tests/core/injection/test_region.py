"""Masks: exact at 0 and 1, at every resolution, for each picture its own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ditail_ext.core import Region
from ditail_ext.errors import InjectionError


def values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def halving(height, width):
    sizes = [(height, width)]
    while len(sizes) < 4:
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    return sizes


SIZES = [(16, 16), (16, 24), (8, 64), (9, 13), (17, 11), (96, 64)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_whole_masks_are_exact_at_every_resolution(size, value):
    region = Region(torch.full((1, 1, *size), value))
    for height, width in halving(*size):
        for shape in [(3, 5, height, width), (3, height * width, 5)]:
            own, source = values(*shape), values(*shape, seed=1)
            assert torch.equal(region.blend(own, source, None), source if value else own)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tokens_and_planes_get_the_same_mask(size):
    region = Region(torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(2)))
    for height, width in halving(*size):
        own, source = values(2, 5, height, width), values(2, 5, height, width, seed=1)
        planes = region.blend(own, source, None)
        tokens = region.blend(own.flatten(2).transpose(1, 2), source.flatten(2).transpose(1, 2), None)
        assert torch.equal(tokens, planes.flatten(2).transpose(1, 2)), (height, width)


@given(st.integers(4, 40), st.integers(4, 40), st.integers(0, 3))
def test_any_latent_size_finds_its_layers(height, width, times):
    """A convolution of stride 2 rounds up, so odd sizes halve up; the mask's corner must stay in its corner."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., :1, :1] = 1.0
    rows, columns = halving(height, width)[times]
    own = torch.zeros(1, rows * columns, 1)
    blended = Region(mask).blend(own, torch.ones_like(own), None).view(rows, columns)
    assert blended[0, 0] > 0
    assert (blended.sum() - blended[:2, :2].sum()).abs() < 1e-6


def test_half_mask_is_exact_on_both_sides():
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1.0
    region = Region(mask)
    for size in (16, 8, 4, 2):
        own, source = values(2, 5, size, size), values(2, 5, size, size, seed=1)
        out = region.blend(own, source, None)
        assert torch.equal(out[..., : size // 2], source[..., : size // 2])
        assert torch.equal(out[..., size // 2 :], own[..., size // 2 :])


def test_soft_masks_blend_and_average_down():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 0, 0] = 1.0
    mask[..., 2:, 2:] = 0.5
    own, source = values(1, 3, 2, 2), values(1, 3, 2, 2, seed=1)
    weight = torch.tensor([[0.25, 0.0], [0.0, 0.5]])
    expected = weight * source + (1 - weight) * own
    assert torch.allclose(Region(mask).blend(own, source, None), expected)


def test_each_source_picture_has_its_own_mask():
    region = Region(torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4), torch.full((1, 4, 4), 0.25)]))
    own, source = values(5, 16, 3), values(5, 16, 3, seed=1)
    out = region.blend(own, source, torch.tensor([1, 0, 2, 1, 0]))
    assert torch.equal(out[[0, 3]], source[[0, 3]])
    assert torch.equal(out[[1, 4]], own[[1, 4]])
    assert torch.allclose(out[2], 0.25 * source[2] + 0.75 * own[2])


@pytest.mark.parametrize("sources", [None, torch.tensor([0, 3]), torch.tensor([2, 3])])
def test_several_masks_are_never_guessed_at(sources):
    """With masks by picture, two rows of one picture must not take two masks."""
    region = Region(torch.rand(2, 1, 4, 4))
    with pytest.raises(InjectionError, match="2 region masks"):
        region.blend(values(2, 16, 3), values(2, 16, 3, seed=1), sources)


def test_one_mask_serves_several_sources():
    region = Region(torch.ones(1, 1, 4, 4))
    own, source = values(4, 16, 3), values(4, 16, 3, seed=1)
    assert torch.equal(region.blend(own, source, torch.tensor([0, 1, 0, 1])), source)


def test_from_pixels_averages():
    pixels = torch.zeros(1, 1, 16, 32)
    pixels[..., :16] = 1.0
    pixels[..., 16:20] = 1.0
    region = Region.from_pixels(pixels, (2, 4))
    out = region.blend(torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4), None)
    assert out[0, 0].tolist() == [[1.0, 1.0, 0.5, 0.0]] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_is_the_layer_s(dtype):
    own, source = values(1, 16, 3).to(dtype), values(1, 16, 3, seed=1).to(dtype)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1.0
    out = Region(mask).blend(own, source, None)
    assert out.dtype == dtype
    inside = mask.flatten().bool()
    assert torch.equal(out[:, inside], source[:, inside])
    assert torch.equal(out[:, ~inside], own[:, ~inside])


def test_layers_of_another_size_are_refused():
    region = Region(torch.ones(1, 1, 16, 16))
    for tokens in (255, 257, 128, 2, 3):
        with pytest.raises(InjectionError, match="number of tokens"):
            region.blend(torch.zeros(1, tokens, 2), torch.ones(1, tokens, 2), None)


@pytest.mark.parametrize(
    "mask",
    [
        torch.ones(16, 16),
        torch.ones(1, 3, 16, 16),
        torch.ones(1, 1, 0, 16),
        torch.full((1, 1, 4, 4), 1.01),
        torch.full((1, 1, 4, 4), -0.01),
        torch.full((1, 1, 4, 4), float("nan")),
        torch.full((1, 1, 4, 4), float("inf")),
    ],
)
def test_wrong_masks_are_refused(mask):
    with pytest.raises(InjectionError):
        Region(mask)
