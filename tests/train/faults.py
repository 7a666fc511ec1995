"""Numbers that are not finite on one rank only, and a rank that ends in any phase of the work: no
weight moves where it should not, the others end too, and the status is that of the first cause.
(Rows F10 and F11 of the fault table.)"""

from faulty import *

SMALL_BUCKETS = ["comm.bucket_mib=0.001", "comm.first_bucket_mib=0.001"]

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

# For good: the run ends with 5 after its patience, with the checkpoint from before.
run = here / "for-good"
faulty("loss-nan-on forward 1 8", run, 2, ["train.patience=4", "checkpoint.every_images=60"], status=5,
       contains="were not finite in 5 steps in a row")
check(status(run)["state"] == "failed" and latest(run).name == f"img-{5 * BATCH:012d}", str(status(run)))
check(all(abs(v) < float("inf") for part in weights(run).values() for v in part), "weights not finite")

# A rank that ends, in every phase. What it threw gives the status (3 here); _exit(9) gives 9; after
# SIGKILL mpirun gives 137, of which launch/local makes 6 (launch.py).
SETS = [*SMALL_BUCKETS, "checkpoint.every_images=60", "train.validation_images=48",
        "train.validation_clips=12", "train.preview_images=48"]
began = time.time()
for where, step in (("build", -1), ("resume", -1), ("forward", 7), ("reduce", 7), ("checkpoint", 9),
                    ("validation", 7), ("preview", 7)):
    rank = 0 if where == "preview" else 1  # rank 0 alone makes previews
    for what, code in (("throw", 3), ("exit", 9), ("kill", 137)):
        run = here / f"{what}-in-{where}"
        text = faulty(f"{what} {where} {rank} {step}", run, 2, SETS, status=code)
        check(what != "throw" or f"lastframe: a fault in {where} of rank {rank}" in text, text)
        check(not fault_processes(run), f"{run.name}: ranks are left over")
        # Nothing is in the way of the next start.
        if what == "kill":
            train(run, 2, SETS, until=12 * BATCH)
print(f"21 ends of a rank and 7 starts after them: {time.time() - began:.0f} s")
