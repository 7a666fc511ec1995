"""Ranks that only evaluate while the others train: the results are those of an evaluation by all ranks,
training continues meanwhile, and what a stop, a kill or a hang cuts off is made up for."""

import signal

from faulty import *

EVERY = 120
SETS = [f"evaluation.every_images={EVERY}", "evaluation.metrics=fd_pixels,psnr",
        "evaluation.extractor=pixels", "evaluation.samples=40", "checkpoint.every_images=60",
        "checkpoint.keep_last=1", "checkpoint.keep_best=1", "checkpoint.best_metric=psnr",
        "checkpoint.best_is_highest=true"]
ONE = SETS + ["evaluation.ranks=1"]
SLOW = "sleep-on reconstruct 2 -1"  # 0.2 s a batch, for the rank that evaluates
SLOWLY = ONE + ["evaluation.batch=4"]


def found(run):
    return {line["images"]: line["results"] for line in lines(run) if line.get("event") == "evaluation"}


def losses(run):
    return [line for line in learned(run) if "event" not in line]


def check_evaluated(run, what):
    """As `by_all` was, in every place where people look."""
    results = found(run)
    check(sorted(results) == sorted(expected), f"{what}: evaluated at {sorted(results)}")
    for images, metrics in expected.items():
        for metric, result in metrics.items():
            other = results[images][metric]
            check(abs(result["value"] - other["value"]) <= 1e-9 * abs(result["value"]) and
                  {k: v for k, v in result.items() if not isinstance(v, (float, list))} ==
                  {k: v for k, v in other.items() if not isinstance(v, (float, list))},
                  f"{what}: at {images} {metric} is {other}, by all ranks {result}")
        written = list((run / "evaluations").glob(f"img-{images:012}-*.json"))
        check(len(written) == 1 and json.loads(written[0].read_text()) == results[images],
              f"{what}: {written}")
    check(losses(run) == losses(by_all), f"{what}: another training")
    x, y = files_of(latest(by_all)), files_of(latest(run))
    check(x == y and len(x) >= 3, f"{what}: other weights")
    kept = {row["images"]: row["numbers"]
            for row in json.loads(output("inspect", run, "--json"))["checkpoints"]}
    best = max(expected, key=lambda images: expected[images]["psnr"]["value"])
    check(set(kept) == {480, best}, f"{what}: kept {sorted(kept)}, the best is at {best}")
    check(abs(kept[best]["psnr"] - expected[best]["psnr"]["value"]) < 1e-9, f"{what}: {kept}")


by_all = here / "by-all"
train(by_all, 2, SETS)
expected = found(by_all)
check(sorted(expected) == [120, 240, 360, 480], f"evaluated at {sorted(expected)}")

for apart in (1, 2):
    run = here / f"apart-{apart}"
    train(run, 2 + apart, SETS + [f"evaluation.ranks={apart}"])
    check_evaluated(run, f"{apart} ranks apart")
    check(status(run)["ranks"] == 2 and status(run)["state"] == "finished", f"{status(run)}")

# Steps are made while an evaluation runs; the second waits for the first, the run for the last.
run = here / "meanwhile"
faulty(SLOW, run, 3, SLOWLY)
check_evaluated(run, "slowly")
at = [line["images"] for line in lines(run) if line.get("event") != "evaluation" or line["images"] == EVERY]
behind = at[at.index(EVERY, at.index(EVERY) + 1) - 1]  # the step before the evaluation's line
check(behind >= EVERY + 5 * BATCH, f"only up to {behind} while {EVERY} was evaluated: {at}")
check(behind <= 2 * EVERY, f"at {behind} before {EVERY} was evaluated")

# A signal, to whom it may come, ends all ranks soon; the same command makes up for the evaluation.
for who, rank in (("a training rank", 1), ("the evaluating rank", 2)):
    run = here / f"signal-{rank}"
    process = start_faulty(SLOW, run, 3, SLOWLY)
    wait_until(lambda: len(losses(run)) >= 11, "the first evaluation")
    victim = {int(environ_of(pid)["OMPI_COMM_WORLD_RANK"]): pid for pid in fault_processes(run)}[rank]
    os.kill(victim, signal.SIGUSR1)
    check(process.wait(timeout=60) == 75, f"a signal to {who} gives {process.returncode}")
    check(status(run)["state"] == "interrupted" and not found(run), f"{status(run)} {found(run)}")
    kept = [row["images"] for row in json.loads(output("inspect", run, "--json"))["checkpoints"]]
    check(EVERY in kept, f"what awaits its evaluation is not kept: {kept}")
    train(run, 3, ONE)
    check_evaluated(run, f"after a signal to {who}")

# The evaluating rank is lost: so is the job, as for any rank, and it resumes.
run = here / "killed"
text = faulty("kill reconstruct 2 -1", run, 3, ONE, status=137)
train(run, 3, ONE)
check_evaluated(run, "after a kill")

run, log = here / "stopped", here / "stopped.log"
process = start_faulty(SLOW, run, 3, SLOWLY + ["comm.timeout_seconds=5"], log=log.open("wb"))
wait_until(lambda: len(losses(run)) >= 11, "the first evaluation")
victim = {int(environ_of(pid)["OMPI_COMM_WORLD_RANK"]): pid for pid in fault_processes(run)}[2]
os.kill(victim, signal.SIGSTOP)
try:
    code = process.wait(timeout=120)
finally:
    for pid in fault_processes(run):
        os.kill(pid, signal.SIGKILL)
check(code == 6 and "rank 2 has not been heard" in log.read_text(), f"{code}: {log.read_text()}")

# A model that makes no pictures any more, apart and by all.
for sets, rank, step in ((ONE, 2, -1), (SETS, 1, 9)):
    faulty(f"output-nan reconstruct {rank} {step}", here / f"nan-{rank}", 3 if sets is ONE else 2, sets,
           status=5, contains="reconstructions 0 to" if sets is ONE else "are not finite")

# What cannot be is refused before anything begins.
for sets, count, saying in ((SETS + ["evaluation.ranks=2"], 2, "leaves none to train"),
                            (["evaluation.ranks=1"], 2, "every_images"),
                            (SETS + ["evaluation.ranks=1", "train.batch=9"], 3, "2 ranks")):
    train(here / "refused", count, sets, status=2, contains=saying)
