"""video-diffusion-pytorch's Unet3D at work, for tools/peers/unet3d. One JSON line.

  unet3d_twin.py step|sample --threads 1 --seconds 8 --precision FP32|BF16 [--compile] [--ddp]

`sample` times one noise level: what GaussianDiffusion does for each of its steps. `--ddp` is for
torchrun: DistributedDataParallel over gloo, the batch shared out.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from video_diffusion_pytorch.video_diffusion_pytorch import GaussianDiffusion, Unet3D

FRAMES, SIZE, BATCH = 8, 32, 4


def training_step(options, share):
    net = Unet3D(dim=32, dim_mults=(1, 2, 4))
    diffusion = GaussianDiffusion(net, image_size=SIZE, num_frames=FRAMES, timesteps=1000, loss_type="l2")
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4)
    model = diffusion
    if options.ddp:
        model = torch.nn.parallel.DistributedDataParallel(diffusion, gradient_as_bucket_view=True)
    if options.compile:
        model = torch.compile(model)
    clips = torch.rand(share, 3, FRAMES, SIZE, SIZE)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "BF16"):
            loss = model(clips)
        loss.backward()
        optimizer.step()
        return loss.item()

    return net, step


def noise_level(options, share):
    net = Unet3D(dim=32, dim_mults=(1, 2, 4)).eval()
    diffusion = GaussianDiffusion(net, image_size=SIZE, num_frames=FRAMES, timesteps=1000)
    if options.compile:
        diffusion.denoise_fn = torch.compile(net)
    clips, level = torch.randn(share, 3, FRAMES, SIZE, SIZE), torch.full((share,), 500)

    def step():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "BF16"):
            return diffusion.p_sample(clips, level).sum().item()

    return net, step


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["step", "sample"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--precision", choices=["FP32", "BF16"], default="FP32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--ddp", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    rank, world = 0, 1
    if options.ddp:
        torch.distributed.init_process_group("gloo")
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    net, step = (training_step if options.what == "step" else noise_level)(options, BATCH // world)

    def timed():
        begin = time.perf_counter()
        step()
        return time.perf_counter() - begin

    timed()
    last = timed()
    times = torch.tensor([max(3, round(options.seconds / last))])
    if options.ddp:
        torch.distributed.all_reduce(times, torch.distributed.ReduceOp.MAX)
    seconds = [timed() for _ in range(int(times))]
    if rank == 0:
        print(json.dumps({"ms": 1e3 * statistics.median(seconds), "steps": len(seconds),
                          "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
                          "parameters": sum(weight.numel() for weight in net.parameters()),
                          "torch": torch.__version__}), flush=True)
    if options.ddp:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
