"""Parts with random weights stand in for the trained ones: names, shapes and arithmetic are tested."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("ldm")
pytest.importorskip("transformers")

from demo import assemble, lora, nets, parts, tokenizer
from demo.sample import sample
from demo.text import END, START, UNKNOWN, TextEncoder, Vocabulary


@pytest.fixture(scope="module")
def merges():
    try:
        return tokenizer.find_merges()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def words(merges, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.write(folder, merges)
    return Vocabulary(folder)


@pytest.fixture(scope="module")
def folder(words, tmp_path_factory):
    """A parts folder with seeded random weights for two UNets."""
    out = tmp_path_factory.mktemp("parts")
    torch.manual_seed(5)
    parts._save(out / "vae.safetensors", nets.Vae().state_dict())
    parts._save(out / "text.safetensors", TextEncoder(words.rows).weights())
    for name in ("base", "ink"):
        parts._save(out / f"unet-{name}.safetensors", nets.make_unet().state_dict())
    adapters = lora.attach(nets.make_unet(), 3)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    parts._save(out / "lora-neon.safetensors", lora.kohya_state(adapters.state_dict()))
    facts = {"scale_factor": 0.5, "clip_ids": words.clip_ids}
    (out / "world.json").write_text(json.dumps(facts))
    return out


@pytest.fixture(scope="module")
def assembled(folder, merges, tmp_path_factory):
    out = tmp_path_factory.mktemp("assembled")
    return assemble.assemble(folder, out, merges)


def under(state, prefix):
    return {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}


def test_one_checkpoint_and_one_yaml_for_every_unet(assembled):
    assert [path.name for path in assembled] == [
        "ditail-demo-base.safetensors",
        "ditail-demo-ink.safetensors",
    ]
    assert all(path.with_suffix(".yaml").exists() for path in assembled)


def test_unet_and_vae_load_strictly(assembled):
    state = load_file(assembled[0])
    nets.make_unet().load_state_dict(under(state, "model.diffusion_model."), strict=True)
    nets.Vae().load_state_dict(under(state, "first_stage_model."), strict=True)


def test_the_yaml_describes_the_checkpoint(assembled):
    omegaconf = pytest.importorskip("omegaconf")
    from ldm.modules.diffusionmodules.model import Decoder, Encoder
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    config = omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.load(assembled[0].with_suffix(".yaml")))
    params = config["model"]["params"]
    assert params["scale_factor"] == 0.5
    state = load_file(assembled[0])
    UNetModel(**params["unet_config"]["params"]).load_state_dict(under(state, "model.diffusion_model."))
    vae = params["first_stage_config"]["params"]["ddconfig"]
    Encoder(**vae).load_state_dict(under(state, "first_stage_model.encoder."))
    Decoder(**vae).load_state_dict(under(state, "first_stage_model.decoder."))


def test_the_full_text_encoder_says_what_the_compact_one_says(assembled, folder, words):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    text_folder = assembled[0].parent / "text-encoder"
    model = CLIPTextModel(CLIPTextConfig.from_pretrained(text_folder)).eval()
    state = under(load_file(assembled[0]), "cond_stage_model.transformer.text_model.")
    prefix = "text_model." if any(k.startswith("text_model.") for k in model.state_dict()) else ""
    state.pop("embeddings.position_ids")
    loaded = model.load_state_dict({prefix + k: v for k, v in state.items()}, strict=False)
    assert loaded.unexpected_keys == []
    # a buffer that early releases of transformers store
    assert [name for name in loaded.missing_keys if not name.endswith("position_ids")] == []
    texts = ["a small red circle and a large blue square on grey, ink style", "masterpiece, a green star"]
    ids = CLIPTokenizer.from_pretrained(text_folder)(texts, padding="max_length", max_length=77, return_tensors="pt")[
        "input_ids"
    ]
    compact = TextEncoder(words.rows).eval()
    compact.load_weights(parts.read(folder, "text"))
    with torch.no_grad():
        full = model(input_ids=ids).last_hidden_state
        small = compact(words.batch(texts))
    assert torch.allclose(full, small, atol=1e-5)
    assert full.mean().abs() > 0.01  # the WebUI divides by it


def test_schedule_buffers_are_those_of_ldm(assembled):
    from ldm.modules.diffusionmodules.util import make_beta_schedule

    betas = make_beta_schedule("linear", 1000, linear_start=0.00085, linear_end=0.012)
    state = load_file(assembled[0])
    assert np.allclose(state["betas"], betas, rtol=1e-6)
    assert np.allclose(state["alphas_cumprod"], np.cumprod(1 - betas), rtol=1e-5)
    assert torch.allclose(state["alphas_cumprod"], nets.alphas_cumprod())


def test_unknown_words_share_one_row(words):
    rows = words.batch(["a blurry red circle"])[0].tolist()
    assert rows[0] == START
    assert rows[5:] == [END] * 72
    assert rows.count(UNKNOWN) == 1


def test_lora_names_are_those_of_the_diffusers_layout(folder):
    names = {key.split(".")[0] for key in load_file(folder / "lora-neon.safetensors")}
    for name in (
        "down_blocks_0_attentions_0_proj_in",
        "down_blocks_2_attentions_1_transformer_blocks_0_attn1_to_q",
        "down_blocks_3_resnets_1_conv2",
        "mid_block_attentions_0_transformer_blocks_0_ff_net_0_proj",
        "mid_block_resnets_1_time_emb_proj",
        "up_blocks_0_resnets_2_conv_shortcut",
        "up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_out_0",
    ):
        assert f"lora_unet_{name}" in names
    assert not any("attentions" in name and "down_blocks_3" in name for name in names)


def test_a_merged_lora_equals_the_trained_one():
    torch.manual_seed(0)
    plain = nets.make_unet()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    trained = nets.make_unet()
    trained.load_state_dict(plain.state_dict())
    adapters = lora.attach(trained, 1)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, t, c = torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 77, 64)
    with torch.no_grad():
        wanted = trained(x, t, context=c)
        before = plain(x, t, context=c)
        lora.merge(plain, lora.kohya_state(adapters.state_dict()))
        merged = plain(x, t, context=c)
    assert (wanted - before).abs().max() > 100 * (wanted - merged).abs().max()


def test_a_lora_that_does_not_fit_is_refused(folder):
    tensors = parts.read(folder, "lora-neon")
    tensors["lora_unet_elsewhere.alpha"] = torch.tensor(1.0)
    with pytest.raises(ValueError, match="found a place"):
        lora.merge(nets.make_unet(), tensors)


@pytest.mark.parametrize("ancestral", [False, True])
def test_sampling_is_deterministic_and_each_row_is_its_own(folder, words, ancestral):
    models = parts.load(folder, "ink", words_folder(words))
    prompts = ["a red circle on grey", "a blue star on mint"]
    both = sample(models, prompts, seed=3, size=64, steps=3, ancestral=ancestral)
    second = sample(models, prompts[1:], seed=4, size=64, steps=3, ancestral=ancestral)
    assert both.shape == (2, 64, 64, 3)
    assert np.abs(both[1].astype(int) - second[0]).max() <= 1


def words_folder(words):
    return words.tokenizer.name_or_path
