"""One network of another program beside ours, for tools/peers/layouts. One JSON line.

  layouts_twin.py PROGRAM FOLDER SOURCES NAME|--list
"""
import importlib
import json
import pathlib
import subprocess
import sys
import types

import torch
from safetensors.torch import load_file, save_file
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
from lastframe_torch import load  # noqa: E402

SIZE, BATCH = 16, 2
IMAGES = [f"source.size={SIZE}", "source.channels=3", "recipe.frames=1"]
D = "model.diffusion."


class Missing(Exception):
    """Why a network cannot be compared here."""


def module_of(sources, repository, name):
    """A module of a clone."""
    folder = sources / repository
    if not folder.exists():
        raise Missing(f"{folder} is not there; give --sources")
    sys.path.insert(0, str(folder))
    return importlib.import_module(name)


# --- networks: made(sources) gives theirs; theirs(net, x, ...) and ours(net, x, ...) their outputs ------------


class Images:
    """A denoiser of images [N, C, H, W] at noise levels [N], with classes or without."""
    frozen = ()
    note = ""

    def __init__(self, layout, sets, made, classes=0, call=lambda net, x, t, y: net(x, t, y)):
        self.layout, self.made, self.classes, self.call = layout, made, classes, call
        self.sets = IMAGES + sets + ([f"{D}classes={classes}"] if classes else [])

    def inputs(self):
        labels = torch.tensor([1, 3]) if self.classes else None
        return torch.randn(BATCH, 3, SIZE, SIZE), torch.tensor([17.0, 801.0]), labels

    def theirs(self, net, x, t, y):
        return [self.call(net, x, t, y)]

    def ours(self, net, x, t, y):
        out = net(x.permute(0, 2, 3, 1).unsqueeze(1), t[:, None], labels=y)
        return [out.squeeze(1).permute(0, 3, 1, 2)]


class Clips(Images):
    """video-diffusion-pytorch's, of clips [B, C, T, H, W]."""

    def inputs(self):
        return torch.randn(BATCH, 3, 5, SIZE, SIZE), torch.tensor([17.0, 801.0]), None

    def ours(self, net, x, t, y):
        return [net(x.permute(0, 2, 3, 4, 1), t[:, None].expand(-1, x.shape[2])).permute(0, 4, 1, 2, 3)]


class Autoencoder:
    """Vectors before quantisation and what becomes of them, both as outputs."""
    frozen = ()

    def __init__(self, layout, sets, made, side=SIZE, size=None, note=""):
        self.layout, self.made, self.side, self.note = layout, made, side, note
        self.sets = [f"source.size={side}", "source.channels=3", "recipe.frames=1", *sets]

    def inputs(self):
        return (torch.rand(BATCH, 3, self.side, self.side) * 2 - 1,)

    def theirs(self, net, x):
        z = net.quant_conv(net.encoder(x))
        if hasattr(net, "quantize"):
            rows = z.permute(0, 2, 3, 1)
            ids = torch.cdist(rows.detach().flatten(0, 2), net.quantize.embedding.weight.detach()).argmin(1)
            q = net.quantize.embedding(ids).view(rows.shape).permute(0, 3, 1, 2)
        else:
            q = z[:, :z.shape[1] // 2]
        return [z, net.decoder(net.post_quant_conv(q))]

    def ours(self, net, x):
        z = net.vectors(x.permute(0, 2, 3, 1).unsqueeze(1))
        q = net.quantiser.lookup(net.quantiser.ids(z)) if net.quantiser.codes else z[..., :net.quantiser.dim]
        made = net.clips(net.quantiser.get_submodule("out")(q))
        return [z.squeeze(1).permute(0, 3, 1, 2), made.squeeze(1).permute(0, 3, 1, 2)]


class Cvivit(Autoencoder):
    """Single frames: of clips, theirs scrambles the positions (issue 42 there)."""
    frozen = ("context_norm", "beta", "null_kv")  # nothing learns them

    def inputs(self):
        return (torch.rand(BATCH, 3, 1, SIZE, SIZE) * 2 - 1,)

    def theirs(self, net, x):
        tokens = net.vq.project_in(net.encode(net.to_patch_emb_first_frame(x)))
        signs = torch.where(tokens > 0, 1.0, -1.0)
        h = net.dec_temporal_transformer  # of one step: the grid's places are sequences
        made = net.vq.project_out(signs)
        b, t, height, width, d = made.shape
        bias = net.spatial_rel_pos_bias(height, width)
        rows = h(made.permute(0, 2, 3, 1, 4).flatten(0, 2), video_shape=(b, t, height, width))
        rows = rows.view(b, height, width, t, d).permute(0, 3, 1, 2, 4)
        rows = net.dec_spatial_transformer(rows.reshape(b * t, height * width, d), attn_bias=bias,
                                           video_shape=(b, t, height, width))
        return [tokens, net.to_pixels_first_frame(rows.view(b, t, height, width, d))]

    def ours(self, net, x):
        z = net.vectors(x.permute(0, 2, 3, 4, 1))
        made = net.clips(net.quantiser.get_submodule("out")(net.quantiser.lookup(net.quantiser.ids(z))))
        return [z, made.permute(0, 4, 1, 2, 3)]


def unet3d(_):
    from video_diffusion_pytorch.video_diffusion_pytorch import Unet3D
    return Unet3D(dim=32, dim_mults=(1, 2, 4), attn_heads=4, attn_dim_head=16)


def unet2d(attention_head_dim=8, **more):
    def made(_):
        from diffusers import UNet2DModel
        return UNet2DModel(block_out_channels=(32, 64), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                           up_block_types=("AttnUpBlock2D", "UpBlock2D"), layers_per_block=2, norm_num_groups=8,
                           attention_head_dim=attention_head_dim, **more)
    return made


def dit(sources):
    return module_of(sources, "DiT", "models").DiT(input_size=SIZE, patch_size=2, in_channels=3, hidden_size=48,
                                                   depth=2, num_heads=4, num_classes=10)


def kl(**more):
    def made(_):
        from diffusers import AutoencoderKL
        levels = len(more["block_out_channels"])
        return AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * levels,
                             up_block_types=("UpDecoderBlock2D",) * levels, **more)
    return made


def vq(_):
    from diffusers import VQModel
    return VQModel(block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
                   up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"), layers_per_block=1, norm_num_groups=8,
                   latent_channels=8, num_vq_embeddings=32, vq_embed_dim=4)


def phenaki(_):
    from phenaki_pytorch import CViViT
    return CViViT(dim=32, codebook_size=64, image_size=SIZE, patch_size=4, temporal_patch_size=2, spatial_depth=2,
                  temporal_depth=2, dim_head=16, heads=2, use_vgg_and_gan=False)


def openai(repository, package, **more):
    def made(sources):
        unet = module_of(sources, repository, f"{package}.unet")
        return unet.UNetModel(in_channels=3, model_channels=32, out_channels=6, num_res_blocks=2,
                              attention_resolutions=(2,), channel_mult=(1, 2, 2), num_classes=11,
                              use_scale_shift_norm=True, **more)
    return made


def taming(sources):
    """VQModel's network without its training, which needs pytorch_lightning."""
    model = module_of(sources, "taming-transformers", "taming.modules.diffusionmodules.model")
    quantize = module_of(sources, "taming-transformers", "taming.modules.vqvae.quantize")
    sizes = {"ch": 32, "out_ch": 3, "ch_mult": (1, 2), "num_res_blocks": 1, "attn_resolutions": [8], "in_channels": 3,
             "resolution": SIZE, "z_channels": 8, "double_z": False}
    net = nn.Module()
    net.encoder, net.decoder = model.Encoder(**sizes), model.Decoder(**sizes)
    net.quantize = quantize.VectorQuantizer2(32, 4, beta=0.25)
    net.quant_conv, net.post_quant_conv = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
    return net


def sampled(net, x, t, y):
    return net(x, t, class_labels=y).sample


UNET = "model.unet={ width: 32 multipliers: %s blocks: 2 attention: 8 %s }"
VQVAE = ("model.vqvae={ width: 32 multipliers: [1, 2] blocks: 1 attention: %s latent: %s norm_groups: %s quantiser { "
         "%s } %s }")
DDPM = {"flip_sin_to_cos": False, "freq_shift": 1, "downsample_padding": 0, "norm_eps": 1e-6}
SD = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4}
OPENAI = [UNET % ("[1, 2, 2]", "heads: 4 scale_shift: true norm_groups: 32"), D + "learned_variance=true"]
ROWS = {
    "lucidrains-unet3d": Clips("lucidrains-unet3d", [
        "recipe.frames=5", "model.unet3d={ dim: 32 multipliers: [1, 2, 4] heads: 4 head_width: 16 "
        "spatial_head_width: 32 }"], unet3d, call=lambda net, x, t, y: net(x, t)),
    "diffusers-unet2d": Images("diffusers-unet2d", [UNET % ("[1, 2]", "head_width: 8 norm_groups: 8")],
                               unet2d(num_class_embeds=11), 10, sampled),
    "diffusers-unet2d, scale and shift": Images("diffusers-unet2d", [
        UNET % ("[1, 2]", "scale_shift: true norm_groups: 8")], unet2d(
            None, resnet_time_scale_shift="scale_shift", attn_norm_num_groups=8), 0, sampled),
    "diffusers-unet2d, google/ddpm-*": Images("diffusers-unet2d", [
        UNET % ("[1, 2]", "norm_groups: 8 first_ddpm: true")], unet2d(None, **DDPM), 0, sampled),
    "dit": Images("dit", ["model.dit={ patch: 2 width: 48 layers: 2 heads: 4 }", D + "learned_variance=true"], dit, 10),
    "diffusers-autoencoder-kl": Autoencoder("diffusers-autoencoder-kl", [
        VQVAE % (1, 8, 8, "variational { dim: 4 }", "decoder_latent: 4")],
        kl(block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=8)),
    "diffusers-autoencoder-kl, SD's": Autoencoder("diffusers-autoencoder-kl", [
        "model.vqvae={ width: 128 multipliers: [1, 2, 4, 4] blocks: 2 attention: 1 latent: 8 decoder_latent: 4 "
        "quantiser { variational { dim: 4 } } }"], kl(**SD), side=64),
    "phenaki-cvivit": Cvivit("phenaki-cvivit", [
        "recipe.frames=3", "model.cvivit={ width: 32 patch: 4 temporal_patch: 2 spatial_layers: 2 temporal_layers: 2 "
        "heads: 2 head_width: 16 patch_norm: BOTH raw_keys: true quantiser { lfq { bits: 6 } } }"], phenaki,
        note="single frames; of clips theirs scrambles positions"),
    "improved-diffusion": Images("improved-diffusion", OPENAI, openai(
        "improved-diffusion", "improved_diffusion", num_heads=4), 10),
    "guided-diffusion": Images("guided-diffusion", OPENAI, openai(
        "guided-diffusion", "guided_diffusion", image_size=SIZE, num_heads=4), 10),
    "guided-diffusion, heads of 16": Images("guided-diffusion", [
        UNET % ("[1, 2, 2]", "head_width: 16 scale_shift: true norm_groups: 32"), D + "learned_variance=true"], openai(
            "guided-diffusion", "guided_diffusion", image_size=SIZE, num_head_channels=16), 10),
    "taming-vqgan": Autoencoder("taming-vqgan", [
        VQVAE % (8, 8, 32, "learnt { codes: 32 dim: 4 }", "")], taming),
    "diffusers-vq": Autoencoder("diffusers-vq", [VQVAE % (8, 8, 8, "learnt { codes: 32 dim: 4 }", "")], vq),
}


# --- the comparison -------------------------------------------------------------------------------------------


def program(words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: status {done.returncode}: {done.stderr.strip()}")


def randomised(row, sources):
    """Their network: every weight moved, so that none is zero or one."""
    net = row.made(sources).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if weight.requires_grad and not any(word in name for word in row.frozen):
                weight.add_(torch.randn_like(weight) * 0.05)
    return net


def distance(a, b):
    return ((a - b).norm() / b.norm().clamp_min(1e-30)).item()


def saved(tensors, file, metadata=None):
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, file, metadata)


def gradients(net, outputs, probes):
    sum((out * probe).sum() for out, probe in zip(outputs, probes)).backward()
    return {name: torch.zeros_like(weight) if weight.grad is None else weight.grad
            for name, weight in net.named_parameters()}


def compare(lastframe, folder, sources, name):
    row = ROWS[name]
    torch.manual_seed(0)
    net = randomised(row, sources)
    theirs, ours, again, mine_file = (folder / f"{what}.safetensors"
                                      for what in ("theirs", "ours", "again", "gradients"))
    back = [lastframe, "export", ours, "--layout", row.layout, "--out"]
    for file in (theirs, ours, again, mine_file, folder / "gradients-theirs.safetensors"):
        file.unlink(missing_ok=True)
    saved(net.state_dict(), theirs)
    sets = [word for option in row.sets for word in ("--set", option)]
    program([lastframe, "import", theirs, "--layout", row.layout, "--out", ours, *sets])
    program([*back, again])
    state, written = net.state_dict(), load_file(again)
    same = state.keys() == written.keys() and all(torch.equal(state[key], written[key]) for key in state)
    net.load_state_dict(written, strict=True)

    twin, inputs = load(ours), row.inputs()
    a, b = row.ours(twin, *inputs), row.theirs(net, *inputs)
    apart = max(((one - other).abs().max() / other.abs().max()).item() for one, other in zip(a, b))
    probes = [torch.randn_like(out) for out in b]
    mine = gradients(twin, a, probes)
    from safetensors import safe_open
    with safe_open(ours, "pt") as file:
        saved({**load_file(ours), **mine}, mine_file, file.metadata())
    program([lastframe, "export", mine_file, "--layout", row.layout, "--out", folder / "gradients-theirs.safetensors"])
    mine = load_file(folder / "gradients-theirs.safetensors")
    peers = gradients(net, b, probes)
    largest = max(grad.norm() for grad in peers.values())
    worst = {key: distance(mine[key], grad) for key, grad in peers.items()
             if grad.norm() > 1e-6 * largest and not any(word in key for word in row.frozen)}
    key = max(worst, key=worst.get)
    return {"tensors": len(state), "outputs": apart, "gradients": worst[key], "worst": key, "same_file": same,
            "note": row.note, "compared": len(worst)}


def main():
    lastframe, folder, sources, name = sys.argv[1:]
    if name == "--list":
        print("\n".join(ROWS))
        return
    torch.set_num_threads(1)
    # taming's files import what only its training needs
    sys.modules.setdefault("mpi4py", types.ModuleType("mpi4py"))
    try:
        found = compare(lastframe, pathlib.Path(folder), pathlib.Path(sources), name)
    except (Missing, ImportError) as reason:
        found = {"reason": str(reason)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
