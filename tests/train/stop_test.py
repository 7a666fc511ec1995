"""The ways a run is asked to end: a slice, SIGUSR1 and SIGTERM, a deadline, a STOP file. Always with
a checkpoint, and the next start resumes to the end that the calm run has."""

import signal

from harness import *

LONG = ["train.images=2400000"]


def progress(run):
    return len(lines(run))


def interrupted(name, send, count, sets=()):
    """Starts a run, lets it make some steps, calls send(process, run) and returns its status."""
    run = here / name
    process = start(run, count, [*LONG, *sets])
    wait_until(lambda: progress(run) > 20, "20 steps")
    send(process, run)
    return run, process.wait(timeout=60)


def check_left(run, code, state, expected_code, expected_state):
    found = status(run)
    check(code == expected_code and found["state"] == expected_state, f"{run.name}: {code}, {found}")
    check(found["images"] == lines(run)[-1]["images"] and
          found["images"] == int(latest(run).name.split("-")[1]) and
          pathlib.Path(found["checkpoint"]).name == latest(run).name,
          f"{run.name}: {found}, {lines(run)[-1]}, {latest(run)}")


def to_one_rank(number):
    return lambda process, run: os.kill(rank_processes(run)[-1], number)


def to_all_ranks(number):
    return lambda process, run: [os.kill(rank, number) for rank in rank_processes(run)]


def to_launcher(number):
    return lambda process, run: process.send_signal(number)


for name, send, count in (
        ("usr1", to_launcher(signal.SIGUSR1), 1), ("term", to_launcher(signal.SIGTERM), 1),
        ("mpirun-usr1", to_launcher(signal.SIGUSR1), 2),
        ("one-rank-usr1", to_one_rank(signal.SIGUSR1), 2),
        ("all-ranks-term", to_all_ranks(signal.SIGTERM), 3)):
    run, code = interrupted(name, send, count)
    check_left(run, code, status(run), 75, "interrupted")
    check(status(run)["reason"] == "a signal", f"reason {status(run)['reason']}")
    # What was done counts: a calm run to the same image made the same.
    calm = here / (name + "-calm")
    train(calm, count, LONG, until=status(run)["images"])
    check_same_end(calm, run, name)

run, code = interrupted("stop-file", lambda process, run: (run / "STOP").touch(), 2)
check_left(run, code, status(run), 0, "stopped")
train(run, 2, LONG, contains="remove that file")  # still there: one step, and out again
(run / "STOP").unlink()
train(run, 2, LONG, until=status(run)["images"] + 2 * BATCH)
check(status(run)["state"] == "slice", "without STOP the run continues")

# A deadline that is over before the first step: a step, a checkpoint, 75.
execute(train_words(here / "deadline", LONG), 75, "the deadline", extra={"LASTFRAME_DEADLINE": "1"})
check_left(here / "deadline", 75, None, 75, "interrupted")

# So again on top of a checkpoint: it stays, and a step is added each time.
train(here / "deadline-later", 2, LONG, until=5 * BATCH)
for step in (6, 7):
    execute(ranks(2) + train_words(here / "deadline-later", LONG), 75, "the deadline",
            extra={"LASTFRAME_DEADLINE": "1"})
    check_left(here / "deadline-later", 75, None, 75, "interrupted")
    check(status(here / "deadline-later")["images"] == step * BATCH, "one step for each start")
check((here / "deadline-later" / "checkpoints" / f"img-{5 * BATCH:012d}").exists(), "the earlier one")

# A STOP file that is there before the run is.
(here / "stop-first").mkdir()
(here / "stop-first" / "STOP").touch()
train(here / "stop-first", 2, LONG, contains="remove that file")
check_left(here / "stop-first", 0, None, 0, "stopped")

# A signal before the first step, while libraries, store and model are opened.
def catches_usr1(process):
    words = pathlib.Path(f"/proc/{process.pid}/status").read_text().split()
    return int(words[words.index("SigCgt:") + 1], 16) >> (signal.SIGUSR1 - 1) & 1


for delay in (0, 0.02, 0.05, 0.1):
    process = start(here / f"early-{delay}", 1, LONG)
    wait_until(lambda: catches_usr1(process), "a handler of SIGUSR1")
    time.sleep(delay)
    process.send_signal(signal.SIGUSR1)
    code = process.wait(timeout=60)
    check(code == 75, f"a signal {delay} s after the start gave {code}")

# A slow preview, and a slow validation, do not keep a signal waiting: the finished step is saved at once, and the
# next start makes what was broken off. The run ends as a calm one.
SLOW = [*LONG, "model.unet={ width: 8 multipliers: [1, 2] blocks: 1 attention: 4 heads: 2 }", "train.batch=12"]
for name, line, sets in (
        ("preview", "the preview was broken off",
         ["train.preview_images=24", "train.preview_clips=2", "model.diffusion.sampler.steps=1000"]),
        ("validation", "the validation was broken off", ["train.validation_images=24", "train.validation_clips=12000"])):
    sets = [*SLOW, *sets]
    calm, run, log = here / f"calm-{name}", here / f"slow-{name}", here / f"{name}.log"
    began = time.time()
    train(calm, 1, sets, until=3 * BATCH)
    takes = time.time() - began
    with log.open("wb") as out:
        process = start(run, 1, sets, out)
    wait_until(lambda: progress(run) == 2, "two steps")
    time.sleep(0.3)
    began = time.time()
    process.send_signal(signal.SIGTERM)
    check(process.wait(timeout=60) == 75 and line in log.read_text(), f"{name}: {log.read_text()}")
    check(time.time() - began < takes / 2, f"{name}: {time.time() - began:.1f} s to stop of a run of {takes:.1f} s")
    check_left(run, 75, None, 75, "interrupted")
    check(status(run)["images"] == 2 * BATCH and len(lines(run)) == 2, f"{name}: {status(run)}")
    train(run, 1, sets, until=3 * BATCH)
    check_same_end(calm, run, name)
    pictures = [[path.read_bytes() for path in sorted((folder / "samples").glob("*"))] for folder in (calm, run)]
    check(pictures[0] == pictures[1] and len(pictures[0]) == (2 if name == "preview" else 0), f"{name}: pictures")

# The second SIGTERM does not wait for a checkpoint.
run, code = interrupted("twice", lambda process, run: (process.send_signal(signal.SIGTERM),
                                                       process.send_signal(signal.SIGTERM)), 1)
check(code == 75, f"two SIGTERM gave {code}")
train(run, 1, LONG, until=lines(run)[-1]["images"] + BATCH)
