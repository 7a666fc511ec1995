"""What the denoising networks share: embeddings of noise levels, classes and texts, and attention within frames,
to texts and over frames.

Clips are [B, T, H, W, C] in [-1, 1]; inside a network their frames are a batch of images [B T, C, H, W].
"""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torch.overrides
from torch import nn

from lastframe_io import DataError

OBSERVED, LATENT, ABSENT, IMAGE = range(4)  # roles of a frame; absent frames and images see themselves only


class Unfilled(torch.overrides.TorchFunctionMode):
    """Modules made within it have no values yet, and take no memory for them: load() has those of the file."""
    active = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)

    def __enter__(self):
        Unfilled.active = True
        return super().__enter__()

    def __exit__(self, *error):
        Unfilled.active = False
        return super().__exit__(*error)


def check_size(clip_shape, factor, option):
    """Height and width must be multiples of `factor`, which `option` asks for."""
    if clip_shape[1] % factor or clip_shape[2] % factor:
        raise DataError(f"{option} needs height and width divisible by {factor}, clips are of {clip_shape[1]}x"
                        f"{clip_shape[2]}; give the shape that the network was trained on")


def frames_as_images(x):
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def images_as_frames(images, frames):
    return images.permute(0, 2, 3, 1).unflatten(0, (-1, frames))


class TemporalConv(nn.Conv2d):
    """Over three frames at the same place, of the images [B T, C, H, W] of clips."""

    def __init__(self, channels):
        super().__init__(channels, channels, (3, 1), padding=(1, 0))

    def forward(self, images, frames):
        clips = images.unflatten(0, (-1, frames)).transpose(1, 2).flatten(3)  # [B, C, T, H W]
        return super().forward(clips).transpose(1, 2).unflatten(3, images.shape[2:]).flatten(0, 1)


def as_rows(images):
    """[N, C, H, W] to [N, H W, C]."""
    return images.flatten(2).transpose(1, 2)


def as_images(rows, height):
    return rows.transpose(1, 2).unflatten(2, (height, -1))


def group_norm(channels, eps=1e-5, groups=0):
    """groups=0: a quarter of the channels, at most 32."""
    if groups == 0:
        groups = max(1, min(32, channels // 4))
        while channels % groups:
            groups -= 1
    return nn.GroupNorm(groups, channels, eps)


def sinusoid(values, width, sines_first=False):
    """[...] to [..., width] at width / 2 frequencies: from 1 to almost 1 / 10000, cosines first (Improved DDPM), or
    to 1 / 10000 itself, sines first (lucidrains)."""
    half = width // 2
    spread = max(1, half - 1) if sines_first else half
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32, device=values.device) * (-math.log(10000) / spread))
    angles = values.float().unsqueeze(-1) * frequencies
    parts = [angles.sin(), angles.cos()] if sines_first else [angles.cos(), angles.sin()]
    return torch.cat(parts, -1)


@dataclass
class Call:
    """What every block of a network gets beside its input."""
    embedding: torch.Tensor  # [B T, width] of noise level, class and text, after the activation
    frames: int
    index: torch.Tensor  # [B, T], of the frames in the video
    bias: torch.Tensor = None  # [B, 1, heads, T, T], of attention over frames
    mask: torch.Tensor = None  # [B, 1, 1, T, T]: -inf where a frame does not attend, else 0
    rotary: torch.Tensor = None  # [B, 1, 1, T, width / 2], angles
    text: torch.Tensor = None  # [B, L, E], tokens of mean 0 and variance 1
    text_mask: torch.Tensor = None  # [B, 1, 1, 1 + L]: -inf for padding; for nothing, then the tokens

    def logit_bias(self):
        return self.mask if self.bias is None else self.bias if self.mask is None else self.bias + self.mask


def frame_mask(role):
    """Frames of the video attend to each other, all others to themselves only."""
    in_video = role <= LATENT
    sees = (in_video.unsqueeze(2) & in_video.unsqueeze(1)) | torch.eye(role.shape[1], dtype=torch.bool,
                                                                       device=role.device)
    return torch.zeros(sees.shape, device=role.device).masked_fill(~sees, -math.inf)[:, None, None]


class Denoiser(nn.Module):
    """A denoising network: net(z, signal) predicts what config.model.diffusion.prediction says.

    z        noisy clips [B, T, H, W, C]
    signal   noise level of every frame as it is embedded, [B, T] in [0, 1000] (Schedule.signal)
    index    the frames' numbers in the video, [B or 1, T]; default 0, 1, ...
    role     OBSERVED, LATENT, ABSENT or IMAGE of every frame, [B or 1, T]; default: all attend to all
    labels   classes [B], -1 for none; default: none
    text     embeddings [B, E] or, of tokens, [B, L, E]; zeros for none; default: none
    """

    def __init__(self, config, clip_shape, width, signal_width):
        super().__init__()
        diffusion = config.model.diffusion
        self.config, self.clip_shape = config, clip_shape  # of what is noised: pixels, or latents
        self.tokenizer = self.latents = None  # of latent diffusion
        self.frames = window_frames(diffusion, clip_shape[0])  # the most in one call
        self.height = clip_shape[1]
        self.channels = clip_shape[3] * (2 if diffusion.upscale > 1 else 1)  # the small clip beside the noisy one
        self.out_channels = clip_shape[3] * (2 if diffusion.learned_variance else 1)
        self.text_width = diffusion.text_width if diffusion.get("text") else 0
        self.text_tokens = diffusion.text_tokens > 0 and self.text_width > 0
        self.level = nn.ModuleDict({"first": nn.Linear(signal_width, width), "second": nn.Linear(width, width)})
        if diffusion.classes > 0:
            self.classes = nn.Embedding(diffusion.classes + 1, width)  # the last is for no class
        if self.text_width:
            self.text = nn.Linear(self.text_width, width)

    def conditioned(self, level, labels, text):
        """Adds class and text to the embedding of noise levels, [B, T, width]."""
        if hasattr(self, "classes"):
            none = self.classes.num_embeddings - 1
            labels = torch.tensor([none], device=level.device) if labels is None else labels
            level = level + self.classes(labels.masked_fill(labels < 0, none)).unsqueeze(1)
        if self.text_width:
            if text is not None and text.dim() == 3:  # the mean of the tokens that are not padding
                text = text.sum(1) / (text != 0).any(-1).sum(1, keepdim=True).clamp_min(1)
            level = level + (self.text.bias if text is None else self.text(text).unsqueeze(1))
        return level

    def encoded(self, x):
        """Latent diffusion: clips to the latents that it works on."""
        return (self.tokenizer.latents(x) - self.latents.mean) / self.latents.deviation

    def decoded(self, z):
        return self.tokenizer.clips_of_latents(z * self.latents.deviation + self.latents.mean)

    def call(self, embedding, z, index, role, text):
        """What the blocks get; `embedding` is [B, T, width]."""
        if index is None:
            index = torch.arange(z.shape[1], device=z.device).unsqueeze(0)
        call = Call(embedding.flatten(0, 1), z.shape[1], index, mask=None if role is None else frame_mask(role))
        if self.frames > 1 and hasattr(self, "distances"):
            call.bias = self.distances(index)
        if self.frames > 1 and hasattr(self, "rotary"):
            call.rotary = self.rotary(index)
        if self.text_tokens and text is not None:
            padding = ~(text != 0).any(-1)
            mask = torch.zeros(padding.shape, device=z.device).masked_fill(padding, -math.inf)
            call.text = F.layer_norm(text, text.shape[-1:])
            call.text_mask = F.pad(mask, (1, 0))[:, None, None]
        return call


def window_frames(diffusion, frames):
    """Frames of one call of the network for clips of so many frames."""
    if diffusion.frames in ("AUTOREGRESSIVE", "LAST"):
        return diffusion.history + 1
    return diffusion.window if diffusion.frames == "FLEXIBLE" else frames


# --- attention --------------------------------------------------------------------------------------------


def attend(q, k, v, bias=None, scale=None):
    """softmax(scale q k^T + bias) v over [..., heads, tokens, width]; scale is 1 / sqrt(width) by default."""
    logits = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return (logits if bias is None else logits + bias).softmax(-1) @ v


def attend_in_images(qkv, heads):
    """Within each image, of rows [N, H W, 3 heads width] to [N, H W, heads width]."""
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
    return attend(q, k, v).transpose(1, 2).flatten(2)


def attend_over_frames(qkv, heads, call):
    """Over all frames of a clip at the same place; rows as above, N = B T."""
    q, k, v = (part.unflatten(0, (-1, call.frames)).unflatten(-1, (heads, -1)).permute(0, 2, 3, 1, 4)
               for part in qkv.chunk(3, -1))  # [B, H W, heads, T, width]
    if call.rotary is not None:
        q, k = rotated(q, call.rotary), rotated(k, call.rotary)
    return attend(q, k, v, call.logit_bias()).permute(0, 3, 1, 2, 4).flatten(0, 1).flatten(2)


def rotated(x, angles):
    """Rotates the first pairs of neighbouring elements."""
    width, cos, sin = 2 * angles.shape[-1], angles.cos(), angles.sin()
    even, odd = x[..., 0:width:2], x[..., 1:width:2]
    pairs = torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)
    return torch.cat([pairs, x[..., width:]], -1)


class Rotary(nn.Module):
    """Rotary embedding of the first `width` elements of queries and keys by the frame's index."""

    def __init__(self, width):
        super().__init__()
        self.register_buffer("frequencies", 10000.0 ** (torch.arange(0, width, 2).float() / -width))

    def forward(self, index):
        return (index.float().unsqueeze(-1) * self.frequencies)[:, None, None]


class DistanceBias(nn.Embedding):
    """A learned bias for each of 32 ranges of the offset between two frames (T5): half of them are for each direction,
    and of those half hold one offset each; the others grow geometrically up to 32 frames."""

    def __init__(self, heads):
        super().__init__(32, heads)

    def forward(self, index):
        offset = index.unsqueeze(2) - index.unsqueeze(1)  # query minus key
        distance = offset.abs()
        far = 8 + ((distance.clamp_min(1).float() / 8).log() * (8 / math.log(32 / 8))).long().clamp_max(7)
        ranges = torch.where(distance < 8, distance, far) + (offset < 0).long() * 16
        return super().forward(ranges).permute(0, 3, 1, 2).unsqueeze(1)


class FullAttention(nn.Module):
    """x + projection(attention(layer norm(x))); the heads' width is independent of the channels."""

    def __init__(self, channels, heads, width):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels, bias=False)
        self.qkv = nn.Linear(channels, 3 * heads * width, bias=False)
        self.out = nn.Linear(heads * width, channels, bias=False)

    def in_images(self, x):
        return x + as_images(self.out(attend_in_images(self.qkv(self.norm(as_rows(x))), self.heads)), x.shape[2])

    def over_frames(self, x, call):
        mixed = attend_over_frames(self.qkv(self.norm(as_rows(x))), self.heads, call)
        return x + as_images(self.out(mixed), x.shape[2])


class CrossAttention(nn.Module):
    """x + projection(attention(layer norm(x), tokens)). Attention may also go to nothing, a key and value of zeros."""

    def __init__(self, channels, text_width, heads, width):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels, bias=False)
        self.query = nn.Linear(channels, heads * width, bias=False)
        self.key_value = nn.Linear(text_width, 2 * heads * width, bias=False)
        self.out = nn.Linear(heads * width, channels, bias=False)

    def forward(self, rows, call):
        """Rows [B T, places, channels]."""
        if call.text is None:
            return rows

        def by_head(x):
            return x.reshape(len(call.text), -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

        k, v = F.pad(self.key_value(call.text), (0, 0, 1, 0)).chunk(2, -1)
        mixed = attend(by_head(self.query(self.norm(rows))), by_head(k), by_head(v), call.text_mask)
        return rows + self.out(mixed.transpose(1, 2).reshape(*rows.shape[:2], -1))

    def in_images(self, x, call):
        return as_images(self(as_rows(x), call), x.shape[2])
