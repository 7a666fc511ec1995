"""`lastframe features` with the Inception weights of the sample data, against the features that came
with them. Arguments: the program and where the sample data may be (LASTFRAME_DATA says otherwise)."""

import json
import math
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import zipfile

TOLERANCE = 1e-4  # of a row, relative

program = sys.argv[1]
data = pathlib.Path(os.environ.get("LASTFRAME_DATA", sys.argv[2])) / "inception"
if not data.is_dir():
    print(f"SKIPPED: no weights at {data}; set LASTFRAME_DATA to the sample data's folder")
    sys.exit(77)


def array(npy):
    """(shape, numbers) of the bytes of a .npy file, uint8 or float32."""
    length = int.from_bytes(npy[8:10], "little")
    header = npy[10:10 + length].decode()
    shape = [int(n) for n in re.search(r"\(([\d, ]*)\)", header)[1].split(",") if n.strip()]
    code = {"|u1": "B", "<f4": "f"}[re.search(r"'descr': '(...)'", header)[1]]
    return shape, struct.unpack(f"<{math.prod(shape)}{code}", npy[10 + length:])


def rows(npy):
    (count, dim), numbers = array(npy)
    return [numbers[i * dim:(i + 1) * dim] for i in range(count)]


def error(row, reference):
    return math.dist(row, reference) / math.hypot(*reference)


worst = 0
with zipfile.ZipFile(data / "reference-features.npz") as reference, \
        tempfile.TemporaryDirectory(prefix="lf-features-") as folder:
    folder = pathlib.Path(folder)
    for prefix, images in (("", "images"), ("big_", "big_image")):
        (folder / "images.npy").write_bytes(reference.read(f"{images}.npy"))
        for layer in ("64", "192", "768"):
            done = subprocess.run(
                [program, "features", "--extractor", data / "inception-fid-768.safetensors", "--layer", layer,
                 "--images", folder / "images.npy", "--set", "source.npy.layout=NCHW", "--out",
                 folder / "out.npy", "--json"], check=True, stdout=subprocess.PIPE, text=True)
            report = json.loads(done.stdout)
            assert (report["extractor"], report["preprocessing"]) == ("inception", "torch"), report
            made = rows((folder / "out.npy").read_bytes())
            expected = rows(reference.read(f"{prefix}feat{layer}.npy"))
            assert len(made) == len(expected) == report["n"], report
            worst = max([worst] + [error(x, y) for x, y in zip(made, expected)])
print(f"largest relative difference of a row: {worst:.1e}")
sys.exit(0 if worst < TOLERANCE else 1)
