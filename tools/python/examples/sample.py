"""Samples clips from the export of a diffusion model, with PyTorch alone.

    lastframe export runs/diffusion --out model.safetensors
    python3 sample.py model.safetensors clips.png --count 4 --steps 20

writes a clip a row, its frames from left to right; with a name that ends in .gif (and Pillow installed) the clips move.
`lastframe sample` makes the same clips of the same --seed, sampler, spacing and steps (and --class, if there are
classes).
"""
import argparse
import struct
import sys
import zlib

import numpy as np
import torch

import lastframe_torch
from lastframe_io import DataError


def write_png(path, pixels):
    """Grey levels [H, W, C], C 1 or 3."""
    height, width, channels = pixels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], 1)  # 0: rows are not filtered
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)),
              (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks:
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def write_gif(path, clips):
    try:
        from PIL import Image
    except ImportError:
        sys.exit("a .gif needs Pillow; pip install pillow, or give a name that ends in .png")
    sheets = [np.concatenate(list(frames), 1) for frames in clips.swapaxes(0, 1)]
    frames = [Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet) for sheet in sheets]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=150, loop=0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("export", help="file of `lastframe export RUN --out FILE`")
    parser.add_argument("out", help=".png or .gif")
    parser.add_argument("--count", type=int, default=4, help="clips (default 4)")
    parser.add_argument("--steps", type=int, default=50, help="calls of the network (default 50)")
    parser.add_argument("--sampler", choices=["DDIM", "DPM"], default="DDIM")
    parser.add_argument("--spacing", choices=["TIME", "LOG_SNR", "KARRAS", "STRIDE", "TRAILING"], default="TIME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--class", type=int, dest="label", help="the class of all clips, of a model that has classes")
    parser.add_argument("--guidance", type=float, default=1, help="classifier-free guidance; 1: none")
    options = parser.parse_args()

    net = lastframe_torch.load(options.export)
    # The program's own noise; torch.randn(options.count, *net.clip_shape) does as well.
    noise = torch.stack([torch.from_numpy(lastframe_torch.normals(options.seed, clip, net.clip_shape))
                         for clip in range(options.count)])
    labels = None if options.label is None else torch.full((options.count,), options.label)
    clips = lastframe_torch.sample(net, noise, labels, kind=options.sampler, steps=options.steps,
                                   spacing=options.spacing, guidance=options.guidance)
    pixels = ((clips + 1) * 127.5).round().to(torch.uint8).numpy()  # [count, T, H, W, C]
    if options.out.endswith(".gif"):
        write_gif(options.out, pixels)
    else:
        write_png(options.out, np.concatenate([np.concatenate(list(clip), 1) for clip in pixels]))
    print(f"wrote {options.out}: {options.count} clips of {pixels.shape[1]} frames")
    return pixels


if __name__ == "__main__":
    try:
        pixels = main()
    except DataError as error:
        sys.exit(str(error))
