"""What vqvae and cvivit share: quantisers, the tokenizer around them, and the discriminator of their training."""
import torch
import torch.nn.functional as F
from torch import nn

from .layers import group_norm


def directions(x):
    return F.normalize(x, dim=-1, eps=1e-12)


class Codebook(nn.Module):
    """ema and learnt: the nearest code's vector, or with `cosine` that of the most similar direction. Only `codebook`
    matters to a trained tokenizer; the rest is state of its training."""

    def __init__(self, options, running):
        super().__init__()
        self.codes, self.dim, self.input_dim = options.codes, options.dim, options.dim
        self.cosine = running and options.cosine
        codebook = torch.empty(options.codes, options.dim)
        nn.init.uniform_(codebook, -options.dim**-0.5, options.dim**-0.5)
        if running:
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", torch.zeros(options.codes, options.dim + 1))
        else:
            self.codebook = nn.Parameter(codebook)
        self.register_buffer("started", torch.zeros(1))

    def ids(self, z):
        rows = (directions(z) if self.cosine else z).flatten(0, -2)
        distances = torch.addmm(self.codebook.square().sum(1), rows, self.codebook.t(), alpha=-2)
        return distances.argmin(1).view(z.shape[:-1])

    def lookup(self, ids):
        return F.embedding(ids, self.codebook)


class Fsq(nn.Module):
    """fsq: every element is rounded to one of a few levels; the first is the least significant digit of an id."""

    def __init__(self, options):
        super().__init__()
        self.levels, self.codes, self.radix = options.levels, 1, []
        for level in options.levels:
            self.radix.append(self.codes)
            self.codes *= level
        self.dim = self.input_dim = len(options.levels)

    def ids(self, z):
        # tanh bounds an element to just over the outermost levels; an even number of them is offset by half a step.
        levels, radix = torch.tensor([self.levels, self.radix], device=z.device)
        reach, offset = (levels - 1) * (1.001 / 2), (1 - levels % 2) / 2
        rounded = ((z + (offset / reach).atanh()).tanh() * reach - offset).round()
        return ((rounded.long() + levels // 2) * radix).sum(-1)

    def lookup(self, ids):
        levels, radix = torch.tensor([self.levels, self.radix], device=ids.device)
        return (ids.unsqueeze(-1) // radix % levels - levels // 2).float() / (levels // 2)


class Lfq(nn.Module):
    """lfq: the signs of a vector are its code; the first is the most significant bit."""

    def __init__(self, options):
        super().__init__()
        self.codes, self.dim, self.input_dim = 2**options.bits, options.bits, options.bits

    def radix(self, device):
        return 2 ** torch.arange(self.dim - 1, -1, -1, device=device)

    def ids(self, z):
        return ((z > 0) * self.radix(z.device)).sum(-1)

    def lookup(self, ids):
        return (ids.unsqueeze(-1) & self.radix(ids.device) != 0).float() * 2 - 1


class Variational(nn.Module):
    """variational: no codes; the encoder gives mean and log variance, and the mean is the vector."""

    def __init__(self, options):
        super().__init__()
        self.codes, self.dim, self.input_dim = 0, options.dim, 2 * options.dim


def quantiser_of(options):
    kinds = {"ema": lambda o: Codebook(o, running=True), "learnt": lambda o: Codebook(o, running=False), "fsq": Fsq,
             "lfq": Lfq, "variational": Variational}
    kind = next(name for name in kinds if name in options)
    return kinds[kind](options[kind])


class Discriminator(nn.ModuleList):
    """The patch discriminator of the adversarial loss: 4 x 4 convolutions, logits of images [N, C, H, W]."""

    def __init__(self, gan, channels):
        super().__init__()
        layers = [(channels, gan.width, 2)]
        for i in range(1, gan.layers + 1):
            layers.append((layers[-1][1], min(gan.width << i, 8 * gan.width), 2 if i < gan.layers else 1))
        layers.append((layers[-1][1], 1, 1))
        for i, (channels, out, stride) in enumerate(layers):
            layer = nn.Conv2d(channels, out, 4, stride, padding=1)
            layer.norm = group_norm(out) if 0 < i < len(layers) - 1 else None
            self.append(layer)

    def forward(self, images):
        for layer in self[:-1]:
            images = layer(images)
            images = F.leaky_relu(images if layer.norm is None else layer.norm(images), 0.2)
        return self[-1](images)


class Tokenizer(nn.Module):
    """Clips [B, T, H, W, C] in [-1, 1] to codes or vectors on a grid of (time, row, column) and back. A network makes
    features of clips, features(x), and clips of features, clips(h); `cells` is the size of its grid."""

    def __init__(self, config, options, clip_shape, width, always_project, decoder_width=0):
        super().__init__()
        self.config, self.clip_shape = config, clip_shape
        self.groups = options.quantiser.groups  # codes of a grid cell; the grid of codes is as many times wider
        self.quantiser = quantiser_of(options.quantiser)
        inner, given = self.groups * self.quantiser.dim, self.groups * self.quantiser.input_dim
        self.projects = always_project or width != inner or width != given
        if self.projects:
            self.quantiser.add_module("in", nn.Linear(width, given))
            self.quantiser.add_module("out", nn.Linear(inner, decoder_width or width))
        self.discriminator = Discriminator(options.gan, clip_shape[3]) if options.gan.weight > 0 else None

    def vectors(self, x):
        """What is quantised, [B, t, h, w groups, quantiser.input_dim]."""
        h = self.features(x)
        h = self.quantiser.get_submodule("in")(h) if self.projects else h
        return h.unflatten(-1, (self.groups, -1)).flatten(3, 4)

    def latent_shape(self):
        """(time steps, rows, columns, elements) of latents()."""
        steps, rows, columns = self.cells
        return steps, rows, columns * self.groups, self.quantiser.dim

    def latents(self, x):
        """The vectors before quantisation, of quantiser.dim elements: what latent diffusion works on."""
        return self.vectors(x)[..., :self.quantiser.dim]

    def encode(self, x):
        return self.quantiser.ids(self.vectors(x))

    def decode(self, ids):
        return self.clips_of_vectors(self.quantiser.lookup(ids))

    def clips_of_latents(self, z):
        return self.clips_of_vectors(z) if self.quantiser.codes == 0 else self.decode(self.quantiser.ids(z))

    def clips_of_vectors(self, vectors):
        h = vectors.unflatten(3, (-1, self.groups)).flatten(-2)
        return self.clips(self.quantiser.get_submodule("out")(h) if self.projects else h).clamp(-1, 1)

    def forward(self, x):
        """The clips after encoding and decoding."""
        return self.clips_of_latents(self.latents(x))
