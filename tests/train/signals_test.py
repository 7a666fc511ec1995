"""SIGUSR1 and SIGTERM in every phase of a training, and twice: one clean checkpoint and 75, and the
same command resumes to the end that the calm run has; the second SIGTERM ends the process at once.
(F22 of faults.md; signals from outside are in stop_test.py.)"""

import signal

from faulty import *

SETS = ["checkpoint.every_images=60", "train.validation_images=48", "train.validation_clips=12",
        "train.preview_images=48"]
PHASES = (("build", -1), ("resume", -1), ("forward", 7), ("reduce", 7), ("checkpoint", 9),
          ("forward", 10),  # the writer still has the checkpoint of the step before
          ("validation", 7), ("preview", 7))
calm = {count: here / f"calm-{count}" for count in (1, 2)}
for count, run in calm.items():
    train(run, count, SETS)

for where, step in PHASES:
    for what, count in (("usr1", 2), ("term", 1)):
        run = here / f"{what}-{where}-{step}"
        rank = 0 if where == "preview" else count - 1
        text = faulty(f"{what} {where} {rank} {step}", run, count, SETS, status=75,
                      contains="stopped by a signal")
        found = status(run)
        # The step is finished and no other begun; while a checkpoint begins the ranks have agreed on the next.
        # A validation that is broken off is left to the next start.
        steps = max(step, 0) + (2 if where == "checkpoint" else 1)
        check(found["state"] == "interrupted" and found["images"] == steps * BATCH,
              f"{run.name}: {found}")
        check(latest(run).name == f"img-{found['images']:012d}", f"{run.name}: {latest(run)}")
        check(text.count("stopped by a signal") == 1, text)
        train(run, count, SETS)
        check_same_end(calm[count], run, run.name)

# The second SIGTERM does not wait for anything: not for the step, not for a checkpoint.
for where, step in PHASES:
    run = here / f"twice-{where}-{step}"
    text = faulty(f"term-twice {where} 0 {step}", run, 1, SETS, status=75)
    check("stopped by a signal" not in text, f"{run.name} ended in order:\n{text}")
    train(run, 1, SETS)
    check_same_end(calm[1], run, run.name)

# Also where the step would never end.
run = here / "stuck"
process = start_faulty("hang forward 0 3", run, 1, SETS)
wait_until(lambda: len(lines(run)) == 3, "three steps")
process.send_signal(signal.SIGTERM)
time.sleep(0.5)
check(process.poll() is None, "the first SIGTERM ended a step")
process.send_signal(signal.SIGTERM)
check(process.wait(timeout=60) == 75, "the second SIGTERM did not end it")
