"""Small diffusion models learn in minutes: the validation loss falls, what they make unconditionally is much
nearer to real images than noise and the mean image are, and predicted frames of moving digits beat copies
of the last one that was given. Slow. Called with "shapes", "cifar" or "moving" (learning.py); pictures are
left in LASTFRAME_PICTURES where that names a folder.
"""

from learning import *

kind = arguments[0]
pictures = pathlib.Path(os.environ.get("LASTFRAME_PICTURES", here))
DIFFUSION = ["model.diffusion.schedule=COSINE_LOG_SNR", "model.diffusion.sampler.kind=DPM",
             "model.diffusion.sampler.spacing=LOG_SNR", "model.diffusion.sampler.steps=20",
             "train.optimizer.lr=0.001"]


def check_falling(run):
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = [found["loss"] for found in events if found.get("event") == "validation"]
    print(f"{kind}: validation loss {' '.join(f'{loss:.4f}' for loss in losses)}", flush=True)
    check(len(losses) >= 3 and losses[-1] < 0.9 * losses[0], f"validation losses {losses} do not fall")


def images():
    build("image", configs / "image.pbtxt", images_of(kind))
    real = held_out("image-TEST", (HELD_OUT, 32, 32, 3))
    learn_judge()
    run = learn("diffusion", configs / "common.pbtxt", "image", 51200, [
        "model.unet={ width: 32 multipliers: [1, 2, 2] blocks: 1 attention: [8] heads: 4 scale_shift: true }",
        *DIFFUSION, "model.diffusion.prediction=V", "train.batch=16", "train.validation_images=12800"])
    check_falling(run)
    execute(ranks(2) + [program, "sample", "--run", run, "--count", HELD_OUT, "--out", here / "made.npy"],
            seconds=1800)
    execute([program, "sample", "--run", run, "--count", 64, "--out", pictures / f"diffusion-{kind}.png"],
            seconds=600)
    fd = distance("made", numpy.load(here / "made.npy").reshape(real.shape))
    noise_fd, mean_fd = distances_of_nothing(real)
    print(f"{kind}: fd_own of samples {fd:.4g}", flush=True)
    check(fd < 0.5 * min(noise_fd, mean_fd), f"fd_own {fd}, noise {noise_fd}, the mean image {mean_fd}")


def moving_digits():
    # At 44 pixels a digit moves by 1.6 a frame; at fewer, whole pixels hide where it goes.
    given, frames, side, count = 3, 5, 44, 128
    config = root / "configs" / "moving-mnist" / "unet3d.pbtxt"
    build("moving", config, [f"source.size={side}", "source.generated.count=4000",
                             f"source.generated.frames={frames}", "source.generated.digits=1"])
    # A network that says the image says black exactly. Noise that another leaves in it, two grey levels
    # of 255, costs a third of the SSIM there.
    run = learn("predict", config, "moving", 6000, [
        "model.unet3d.dim=16", "model.unet3d.multipliers=1,2,4", "model.diffusion.images=0",
        f"model.diffusion.given={given}", *DIFFUSION, "model.diffusion.prediction=IMAGE",
        "train.batch=4", "train.accumulation=1",
        "train.validation_images=1500", "train.validation_clips=256", "train.optimizer.warmup_images=600",
        "train.optimizer.schedule=COSINE", "train.ema.half_life_images=800"])
    check_falling(run)
    real = held_out("moving-TEST", (count, frames, side, side, 1))
    execute(ranks(2) + [program, "sample", "--run", run, "--store", here / "moving-TEST", "--given", given,
                        "--count", count, "--out", here / "made.npy"], seconds=1800)
    execute([program, "sample", "--run", run, "--store", here / "moving-TEST", "--given", given, "--count", 8,
             "--out", pictures / "diffusion-moving.png"], seconds=600)
    future, last = real[:, given:], real[:, given - 1:given]
    # Where the digit has not moved a copy is exact, and counted as 100 dB it would outweigh all others.
    moved = (future != last).any((2, 3, 4))
    made = pairs("made", future[moved], numpy.load(here / "made.npy")[:, given:][moved], "psnr,ssim")
    copies = pairs("copies", future[moved], numpy.broadcast_to(last, future.shape)[moved], "psnr,ssim")
    for metric, copied in copies.items():
        print(f"moving: {metric} of {moved.sum()} predicted frames {made[metric]:.4g}, of copies {copied:.4g}",
              flush=True)
        check(made[metric] > copied, f"{metric}: {made[metric]}, copies of the last given frame {copied}")


if kind == "moving":
    moving_digits()
else:
    images()
