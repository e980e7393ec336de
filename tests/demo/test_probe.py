"""The layer probe on UNets made so that the answer is known: the layout comes through block 4, or not at all."""

import pytest
import torch

pytest.importorskip("ldm")

from demo import nets, probe

BLOCK = 4
ABOVE = range(BLOCK + 1, 12)


def scenes(count=3):
    generator = torch.Generator().manual_seed(2)
    width = nets.UNET_CONFIG["context_dim"]
    clean = torch.randn(count, 4, 16, 16, generator=generator)
    context = torch.randn(1, 77, width, generator=generator).expand(count, -1, -1)
    return probe.Scenes(clean, context, context)


def unet_through_block_4(share):
    """What lies above block 4 sees `share` of the encoder's skips, and of block 4's shortcut."""
    torch.manual_seed(0)
    unet = nets.make_unet(nets.NARROW_UNET_CONFIG).eval()  # no group norm puts a skip's channels with others
    width = nets.UNET_CONFIG["model_channels"]
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.ndim > 1 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05)  # what ldm leaves at zero: branches that say nothing
        for index in ABOVE:
            block = unet.output_blocks[index][0]
            block.skip_connection.weight[:, width:] *= share
            block.in_layers[2].weight[:, width:] *= share
        unet.output_blocks[BLOCK][0].skip_connection.weight *= share
        unet.output_blocks[BLOCK][0].skip_connection.bias *= share
    return unet


def carried(unet, replaced):
    findings = probe.probe(unet, scenes(), ("default",))
    assert [f.timestep for f in findings if f.replaced == replaced] == list(probe.TIMESTEPS)
    return [f.carried for f in findings if f.replaced == replaced]


def test_all_is_carried_where_there_is_no_other_way():
    # the noise estimate is the other scene's; the clean latent still has the row's own noisy latent in it
    unet = unet_through_block_4(0.0)
    given = scenes()
    context = given.contexts
    with torch.no_grad():
        own = unet(given.clean, torch.full((3,), 500), context=context)
    assert own.std() > 0
    findings = [f for f in probe.probe(unet, given, ("default",)) if f.replaced == "both"]
    for finding in findings:
        alpha_bar = nets.alphas_cumprod()[finding.timestep]
        noise = torch.randn(given.clean[:1].shape, generator=torch.Generator().manual_seed(finding.timestep))
        noisy = alpha_bar.sqrt() * given.clean + (1 - alpha_bar).sqrt() * noise
        with torch.no_grad():
            said = unet(noisy, torch.full((3,), finding.timestep), context=context)
        clean = (noisy - (1 - alpha_bar).sqrt() * said) / alpha_bar.sqrt()
        way = clean.roll(1, 0) - clean
        moved = -(1 - alpha_bar).sqrt() * (said.roll(1, 0) - said) / alpha_bar.sqrt()
        want = (moved * way).flatten(1).sum(1) / way.flatten(1).square().sum(1)
        assert finding.carried == pytest.approx(float(want.mean()), abs=1e-3)
        assert finding.change == pytest.approx(
            float((moved.flatten(1).norm(dim=1) / clean.flatten(1).norm(dim=1)).mean()), abs=1e-3
        )


def test_nothing_is_carried_by_a_silent_block():
    unet = unet_through_block_4(1.0)
    with torch.no_grad():
        for parameter in unet.output_blocks[BLOCK][0].out_layers[3].parameters():
            parameter.zero_()
    assert carried(unet, "feature") == pytest.approx([0.0] * len(probe.TIMESTEPS), abs=1e-5)


def test_whole_outputs_and_skips_are_told_apart():
    """Where the skips above block 4 are shut off, everything comes through the outputs, and they bring nothing."""
    unet = unet_through_block_4(0.0)
    with torch.no_grad():
        for index in ABOVE:  # GroupNorm mixes a skip's mean into its group: shut that way off, too
            unet.output_blocks[index][0].in_layers[0].weight[nets.UNET_CONFIG["model_channels"] :] = 0
    found = {(f.layers, f.replaced, f.timestep): f for f in probe.blocks(unet, scenes())}
    for timestep in probe.TIMESTEPS:
        through = [found["output of block", str(k), timestep].change for k in range(4, 11)]
        assert min(through) > 0
        assert through == pytest.approx([through[0]] * len(through), rel=1e-3)
        assert found["skips of blocks", "6-8", timestep].change == pytest.approx(0, abs=1e-6)
        assert found["skips of blocks", "9-11", timestep].change == pytest.approx(0, abs=1e-6)
    assert {layers for layers, _, _ in found} == {"output of block", "skips of blocks"}


def test_the_table_has_a_row_a_replacement():
    findings = [probe.Finding("default", name, t, 0.25, -0.5) for name in probe.REPLACED for t in probe.TIMESTEPS]
    lines = probe.table(findings).splitlines()
    assert len(lines) == 2 + len(probe.REPLACED)
    assert lines[2] == "| default | feature |" + " 0.250 / -0.500 |" * len(probe.TIMESTEPS)
