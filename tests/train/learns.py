"""Small token models learn in minutes: reconstructions beat the means of 4x4 blocks, by PSNR and by the
distance of sets of images, and what a prior makes from nothing is nearer to real images than noise and
than the mean image are. Slow. Called with "shapes", or with "cifar" where LASTFRAME_DATA holds
cifar10/data_batch_1.bin.
"""

from runs import *

try:
    import numpy
except ImportError as missing:
    skip(missing)

sources = pathlib.Path(__file__).resolve().parents[2]
configs = sources / "configs" / "experiments" / "1"
data = pathlib.Path(os.environ.get("LASTFRAME_DATA", sources.parent / "shared" / "data"))
kind = words_left[0]
source = ["source.generated.count=10000"]
if kind == "cifar":
    source = [f"source.cifar.path={data / 'cifar10' / 'data_batch_1.bin'}"]
    if not (data / "cifar10" / "data_batch_1.bin").exists():
        skip(f"there is no {data / 'cifar10'}")
HELD_OUT = 1000


def with_sets(words, sets):
    for line in sets:
        words += ["--set", line]
    return words


def build(config, frames):
    for part in ("TRAIN", "TEST"):
        execute(with_sets([program, "build", "--config", configs / config, "--out", here / f"{frames}-{part}"],
                          [*source, f"source.split.part={part}", "source.split.validation=0",
                           "source.split.test=0.12"]), seconds=600)


def learn(name, config, frames, images, sets=()):
    """The run folder of a training on two ranks."""
    begin = time.time()
    execute(ranks(2) + with_sets(
        [program, "train", "--config", configs / config, "--run", here / name],
        [f"train.store={here}/{frames}-TRAIN", f"train.validation_store={here}/{frames}-TEST",
         f"train.images={images}", *sets]), seconds=3600)
    print(f"{name}: {images} images in {time.time() - begin:.0f} s", flush=True)
    return here / name


def measured(*words):
    return json.loads(output("evaluate", *words, "--extractor", own, "--metrics", "fd_own", "--json"))["fd_own"]["value"]


def distance(name, images):
    """fd_own of an array from as many held-out images."""
    numpy.save(here / f"{name}.npy", numpy.ascontiguousarray(images))
    return measured("--real", here / "real.npy", "--fake", here / f"{name}.npy")


build("image.pbtxt", "image")
build("video.pbtxt", "video")
output("export", here / "image-TEST", "--npy", here / "real.npy", "--range", f"0:{HELD_OUT}")
real = numpy.load(here / "real.npy").reshape(HELD_OUT, 32, 32, 3)
numpy.save(here / "real.npy", real)
own = here / "own.safetensors"
output("export", learn("classifier", "classifier.pbtxt", "image", 32000), "--out", own)

blocks = real.reshape(HELD_OUT, 8, 4, 8, 4, 3).mean((2, 4), keepdims=True)
blocks = numpy.rint(blocks.repeat(4, 2).repeat(4, 4)).astype(numpy.uint8).reshape(real.shape)
block_fd = distance("blocks", blocks)
block_psnr = json.loads(output("evaluate", "--pairs", here / "real.npy", here / "blocks.npy", "--metrics", "psnr",
                               "--json"))["psnr"]["value"]
print(f"{kind}: means of 4x4 blocks: PSNR {block_psnr:.2f} dB, fd_own {block_fd:.4g}", flush=True)

for name, config, frames, images, sets in (
        ("image", "image.pbtxt", "image", 64000, ["model.vqvae.multipliers=[1, 2]", "model.vqvae.width=32"]),
        ("video", "video.pbtxt", "video", 32000, [])):
    run = learn(name, config, frames, images, sets)
    found = json.loads(output("evaluate", "--run", run, "--samples", HELD_OUT, "--extractor", own, "--subject",
                              "RECONSTRUCTIONS", "--metrics", "psnr,fd_own", "--json"))
    psnr, fd = found["psnr"]["last_frame"], found["fd_own"]["value"]
    print(f"{kind}, {name}: PSNR of the last frame {psnr:.2f} dB, fd_own {fd:.4g}", flush=True)
    check(psnr > block_psnr + 1, f"{name}: {psnr} dB, means of blocks {block_psnr} dB")
    check(fd < block_fd, f"{name}: fd_own {fd}, of the means of blocks {block_fd}")

tokenizer = here / "tokenizer.safetensors"
output("export", learn("codes", "image.pbtxt", "image", 32000), "--out", tokenizer)
luck = numpy.random.default_rng(0)
noise_fd = distance("noise", luck.integers(0, 256, real.shape, numpy.uint8))
mean_fd = distance("mean", numpy.broadcast_to(numpy.rint(real.mean(0)).astype(numpy.uint8), real.shape))
print(f"{kind}: fd_own of noise {noise_fd:.4g}, of the mean image {mean_fd:.4g}", flush=True)
for prior in ("AUTOREGRESSIVE", "MASKED"):
    run = learn(prior, "common.pbtxt", "image", 64000, [
        f"model.code_prior={{ tokenizer: '{tokenizer}' kind: {prior} layers: 4 width: 96 heads: 4 }}",
        "train.optimizer.lr=0.001"])
    execute(ranks(2) + [program, "sample", "--run", run, "--count", HELD_OUT, "--out", here / f"{prior}.npy"],
            seconds=1800)
    fd = distance(f"{prior}-made", numpy.load(here / f"{prior}.npy").reshape(real.shape))
    print(f"{kind}, {prior}: fd_own of samples {fd:.4g}", flush=True)
    check(fd < noise_fd and fd < mean_fd, f"{prior}: fd_own {fd}, noise {noise_fd}, the mean image {mean_fd}")
