"""Fine-tunes stored as differences: what comes back, how large it is, what is refused."""

import pytest
import torch

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import differences, nets, parts


def fine_tuned(base, share, seed=1):
    """Weights moved by `share` of what they are, in some rows much more than in others."""
    generator = torch.Generator().manual_seed(seed)

    def moved(weight):
        noise = torch.randn(weight.shape, generator=generator)
        rows = torch.rand((len(weight), *[1] * (weight.ndim - 1)), generator=generator)
        return weight + share * weight.std(unbiased=False) * rows * noise

    return {name: moved(weight) for name, weight in base.items()}


@pytest.fixture(scope="module")
def base():
    return parts.read(parts.SHIPPED, "unet-base")


def test_every_weight_comes_back_within_half_a_step(base):
    weights = fine_tuned(base, 0.1)
    back = differences.unpack(differences.pack(weights, base), base)
    assert back.keys() == weights.keys()
    for name, weight in weights.items():
        if weight.ndim > 1:
            largest = (weight - base[name]).flatten(1).abs().amax(1)
            off = (back[name] - weight).flatten(1).abs().amax(1)
            assert torch.all(off <= largest / 254 + 1e-6), name
        else:
            assert torch.allclose(back[name], weight, rtol=1e-3, atol=1e-7), name


def test_an_unchanged_row_is_the_base_exactly():
    base = {"w": torch.randn(3, 4)}
    weights = {"w": base["w"].clone()}
    weights["w"][1] += 0.5
    back = differences.unpack(differences.pack(weights, base), base)["w"]
    assert torch.equal(back[[0, 2]], base["w"][[0, 2]])
    assert torch.allclose(back[1], weights["w"][1], atol=0.5 / 254)


def test_what_is_unchanged_is_not_stored():
    base = {"w": torch.randn(3, 4), "b": torch.randn(3), "still": torch.randn(2, 2)}
    packed = differences.pack({**base, "w": base["w"] + 1}, base)
    assert set(packed) == {"w", "w" + differences.SCALE}
    back = differences.unpack(packed, base)
    assert torch.equal(back["still"], base["still"])
    assert torch.equal(back["b"], base["b"])
    assert torch.allclose(back["w"], base["w"] + 1, atol=1 / 254)


def test_another_architecture_is_refused():
    with pytest.raises(ValueError, match="same tensors"):
        differences.pack({"w": torch.zeros(2, 3)}, {"w": torch.zeros(3, 2)})


def test_a_shipped_fine_tune_stored_so_says_what_it_said_at_half_the_size(base, tmp_path):
    weights = parts.read(parts.SHIPPED, "unet-ink")
    parts._save(tmp_path / "unet-base.safetensors", base)
    parts.save_fine_tune(tmp_path, "ink", weights)
    sizes = [(tmp_path / f"unet-{name}.safetensors").stat().st_size for name in ("base", "ink")]
    assert sizes[1] < 0.53 * sizes[0]
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(1, 4, 16, 16, generator=generator)
    context = torch.randn(1, 77, nets.UNET_CONFIG["context_dim"], generator=generator)
    said = []
    for state in (weights, parts.read(tmp_path, "unet-ink"), base):
        unet = nets.make_unet().eval()
        unet.load_state_dict(state)
        with torch.no_grad():
            said.append(unet(noisy, torch.tensor([500]), context=context))
    assert (said[1] - said[0]).norm() < 0.02 * (said[2] - said[0]).norm()
