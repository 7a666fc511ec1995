"""A released code of flexible video diffusion at work, for tools/peers/frames. One JSON line.

  frames_twin.py fdm|ramvid|rvd --checkout DIR --threads 1 --seconds 8 --precision FP32|BF16

Their networks and losses as they are, at the sizes of configs/peers; around them the optimiser and the
average that their trainers use. What those trainers want beside it (MPI, GPUs, loggers) is left out, and
modules that are only imported are replaced by empty ones where they are not installed.
"""
import argparse
import copy
import json
import resource
import statistics
import sys
import time
import types

import torch

FRAMES, BATCH = 8, 2


def leave_out(*names):
    for name in names:
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
            if "." in name:
                parent, child = name.rsplit(".", 1)
                setattr(sys.modules[parent], child, sys.modules[name])


def tasks(batch, frames):
    """Masks of what is observed and what is made, [B, T, 1, 1, 1]; half of the frames each."""
    observed = torch.zeros(batch, frames, 1, 1, 1)
    observed[:, :frames // 2] = 1
    return observed, 1 - observed


def fdm():
    from improved_diffusion import script_util
    sizes = {**script_util.model_and_diffusion_defaults(), "image_size": 32, "num_channels": 32}
    net, diffusion = script_util.create_model_and_diffusion(**sizes)
    clips = torch.rand(BATCH, FRAMES, 3, 32, 32) * 2 - 1
    observed, latent = tasks(BATCH, FRAMES)
    numbers = torch.arange(FRAMES).expand(BATCH, FRAMES)

    def loss():
        levels = torch.randint(0, diffusion.num_timesteps, (BATCH,))
        shown = {"frame_indices": numbers, "x0": clips, "obs_mask": observed, "latent_mask": latent}
        return diffusion.training_losses(net, clips, levels, shown, latent_mask=latent,
                                         eval_mask=latent)["loss"].mean()

    return net, loss, torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)


def ramvid():
    leave_out("mpi4py", "blobfile", "matplotlib", "matplotlib.pyplot")
    sys.modules["mpi4py"].MPI = getattr(sys.modules["mpi4py"], "MPI", None)
    from diffusion_openai import script_util
    sizes = {**script_util.model_and_diffusion_defaults(), "image_size": 32, "num_channels": 32,
             "scale_time_dim": FRAMES}
    net, diffusion = script_util.create_model_and_diffusion(**sizes)
    clips = torch.rand(BATCH, 3, FRAMES, 32, 32) * 2 - 1

    def loss():
        levels = torch.randint(0, diffusion.num_timesteps, (BATCH,))
        mse = diffusion.training_losses(net, clips, levels, max_num_mask_frames=4, mask_range=(0, FRAMES),
                                        uncondition_rate=0.25)["loss"]
        return mse.mean()

    return net, loss, torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)


def rvd():
    leave_out("kornia", "tqdm")
    if not hasattr(sys.modules["tqdm"], "tqdm"):
        sys.modules["tqdm"].tqdm = iter
    from modules.denoising_diffusion import GaussianDiffusion
    from modules.temporal_models import CondNet, HistoryNet
    from modules.unet import Unet
    wide = {"dim": 16, "channels": 3, "dim_mults": (1, 2, 4, 8)}
    net = GaussianDiffusion(Unet(context_dim_factor=1, **wide), CondNet(**wide),
                            HistoryNet(dim=16, channels=3, dim_mults=(1, 2, 2, 4)), timesteps=1600, loss_type="l2")
    clips = torch.rand(FRAMES, BATCH, 3, 64, 64) * 2 - 1
    return net, lambda: net(clips), torch.optim.Adam(net.parameters(), lr=5e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["fdm", "ramvid", "rvd"])
    parser.add_argument("--checkout", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--precision", choices=["FP32", "BF16"], default="FP32")
    options = parser.parse_args()
    sys.path.insert(0, options.checkout)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    net, loss_of, optimizer = {"fdm": fdm, "ramvid": ramvid, "rvd": rvd}[options.what]()
    average = copy.deepcopy(net)

    def timed():
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "BF16"):
            loss = loss_of()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for kept, weight in zip(average.parameters(), net.parameters()):
                kept.mul_(0.9999).add_(weight, alpha=0.0001)
        loss.item()
        return time.perf_counter() - begin

    timed()
    last = timed()
    seconds = [timed() for _ in range(max(3, round(options.seconds / last)))]
    print(json.dumps({"ms": 1e3 * statistics.median(seconds), "steps": len(seconds),
                      "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                      "parameters": sum(weight.numel() for weight in net.parameters()),
                      "torch": torch.__version__}), flush=True)


if __name__ == "__main__":
    main()
