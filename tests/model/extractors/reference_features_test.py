"""`lastframe features` with the Inception weights of the sample data, against the features that came
with them."""

import json
import math
import zipfile

from harness import check, here, output, rows_of, skip
from harness import data as sample_data

TOLERANCE = 1e-4  # of a row, relative

data = sample_data / "inception"
if not data.is_dir():
    skip(f"no weights at {data}; set LASTFRAME_DATA to the sample data's folder")


def error(row, reference):
    return math.dist(row, reference) / math.hypot(*reference)


worst = 0
with zipfile.ZipFile(data / "reference-features.npz") as reference:
    for prefix, images in (("", "images"), ("big_", "big_image")):
        (here / "images.npy").write_bytes(reference.read(f"{images}.npy"))
        for layer in ("64", "192", "768"):
            report = json.loads(output(
                "features", "--extractor", data / "inception-fid-768.safetensors", "--layer", layer, "--images",
                here / "images.npy", "--set", "source.npy.layout=NCHW", "--out", here / "out.npy", "--json"))
            check((report["extractor"], report["preprocessing"]) == ("inception", "torch"), f"{report}")
            made = rows_of(here / "out.npy")
            expected = rows_of(reference.read(f"{prefix}feat{layer}.npy"))
            check(len(made) == len(expected) == report["n"], f"{report}")
            worst = max([worst] + [error(x, y) for x, y in zip(made, expected)])
print(f"largest relative difference of a row: {worst:.1e}")
check(worst < TOLERANCE, f"a row is {worst} away")
