#!/usr/bin/env python3
"""Compares every frame that the program reads of videos with FFmpeg's own command, which converts to RGB by zimg
(zscale) with the same rules: linear interpolation of chroma where it lies, no dithering.

    VENV/bin/python tools/peers/video_frames.py --program build/release/lastframe ../shared/data/video/files/*

Needs NumPy and an ffmpeg with zscale; videos of BT.601 or without a matrix. Status 1 if a value differs by more than
one level.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

FILTER = "zscale=matrixin=170m:rangein=limited:chromalin=left:matrix=gbr:range=full:filter=bilinear:dither=none"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("videos", nargs="+", type=pathlib.Path)
parser.add_argument("--program", default="build/release/lastframe")
options = parser.parse_args()


def ours(video, scratch):
    """[T, H, W, 3]"""
    store = pathlib.Path(scratch) / video.stem
    words = ["--set", f"source.videos.path={video.resolve()}", "--set", "source.window.frames=1", "--set",
             "source.videos.labels=false", "--set", "recipe.static={}", "--set", "recipe.frames=2"]
    for command in (["build", *words, "--out", store], ["export", store, "--npy", f"{store}.npy"]):
        subprocess.run([options.program, *command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return np.load(f"{store}.npy")[:, -1]


most = 0
with tempfile.TemporaryDirectory() as scratch:
    for video in options.videos:
        frames = ours(video, scratch)
        raw = subprocess.run(["ffmpeg", "-v", "error", "-i", video, "-an", "-vsync", "passthrough", "-vf",
                              f"{FILTER},format=gbrp,format=rgb24", "-f", "rawvideo", "-"], check=True,
                             stdout=subprocess.PIPE).stdout
        theirs = np.frombuffer(raw, np.uint8).reshape(-1, *frames.shape[1:])
        assert len(theirs) == len(frames), f"{video.name}: {len(frames)} frames, FFmpeg's command has {len(theirs)}"
        difference = np.abs(frames.astype(np.int16) - theirs)
        print(f"{video.name}: {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}, at most {difference.max()} "
              f"level, {100 * np.mean(difference > 0):.3f} % of the values differ")
        most = max(most, difference.max())
sys.exit(1 if most > 1 else 0)
