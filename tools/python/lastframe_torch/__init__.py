"""The networks of Last Frame as plain PyTorch modules, one file each, with the names of the program's own exports:
unet, unet3d, dit, vqvae, cvivit, autoencoder, classifier. load(file) is all that using them takes; the files are written to be read.
"""
import os

import torch
from torch import nn

from lastframe_io import DataError, Export

from .autoencoder import Autoencoder
from .classifier import Classifier
from .cvivit import Cvivit
from .diffusion import Schedule, estimate, sample
from .dit import Dit
from .layers import Unfilled
from .options import DENOISERS, TOKENIZERS, completed, kind_of
from .random import normals
from .unet import Unet
from .unet3d import Unet3d
from .vqvae import Vqvae

__all__ = ["Autoencoder", "Classifier", "Cvivit", "Dit", "Schedule", "Unet", "Unet3d", "Vqvae", "build", "estimate", "load",
           "normals", "sample"]

NETWORKS = {"unet": Unet, "unet3d": Unet3d, "dit": Dit, "vqvae": Vqvae, "cvivit": Cvivit,
            "autoencoder": Autoencoder, "classifier": Classifier}


class Latents(nn.Module):
    """Mean and deviation of a tokenizer's latents, by which diffusion sees them normalised."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("measured", torch.zeros(1))


def build(config, clip_shape, tokenizer=None):
    """The network of a config for clips of (frames, height, width, channels), with random weights. `tokenizer`: that of
    latent diffusion, whose net.clip_shape is that of its latents."""
    config, kind = completed(config), kind_of(config)
    if kind not in DENOISERS or not config.model.diffusion.tokenizer:
        return NETWORKS[kind](config, clip_shape)
    if tokenizer is None:
        raise DataError("the config is of latent diffusion (model.diffusion.tokenizer), and no tokenizer is given; "
                        "give one")
    shape = tokenizer.latent_shape()
    net = NETWORKS[kind](config, shape)
    net.tokenizer, net.latents = tokenizer.requires_grad_(False), Latents(shape[3])
    return net


def load(file, clip_shape=None, tokenizer=None):
    """The module of a file of `lastframe export RUN --out FILE`, in eval mode, with its config as .config.

    clip_shape  (frames, height, width, channels) of the clips it was trained on, for exports of programs that did
                not yet write it
    tokenizer   latent diffusion: the file of the tokenizer's export, where it is no longer at the config's place
    """
    export = Export(file)
    shape = clip_shape or export.clip_shape
    if shape is None:
        raise DataError(f"{file} does not say of what shape its clips are, an older program wrote it; give "
                        "clip_shape=(frames, height, width, channels), or export the run again")
    if len(shape) != 4 or not all(1 <= n <= most for n, most in zip(shape, (4096, 65536, 65536, 64))):
        raise DataError(f"{file} is of clips of {tuple(shape)}, expected (frames, height, width, channels) up to "
                        "(4096, 65536, 65536, 64); export the run again")
    try:
        with Unfilled():
            net = _network(export, tuple(shape), tokenizer)
    except DataError:
        raise
    except Exception as error:  # of whatever its options do not fit together in
        raise DataError(f"the config in {file} makes no network for clips of {tuple(shape)} ({_one_line(error):.200}); "
                        "give the shape it was trained on, or export the run again") from error
    weights = {name: torch.from_numpy(export.tensor(name)) for name in export.names()}
    try:
        net.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise DataError(f"the tensors of {file} are not those of its config for clips of {tuple(shape)} "
                        f"({_one_line(error):.600}); give the shape it was trained on") from None
    return net.eval()


def _one_line(error):
    return " ".join(str(error).split())


def _network(export, clip_shape, tokenizer=None):
    config = export.config
    if "encoder.first.before.weight" in export.names():  # programs without the option had these norms
        config.model.cvivit.setdefault("patch_norm", "BOTH")
    place = config.model.get("diffusion", {}).get("tokenizer")
    return build(config, clip_shape, _tokenizer(tokenizer or place, clip_shape) if place else None)


def _tokenizer(file, clip_shape):
    """The network only: latent diffusion's exports hold its weights."""
    if not os.path.exists(file):
        raise DataError(f"the tokenizer {file} is not there; give the file of its export as tokenizer=FILE")
    export = Export(file)
    kind = kind_of(export.config)
    if kind not in TOKENIZERS:
        raise DataError(f"the tokenizer {file} has model.{kind}, expected vqvae or cvivit; give its export")
    export.config.model[kind].get("gan", {})["weight"] = 0  # no discriminator either
    return _network(export, clip_shape)
