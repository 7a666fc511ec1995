"""vqvae: VQ-GAN's autoencoder of images, each frame of a clip on its own."""
import torch.nn.functional as F
from torch import nn

from .layers import attend, check_size, frames_as_images, group_norm, images_as_frames
from .tokenizer import Tokenizer

EPS = 1e-6


class ResidualBlock(nn.Module):
    def __init__(self, channels, out, groups):
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels, EPS, groups), group_norm(out, EPS, groups)
        self.conv1, self.conv2 = nn.Conv2d(channels, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x):
        return self.skip(x) + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class AttentionBlock(nn.Module):
    """One head over all pixels of an image."""

    def __init__(self, channels, groups):
        super().__init__()
        self.norm = group_norm(channels, EPS, groups)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        q, k, v = (part.flatten(2).transpose(1, 2) for part in self.qkv(self.norm(x)).chunk(3, 1))
        return x + self.out(attend(q, k, v).transpose(1, 2).unflatten(2, x.shape[2:]))


class Level(nn.ModuleDict):
    """Blocks, each followed by attention if it has any; `resize` is apart, its padding differs."""

    def __init__(self, channels, out, count, attends, groups, resize):
        super().__init__()
        for i in range(count):
            self[f"block{i}"] = ResidualBlock(channels if i == 0 else out, out, groups)
            if attends:
                self[f"attention{i}"] = AttentionBlock(out, groups)
        if resize is not None:
            self["resize"] = resize

    def forward(self, x):
        for name, part in self.items():
            x = x if name == "resize" else part(x)
        return x


class Vqvae(Tokenizer):
    def __init__(self, config, clip_shape):
        options = config.model.vqvae
        super().__init__(config, options, clip_shape, options.latent, always_project=True,
                         decoder_width=options.decoder_latent)
        widths = [options.width * m for m in options.multipliers]
        last, height, colours = len(widths) - 1, clip_shape[1], clip_shape[3]
        check_size(clip_shape, 2**last, "model.vqvae.multipliers")

        groups = options.norm_groups

        def level(i, channels, count, resize):
            return Level(channels, widths[i], count, height >> i in options.attention, groups, resize)

        def side():
            """What encoder and decoder have alike."""
            part = nn.Module()
            part.middle = nn.ModuleDict({"block0": ResidualBlock(widths[-1], widths[-1], groups),
                                         "attention": AttentionBlock(widths[-1], groups),
                                         "block1": ResidualBlock(widths[-1], widths[-1], groups)})
            return part

        self.encoder, self.decoder = side(), side()
        self.encoder.pixels = nn.Conv2d(colours, widths[0], 3, padding=1)
        self.encoder.norm = group_norm(widths[-1], EPS, groups)
        self.encoder.latent = nn.Conv2d(widths[-1], options.latent, 3, padding=1)
        self.decoder.latent = nn.Conv2d(options.decoder_latent or options.latent, widths[-1], 3, padding=1)
        self.decoder.norm = group_norm(widths[0], EPS, groups)
        self.decoder.pixels = nn.Conv2d(widths[0], colours, 3, padding=1)
        for i, out in enumerate(widths):
            down = nn.Conv2d(out, out, 3, stride=2) if i < last else None
            up = nn.Conv2d(out, out, 3, padding=1) if i > 0 else None
            self.encoder.add_module(f"level{i}", level(i, widths[max(i - 1, 0)], options.blocks, down))
            self.decoder.add_module(f"level{i}", level(i, widths[min(i + 1, last)], options.blocks + 1, up))
        self.levels = range(len(widths))
        self.cells = (clip_shape[0], height >> last, clip_shape[2] >> last)

    def features(self, x):
        h = self.encoder.pixels(frames_as_images(x))
        for i in self.levels:
            level = self.encoder.get_submodule(f"level{i}")
            h = level(h)
            if "resize" in level:  # padded right and below only
                h = level["resize"](F.pad(h, (0, 1, 0, 1)))
        for part in self.encoder.middle.values():
            h = part(h)
        return images_as_frames(self.encoder.latent(F.silu(self.encoder.norm(h))), x.shape[1])

    def clips(self, z):
        h = self.decoder.latent(frames_as_images(z))
        for part in self.decoder.middle.values():
            h = part(h)
        for i in reversed(self.levels):
            level = self.decoder.get_submodule(f"level{i}")
            h = level(h)
            if "resize" in level:
                h = level["resize"](F.interpolate(h, scale_factor=2))
        return images_as_frames(self.decoder.pixels(F.silu(self.decoder.norm(h))), z.shape[1])
