"""Stands in for ControlNet's reference types: another picture's tokens in the picture's self-attention.

Its own picture goes through the UNet within each call, first; the names are those that ControlNet has.
"""

from enum import Enum
from types import SimpleNamespace

import torch


class Machine(Enum):
    Write = 1
    Read = 2
    StyleAlign = 3


def ways_of(unet, blocks, align=False):
    """What to replace by what: owner, name, value."""
    state = Machine.StyleAlign if align else Machine.Read
    outer = SimpleNamespace(attention_auto_machine=state, gn_auto_machine=state, current_uc_indices=[])
    original = unet.forward
    kept = {}

    def forward(x, timesteps=None, context=None, y=None, **kwargs):
        if align:
            return original(x, timesteps, context, y, **kwargs)
        outer.current_uc_indices = list(range(len(x) // 2, len(x)))
        outer.attention_auto_machine = Machine.Write
        original(picture_like(x), timesteps, context, y, **kwargs)
        outer.attention_auto_machine = Machine.Read
        return original(x, timesteps, context, y, **kwargs)

    def of(block):
        def inner(x, context=None):
            own = block.norm1(x)
            if outer.attention_auto_machine is Machine.Write:
                kept[block] = own.clone()
                attended = block.attn1(own)
            else:
                attended = block.attn1(own, context=torch.cat([own, kept[block]], dim=1))
                negative = outer.current_uc_indices
                attended[negative] = block.attn1(own[negative], context=own[negative])
            x = attended + x
            x = block.attn2(block.norm2(x), context=context) + x
            return block.ff(block.norm3(x)) + x

        return inner

    yield unet, "forward", forward
    for block in blocks:
        yield block, "_forward", of(block)


def picture_like(x):
    """A ramp, the same in every call."""
    plane = torch.linspace(-2, 2, x[0].numel(), dtype=x.dtype, device=x.device)
    return plane.reshape(x[:1].shape).expand_as(x)
