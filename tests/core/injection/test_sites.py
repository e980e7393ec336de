"""Which modules are injected, in which UNets; the others are refused."""

import copy

import pytest
import torch
from torch import nn

from ditail_ext.core import PROFILE_NAMES, Injection, LayerProfile, SiteKind, Window, detect_family, find_sites
from ditail_ext.errors import UnsupportedModelError


def feature(block):
    return (f"output_blocks.{block}.0.out_layers.3", SiteKind.FEATURE)


def attention(block, depth=1):
    path = f"output_blocks.{block}.1.transformer_blocks"
    kinds = (("to_q", SiteKind.QUERY), ("to_k", SiteKind.KEY))
    return [(f"{path}.{layer}.attn1.{name}", kind) for layer in range(depth) for name, kind in kinds]


def named(sites):
    return [(site.name, site.kind) for site in sites]


@pytest.mark.parametrize("layout", ["sd1", "sd2"])
def test_sd1_and_sd2(make_unet, layout):
    unet = make_unet(layout)
    assert detect_family(unet).name == "SD1/SD2"
    expected = [feature(4), *[site for block in range(4, 12) for site in attention(block)]]
    assert named(find_sites(unet)) == expected
    assert named(find_sites(unet, "default")) == expected
    assert named(find_sites(unet, "strong")) == [*attention(3), *expected]
    everywhere = [site for block in range(4, 12) for site in (feature(block), *attention(block))]
    assert named(find_sites(unet, "full")) == [*attention(3), *everywhere]


def test_the_golden_unets(unets):
    assert len(find_sites(unets.source)) == 17


def test_sdxl(make_unet):
    unet = make_unet("sdxl")
    assert detect_family(unet).name == "SDXL"
    expected = [feature(0), *[site for block in range(3) for site in attention(block, depth=2)]]
    assert named(find_sites(unet)) == expected
    strong = [*expected, *[site for block in range(3, 6) for site in attention(block, depth=2)]]
    assert named(find_sites(unet, "strong")) == strong
    full = named(find_sites(unet, "full"))
    assert [site for site in full if site in strong] == strong
    assert [site for site in full if site not in strong] == [feature(block) for block in range(2, 9)]
    assert len(expected) == 1 + 3 * 2 * 2
    assert len(strong) == 1 + 6 * 2 * 2


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("profile", PROFILE_NAMES)
def test_sites_are_the_unet_s_modules_in_the_order_of_a_pass(make_unet, trace, layout, profile):
    unet = make_unet(layout)
    sites = find_sites(unet, profile)
    for site in sites:
        assert unet.get_submodule(site.name) is site.module
    with trace(unet) as names, torch.no_grad():
        context = [torch.zeros(1, 5, 16)] * 2  # ldm wants one for each transformer block
        unet(torch.zeros(1, 4, 16, 16), timesteps=torch.ones(1), context=context)
    wanted = {site.name for site in sites}
    assert [name for name in names if name in wanted] == [site.name for site in sites]


def test_feature_sites_are_the_hidden_state_before_the_skip(make_unet):
    """The residual block returns skip + site, so the site's output is what is left of it."""
    unet = make_unet("sd1")
    site = next(site for site in find_sites(unet) if site.kind is SiteKind.FEATURE)
    block = unet.get_submodule("output_blocks.4.0")
    seen = {}
    handle = site.module.register_forward_hook(lambda module, args, output: seen.update(site=output))
    x = torch.randn(1, 64, 8, 8)
    with torch.no_grad():
        result = block(x, torch.randn(1, 128))
        rest = result - block.skip_connection(x)
    handle.remove()
    assert torch.allclose(seen["site"], rest, atol=1e-5)


def test_custom_profile(make_unet):
    unet = make_unet("sd1")
    assert named(find_sites(unet, LayerProfile((1, 7), (6,)))) == [feature(1), *attention(6), feature(7)]
    assert named(find_sites(unet, LayerProfile((4,), ()))) == [feature(4)]


def ssd_like(unet):
    """SSD-1B: SDXL with the middle's transformer and last residual block taken out."""
    unet = copy.deepcopy(unet)
    unet.middle_block = nn.Sequential(unet.middle_block[0])
    return unet


def fewer_blocks(unet):
    unet = copy.deepcopy(unet)
    unet.output_blocks = unet.output_blocks[:-1]
    return unet


def assert_refused(unet, *profile):
    with pytest.raises(UnsupportedModelError) as caught:
        find_sites(unet, *profile)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    return message


def test_other_layouts_are_refused(make_unet):
    refused = {
        "refiner": make_unet("refiner"),
        "SSD-1B": ssd_like(make_unet("sdxl")),
        "a shortened SD1": fewer_blocks(make_unet("sd1")),
        "a shortened SDXL": fewer_blocks(make_unet("sdxl")),
        "Linear": nn.Linear(2, 2),
        "Sequential": nn.Sequential(nn.Linear(2, 2)),
    }
    for name, unet in refused.items():
        message = assert_refused(unet)
        assert "SD1.x, SD2.x and SDXL base" in message, name
        with pytest.raises(UnsupportedModelError):
            pytest.fail(f"{name} was taken for {detect_family(unet)}")


def test_a_refused_unet_is_refused_before_anything_is_touched(make_unet, fingerprint):
    unet = make_unet("refiner")
    before = fingerprint(unet)
    with pytest.raises(UnsupportedModelError):
        Injection(unet, feature_window=Window(0, 1), attention_window=Window(0, 1))
    assert fingerprint(unet) == before


def test_unknown_profile(make_unet):
    assert "default, strong" in assert_refused(make_unet("sd1"), "stronger")


def test_zero_matches_are_refused(make_unet):
    unet = make_unet("sd1")
    assert_refused(unet, LayerProfile((), ()))
    assert_refused(unet, LayerProfile((12,), ()))
    assert_refused(unet, LayerProfile((4,), (11, 12)))
    assert "no self-attention" in assert_refused(unet, LayerProfile((4,), (2, 4)))


def test_a_block_without_the_expected_layers_is_refused(make_unet):
    for path, gone in [("output_blocks.4.0", "out_layers"), ("output_blocks.7.1.transformer_blocks.0", "attn1")]:
        unet = copy.deepcopy(make_unet("sd1"))
        delattr(unet.get_submodule(path), gone)
        assert path[:15] in assert_refused(unet)
