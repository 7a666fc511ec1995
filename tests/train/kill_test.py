"""SIGKILL of a random rank, or of all, at random moments (every second time while a checkpoint is
being written), then the same command again: the run ends as the calm one, every loss and every byte.
Called with the number of kills, the number of ranks and, for other moments, a seed. (F1 of faults.md.)"""

import random
import signal

from harness import *

kills, count = int(arguments[0]), int(arguments[1])
seed = int(arguments[2]) if len(arguments) > 2 else 1
random.seed(seed)
SETS = ["train.images=3600", "checkpoint.every_images=120"]
calm = here / "calm"
train(calm, count, SETS)
began = time.time()


def being_saved(run):
    return any(path.name.startswith(".tmp") for path in (run / "checkpoints").glob(".*"))


def wait_for_moment(process, run):
    """Moments are counted in what the run does, not in seconds, so that a busy machine gives the
    same mixture: a save, a step, or, one time in five, anything from the start of the processes on."""
    choice, end = random.random(), time.time() + 60
    before = steps(run)
    further = before + random.randint(1, 40)
    went_on = lambda: 0 < steps(run) != before  # also when the resume cut lines off
    if choice < 0.2:
        time.sleep(random.uniform(0, 1.5))
        return
    moment = (lambda: went_on() and being_saved(run)) if choice < 0.7 else (
        lambda: went_on() and steps(run) >= further)
    while process.poll() is None and not moment() and time.time() < end:
        time.sleep(0.0005)
    time.sleep(random.uniform(0, 0.003))


def kill_some(run):
    """How many processes were hit; 0 if the run had ended."""
    found = rank_processes(run)
    victims = found if random.random() < 0.3 else random.sample(found, min(1, len(found)))
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            victims = []
    return len(victims)


def steps(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


done = runs = in_save = of_all = resumed = 0
while done < kills:
    run, log = here / f"run-{runs}", here / "log"
    runs += 1
    code = None
    while code != 0 and done < kills:
        process = start(run, count, SETS, log=log.open("wb"))
        wait_for_moment(process, run)
        victims = kill_some(run)
        code = process.wait(timeout=120)
        wait_until(lambda: not rank_processes(run), "the end of all ranks")
        text = log.read_text(errors="replace")
        # The very next start reads every byte of what it resumes from: nothing may be wrong with it.
        check("passing over" not in text, f"kill {done}, seed {seed}: an unreadable checkpoint\n{text}")
        check(code in (0, 137), f"kill {done}, seed {seed}: status {code}\n{text}")
        check(code == 0 or victims, f"status {code} without a kill\n{text}")
        resumed += "resumed from" in text
        if code != 0:
            done += 1
            print(f"{time.time() - began:.0f} s: kill {done}", file=sys.stderr, flush=True)
            in_save += being_saved(run)
            of_all += victims == count
    text = train(run, count, SETS)
    check("passing over" not in text, text)
    check_same_end(calm, run, f"after {done} kills (seed {seed})")
    check(not being_saved(run), "something hidden was left over")
    shutil.rmtree(run)
print(f"{done} kills of {count} ranks ({of_all} of all at once, {in_save} in a save) over {runs} runs: "
      f"{resumed} resumes from a checkpoint, no unreadable one, every end the calm run's; "
      f"{time.time() - began:.0f} s")
