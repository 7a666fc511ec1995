"""Command lines of documents as a test can run them: on data made here, with few clips and small models. Not a
test."""

import re
import struct
import zlib

from harness import here, with_sets

# What makes a command quick that it does as it stands; the last of equal options counts.
SMALL = {
    "build": ["--set", "store.clips_per_shard=25"],
    "sample": ["--count", "2"],
    "bench load": ["--seconds", "1"],
    "bench recipe": ["--seconds", "1"],
    "bench frechet": ["--dim", "16", "--samples", "50", "--trials", "1"],
    "bench step": ["--seconds", "1", "--set", "train.batch=2"],
    "bench sample": ["--seconds", "1", "--count", "1"],
    "bench comm": ["--trials", "1", "--max-bytes", "4096"],
    "bench kernels": ["--seconds", "1", "--operation", "nearest_code"],
}
# The smallest network of each kind, of the same grids and levels.
NETWORKS = {
    "unet": ["width=8", "blocks=1", "heads=1"],
    "unet3d": ["dim=8", "heads=1", "head_width=4"],
    "dit": ["width=24", "layers=1", "heads=2"],
    "rvd": ["width=8"],
    "code_prior": ["width=16", "layers=1", "heads=2"],
    "cvivit": ["width=16", "heads=1", "head_width=16"],
    "vqvae": ["width=4", "blocks=1"],
    "autoencoder": ["width=4"],
    "classifier": ["width=4"],
}
ONE_STEP = ["train.batch=2", "train.images=2", "train.accumulation=1", "train.preview_images=0", "train.threads=1",
            "train.validation_images=0", "evaluation.every_images=0"]


def command_lines(text):
    """(launcher, what follows `lastframe`) of lines of code, continued lines joined."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        match = re.match(r"^((?:[#$> ]|\w+=\S+ |mpirun |srun |\./|(?:-n|--bind-to|--oversubscribe|\d+|none)(?= ))*"
                         r"(?:lastframe|launch/local(?: -n \w+)?)) (.*)", line)
        if match:
            yield match[1].strip("#$> "), match[2].split("  #")[0].split(" | ")[0].split(" > ")[0].strip()


def network_of(config):
    """The kind of model of a config as JSON, and --set words for the smallest of that kind."""
    kind = next(name for name in NETWORKS if name in config["model"])
    return kind, with_sets([f"model.{kind}.{size}" for size in NETWORKS[kind]])


def picture(width, height):
    """A grey PNG."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x + y) % 256 for x in range(width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def folder_of_pictures(folder, count, width=178, height=218):
    """Pictures large enough for every crop, of two classes or videos."""
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        first = folder / name / "00000.png"
        first.write_bytes(picture(width, height))
        for i in range(1, count // 2):
            (folder / name / f"{i:05d}.png").hardlink_to(first)
    return folder


def cifar(folder):
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes((b"\3" + bytes(range(256)) * 12) * 104)
    return folder


def sources():
    """The option that names the data of each kind of source, made here."""
    return {"cifar": f"source.cifar.path={cifar(here / 'cifar')}",
            "folder": f"source.folder.path={folder_of_pictures(here / 'folder', 16)}",
            # As long as the longest clip that a config wants.
            "frames": f"source.frames.path={folder_of_pictures(here / 'frames', 200)}"}
