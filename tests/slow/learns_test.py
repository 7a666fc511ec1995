"""Small token models learn in minutes: reconstructions beat the means of 4x4 blocks, by PSNR and by the
distance of sets of images, and what a prior makes unconditionally is nearer to real images than noise and
than the mean image are. Slow. Called with "shapes" or "cifar" (learning.py).
"""

from learning import *

# With a convolution before the patches 250 steps do; with linear patches alone 1,000 do not.
VIDEO = ["model.cvivit.stem=1", "model.cvivit.stem_width=32", "model.cvivit.patch=1", "train.batch=16",
         "model.cvivit.quantiser.ema.half_life_images=320", "model.cvivit.reconstruction.last_frame=4"]

kind = arguments[0]
source = images_of(kind)
build("image", configs / "image.pbtxt", source)
build("video", configs / "video.pbtxt", source)
real = held_out("image-TEST", (HELD_OUT, 32, 32, 3))
learn_judge()

blocks = real.reshape(HELD_OUT, 8, 4, 8, 4, 3).mean((2, 4), keepdims=True)
blocks = numpy.rint(blocks.repeat(4, 2).repeat(4, 4)).astype(numpy.uint8).reshape(real.shape)
block_fd, block_psnr = distance("blocks", blocks), pairs("blocks", real, blocks, "psnr")["psnr"]
print(f"{kind}: means of 4x4 blocks: PSNR {block_psnr:.2f} dB, fd_own {block_fd:.4g}", flush=True)

for name, images, sets in (("image", 32000, ["model.vqvae.multipliers=1,2", "model.vqvae.width=32"]),
                           ("video", 4000, VIDEO)):
    run = learn(name, configs / f"{name}.pbtxt", name, images, sets)
    found = json.loads(output("evaluate", "--run", run, "--samples", HELD_OUT, "--extractor", own, "--subject",
                              "RECONSTRUCTIONS", "--metrics", "psnr,fd_own", "--json"))
    psnr, fd = found["psnr"]["last_frame"], found["fd_own"]["value"]
    print(f"{kind}, {name}: PSNR of the last frame {psnr:.2f} dB, fd_own {fd:.4g}", flush=True)
    check(psnr > block_psnr + 1, f"{name}: {psnr} dB, means of blocks {block_psnr} dB")
    check(fd < block_fd, f"{name}: fd_own {fd}, of the means of blocks {block_fd}")

tokenizer = here / "tokenizer.safetensors"
output("export", learn("codes", configs / "image.pbtxt", "image", 24000), "--out", tokenizer)
noise_fd, mean_fd = distances_of_nothing(real)
for prior in ("AUTOREGRESSIVE", "MASKED"):
    run = learn(prior, configs / "common.pbtxt", "image", 64000, [
        f"model.code_prior={{ tokenizer: '{tokenizer}' kind: {prior} layers: 4 width: 96 heads: 4 }}",
        "train.optimizer.lr=0.001"])
    execute(ranks(2) + [program, "sample", "--run", run, "--count", HELD_OUT, "--out", here / f"{prior}.npy"],
            seconds=1800)
    fd = distance(f"{prior}-made", numpy.load(here / f"{prior}.npy").reshape(real.shape))
    print(f"{kind}, {prior}: fd_own of samples {fd:.4g}", flush=True)
    check(fd < noise_fd and fd < mean_fd, f"{prior}: fd_own {fd}, noise {noise_fd}, the mean image {mean_fd}")
