"""Numbers that are not finite on one rank only, in one micro-batch: no weight moves anywhere; if it
persists, the run ends with 5. (F10 of faults.md.)"""

from faulty import *

# One rank, one micro-batch, one step: all ranks skip that update and only that one.
for what in ("loss-nan", "gradient-nan"):
    for where in ("forward", "second-forward"):
        run = here / f"{what}-{where}"
        halves = ["train.accumulation=2"]
        text = faulty(f"{what} {where} 1 5", run, 2, halves, until=5 * BATCH)
        before = {kind: weights(run, kind) for kind in ("model", "ema", "optimizer")}
        text = faulty(f"{what} {where} 1 5", run, 2, halves, until=6 * BATCH)
        check("image 60: the generator's gradient is not finite; all ranks skip" in text, text)
        check(before == {kind: weights(run, kind) for kind in before}, f"{run.name}: something moved")
        check(status(run)["skipped_steps"] == 1, f"{run.name}: {status(run)}")
        faulty(f"{what} {where} 1 5", run, 2, halves, until=8 * BATCH)
        check(weights(run) != before["model"], "nothing moved after the skipped step")

# For good: the run ends with 5 after its patience, and its last checkpoint has the weights from before.
run, calm = here / "for-good", here / "before-for-good"
faulty("loss-nan-on forward 1 8", run, 2,
       ["train.patience=4", "checkpoint.every_images=60", "checkpoint.asynchronous=false"], status=5,
       contains="were not finite in 5 steps in a row")
check(status(run)["state"] == "failed" and latest(run).name == f"img-{10 * BATCH:012d}", str(status(run)))
train(calm, 2, until=8 * BATCH)
check(weights(run) == weights(calm), "skipped updates moved the weights")
