"""Models of any frames from any learn moving digits in minutes: RaMViD's one checkpoint predicts, fills in and
up-samples better than copies of the nearest frame that was given, and makes clips that move; RVD's mean beats
copies of the last frame and its CRPS falls with the number of samples; flexible diffusion makes videos far
longer than its window, whose digit keeps its size and stays where digits can be. Slow. Called with "ramvid",
"rvd" or "fdm" (learning.py); pictures are left in LASTFRAME_PICTURES where that names a folder.
"""

from learning import *

kind = arguments[0]
pictures = pathlib.Path(os.environ.get("LASTFRAME_PICTURES", here))
digits = root / "configs" / "moving-mnist"
SIDE = 44
# Narrower than in configs/moving-mnist: twice the clips in the same time.
NARROW = "model.unet={ width: 24 multipliers: [1, 2, 2] blocks: 1 attention: [11] heads: 2 temporal: %s }"


def learn_digits(frames, images, sets, classes=("source.generated.count=4000",)):
    """Stores of clips of one digit, and a run on them by configs/moving-mnist/KIND-small.pbtxt."""
    config = digits / f"{kind}-small.pbtxt"
    build("moving", config, [*classes, f"source.generated.frames={frames}"])
    run = learn(kind, config, "moving", images, [
        f"train.validation_images={images // 4}", "train.validation_clips=256", "train.batch=4",
        "train.optimizer.lr=0.001", f"train.ema.half_life_images={images // 6}", *sets])
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = [found["loss"] for found in events if found.get("event") == "validation"]
    print(f"{kind}: validation loss {' '.join(f'{loss:.4f}' for loss in losses)}", flush=True)
    # That of RVD is of what its mean leaves, in units of its size: it rises where that grows smaller.
    check(kind == "rvd" or losses[-1] < 0.9 * losses[0], f"validation losses {losses} do not fall")
    return run


def sample(run, name, *words):
    execute(ranks(2) + [program, "sample", "--run", run, "--out", here / f"{name}.npy", *words], seconds=3600)
    return numpy.load(here / f"{name}.npy")


def show(run, name, *words):
    execute([program, "sample", "--run", run, "--out", pictures / f"{name}.png", "--count", 8, *words], seconds=900)


def nearest(real, observed):
    """Of every frame the observed one that is nearest in time."""
    return real[:, [min(observed, key=lambda seen: abs(seen - frame)) for frame in range(real.shape[1])]]


def check_better_than_copies(name, real, made, observed):
    """By PSNR and SSIM of frames unlike their copies: an exact copy would count 100 dB."""
    copies = nearest(real, observed)
    made_here = numpy.ones(real.shape[1], bool)
    made_here[list(observed)] = False
    for frame in observed:
        check((made[:, frame] == real[:, frame]).all(), f"{name}: frame {frame} was given and is not as it was")
    moved = (real != copies).any((2, 3, 4)) & made_here
    ours = pairs(f"{name}-made", real[moved], made[moved], "psnr,ssim")
    theirs = pairs(f"{name}-copies", real[moved], copies[moved], "psnr,ssim")
    for metric, copied in theirs.items():
        print(f"{name}: {metric} of {moved.sum()} frames {ours[metric]:.4g}, of copies {copied:.4g}", flush=True)
        check(ours[metric] > copied, f"{name}: {metric} {ours[metric]}, of copies {copied}")


def centres(clips):
    """[n, T, 2] of what is bright."""
    bright = clips[..., 0].astype(float)
    bright[bright < 64] = 0
    weight = bright.sum((2, 3)) + 1e-9
    places = numpy.arange(SIDE)
    return numpy.stack([(bright.sum(axis) * places).sum(2) / weight for axis in (3, 2)], 2)


def speed(clips):
    """How far the digit goes from frame to frame, in pixels."""
    return numpy.linalg.norm(numpy.diff(centres(clips), axis=1), axis=2)


def ramvid():
    frames, count = 5, 128
    run = learn_digits(frames, 7600, [NARROW % "VOLUME", "model.diffusion.unconditional=0.15"])
    real = held_out("moving-TEST", (count, frames, SIDE, SIDE, 1))
    for task, observed in (("predict", (0, 1)), ("infill", (0, 4)), ("upsample", (0, 2, 4))):
        words = ["--task", task, "--store", here / "moving-TEST", "--observe", ",".join(map(str, observed))]
        made = sample(run, task, "--count", count, *words)
        show(run, f"ramvid-{task}", *words)
        check_better_than_copies(task, real[:, :made.shape[1]], made, observed)
    made = sample(run, "generate", "--task", "generate", "--count", count)
    show(run, "ramvid-generate", "--task", "generate")
    # From nothing there is nothing to copy but the first frame made, and that would stand still.
    moves, truth = speed(made).mean(), speed(real).mean()
    print(f"generate: a digit moves {moves:.3g} pixels a frame, a real one {truth:.3g}", flush=True)
    check(0.5 * truth < moves < 1.5 * truth, f"generate: {moves} pixels a frame, real ones {truth}")


def rvd():
    frames, given, count, draws = 8, 3, 64, 8
    run = learn_digits(frames, 6400, [])
    real = held_out("moving-TEST", (count, frames, SIDE, SIDE, 1))
    words = ["--task", "predict", "--store", here / "moving-TEST", "--given", given]
    made = numpy.stack([sample(run, f"draw-{seed}", "--count", count, "--seed", seed, *words)
                        for seed in range(draws)])
    show(run, "rvd-predict", *words)
    future, last = real[:, given:], numpy.broadcast_to(real[:, given - 1:given], real[:, given:].shape)
    mean = numpy.rint(made[:, :, given:].mean(0)).astype(numpy.uint8)
    moved = (future != last).any((2, 3, 4))
    ours, theirs = (pairs(name, future[moved], images[moved], "psnr")["psnr"]
                    for name, images in (("mean", mean), ("copies", last)))
    print(f"rvd: psnr of the mean of {draws} {ours:.4g}, of copies {theirs:.4g}", flush=True)
    check(ours > theirs, f"rvd: psnr of the mean {ours}, of copies {theirs}")
    crps = [pairs(f"crps-{n}", future, made[:n, :, given:], "crps")["crps"] for n in (1, 2, 4, 8)]
    copied = pairs("crps-copies", future, last[None], "crps")["crps"]
    print(f"rvd: crps of 1, 2, 4 and 8 samples {' '.join(f'{value:.4g}' for value in crps)}, of copies {copied:.4g}",
          flush=True)
    check(sorted(crps, reverse=True) == crps and crps[-1] < copied, f"rvd: crps {crps}, of copies {copied}")


def learn_clip_judge():
    """A classifier that tells digits by short clips of them."""
    build("clips", digits / "fdm-small.pbtxt", ["source.generated.count=4000", "source.generated.frames=8"])
    learn_judge("clips", 8000, ["recipe.frames=8", "loader.flip=0", "train.log_images=640",
                                "model.classifier={ width: 8 stages: 3 classes: 10 }"])


def fdm():
    count, length, given = 8, 100, 4
    run = learn_digits(40, 4800, [NARROW % "RELATIVE mark_observed: true"], ["source.generated.count=1500"])
    build("long", digits / "fdm-small.pbtxt", ["source.generated.count=288", f"source.generated.frames={length}"])
    begun = held_out("moving-TEST", (count, 40, SIDE, SIDE, 1))[:, :given]
    videos = held_out("long-TEST", (64 + count, length, SIDE, SIDE, 1))
    real, others = videos[:-count], videos[-count:]
    numpy.save(here / "real.npy", real)
    learn_clip_judge()
    # So few videos of few features are far from the others even when they are real: what to compare with.
    still = numpy.broadcast_to(begun[:, given - 1:], (count, length, SIDE, SIDE, 1))
    for name, clips in (("others", others), ("still", still)):
        print(f"fdm: fvd_own of {count} {name} {distance(name, clips, 'fvd_own'):.4g}", flush=True)
    # So few clips are one process's work: the schemes run side by side.
    running = {scheme: subprocess.Popen(
        [program, "sample", "--run", run, "--task", "extend", "--store", here / "moving-TEST", "--count", str(count),
         "--given", str(given), "--frames", str(length), "--scheme", scheme, "--out", here / scheme], env=environment)
        for scheme in ("autoregressive", "hierarchy-2")}
    for scheme, process in running.items():
        check(process.wait() == 0, f"{scheme}: status {process.returncode}")
        if pictures != here:
            shutil.copy(here / scheme / "strips.png", pictures / f"fdm-{scheme}.png")
        made = numpy.load(here / scheme / "clips.npy")
        check((made[:, :given] == begun).all(), f"{scheme}: given frames are not as they were")
        told = json.loads(output("evaluate", "--real", here / "real.npy", "--fake", here / scheme / "clips.npy",
                                 "--extractor", "track", "--metrics", "track_outliers,track_wasserstein", "--json"))
        outliers, apart = (told[f"track_{name}"]["value"] for name in ("outliers", "wasserstein"))
        print(f"fdm: {scheme}: {outliers:.3g} % of frames are outliers, places {apart:.3g} pixels apart, "
              f"fvd_own {distance(scheme, made, 'fvd_own'):.4g}, {speed(made).mean():.3g} pixels a frame "
              f"(real {speed(real).mean():.3g})", flush=True)
        check(outliers < 50, f"fdm: {scheme}: {outliers} % of frames are outliers")


{"ramvid": ramvid, "rvd": rvd, "fdm": fdm}[kind]()
