"""`lastframe evaluate` on files: its contract, and what it says of files that it cannot use."""

import json
import math
import pathlib
import pickle
import struct
import zipfile

from harness import expect, finish, here, is_one_sentence, program, run, write_npy
from harness import fixtures as all_fixtures

fixtures = all_fixtures / "metrics"


def array(name, shape, values, kind="d"):
    """A .npy file of doubles, or bytes with kind B."""
    return write_npy(here / name, "<f8" if kind == "d" else "|u1", shape,
                     struct.pack(f"<{len(values)}{kind}", *values))


def found(*words):
    result = run(program, "evaluate", *words, "--json")
    expect(result.returncode == 0, f"{words} ended with {result.returncode}: {result.stderr}")
    return json.loads(result.stdout or "{}")


def refused(status, part, *words):
    result = run(program, "evaluate", *words)
    last = (result.stderr.splitlines() or [""])[-1]  # progress may stand before it
    expect(result.returncode == status and part in last and is_one_sentence(last),
           f"{' '.join(map(str, words))}: status {result.returncode}, {result.stderr[:400]!r}; "
           f"expected {status} and {part!r}")
    expect(result.stdout == "", f"{words} printed {result.stdout[:80]!r}")


a, b = fixtures / "regular-a.npy", fixtures / "regular-b.npy"
image_a, image_b = fixtures / "images-a.npy", fixtures / "images-b.npy"

# The contract: a metric's value with its surroundings, in the order asked for.
both = found("--features", a, b, "--metrics", "kid,frechet")
expect(list(both) == ["kid", "frechet"], f"{list(both)}")
for result in both.values():
    for field in ("value", "n", "extractor", "preprocessing", "reference", "seed"):
        expect(field in result, f"no {field} in {result}")
expect(both["kid"]["n"] == 60 and both["kid"]["reference_n"] == 80, f"{both['kid']}")
text = run(program, "evaluate", "--features", a, b, "--metrics", "frechet").stdout
expect(text.startswith("frechet  3.068  (n 60,"), f"as text: {text!r}")
keyed = [found("--features", a, b, "--metrics", "kid_subsets", "--seed", seed)["kid_subsets"]
         for seed in (1, 1, 2)]
expect(keyed[0] == keyed[1] and keyed[0]["seed"] == 1, f"{keyed}")

# Zeros against ones are 0 dB and 9.9990e-5, as bytes and as floats.
for kind, one in (("d", 1.0), ("B", 255)):
    zeros = array(f"zeros-{kind}.npy", (2, 16, 16, 3), [0] * 1536, kind)
    ones = array(f"ones-{kind}.npy", (2, 16, 16, 3), [one] * 1536, kind)
    pair = found("--pairs", zeros, ones, "--metrics", "psnr,ssim,crps")
    expect(abs(pair["psnr"]["value"]) < 1e-9 and abs(pair["ssim"]["value"] - 9.9990e-5) < 1e-9
           and abs(pair["crps"]["value"] - 1) < 1e-12, f"{pair}")
same = found("--pairs", image_a, image_a, "--metrics", "psnr,ssim")
expect(same["psnr"]["value"] == 100 and abs(same["ssim"]["value"] - 1) < 1e-12, f"{same}")
ensemble = array("ensemble.npy", (2, 2, 1, 16, 16, 3), [0] * 1536 + [1] * 1536)
spread = found("--pairs", here / "zeros-d.npy", ensemble, "--metrics", "crps")["crps"]["value"]
expect(abs(spread - 0.25) < 1e-12, f"crps of two predictions is {spread}")

codes = array("codes.npy", (2, 4), [0, 1, 2, 3, 0, 1, 2, 3], "B")
use = found("--codes", codes, "--codebook", "8", "--metrics", "code_usage,code_perplexity,bits_per_image")
expect(use["code_usage"]["value"] == 0.5 and abs(use["bits_per_image"]["value"] - 8) < 1e-9, f"{use}")

# Bad input is named.
one = array("one.npy", (1, 3), [1, 2, 3])
flat = array("flat.npy", (4, 3), [1, 2, 3] * 4)
good = array("good.npy", (4, 3), [1, 2, 3, 2, 1, 5, 0, 0, 1, 4, 4, 4])
refused(2, "1 sample of", "--features", good, one, "--metrics", "frechet")
refused(3, "zero variance", "--features", good, flat, "--metrics", "frechet")
refused(3, "not finite", "--features", a, fixtures / "nan.npy", "--metrics", "frechet")
refused(2, "3 numbers", "--features", good, a, "--metrics", "frechet")
refused(2, "3 numbers", "--features", good, a, "--metrics", "kid")
refused(2, "statistics.npz", "--features", fixtures / "statistics.npz", b, "--metrics", "kid")
refused(2, "bare features", "--features", a, b, "--metrics", "fid")
refused(2, "bare features", "--features", a, b, "--metrics", "psnr")
refused(2, "did you mean 'frechet'", "--features", a, b, "--metrics", "frechett")
refused(2, "twice", "--features", a, b, "--metrics", "kid,kid")
refused(2, "takes two", "--features", a, "--metrics", "kid")
refused(2, "--metrics", "--features", a, b)
refused(2, "no meaning with --features", "--features", a, b, "--metrics", "kid", "--samples", "10")
refused(2, "unexpected argument", "--codes", a, b, "--codebook", "8", "--metrics", "code_usage")
refused(2, "--lpips", "--pairs", image_a, image_b, "--metrics", "lpips")
refused(2, "give one of", "--metrics", "kid")
refused(2, "give one of", "--features", a, b, "--pairs", a, b, "--metrics", "kid")
refused(2, "absent.npy", "--features", a, here / "absent.npy", "--metrics", "kid")
nan = array("nan.npy", (1, 16, 16, 3), [float("nan")] + [0.5] * 767)
large = array("large.npy", (1, 16, 16, 3), [200.0] * 768)
refused(3, "NaN", "--pairs", nan, nan, "--metrics", "psnr")
refused(3, "from 0 to 1", "--pairs", large, large, "--metrics", "psnr")
refused(2, "same resolution", "--pairs", image_a, here / "zeros-B.npy", "--metrics", "psnr")
small = array("small.npy", (2, 8, 8, 3), [7] * 384, "B")
refused(2, "8x8", "--pairs", small, small, "--metrics", "ssim")
refused(2, "crps takes", "--pairs", here / "zeros-d.npy", ensemble, "--metrics", "psnr")
refused(2, "same resolution", "--real", image_a, "--fake", here / "zeros-B.npy", "--extractor",
        "pixels", "--metrics", "fd_pixels")
refused(3, "unsigned bytes", "--real", image_a, "--fake", nan, "--extractor", "pixels", "--metrics",
        "fd_pixels")
refused(3, "zero variance", "--real", image_a, "--fake",
        array("grey.npy", (4, 16, 20, 3), [9] * 3840, "B"), "--extractor", "pixels", "--metrics",
        "fd_pixels")
refused(2, "--pairs A B", "--real", image_a, "--fake", image_b, "--extractor", "pixels", "--metrics",
        "fd_pixels,psnr")
refused(2, "768", "--real", fixtures / "statistics.npz", "--fake", image_b, "--extractor", "pixels",
        "--metrics", "fid768")
refused(2, "48", "--real", fixtures / "statistics.npz", "--fake", image_b, "--extractor", "pixels",
        "--metrics", "fd_pixels")
refused(2, "--extractor", "--real", image_a, "--fake", image_b, "--metrics", "fid")
refused(2, "--real PATH is required", "--fake", image_b, "--extractor", "pixels", "--metrics", "fd_pixels")
refused(2, "needs the layer", "--fake", image_b, "--extractor", "pixels", "--metrics", "inception_score")
refused(2, "--samples N", "--run", here, "--metrics", "psnr", "--count", 5)
refused(2, "no folder", "--run", here / "nowhere", "--metrics", "psnr")
refused(2, "preprocessing", "--real", image_a, "--fake", image_b, "--extractor", "pixels",
        "--preprocessing", "torhc", "--metrics", "fd_pixels")
one_image = array("one-image.npy", (1, 16, 20, 3), [9, 8, 7] * 320, "B")
for real, fake in ((image_a, one_image), (one_image, image_a)):
    refused(2, "1 sample of", "--real", real, "--fake", fake, "--extractor", "pixels", "--metrics",
            "fd_pixels")

# Weights that are none, of another network, cut off, or a pickle that would run something.
ran = here / "ran"


class Evil:
    def __reduce__(self):
        return pathlib.Path.touch, (ran,)


def weights(name, tensors):
    """A safetensors file of zeros."""
    header, at = {}, 0
    for tensor, shape in tensors.items():
        size = 4 * math.prod(shape)
        header[tensor] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path = here / name
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
    return path


other = weights("other.safetensors", {"layer.weight": [4, 4]})
half = weights("half.safetensors", {"Conv2d_1a_3x3.weight": [32, 3, 3, 3]})
cut = here / "cut.safetensors"
cut.write_bytes(half.read_bytes()[:-100])
evil = here / "evil.pth"
evil.write_bytes(pickle.dumps({"Conv2d_1a_3x3.weight": Evil()}))
evil_zip = here / "evil-zip.pt"
with zipfile.ZipFile(evil_zip, "w") as archive:
    for member in ("data.pkl", "constants.pkl"):
        archive.writestr(f"archive/{member}", pickle.dumps({"weight": Evil()}, protocol=2))
    archive.writestr("archive/version", "3\n")
for file, status, part in ((other, 4, "weights of no extractor we know"), (half, 4, "Conv2d_1a_3x3"),
                           (cut, 4, "cut.safetensors"), (evil, 4, "evil.pth"),
                           (evil_zip, 4, "evil-zip.pt"), (a, 4, "regular-a.npy"),
                           (here, 2, "is a folder"), (here / "absent", 2, "no file")):
    refused(status, part, "--real", image_a, "--fake", image_b, "--extractor", file, "--metrics", "fid")
    if file != here and file.exists():
        refused(4, file.name, "--pairs", image_a, image_b, "--lpips", file, "--metrics", "lpips")
expect(not ran.exists(), "a pickle's code was run")
pickle.loads(evil.read_bytes())
expect(ran.exists(), "the pickle is harmless, so that the test shows nothing")

refused(3, "codebook of 3", "--codes", codes, "--codebook", "3", "--metrics", "code_usage")
refused(2, "--codebook", "--codes", codes, "--metrics", "code_usage")

listed = json.loads(run(program, "list", "metrics", "--json").stdout)["metrics"]
names = {row["name"] for row in listed}
expect({"fid", "fid768", "fd_NAME", "fvd", "kid", "inception_score", "precision", "recall", "density",
        "coverage", "psnr", "ssim", "crps"} <= names, f"listed: {sorted(names)}")
finish()
