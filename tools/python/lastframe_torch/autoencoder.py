"""autoencoder: convolutions to a code of half, a quarter, ... the size and back, each frame on its own but for
convolutions over frames."""
import torch
import torch.nn.functional as F
from torch import nn

from .layers import TemporalConv, check_size, frames_as_images, group_norm, images_as_frames


class Block(nn.Module):
    def __init__(self, channels, out, stride, frames):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, out, 3, stride, padding=1), group_norm(out)
        self.temporal = TemporalConv(out) if frames > 1 else None

    def forward(self, x, frames):
        h = F.silu(self.norm(self.conv(x)))
        return h if self.temporal is None else h + self.temporal(h, frames)


class Discriminator(nn.Module):
    """Of the adversarial loss: logits of images [N, C, H, W]."""

    def __init__(self, channels, width):
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, 2, padding=1)
        self.second, self.norm = nn.Conv2d(width, 2 * width, 3, 2, padding=1), group_norm(2 * width)
        self.head = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, images):
        return self.head(F.leaky_relu(self.norm(self.second(F.leaky_relu(self.first(images), 0.2))), 0.2))


class Autoencoder(nn.Module):
    def __init__(self, config, clip_shape):
        super().__init__()
        options = config.model.autoencoder
        self.config, self.clip_shape = config, clip_shape
        frames, _, _, channels = clip_shape
        widths = [options.width * m for m in options.multipliers]
        check_size(clip_shape, 2 ** (len(widths) - 1), "model.autoencoder.multipliers")
        self.encoder, self.decoder = nn.ModuleDict(), nn.ModuleDict()
        before = channels
        for i, out in enumerate(widths):
            self.encoder[str(i)] = Block(before, out, 1 if i == 0 else 2, frames)
            before = out
        self.encoder["code"] = nn.Conv2d(before, options.latent, 1)
        self.decoder["code"] = nn.Conv2d(options.latent, before, 1)
        for i in reversed(range(len(widths))):
            self.decoder[str(i)] = Block(before, widths[i], 1, frames)
            before = widths[i]
        self.decoder["pixels"] = nn.Conv2d(before, channels, 3, padding=1)
        self.levels = range(len(widths))
        self.discriminator = Discriminator(channels, options.width) if options.gan_weight > 0 else None

    def encode(self, x):
        """Clips [B, T, H, W, C] in [-1, 1] to codes [B, T, h, w, latent] in (-1, 1)."""
        h = frames_as_images(x)
        for i in self.levels:
            h = self.encoder[str(i)](h, x.shape[1])
        return images_as_frames(torch.tanh(self.encoder["code"](h)), x.shape[1])

    def decode(self, code):
        h = self.decoder["code"](frames_as_images(code))
        for i in reversed(self.levels):
            h = self.decoder[str(i)](h, code.shape[1])
            h = F.interpolate(h, scale_factor=2) if i > 0 else h
        return images_as_frames(self.decoder["pixels"](h), code.shape[1]).clamp(-1, 1)

    def forward(self, x):
        return self.decode(self.encode(x))
