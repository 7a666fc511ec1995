"""Power-function averages: kept and resumed exactly, and an average of another width made after the
run out of those that its checkpoints tracked."""

from harness import *

TRACKED = ["train.ema.tracked_widths=0.05,0.1", "checkpoint.keep_every_images=48",
           "checkpoint.every_images=48"]
run = here / "tracked"
train(run, 2, TRACKED)
parts = here / "parts"
for until in (17 * BATCH, 40 * BATCH):
    train(parts, 2, TRACKED, until=until)
check_same_end(run, parts, "tracked averages over a resume")
check(weights(run, "ema-a") != weights(run, "ema-b") != weights(run), "the averages are one")

moved = None
for width in (0.05, 0.07, 0.1, 0.15):
    # The same training that keeps this very average.
    kept = here / f"kept-{width}"
    train(kept, 2, [f"train.ema.power_width={width}"])
    check(learned(kept) == learned(run), "averages changed the training")
    text = execute([program, "export", run, "--ema-width", width, "--out", here / "made.safetensors"],
                   contains=f"made the average of width {width}")
    made, real, last = tensors(here / "made.safetensors"), weights(kept, "ema"), weights(kept)
    check(made.keys() == real.keys() and len(made) > 10, "other tensors")
    square = lambda a, b: sum((x - y) ** 2 for name in a for x, y in zip(a[name], b[name]))
    nothing = {name: [0.0] * len(values) for name, values in real.items()}
    error = (square(made, real) / square(real, nothing)) ** 0.5
    against = (square(real, last) / square(real, nothing)) ** 0.5
    print(f"width {width}: error {100 * error:.4f} % (the last weights are {100 * against:.2f} % away)")
    check(error < 0.01 and error < against / 5, f"width {width}: off by {100 * error} %")

# What cannot be made is refused.
plain = here / "plain"
train(plain, until=5 * BATCH)
execute([program, "export", plain, "--ema-width", "0.1", "--out", here / "x"], 2, "track no averages")
for words, status_words in ((["--ema-width", "0.5"], "(0, 0.28]"), (["--ema-width", "x"], "(0, 0.28]"),
                            (["--ema-width", "0.1", "--kind", "ema"], "exclude each other")):
    execute([program, "export", run, *words, "--out", here / "x"], 2, status_words)
execute([program, "export", latest(run), "--ema-width", "0.1", "--out", here / "x"], 2, "run's folder")
execute([program, "export", store(), "--ema-width", "0.1"], 2, "--ema-width has no meaning for stores")
check(not (here / "x").exists(), "something was written")
train(run, 2, [*TRACKED[1:], "train.ema.tracked_widths=0.2"], status=2, contains="tracked_widths")
