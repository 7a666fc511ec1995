"""unet: the U-Net of DDPM and Improved DDPM, made to see several frames in one of three ways (config.temporal):

AFTER     attention over frames after every attention within frames
RELATIVE  attention over frames before it, with networks of the offset between two frames (FDM)
VOLUME    every convolution, norm and attention is over space and time (RaMViD)
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from .layers import (OBSERVED, CrossAttention, Denoiser, DistanceBias, as_images, as_rows, attend_in_images,
                     attend_over_frames, check_size, frames_as_images, group_norm, images_as_frames, sinusoid)


def norm_of(unet, channels):
    return group_norm(channels, 1e-6 if unet.first_ddpm else 1e-5, unet.norm_groups)


class Conv(nn.Conv2d):
    """3 x 3 within images; of a volume 3 x 3 x 3, with the filters of the frames before, at and after side by side.
    `one_sided`: padded right and below only."""

    def __init__(self, volume, channels, out, stride=1, one_sided=False):
        super().__init__(3 * channels if volume else channels, out, 3, stride, padding=0 if one_sided else 1)
        self.volume, self.one_sided = volume, one_sided

    def forward(self, x, frames):
        if self.volume:
            padded = F.pad(x.unflatten(0, (-1, frames)), (0, 0, 0, 0, 0, 0, 1, 1))
            x = torch.cat([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], 2).flatten(0, 1)
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)


def normed(norm, volume, x, frames):
    """Group norm of images or, of a volume, over all frames of a clip."""
    if not volume:
        return norm(x)
    return norm(x.unflatten(0, (-1, frames)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)


class ResidualBlock(nn.Module):
    """norm - SiLU - convolution, twice, with a skip connection; the embedding enters before the second norm or, with
    scale_shift, as its scale and shift."""

    def __init__(self, config, volume, channels, out):
        super().__init__()
        self.volume, self.scale_shift = volume, config.scale_shift
        self.factor = math.sqrt(0.5) if config.scaled_sums else 1
        self.norm1 = norm_of(config, channels)
        self.conv1 = Conv(volume, channels, out)
        self.level = nn.Linear(4 * config.width, 2 * out if config.scale_shift else out)
        self.norm2 = norm_of(config, out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = Conv(volume, out, out)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x, call):
        h = self.conv1(F.silu(normed(self.norm1, self.volume, x, call.frames)), call.frames)
        level = self.level(call.embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = level.chunk(2, 1)
            h = normed(self.norm2, self.volume, h, call.frames) * (1 + scale) + shift
        else:
            h = normed(self.norm2, self.volume, h + level, call.frames)
        return (self.skip(x) + self.conv2(self.dropout(F.silu(h)), call.frames)) * self.factor


class ResidualAttention(nn.Module):
    """x + projection(attention(norm(x)))."""

    def __init__(self, unet, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm = norm_of(unet, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def in_images(self, x):
        return x + as_images(self.out(attend_in_images(self.qkv(as_rows(self.norm(x))), self.heads)), x.shape[2])

    def over_frames(self, x, call):
        mixed = attend_over_frames(self.qkv(as_rows(self.norm(x))), self.heads, call)
        return x + as_images(self.out(mixed), x.shape[2])

    def in_volume(self, x, call):
        """Over all places of all frames jointly: the frames of a clip become one tall image."""
        tall = x.unflatten(0, (-1, call.frames)).transpose(1, 2).flatten(2, 3)
        return self.in_images(tall).unflatten(2, (call.frames, -1)).transpose(1, 2).flatten(0, 1)


class RelativeCode(nn.Module):
    """A vector for every pair of frames and head, [B, heads, T, T, width], of their offset and the first one's noise
    level."""

    def __init__(self, channels, level_width, heads):
        super().__init__()
        self.heads = heads
        self.distance = nn.Linear(3, channels)
        self.level = nn.Linear(level_width, channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, offsets, level):
        code = self.out(F.silu(self.distance(offsets) + self.level(level).unsqueeze(2)))
        return code.unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4)


class RelativeAttention(nn.Module):
    """x + projection(attention over frames(norm(x))) whose queries, keys and values have a code of the pair of frames:
    logit_ij = q_i k_j + q_i K_ij + k_j Q_ji, out_i = sum_j p_ij (v_j + V_ij)."""

    def __init__(self, channels, level_width, heads):
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        for name in ("query_code", "key_code", "value_code"):
            setattr(self, name, RelativeCode(channels, level_width, heads))

    def forward(self, x, call):
        d = call.index.unsqueeze(2) - call.index.unsqueeze(1)
        offsets = torch.stack([d.clamp_min(0).float().log1p(), (-d).clamp_min(0).float().log1p(), (d == 0).float()], -1)
        level = call.embedding.unflatten(0, (-1, call.frames))
        q, k, v = (part.unflatten(0, (-1, call.frames)).unflatten(-1, (self.heads, -1)).permute(0, 3, 2, 1, 4)
                   for part in self.qkv(as_rows(self.norm(x))).chunk(3, -1))  # [B, heads, H W, T, width]
        logits = (q @ k.transpose(-2, -1)
                  + torch.einsum("bhpiw,bhijw->bhpij", q, self.key_code(offsets, level))
                  + torch.einsum("bhpjw,bhjiw->bhpij", k, self.query_code(offsets, level))) * q.shape[-1] ** -0.5
        if call.mask is not None:
            logits = logits + call.mask
        p = logits.softmax(-1)
        mixed = p @ v + torch.einsum("bhpij,bhijw->bhpiw", p, self.value_code(offsets, level))
        return x + as_images(self.out(mixed.permute(0, 3, 2, 1, 4).flatten(0, 1).flatten(2)), x.shape[2])


class AttentionPair(nn.Module):
    """Attention within images, to the text and, with several frames, over them."""

    def __init__(self, net, channels):
        super().__init__()
        unet = net.config.model.unet
        self.kind = unet.temporal if net.frames > 1 else None
        self.spatial = ResidualAttention(unet, channels, channels // unet.head_width if unet.head_width else unet.heads)
        if net.text_tokens:
            self.text = CrossAttention(channels, net.text_width, unet.heads, channels // unet.heads)
        if self.kind == "AFTER":
            self.temporal = ResidualAttention(unet, channels, unet.heads)
        elif self.kind == "RELATIVE":
            self.temporal = RelativeAttention(channels, 4 * unet.width, unet.heads)

    def forward(self, x, call):
        if self.kind == "VOLUME":
            x = self.spatial.in_volume(x, call)
        else:
            x = self.spatial.in_images(self.temporal(x, call) if self.kind == "RELATIVE" else x)
        if hasattr(self, "text"):
            x = self.text.in_images(x, call)
        return self.temporal.over_frames(x, call) if self.kind == "AFTER" else x


class Stage(nn.Module):
    def __init__(self, net, volume, channels, out, attends):
        super().__init__()
        self.block = ResidualBlock(net.config.model.unet, volume, channels, out)
        self.attention = AttentionPair(net, out) if attends else None

    def forward(self, x, call):
        x = self.block(x, call)
        return x if self.attention is None else self.attention(x, call)


class Unet(Denoiser):
    def __init__(self, config, clip_shape):
        unet = config.model.unet
        super().__init__(config, clip_shape, 4 * unet.width, unet.width)
        widths = [unet.width * m for m in unet.multipliers]
        heights = unet.attention
        check_size(clip_shape, 2 ** (len(widths) - 1), "model.unet.multipliers")
        volume = self.frames > 1 and unet.temporal == "VOLUME"
        self.marks = unet.mark_observed
        if self.frames > 1 and unet.temporal == "AFTER" and unet.temporal_position:
            self.distances = DistanceBias(unet.heads)
            self.place = nn.Linear(unet.width, 4 * unet.width)
        self.first = Conv(volume, self.channels + self.marks, unet.width)
        self.last = nn.ModuleDict({"norm": norm_of(unet, widths[0]), "conv": Conv(volume, widths[0], self.out_channels)})
        # A level's stages are "0", "1", ...; "resample" leads to the next level.
        width, kept = unet.width, [unet.width]
        self.down, up = nn.ModuleList(), []
        for i, out in enumerate(widths):
            attends = self.height >> i in heights
            level = nn.ModuleDict()
            for k in range(unet.blocks):
                level[str(k)] = Stage(self, volume, width, out, attends)
                kept.append(width := out)
            if i + 1 < len(widths):
                level["resample"] = Conv(volume, out, out, stride=2, one_sided=unet.first_ddpm)
                kept.append(out)
            self.down.append(level)
        self.middle = nn.ModuleList([Stage(self, volume, width, width, True), Stage(self, volume, width, width, False)])
        for i, out in reversed(list(enumerate(widths))):
            level = nn.ModuleDict()
            for k in range(unet.blocks + 1):
                level[str(k)] = Stage(self, volume, width + kept.pop(), out, self.height >> i in heights)
                width = out
            if i > 0:
                level["resample"] = Conv(volume, out, out)
            up.insert(0, level)
        self.up = nn.ModuleList(up)

    def forward(self, z, signal, index=None, role=None, labels=None, text=None):
        frames = z.shape[1]
        e = self.level["first"](sinusoid(signal, self.level["first"].in_features, self.config.model.unet.first_ddpm))
        e = self.conditioned(self.level["second"](F.silu(e)), labels, text)
        call = self.call(e, z, index, role, text)
        if hasattr(self, "place"):
            e = e + self.place(sinusoid(call.index, self.place.in_features))
        call.embedding = F.silu(e).flatten(0, 1)
        if self.marks:  # a channel that is 1 in observed frames
            mark = torch.zeros(z.shape[:2], device=z.device) if role is None else (role == OBSERVED).float()
            z = torch.cat([z, mark[:, :, None, None, None].expand(*z.shape[:-1], 1)], -1)

        h = self.first(frames_as_images(z), frames)
        kept = [h]
        for level in self.down:
            for name, part in level.items():
                h = part(h, frames) if name == "resample" else part(h, call)
                kept.append(h)
        for stage in self.middle:
            h = stage(h, call)
        for level in reversed(self.up):
            for name, part in level.items():
                if name == "resample":
                    h = part(F.interpolate(h, scale_factor=2), frames)
                else:
                    h = part(torch.cat([h, kept.pop()], 1), call)
        h = F.silu(normed(self.last["norm"], self.first.volume, h, frames))
        return images_as_frames(self.last["conv"](h, frames), frames)
