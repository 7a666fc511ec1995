"""unet3d: VDM's U-Net of videos with factorised space-time attention, as lucidrains' video-diffusion-pytorch has it."""
import torch
import torch.nn.functional as F
from torch import nn

from .layers import (CrossAttention, Denoiser, DistanceBias, FullAttention, Rotary, as_images, as_rows,
                     check_size, frames_as_images, images_as_frames, sinusoid)


class RmsNorm(nn.Module):
    """Of every place over its channels, x sqrt(C) / |x|, times a weight."""

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x, scale=None):
        gain = self.weight[:, None, None] if scale is None else self.weight[:, None, None] * (scale + 1)
        return F.normalize(x, dim=1) * x.shape[1] ** 0.5 * gain


class Block(nn.Module):
    """convolution - norm, with scale and shift - SiLU."""

    def __init__(self, channels, out):
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.norm = RmsNorm(out)

    def forward(self, x, scale=None, shift=0):
        return F.silu(self.norm(self.conv(x), scale) + shift)


class ResnetBlock(nn.Module):
    def __init__(self, channels, out, embedding=0):
        super().__init__()
        self.block1, self.block2 = Block(channels, out), Block(out, out)
        self.level = nn.Linear(embedding, 2 * out) if embedding else None
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x, call):
        if self.level is None:
            h = self.block1(x)
        else:
            h = self.block1(x, *self.level(call.embedding)[:, :, None, None].chunk(2, 1))
        return self.block2(h) + self.skip(x)


class LinearAttention(nn.Module):
    """x + attention within images, linear in the number of pixels: a query's softmax is over its own elements, a key's
    over the pixels."""

    def __init__(self, channels, heads, width):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels, bias=False)
        self.qkv = nn.Linear(channels, 3 * heads * width, bias=False)
        self.out = nn.Linear(heads * width, channels)

    def forward(self, x):
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for part in self.qkv(self.norm(as_rows(x))).chunk(3, -1))  # [N, heads, H W, width]
        context = k.softmax(-2).transpose(-2, -1) @ v
        mixed = (q.softmax(-1) * q.shape[-1] ** -0.5) @ context
        return x + as_images(self.out(mixed.transpose(1, 2).flatten(2)), x.shape[2])


class Level(nn.Module):
    """`resample`: 4 x 4 convolutions that halve or double height and width, to the next level; None in the last."""

    def __init__(self, net, channels, out, resample):
        super().__init__()
        unet = net.config.model.unet3d
        spatial_width = unet.spatial_head_width or unet.head_width
        self.block1 = ResnetBlock(channels, out, 4 * unet.dim)
        self.block2 = ResnetBlock(out, out, 4 * unet.dim)
        self.spatial = LinearAttention(out, unet.heads, spatial_width)
        self.text = CrossAttention(out, net.text_width, unet.heads, spatial_width) if net.text_tokens else None
        self.temporal = FullAttention(out, unet.heads, unet.head_width) if net.frames > 1 else None
        self.resample = resample(out, out, 4, 2, 1) if resample else None

    def forward(self, x, call):
        x = self.spatial(self.block2(self.block1(x, call), call))
        if self.text is not None:
            x = self.text.in_images(x, call)
        return x if self.temporal is None else self.temporal.over_frames(x, call)


class Unet3d(Denoiser):
    def __init__(self, config, clip_shape):
        unet = config.model.unet3d
        super().__init__(config, clip_shape, 4 * unet.dim, unet.dim)
        widths = [unet.dim * m for m in [1, *unet.multipliers]]
        deepest, spatial_width = widths[-1], unet.spatial_head_width or unet.head_width
        check_size(clip_shape, 2 ** (len(widths) - 2), "model.unet3d.multipliers")

        def temporal(channels):
            return FullAttention(channels, unet.heads, unet.head_width) if self.frames > 1 else None

        if self.frames > 1 and unet.temporal_position:
            self.distances = DistanceBias(unet.heads)
            self.rotary = Rotary(min(32, unet.head_width))
        self.first = nn.Conv2d(self.channels, unet.dim, 7, padding=3)
        self.first.temporal = temporal(unet.dim)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (channels, out) in enumerate(zip(widths, widths[1:])):
            self.down.append(Level(self, channels, out, nn.Conv2d if i + 2 < len(widths) else None))
            self.up.append(Level(self, 2 * out, channels, nn.ConvTranspose2d if i > 0 else None))
        self.middle = nn.Module()
        self.middle.block1 = ResnetBlock(deepest, deepest, 4 * unet.dim)
        self.middle.spatial = FullAttention(deepest, unet.heads, spatial_width)
        self.middle.text = (CrossAttention(deepest, self.text_width, unet.heads, spatial_width) if self.text_tokens
                            else None)
        self.middle.temporal = temporal(deepest)
        self.middle.block2 = ResnetBlock(deepest, deepest, 4 * unet.dim)
        self.last = nn.ModuleDict({"block": ResnetBlock(2 * unet.dim, unet.dim),
                                   "conv": nn.Conv2d(unet.dim, self.out_channels, 1)})

    def forward(self, z, signal, index=None, role=None, labels=None, text=None):
        e = self.level["first"](sinusoid(signal, self.level["first"].in_features, sines_first=True))
        e = self.conditioned(self.level["second"](F.gelu(e)), labels, text)
        call = self.call(F.silu(e), z, index, role, text)

        h = self.first(frames_as_images(z))
        if self.first.temporal is not None:
            h = self.first.temporal.over_frames(h, call)
        beginning, kept = h, []
        for level in self.down:
            h = level(h, call)
            kept.append(h)
            h = h if level.resample is None else level.resample(h)
        h = self.middle.spatial.in_images(self.middle.block1(h, call))
        if self.middle.text is not None:
            h = self.middle.text.in_images(h, call)
        if self.middle.temporal is not None:
            h = self.middle.temporal.over_frames(h, call)
        h = self.middle.block2(h, call)
        for level in reversed(self.up):
            h = level(torch.cat([h, kept.pop()], 1), call)
            h = h if level.resample is None else level.resample(h)
        h = self.last["block"](torch.cat([h, beginning], 1), call)
        return images_as_frames(self.last["conv"](h), z.shape[1])
