"""model.autoencoder and its training step written in PyTorch, eager, for tools/peers/engine.

The same network, layer by layer, in the same memory layout, with what a careful user would choose:
channels-last, fused AdamW, foreach averages, gradients set to None. Two uses, one JSON line each:

  engine_twin.py step --clip 8,32,32,3 --batch 16 --width 16 --multipliers 1,2 [--ddp]
  engine_twin.py save --checkpoint RUN/checkpoints/NAME --dir SCRATCH

`--ddp` is for torchrun: DistributedDataParallel over gloo, --batch being each process's share.
"""
import argparse
import json
import os
import pathlib
import statistics
import struct
import sys
import time

import torch
from torch import nn
from torch.nn import functional

WARM_UP = 3


class Temporal(nn.Module):
    """A convolution of width 3 along time as a 2-D one over [B, C, T, H*W]; starts as zero."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, images, frames):
        n, channels, height, width = images.shape
        flat = images.permute(0, 2, 3, 1).reshape(n // frames, frames, height * width, channels)
        out = self.conv(flat.permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1).reshape(n, height, width, channels).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, wide_in, wide_out, stride, frames):
        super().__init__()
        self.conv = nn.Conv2d(wide_in, wide_out, 3, stride, 1)
        groups = max(1, min(32, wide_out // 4))
        while wide_out % groups:
            groups -= 1
        self.norm = nn.GroupNorm(groups, wide_out)
        self.temporal = Temporal(wide_out) if frames > 1 else None

    def forward(self, x, frames):
        h = functional.silu(self.norm(self.conv(x)))
        return h if self.temporal is None else h + self.temporal(h, frames)


class Autoencoder(nn.Module):
    def __init__(self, channels, frames, width, multipliers, latent):
        super().__init__()
        wide = [width * m for m in multipliers]
        self.down = nn.ModuleList(
            Block(a, b, 1 if i == 0 else 2, frames)
            for i, (a, b) in enumerate(zip([channels, *wide], wide)))
        self.to_code = nn.Conv2d(wide[-1], latent, 1)
        self.from_code = nn.Conv2d(latent, wide[-1], 1)
        self.up = nn.ModuleList(
            Block(a, b, 1, frames) for a, b in zip([wide[-1], *wide[:0:-1]], wide[::-1]))
        self.to_pixels = nn.Conv2d(wide[0], channels, 3, padding=1)

    def forward(self, x_BTHWC):
        frames = x_BTHWC.shape[1]
        h = x_BTHWC.flatten(0, 1).permute(0, 3, 1, 2)
        for block in self.down:
            h = block(h, frames)
        h = self.from_code(torch.tanh(self.to_code(h)))
        for i, block in enumerate(self.up):
            h = block(functional.interpolate(h, scale_factor=2) if i else h, frames)
        return self.to_pixels(h)


class Training:
    def __init__(self, options, rank):
        frames, _, _, channels = options.clip
        torch.manual_seed(0)
        net = Autoencoder(channels, frames, options.width, options.multipliers, options.latent)
        net = net.to(memory_format=torch.channels_last)
        self.weights = list(net.parameters())
        self.averages = [weight.detach().clone() for weight in self.weights]
        if options.ddp:
            net = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True)
        self.net = net
        self.optimizer = torch.optim.AdamW(self.weights, lr=2e-4, betas=(0.9, 0.99),
                                           weight_decay=0, fused=True)
        torch.manual_seed(1 + rank)
        self.clips = torch.rand(options.batch, *options.clip) * 2 - 1
        self.images = self.clips.flatten(0, 1).permute(0, 3, 1, 2)
        self.bf16 = options.precision == "BF16"

    def step(self):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            made = self.net(self.clips)
        loss = functional.mse_loss(made.float(), self.images)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.weights, 0.01)
        return loss.item()


def steps_that_fit(seconds, one, ddp):
    steps = torch.tensor([max(5, round(seconds / one))])
    if ddp:
        torch.distributed.all_reduce(steps, torch.distributed.ReduceOp.MAX)
    return int(steps)


def time_steps(options):
    torch.set_num_threads(options.threads)
    rank = 0
    if options.ddp:
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
    training = Training(options, rank)

    def timed():
        begin = time.perf_counter()
        training.step()
        return time.perf_counter() - begin

    for _ in range(WARM_UP):
        last = timed()
    cpu = time.process_time()
    seconds = [timed() for _ in range(steps_that_fit(options.seconds, last, options.ddp))]
    cpu = (time.process_time() - cpu) / len(seconds)
    if rank == 0:
        print(json.dumps({"ms_per_step": 1e3 * statistics.median(seconds), "steps": len(seconds),
                          "cpu_ms_per_step": 1e3 * cpu,
                          "parameters": sum(w.numel() for w in training.weights),
                          "torch": torch.__version__}), flush=True)
    if options.ddp:
        torch.distributed.barrier()  # one that leaves while another still talks aborts that one
        torch.distributed.destroy_process_group()


def tensors_of(checkpoint):
    """All tensors of a checkpoint of ours, {kind/name: tensor}, without the safetensors package."""
    found = {}
    for path in sorted(pathlib.Path(checkpoint).glob("*.safetensors")):
        data = bytearray(path.read_bytes())
        length = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + length]).items():
            if name == "__metadata__":
                continue
            if entry["dtype"] != "F32":
                sys.exit(f"{path}: {name} is {entry['dtype']}, expected F32")
            begin, end = (8 + length + at for at in entry["data_offsets"])
            flat = torch.frombuffer(data[begin:end], dtype=torch.float32)
            found[f"{path.stem}/{name}"] = flat.reshape(entry["shape"])
    return found


def time_save(options):
    state = tensors_of(options.checkpoint)
    path = os.path.join(options.dir, "engine-twin.pt")
    begin = time.perf_counter()
    torch.save(state, path)
    saved = time.perf_counter()
    with open(path, "rb") as file:
        os.fsync(file.fileno())
    synced = time.perf_counter()
    os.remove(path)
    size = sum(tensor.nbytes for tensor in state.values())
    print(json.dumps({"save_s": saved - begin, "save_and_sync_s": synced - begin, "bytes": size}))


def numbers(text):
    return [int(word) for word in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    step = commands.add_parser("step")
    step.add_argument("--clip", type=numbers, required=True, help="frames, height, width, channels")
    step.add_argument("--batch", type=int, required=True)
    step.add_argument("--width", type=int, default=32)
    step.add_argument("--multipliers", type=numbers, default=[1, 2])
    step.add_argument("--latent", type=int, default=16)
    step.add_argument("--precision", choices=["FP32", "BF16"], default="FP32")
    step.add_argument("--threads", type=int, default=1)
    step.add_argument("--seconds", type=float, default=5)
    step.add_argument("--ddp", action="store_true")
    save = commands.add_parser("save")
    save.add_argument("--checkpoint", required=True)
    save.add_argument("--dir", required=True)
    options = parser.parse_args()
    (time_steps if options.command == "step" else time_save)(options)


if __name__ == "__main__":
    main()
