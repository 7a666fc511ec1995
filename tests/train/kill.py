"""SIGKILL of a random rank, or of all, at random moments (every second time while a checkpoint is
being written), then the same command again: the run ends as the calm one, every loss and every byte.
Called with the number of kills and, if two bits of luck are wanted, a seed."""

import random
import signal

from runs import *

kills, seed = int(words_left[0]), int(words_left[1]) if len(words_left) > 1 else 1
random.seed(seed)
COUNT = 3
SETS = ["train.images=4800", "checkpoint.every_images=240"]
calm = here / "calm"
train(calm, COUNT, SETS)
began = time.time()


def being_saved(run):
    return any(path.name.startswith(".tmp") for path in (run / "checkpoints").glob(".*"))


def kill_some(process, run):
    """Whether the run was still at work when it was hit."""
    if random.random() < 0.5:
        end = time.time() + random.uniform(0.5, 1.5)
        while process.poll() is None and time.time() < end and not being_saved(run):
            time.sleep(0.0005)
        time.sleep(random.uniform(0, 0.003))
    else:
        time.sleep(random.uniform(0.1, 1.5))
    found = rank_processes(run)
    if process.poll() is not None or not found:
        return False
    for pid in found if random.random() < 0.3 else [random.choice(found)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return True


done = runs = during_save = 0
while done < kills:
    run = here / f"run-{runs}"
    runs += 1
    while done < kills:
        process = start(run, COUNT, SETS)
        hit = kill_some(process, run)
        code = process.wait(timeout=120)
        wait_until(lambda: not rank_processes(run), "the end of all ranks")
        during_save += hit and being_saved(run)
        done += hit
        check(code != 0 or not hit or status(run)["state"] == "finished", f"a killed run gave {code}")
        if code == 0:
            break
        check(hit, f"status {code} without a kill")
    train(run, COUNT, SETS)
    check_same_end(calm, run, f"after {done} kills (seed {seed})")
    check(not being_saved(run), "something hidden was left over")
    shutil.rmtree(run)
print(f"{done} kills, {during_save} of them in a save, over {runs} runs: {time.time() - began:.0f} s")
