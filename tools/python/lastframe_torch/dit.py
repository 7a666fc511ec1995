"""dit: the diffusion transformer over patches of images and videos, each layer a block of attention within frames and,
with several frames, one over frames."""
import torch
import torch.nn.functional as F
from torch import nn

from .layers import (CrossAttention, Denoiser, DistanceBias, Rotary, Unfilled, attend_in_images,
                     attend_over_frames, check_size, sinusoid)

SIGNAL_WIDTH = 256  # of the sinusoids of the noise level


def modulated(rows, shift, scale):
    """A norm without weights, scaled and shifted per image."""
    return F.layer_norm(rows, rows.shape[-1:], eps=1e-6) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class TransformerBlock(nn.Module):
    """Attention and two linear maps, each on a residual path with a gate; the embedding says shift, scale and gate of
    both. Within frames there is attention to the text between them."""

    def __init__(self, net, over_frames):
        super().__init__()
        dit = net.config.model.dit
        self.heads, self.over_frames = dit.heads, over_frames
        self.say = nn.Linear(dit.width, 6 * dit.width)
        self.qkv = nn.Linear(dit.width, 3 * dit.width)
        self.out = nn.Linear(dit.width, dit.width)
        self.wide = nn.Linear(dit.width, dit.expansion * dit.width)
        self.narrow = nn.Linear(dit.expansion * dit.width, dit.width)
        self.text = None
        if net.text_tokens and not over_frames:
            self.text = CrossAttention(dit.width, net.text_width, dit.heads, dit.width // dit.heads)

    def forward(self, rows, call):
        shift, scale, gate, shift2, scale2, gate2 = self.say(call.embedding).chunk(6, 1)
        qkv = self.qkv(modulated(rows, shift, scale))
        mixed = attend_over_frames(qkv, self.heads, call) if self.over_frames else attend_in_images(qkv, self.heads)
        rows = rows + gate.unsqueeze(1) * self.out(mixed)
        if self.text is not None:
            rows = self.text(rows, call)
        hidden = F.gelu(self.wide(modulated(rows, shift2, scale2)), approximate="tanh")
        return rows + gate2.unsqueeze(1) * self.narrow(hidden)


def patch_positions(rows, columns, width):
    """[patches, width]: sinusoids of column and row, half the width each."""
    down, across = (sinusoid(torch.arange(count), width // 2, sines_first=True) for count in (rows, columns))
    return torch.cat([across.unsqueeze(0).expand(rows, -1, -1), down.unsqueeze(1).expand(-1, columns, -1)],
                     -1).flatten(0, 1)


class Dit(Denoiser):
    def __init__(self, config, clip_shape):
        dit = config.model.dit
        super().__init__(config, clip_shape, dit.width, SIGNAL_WIDTH)
        self.patch, (_, height, width, _) = dit.patch, clip_shape
        check_size(clip_shape, dit.patch, "model.dit.patch")
        self.first = nn.Linear(dit.patch**2 * self.channels, dit.width)
        rows, columns = height // dit.patch, width // dit.patch
        self.register_buffer("places", torch.zeros(rows * columns, dit.width))
        if not Unfilled.active:
            self.places.copy_(patch_positions(rows, columns, dit.width))
        if self.frames > 1 and dit.temporal_position:
            self.distances = DistanceBias(dit.heads)
            self.rotary = Rotary(min(32, dit.width // dit.heads))
        names = ["spatial", "temporal"] if self.frames > 1 else ["spatial"]
        self.layers = nn.ModuleList(nn.ModuleDict({name: TransformerBlock(self, name == "temporal") for name in names})
                                    for _ in range(dit.layers))
        self.last = nn.ModuleDict({"say": nn.Linear(dit.width, 2 * dit.width),
                                   "linear": nn.Linear(dit.width, dit.patch**2 * self.out_channels)})

    def forward(self, z, signal, index=None, role=None, labels=None, text=None):
        e = self.level["second"](F.silu(self.level["first"](sinusoid(signal, SIGNAL_WIDTH))))
        call = self.call(F.silu(self.conditioned(e, labels, text)), z, index, role, text)

        clips, frames, height, width, _ = z.shape
        p = self.patch
        patches = z.reshape(clips * frames, height // p, p, width // p, p, -1).transpose(2, 3)
        rows = self.first(patches.flatten(3).flatten(1, 2)) + self.places
        for layer in self.layers:
            for block in layer.values():
                rows = block(rows, call)
        shift, scale = self.last["say"](call.embedding).chunk(2, 1)
        rows = self.last["linear"](modulated(rows, shift, scale))
        patches = rows.reshape(clips, frames, height // p, width // p, p, p, -1).transpose(3, 4)
        return patches.reshape(clips, frames, height, width, -1)
