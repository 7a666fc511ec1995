"""cvivit: C-ViViT, videos to a causal sequence of grids of vectors. The first frame has patches of its own, the others
patches over `temporal_patch` frames; attention within each time step, then over earlier time steps at each place.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .layers import attend, check_size, frames_as_images, group_norm, images_as_frames
from .tokenizer import Tokenizer, directions


class CosineAttention(nn.Module):
    """x + attention by cosine similarity of queries and keys, over rows [N, tokens, width]."""

    def __init__(self, width, heads, head_width, raw_keys):
        super().__init__()
        self.heads, self.raw_keys = heads, raw_keys
        self.norm = nn.LayerNorm(width, bias=False)
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.out = nn.Linear(heads * head_width, width, bias=False)
        self.query_scale, self.key_scale = nn.Parameter(torch.ones(head_width)), nn.Parameter(torch.ones(head_width))

    def forward(self, x, bias):
        h = self.norm(x)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for part in (self.query(h), *self.key_value(x if self.raw_keys else h).chunk(2, -1)))
        mixed = attend(directions(q) * self.query_scale, directions(k) * self.key_scale, v, bias, scale=8)
        return x + self.out(mixed.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(8 * width // 3, width, bias=False)
        self.add_module("in", nn.Linear(width, 2 * (8 * width // 3), bias=False))

    def forward(self, x):
        h, gate = self.get_submodule("in")(self.norm(x)).chunk(2, -1)
        return x + self.out(h * F.gelu(gate))


class CausalDepthwiseConv(nn.Conv3d):
    """x + a 3 x 3 x 3 depthwise convolution that sees no later time step: a generator of positions."""

    def __init__(self, width):
        super().__init__(width, width, 3, padding=(0, 1, 1), groups=width)

    def forward(self, x):
        volume = F.pad(x.permute(0, 4, 1, 2, 3), (0, 0, 0, 0, 2, 0))
        return x + super().forward(volume).permute(0, 2, 3, 4, 1)


class OffsetBias(nn.Module):
    """A bias [heads, h w, h w] of attention within an image, by a network of two places' signed logarithmic offset."""

    def __init__(self, width, heads):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, heads)

    def forward(self, height, width):
        places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).to(self.first.weight)
        offsets = places.unsqueeze(1) - places
        h = F.leaky_relu(self.first(offsets.sign() * (offsets.abs() + 1).log()), 0.1)
        return self.third(F.leaky_relu(self.second(h), 0.1)).permute(2, 0, 1)


def causal_distance_bias(heads, steps, device):
    """ALiBi: minus distance times the head's slope, -inf towards the future."""
    time = torch.arange(steps, device=device).float()
    back = time.unsqueeze(1) - time
    slopes = 2 ** (torch.arange(1, heads + 1, device=device) * (-8 / heads))
    return (-back * slopes[:, None, None]).masked_fill(back < 0, -math.inf)


class GridLayer(nn.Module):
    def __init__(self, options, temporal):
        super().__init__()
        self.position = CausalDepthwiseConv(options.width) if temporal else None
        self.attention = CosineAttention(options.width, options.heads, options.head_width, options.raw_keys)
        self.feed_forward = GatedFeedForward(options.width)


class GridTransformer(nn.ModuleDict):
    """Layers over [B, t, h, w, width]: a spatial transformer attends within each time step, by the bias it is given; a
    temporal one at each place to the same and earlier time steps."""

    def __init__(self, options, temporal):
        super().__init__()
        self.heads, self.temporal = options.heads, temporal
        for i in range(options.temporal_layers if temporal else options.spatial_layers):
            self[str(i)] = GridLayer(options, temporal)
        self["norm"] = nn.LayerNorm(options.width, bias=False)

    def forward(self, x, bias=None):
        clips, steps, height, width, _ = x.shape
        if self.temporal:
            bias = causal_distance_bias(self.heads, steps, x.device)
        for name, layer in self.items():
            if name == "norm":
                continue
            if self.temporal:
                x = layer.position(x)
                rows = x.permute(0, 2, 3, 1, 4).reshape(clips * height * width, steps, -1)
            else:
                rows = x.reshape(clips * steps, height * width, -1)
            rows = layer.feed_forward(layer.attention(rows, bias))
            x = (rows.view(clips, height, width, steps, -1).permute(0, 3, 1, 2, 4) if self.temporal
                 else rows.view(x.shape))
        return self["norm"](x)


class PatchEmbedding(nn.Module):
    def __init__(self, norm, elements, width):
        super().__init__()
        self.before = nn.LayerNorm(elements) if norm == "BOTH" else nn.Identity()
        self.linear = nn.Linear(elements, width)
        self.after = nn.LayerNorm(width)

    def forward(self, x):
        return self.after(self.linear(self.before(x)))


class Stem(nn.Module):
    """Convolutions of stride 2 on every frame before the patches, mirrored in the decoder."""

    def __init__(self, options, colours):
        super().__init__()
        self.channels = options.stem_width << options.stem
        self.add_module("in", nn.Conv2d(colours, options.stem_width, 3, padding=1))
        self.out, self.levels = nn.Conv2d(options.stem_width, colours, 3, padding=1), range(options.stem)
        for i in self.levels:
            narrow = options.stem_width << i
            self.add_module(f"down{i}", nn.Conv2d(narrow, 2 * narrow, 3, stride=2, padding=1))
            self.add_module(f"up{i}", nn.Conv2d(2 * narrow, narrow, 3, padding=1))
            self.add_module(f"norm_down{i}", group_norm(narrow))
            self.add_module(f"norm_up{i}", group_norm(2 * narrow))

    def encode(self, x):
        h = self.get_submodule("in")(frames_as_images(x))
        for i in self.levels:
            h = self.get_submodule(f"down{i}")(F.silu(self.get_submodule(f"norm_down{i}")(h)))
        return images_as_frames(h, x.shape[1])

    def decode(self, x):
        h = frames_as_images(x)
        for i in reversed(self.levels):
            h = F.interpolate(F.silu(self.get_submodule(f"norm_up{i}")(h)), scale_factor=2)
            h = self.get_submodule(f"up{i}")(h)
        return images_as_frames(self.out(F.silu(h)), x.shape[1])


def to_patches(x, time, side):
    """[B, n time, h side, w side, C] to [B, n, h, w, time side side C]."""
    x = x.unflatten(3, (-1, side)).unflatten(2, (-1, side)).unflatten(1, (-1, time))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)


def from_patches(x, time, side):
    x = x.unflatten(4, (time, side, side, -1)).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2)


class Cvivit(Tokenizer):
    def __init__(self, config, clip_shape):
        options = config.model.cvivit
        super().__init__(config, options, clip_shape, options.width, always_project=False)
        frames, height, width, channels = clip_shape
        self.side, self.time = options.patch, options.temporal_patch
        check_size(clip_shape, self.side << options.stem, "model.cvivit.patch with stem")
        self.stem = Stem(options, channels) if options.stem > 0 else None
        channels = channels if self.stem is None else self.stem.channels
        first, rest = self.side**2 * channels, self.time * self.side**2 * channels
        across = self.side << options.stem  # pixels of a patch
        self.cells = (1 + (frames - 1) // self.time, height // across, width // across)
        self.offsets = OffsetBias(options.width, options.heads)
        self.encoder = nn.ModuleDict({"first": PatchEmbedding(options.patch_norm, first, options.width),
                                      "space": GridTransformer(options, temporal=False),
                                      "time": GridTransformer(options, temporal=True)})
        self.decoder = nn.ModuleDict({"first": nn.Linear(options.width, first),
                                      "space": GridTransformer(options, temporal=False),
                                      "time": GridTransformer(options, temporal=True)})
        if frames > 1:
            self.encoder["rest"] = PatchEmbedding(options.patch_norm, rest, options.width)
            self.decoder["rest"] = nn.Linear(options.width, rest)

    def features(self, x):
        x = x if self.stem is None else self.stem.encode(x)
        h = self.encoder["first"](to_patches(x[:, :1], 1, self.side))
        if x.shape[1] > 1:
            h = torch.cat([h, self.encoder["rest"](to_patches(x[:, 1:], self.time, self.side))], 1)
        return self.encoder["time"](self.encoder["space"](h, self.offsets(*h.shape[2:4])))

    def clips(self, z):
        h = self.decoder["space"](self.decoder["time"](z), self.offsets(*z.shape[2:4]))
        x = from_patches(self.decoder["first"](h[:, :1]), 1, self.side)
        if h.shape[1] > 1:
            x = torch.cat([x, from_patches(self.decoder["rest"](h[:, 1:]), self.time, self.side)], 1)
        return x if self.stem is None else self.stem.decode(x)
