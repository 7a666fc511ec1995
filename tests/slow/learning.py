"""What the scripts that let small models learn share: stores of drawn shapes, of CIFAR-10 or of moving
digits, trainings on two ranks, and how far sets of images are apart by a classifier of their labels. Not
a test. LASTFRAME_DATA names the folder that holds cifar10/data_batch_1.bin; without a GPU all of it runs
on two cores.
"""

from harness import *

try:
    import numpy
except ImportError as missing:
    skip(missing)

configs = root / "configs" / "experiments" / "1"
own = here / "own.safetensors"
HELD_OUT = 1000


def images_of(kind):
    """Where `build` takes labelled images from."""
    if kind == "shapes":
        return ["source.generated.count=10000"]
    batch = data / "cifar10" / "data_batch_1.bin"
    if not batch.exists():
        skip(f"there is no {batch}")
    return [f"source.cifar.path={batch}"]


def build(name, config, sets):
    """Stores here/NAME-TRAIN and here/NAME-TEST."""
    for part in ("TRAIN", "TEST"):
        execute([program, "build", "--config", config, "--out", here / f"{name}-{part}", *with_sets(
            [*sets, f"source.split.part={part}", "source.split.validation=0", "source.split.test=0.25"])],
                seconds=600)


def learn(name, config, frames, images, sets=()):
    """The run folder of a training on two ranks, on the stores called `frames`."""
    begin = time.time()
    execute([*ranks(2), program, "train", "--config", config, "--run", here / name, *with_sets(
        [f"train.store={here}/{frames}-TRAIN", f"train.validation_store={here}/{frames}-TEST",
         f"train.images={images}", "train.preview_images=0", "source={}", "recipe={}", "store={}", *sets])], seconds=3600)
    print(f"{name}: {images} images in {time.time() - begin:.0f} s", flush=True)
    return here / name


def held_out(store, shape):
    """The first clips of a store, as an array of this shape; kept as here/real.npy."""
    output("export", here / store, "--npy", here / "real.npy", "--range", f"0:{shape[0]}")
    real = numpy.load(here / "real.npy").reshape(shape)
    numpy.save(here / "real.npy", real)
    return real


def learn_judge(kind="image", images=32000, sets=()):
    """A classifier of the stores called `kind`, whose features make fd_own, or fvd_own where they hold clips."""
    output("export", learn("classifier", configs / "classifier.pbtxt", kind, images, sets), "--out", own)


def distance(name, images, metric="fd_own"):
    """fd_own of an array from the held-out images, or fvd_own of clips where the judge was trained on clips."""
    numpy.save(here / f"{name}.npy", numpy.ascontiguousarray(images))
    found = output("evaluate", "--real", here / "real.npy", "--fake", here / f"{name}.npy", "--extractor", own,
                   "--metrics", metric, "--json")
    return json.loads(found)[metric]["value"]


def pairs(name, real, made, metrics):
    """{metric: value} of two arrays."""
    for part, array in (("real", real), ("made", made)):
        numpy.save(here / f"{name}-{part}.npy", numpy.ascontiguousarray(array))
    found = json.loads(output("evaluate", "--pairs", here / f"{name}-real.npy", here / f"{name}-made.npy",
                              "--metrics", metrics, "--json"))
    return {metric: found[metric]["value"] for metric in metrics.split(",")}


def distances_of_nothing(real):
    """fd_own of noise and of the mean image, which whatever has learnt must be below."""
    generator = numpy.random.default_rng(0)
    noise = distance("noise", generator.integers(0, 256, real.shape, numpy.uint8))
    # Within one level of it: images that are all the same have no distance.
    near = numpy.rint(real.mean(0)) + generator.integers(-1, 2, real.shape)
    mean = distance("mean", near.clip(0, 255).astype(numpy.uint8))
    print(f"fd_own of noise {noise:.4g}, of the mean image {mean:.4g}", flush=True)
    return noise, mean
