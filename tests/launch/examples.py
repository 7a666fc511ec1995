"""Command lines of documents as a test can run them: on data made here, with few clips and small models. Not a
test."""

import io
import re
import shutil
import struct
import tarfile
import zipfile
import zlib

from harness import fixtures, here, with_sets, write_npy

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


def known_sets(folder):
    """The sets of data/README.md as people have them, small: a tar of tars, a zip, videos with lists."""
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as archive:
        for synset in ("n01440764", "n01443537"):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as pictures:
                for i in range(4):
                    pictures.add(fixtures / "images" / "rgb.jpg", f"{synset}_{i}.JPEG")
            entry = tarfile.TarInfo(f"{synset}.tar")
            entry.size = len(inner.getvalue())
            archive.addfile(entry, io.BytesIO(inner.getvalue()))
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for i in range(8):
            archive.writestr(f"img_align_celeba/{i:06}.jpg", picture(178, 218))
    folder_of_pictures(folder / "images1024x1024", 16, 128, 128)
    folder_of_pictures(folder / "bair" / "train", 60, 64, 64)
    write_npy(folder / "mnist_test_seq.npy", "|u1", (20, 8, 64, 64), bytes(20 * 8 * 64 * 64))
    for name, fixture in (("UCF-101/Archery/v_Archery_g01_c01.avi", "lossy.avi"), ("films/one.mp4", "ordered.mp4"),
                          ("UCF-101/Archery/v_Archery_g08_c01.avi", "lossy.avi"), ("films/two.mkv", "ffv1.mkv"),
                          ("kinetics/train/abseiling/a_000010_000020.mp4", "ordered.mp4")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fixtures / "videos" / fixture, folder / name)
    for name, text in (("ucfTrainTestlist/classInd.txt", "1 ApplyEyeMakeup\n2 ApplyLipstick\n3 Archery\n"),
                       ("ucfTrainTestlist/trainlist01.txt", "Archery/v_Archery_g08_c01.avi 3\n"),
                       ("ucfTrainTestlist/testlist01.txt", "Archery/v_Archery_g01_c01.avi\n"),
                       ("kinetics/train.csv", "label,youtube_id,time_start,time_end,split\nabseiling,a,10,20,train\n")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def sources():
    """The option that names the data of each kind of source, made here."""
    return {"cifar": f"source.cifar.path={cifar(here / 'cifar')}",
            "folder": f"source.folder.path={folder_of_pictures(here / 'folder', 16)}",
            # As long as the longest clip that a config wants.
            "frames": f"source.frames.path={folder_of_pictures(here / 'frames', 200)}"}
