"""rvd: residual video diffusion. A recurrent network predicts the mean of the next frame; diffusion samples the rest of
it, conditioned on the states of another. Videos are continued frame by frame.

The modules "half" and "double" are set as attributes and read as items, as nn.Module has methods of these names.
"""
import torch
import torch.nn.functional as F
from torch import nn

from lastframe_io import DataError

from .diffusion import Schedule, integrate, sampler_of, scaling
from .layers import as_images, as_rows, attend_in_images, check_size, frames_as_images, group_norm, sinusoid
from .random import normals
from .unet3d import LinearAttention

HEADS, HEAD_WIDTH = 4, 16
LEAST_SCALE = 0.05
LARGEST = 2  # of a residual, of pixels in [-1, 1]


def norm_of(channels):
    return group_norm(channels, groups=next(groups for groups in range(8, 0, -1) if channels % groups == 0))


class LeakyBlock(nn.Module):
    """x + two layers of convolution - norm - leaky ReLU, between them the embedding of the noise level."""

    def __init__(self, channels, out, embedding=0):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, out, 3, padding=1), norm_of(out)
        self.conv2, self.norm2 = nn.Conv2d(out, out, 3, padding=1), norm_of(out)
        self.level = nn.Linear(embedding, out) if embedding else None
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x, level=None):
        h = F.leaky_relu(self.norm1(self.conv1(x)), 0.2)
        if self.level is not None:
            h = h + self.level(level)[:, :, None, None]
        return self.skip(x) + F.leaky_relu(self.norm2(self.conv2(h)), 0.2)


class ConvGru(nn.Module):
    """A convolutional gated recurrent unit: the state after an image."""

    def __init__(self, channels):
        super().__init__()
        self.input = nn.Conv2d(channels, 3 * channels, 3, padding=1)
        self.state_gates = nn.Parameter(nn.init.normal_(torch.empty(2 * channels, channels, 3, 3), std=0.02))
        self.state_content = nn.Parameter(nn.init.normal_(torch.empty(channels, channels, 3, 3), std=0.02))

    def forward(self, x, state):
        state = torch.zeros_like(x) if state is None else state
        reset, update, content = self.input(x).chunk(3, 1)
        more_reset, more_update = F.conv2d(state, self.state_gates, padding=1).chunk(2, 1)
        reset, update = torch.sigmoid(reset + more_reset), torch.sigmoid(update + more_update)
        content = torch.tanh(content + F.conv2d(reset * state, self.state_content, padding=1))
        return state + update * (content - state)


class RecurrentLevels(nn.ModuleList):
    """The encoder of both recurrent networks: the states of all levels after a frame."""

    def __init__(self, channels, widths):
        super().__init__()
        for i, out in enumerate(widths):
            self.append(nn.ModuleDict({"block": LeakyBlock(channels, out), "unit": ConvGru(out)}))
            if i + 1 < len(widths):
                self[i].half = nn.Conv2d(out, out, 3, 2, padding=1)
            channels = out

    def forward(self, x, states):
        made = []
        for level, state in zip(self, states or [None] * len(self)):
            made.append(level["unit"](level["block"](x), state))
            x = level["half"](made[-1]) if "half" in level else made[-1]
        return made


class MeanDecoder(nn.ModuleDict):
    """The mean of the next frame from the states of all levels."""

    def __init__(self, channels, widths):
        super().__init__({"last": nn.Conv2d(widths[0], channels, 3, padding=1)})
        for i, width in enumerate(widths):
            self[str(i)] = level = nn.ModuleDict({
                "block": LeakyBlock(width if i + 1 == len(widths) else 2 * width, width)})
            if i > 0:
                level.double = nn.ConvTranspose2d(width, widths[i - 1], 4, 2, 1)

    def forward(self, states):
        h = self[str(len(states) - 1)]["block"](states[-1])
        for i in reversed(range(len(states) - 1)):
            h = self[str(i)]["block"](torch.cat([self[str(i + 1)]["double"](h), states[i]], 1))
        return self["last"](h)


class Attention(nn.Module):
    """x + projection(attention(norm(x))) within images, of one head."""

    def __init__(self, channels):
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x):
        return x + as_images(self.out(attend_in_images(self.qkv(as_rows(self.norm(x))), 1)), x.shape[2])


class Level(nn.ModuleDict):
    """`between`: channels that the second block gets."""

    def __init__(self, channels, out, between, embedding):
        super().__init__({"0": LeakyBlock(channels, out, embedding), "1": LeakyBlock(between, out, embedding),
                          "attention": LinearAttention(out, HEADS, HEAD_WIDTH)})


class ContextDenoiser(nn.Module):
    """Of images, each with a context of every level."""

    def __init__(self, channels, widths):
        super().__init__()
        self.width = width = widths[0]
        self.level = nn.ModuleDict({"first": nn.Linear(width, 4 * width), "second": nn.Linear(4 * width, width)})
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        before = channels
        for i, out in enumerate(widths):
            above = widths[max(0, i - 1)]
            self.down.append(Level(before, out, 2 * out, width))
            self.up.append(Level(2 * out, above, above, width))
            if i + 1 < len(widths):
                self.down[i].half = nn.Conv2d(out, out, 3, 2, padding=1)
            if i > 0:
                self.up[i].double = nn.ConvTranspose2d(above, above, 4, 2, 1)
            before = out
        self.middle = nn.ModuleDict({"0": LeakyBlock(before, before, width), "1": LeakyBlock(before, before, width),
                                     "attention": Attention(before)})
        self.last = nn.ModuleDict({"block": LeakyBlock(width, width), "conv": nn.Conv2d(width, channels, 1)})

    def forward(self, x, signal, context):
        level = self.level["second"](F.gelu(self.level["first"](sinusoid(signal, self.width, sines_first=True))))
        kept = []
        for stage, beside in zip(self.down, context):
            h = stage["1"](torch.cat([stage["0"](x, level), beside], 1), level)
            kept.append(stage["attention"](h))
            x = stage["half"](kept[-1]) if "half" in stage else kept[-1]
        x = self.middle["1"](self.middle["attention"](self.middle["0"](x, level)), level)
        for stage in reversed(self.up):
            x = stage["attention"](stage["1"](stage["0"](torch.cat([x, kept.pop()], 1), level), level))
            x = stage["double"](x) if "double" in stage else x
        return self.last["conv"](self.last["block"](x))


class Rvd(nn.Module):
    def __init__(self, config, clip_shape):
        super().__init__()
        options, channels = config.model.rvd, clip_shape[3]
        self.config, self.clip_shape = config, clip_shape
        means, widths = ([options.width * m for m in of] for of in (options.mean_multipliers, options.multipliers))
        check_size(clip_shape, 2 ** (len(means) - 1), "model.rvd.mean_multipliers")
        check_size(clip_shape, 2 ** (len(widths) - 1), "model.rvd.multipliers")
        self.mean = nn.ModuleDict({"down": RecurrentLevels(channels, means), "up": MeanDecoder(channels, means)})
        self.context = RecurrentLevels(channels, widths)
        self.denoiser = ContextDenoiser(channels, widths)
        if options.running_scale:
            self.register_buffer("rest_square", torch.zeros(1))

    def scale(self):
        """Of residuals, of which the denoiser's have variance 1."""
        square = float(self.rest_square) if self.config.model.rvd.running_scale else 1
        return max(square**0.5, LEAST_SCALE) if square > 0 else 1

    def forecast(self, frame, states=(None, None)):
        """The mean of what follows a frame [B, H, W, C] as images, the context of its residual, and the states."""
        images = frames_as_images(frame.unsqueeze(1))
        states = self.mean["down"](images, states[0]), self.context(images, states[1])
        return self.mean["up"](states[0]), states[1], states

    @torch.no_grad()
    def sample(self, given, frames=0, seed=0, **changes):
        """Continues clips of which the first frames are given, [B, given, H, W, C], as `lastframe sample --seed` does,
        by config.model.diffusion.sampler, in which `changes` such as steps=20 replace options."""
        least, frames = self.config.model.rvd.warm_up, frames or self.clip_shape[0]
        if not least <= given.shape[1] <= frames:
            raise DataError(f"{given.shape[1]} frames are given, expected {least} (model.rvd.warm_up) to the {frames} "
                            "of the clips; give as many")
        diffusion = self.config.model.diffusion
        sampler, schedule = sampler_of(diffusion, changes), Schedule(diffusion, self.clip_shape[1])
        video, states, bound = list(given.unbind(1)), (None, None), LARGEST / self.scale()
        for number in range(frames - 1):
            mean, context, states = self.forecast(video[number], states)
            if number + 1 < len(video):
                continue

            def image_of(z, level):
                skip, out, into = scaling(diffusion.prediction, level, diffusion.sigma_data)
                signal = torch.full((len(z),), schedule.signal(level), device=z.device)
                image = skip * z + out * self.denoiser(into * z, signal, context)
                return image if sampler.threshold == "NONE" else image.clamp(-bound, bound)

            draw = number + 1 - given.shape[1]
            noise = torch.stack([torch.from_numpy(normals(seed, clip, self.clip_shape[1:], draw))
                                 for clip in range(len(given))]).to(given)
            rest = integrate(sampler, schedule, noise.permute(0, 3, 1, 2), image_of)
            video.append((mean + self.scale() * rest).clamp(-1, 1).permute(0, 2, 3, 1))
        return torch.stack(video, 1)
