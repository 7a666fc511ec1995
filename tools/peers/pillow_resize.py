#!/usr/bin/env python3
"""Compares what the program makes of pictures with Pillow, bit for bit: every filter of source.filter, of every
picture below a folder, to one size.

    VENV/bin/python tools/peers/pillow_resize.py --program build/release/lastframe ../shared/data/imagenet-sample

Needs NumPy and Pillow below 13, which resizes tall pictures in another order, rows before columns. Prints how many
pictures differ; status 1 if any does.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image, ImageOps

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folders", nargs="+", type=pathlib.Path)
parser.add_argument("--program", default="build/release/lastframe")
parser.add_argument("--size", type=int, default=64)
options = parser.parse_args()
side = options.size
quietly = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def adm(picture):
    """guided-diffusion's: halved by boxes while twice as large, bicubic, the centre."""
    while min(picture.size) >= 2 * side:
        picture = picture.resize(tuple(x // 2 for x in picture.size), resample=Image.Resampling.BOX)
    scale = side / min(picture.size)
    picture = picture.resize(tuple(round(x * scale) for x in picture.size), resample=Image.Resampling.BICUBIC)
    left, top = (x - side for x in picture.size)
    return picture.crop((left // 2, top // 2, left // 2 + side, top // 2 + side))


def resized(picture, name):
    if name == "ADM":
        return adm(picture)
    (width, height), short = picture.size, min(picture.size)
    left, top = (width - short) // 2, (height - short) // 2
    picture = picture.crop((left, top, left + short, top + short))  # resize(box=) would see beyond the crop
    return picture.resize((side, side), Image.Resampling[name])


def ours(folder, name, scratch):
    store = pathlib.Path(scratch) / f"{folder.name}-{name}"
    sets = [f"source.folder.path={folder}", f"source.size={side}", f"source.filter={name}",
            "source.folder.labels=false", "recipe.static={}", "recipe.frames=2"]
    words = [word for one in sets for word in ("--set", one)]
    subprocess.run([options.program, "build", *words, "--out", store], **quietly)
    subprocess.run([options.program, "export", store, "--npy", f"{store}.npy"], **quietly)
    return np.load(f"{store}.npy")[:, -1]


differ = 0
with tempfile.TemporaryDirectory() as scratch:
    for name in ("BILINEAR", "BOX", "BICUBIC", "LANCZOS", "ADM"):
        pictures = wrong = 0
        for folder in options.folders:
            paths = sorted(path.relative_to(folder).as_posix().encode() for path in folder.rglob("*")
                           if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
            made = ours(folder.resolve(), name, scratch)
            assert len(made) == len(paths), f"{len(made)} clips of {len(paths)} pictures"
            for path, clip in zip(paths, made):
                picture = ImageOps.exif_transpose(Image.open(folder / path.decode())).convert("RGB")
                difference = np.abs(np.asarray(resized(picture, name)).astype(int) - clip).max()
                if difference > 0:
                    print(f"{name}: {path.decode()} by {difference}")
                wrong += difference > 0
                pictures += 1
        print(f"{name}: {wrong} of {pictures} pictures differ from Pillow's")
        differ += wrong
sys.exit(1 if differ else 0)
