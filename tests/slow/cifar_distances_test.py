"""Distances of real pictures: two halves of CIFAR-10's training set and its test set are near each
other, blurred and noised pictures ever farther away, by fid768 and by whatever other extractor is
given. Slow: a network looks at some thousand pictures.

Arguments, if wanted: METRIC=WEIGHTS (fd_own=own.safetensors) and the number of pictures in a set.
"""

from harness import *

try:
    import numpy
except ImportError as missing:
    skip(missing)

weights = data / "inception" / "inception-fid-768.safetensors"
extractors = dict(word.split("=", 1) for word in arguments if "=" in word) or {"fid768": weights}
count = int(next((word for word in arguments if "=" not in word), 200))
for needed in (data / "cifar10" / "data_batch_1.bin", *map(pathlib.Path, extractors.values())):
    if not needed.exists():
        skip(f"there is no {needed}")


def pictures(name, first):
    records = numpy.fromfile(data / "cifar10" / name, numpy.uint8).reshape(-1, 3073)[first:first + count]
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


def blurred(images, times):
    x = images.astype(numpy.float64)
    for _ in range(times):
        for axis in (1, 2):
            pad = [(0, 0)] * 4
            pad[axis] = (1, 1)
            p = numpy.pad(x, pad, mode="edge")
            x = (numpy.roll(p, 1, axis) + 2 * p + numpy.roll(p, -1, axis)).take(
                range(1, x.shape[axis] + 1), axis) / 4
    return numpy.rint(x).astype(numpy.uint8)


def noised(images, deviation):
    noise = numpy.random.default_rng(0).standard_normal(images.shape) * deviation
    return numpy.clip(numpy.rint(images + noise), 0, 255).astype(numpy.uint8)


half = pictures("data_batch_1.bin", count)
sets = {"real": pictures("data_batch_1.bin", 0), "half": half, "test": pictures("test_batch.bin", 0)}
ladders = {"blur": ["half"], "noise": ["half"]}
for times in (1, 3, 9):
    sets[f"blur-{times}"] = blurred(half, times)
    ladders["blur"].append(f"blur-{times}")
for deviation in (12, 30, 75):
    sets[f"noise-{deviation}"] = noised(half, deviation)
    ladders["noise"].append(f"noise-{deviation}")
for name, images in sets.items():
    numpy.save(here / f"{name}.npy", numpy.ascontiguousarray(images))


def distance(metric, extractor, real, fake, *more):
    found = json_in(execute([*ranks(2), program, "evaluate", "--real", real, "--fake", here / f"{fake}.npy",
                             "--extractor", extractor, "--metrics", metric, "--json", *more], seconds=3600))
    return found[metric]["value"]


for metric, extractor in extractors.items():
    statistics = here / f"{metric}.npz"
    distance(metric, extractor, here / "half.npy", "real", "--save-statistics", statistics)
    found = {name: distance(metric, extractor, statistics, name) for name in sets}
    print(metric, {name: round(value, 4) for name, value in found.items()}, flush=True)
    expect(found["real"] < 1e-6 * found["half"], f"{metric} of the reference itself is 0")
    expect(found["test"] < 1.5 * found["half"], f"{metric}: the test set is as near as the other half")
    for kind, ladder in ladders.items():
        values = [found[name] for name in ladder]
        expect(all(a < b for a, b in zip(values, values[1:])), f"{metric} rises with {kind}: {values}")
finish()
