"""The networks of Last Frame as plain PyTorch modules, one file each, with the names of the program's own exports:
unet, unet3d, dit, rvd, vqvae, cvivit, code_prior, autoencoder, classifier. load(file) is all that using them takes; the
files are written to be read.
"""
import os

import torch
from torch import nn

from lastframe_io import DataError, Export

from .autoencoder import Autoencoder
from .classifier import Classifier
from .code_prior import CodePrior
from .cvivit import Cvivit
from .diffusion import Schedule, estimate, sample
from .dit import Dit
from .layers import Unfilled
from .options import DENOISERS, TOKENIZERS, completed, kind_of
from .random import normals, uniforms
from .rvd import Rvd
from .unet import Unet
from .unet3d import Unet3d
from .vqvae import Vqvae

__all__ = ["Autoencoder", "Classifier", "CodePrior", "Cvivit", "Dit", "Rvd", "Schedule", "Unet", "Unet3d", "Vqvae",
           "build", "estimate", "load", "normals", "sample", "uniforms"]

NETWORKS = {"unet": Unet, "unet3d": Unet3d, "dit": Dit, "rvd": Rvd, "vqvae": Vqvae, "cvivit": Cvivit,
            "code_prior": CodePrior, "autoencoder": Autoencoder, "classifier": Classifier}


class Latents(nn.Module):
    """Mean and deviation of a tokenizer's latents, by which diffusion sees them normalised."""

    def __init__(self, channels):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.register_buffer("measured", torch.zeros(1))


def build(config, clip_shape, tokenizer=None):
    """The network of a config for clips of (frames, height, width, channels), with random weights. `tokenizer`: that of
    a prior, or of latent diffusion, whose net.clip_shape is that of its latents."""
    config, kind = completed(config), kind_of(config)
    if kind != "code_prior" and not _place_of_tokenizer(config):
        return NETWORKS[kind](config, clip_shape)
    if tokenizer is None:
        raise DataError(f"the config is of {'a prior' if kind == 'code_prior' else 'latent diffusion'}, and no tokenizer "
                        "is given; give one")
    tokenizer.requires_grad_(False)
    if kind == "code_prior":
        return CodePrior(config, clip_shape, tokenizer)
    shape = tokenizer.latent_shape()
    net = NETWORKS[kind](config, shape)
    net.tokenizer, net.latents = tokenizer, Latents(shape[3])
    return net


def load(file, clip_shape=None, tokenizer=None):
    """The module of a file of `lastframe export RUN --out FILE`, in eval mode, with its config as .config.

    clip_shape  (frames, height, width, channels) of the clips it was trained on, for exports of programs that did
                not yet write it
    tokenizer   priors and latent diffusion: the file of the tokenizer's export, where it is no longer at the config's
                place
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
    place = _place_of_tokenizer(config)
    return build(config, clip_shape, _tokenizer(tokenizer or place, clip_shape) if place else None)


def _place_of_tokenizer(config):
    """The file of the tokenizer that a model works on, if it does."""
    kind = kind_of(config)
    option = kind if kind == "code_prior" else "diffusion" if kind in DENOISERS else None
    return config.model.get(option, {}).get("tokenizer")


def _tokenizer(file, clip_shape):
    """The network only: exports of what works on it hold its weights."""
    if not os.path.exists(file):
        raise DataError(f"the tokenizer {file} is not there; give the file of its export as tokenizer=FILE")
    export = Export(file)
    kind = kind_of(export.config)
    if kind not in TOKENIZERS:
        raise DataError(f"the tokenizer {file} has model.{kind}, expected vqvae or cvivit; give its export")
    export.config.model[kind].get("gan", {})["weight"] = 0  # no discriminator either
    return _network(export, clip_shape)
