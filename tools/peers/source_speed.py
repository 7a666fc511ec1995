#!/usr/bin/env python3
"""Reads the same data in several forms and prints how fast, in turns, so that other load falls on all alike: pictures
in a folder, a zip and a tar by `lastframe build`, and frames of videos by it, from a folder of the same frames as PNG,
and by OpenCV's VideoCapture.

    VENV/bin/python tools/peers/source_speed.py --program build/release/lastframe --dir /scratch/speed \\
        --pictures ../shared/data/imagenet-sample --videos ../shared/data/video/files/*

Needs opencv-python-headless and the command ffmpeg. Stores hold images alone, of videos only a corner, so that reading
is what takes the time. Seconds of videos are of the processor, without those of one copy. Remove --dir when done.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tarfile
import time
import zipfile

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--program", default="build/release/lastframe")
parser.add_argument("--dir", type=pathlib.Path, required=True)
parser.add_argument("--pictures", type=pathlib.Path, help="folder")
parser.add_argument("--videos", type=pathlib.Path, nargs="*", default=[])
parser.add_argument("--copies", type=int, default=4, help="of the pictures and of each video (default 4)")
parser.add_argument("--rounds", type=int, default=5)
options = parser.parse_args()
scratch = options.dir


def build(*sets):
    """(wall, processor) seconds of a build with two threads."""
    shutil.rmtree(scratch / "store", ignore_errors=True)
    sets = [*sets, "store.mode=RECOMPUTED", "recipe.static={}", "recipe.frames=2", "store.threads=2"]
    words = [word for one in sets for word in ("--set", one)]
    before, begin = os.times(), time.time()
    subprocess.run([options.program, "build", *words, "--out", scratch / "store"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return time.time() - begin, after[2] + after[3] - before[2] - before[3]


def measure(rows):
    """The median seconds of each row, and of its ratio to the first row in the same round."""
    seconds = {name: [] for name in rows}
    for _ in range(options.rounds):
        for name, function in rows.items():
            seconds[name].append(function())
    first = next(iter(seconds.values()))
    return {name: [statistics.median(one[i] for one in of_row) for i in (0, 1)] +
            [statistics.median(a[i] / b[i] for a, b in zip(first, of_row)) for i in (0, 1)]
            for name, of_row in seconds.items()}


def pictures():
    tree = scratch / "pictures"
    if not tree.exists():
        for path in sorted(options.pictures.rglob("*.*")):
            for i in range(options.copies):
                copy = tree / f"{i}-{path.parent.name}" / path.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
        with zipfile.ZipFile(scratch / "p.zip", "w") as archive:
            for path in sorted(tree.rglob("*.*")):
                archive.write(path, path.relative_to(tree))
        with tarfile.open(scratch / "p.tar", "w") as archive:
            archive.add(tree, ".")
    count = sum(1 for _ in tree.rglob("*.*"))
    table = measure({
        "folder": lambda: build(f"source.folder.path={tree}", "source.size=64"),
        "zip": lambda: build(f"source.archive.path={scratch}/p.zip", "source.size=64"),
        "tar": lambda: build(f"source.archive.path={scratch}/p.tar", "source.size=64")})
    for name, (wall, cpu, by_wall, by_cpu) in table.items():
        print(f"{name:8} {count} pictures: {wall:.2f} s, {cpu:.2f} s of processor ({cpu / wall:.2f} cores); "
              f"speed {by_wall:.2f} of the folder's by wall time, {by_cpu:.2f} by processor")


def with_opencv(path):
    import cv2
    cv2.setNumThreads(1)
    before = time.process_time()
    for _ in range(options.copies - 1):
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        while capture.read()[0]:
            pass
    return 0, time.process_time() - before


def video(path):
    corner = ["source.crop={ width: 16 height: 16 }", "source.window.frames=1"]
    films, frames = scratch / path.stem, scratch / f"{path.stem}-frames"
    if not films.exists():
        films.mkdir()
        for i in range(options.copies):
            shutil.copyfile(path, films / f"{i}{path.suffix}")
        (frames / "0").mkdir(parents=True)
        subprocess.run(["ffmpeg", "-v", "error", "-i", path, "-vsync", "passthrough", frames / "0" / "%05d.png"],
                       check=True)
        for i in range(1, options.copies):
            shutil.copytree(frames / "0", frames / str(i))
    count = sum(1 for _ in (frames / "0").iterdir())

    def more_than_one(kind, all_copies, one):
        wall, cpu = build(f"source.{kind}.path={all_copies}", *corner)
        return wall, cpu - build(f"source.{kind}.path={one}", *corner)[1]

    one = scratch / f"{path.stem}-one"  # a folder of folders, too
    if not one.exists():
        shutil.copytree(frames / "0", one / "0")
    table = measure({"lastframe": lambda: more_than_one("videos", films, path.resolve()),
                     "OpenCV": lambda: (1, with_opencv(path)[1]),
                     "PNG": lambda: more_than_one("frames", frames, one)})
    for name, (_, cpu, _, by_cpu) in table.items():
        print(f"{path.name}: {name:10} {count * (options.copies - 1) / cpu:.0f} frames a second of processor; "
              f"{by_cpu:.2f} of ours")


scratch.mkdir(parents=True, exist_ok=True)
if options.pictures:
    pictures()
for one in options.videos:
    video(one)
