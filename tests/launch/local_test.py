"""launch/local: restarts after 75, passes Ctrl-C on as a request for a checkpoint, and tells a rank
that was killed from outside (6) from everything else."""

import signal

from harness import *

local = root / "launch" / "local"
here_is_mpi = {"LASTFRAME": program, "PATH": f"{pathlib.Path(mpiexec).parent}:{os.environ['PATH']}"}
LONG = ["train.images=2400000"]


def launched(run, *options, sets=()):
    words = [str(local), "-n", "2", *options, "--", *map(str, train_words(run, sets)[1:])]
    return subprocess.Popen(words, env={**environment, **here_is_mpi}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True)


def end_of(process):
    text = process.communicate(timeout=300)[0]
    return process.returncode, text


calm = here / "calm"
train(calm, 2)
code, text = end_of(launched(here / "plain"))
check(code == 0, f"status {code}\n{text}")
check_same_end(calm, here / "plain", "under launch/local")
check(end_of(launched(here / "bad", sets=["train.batch=13"]))[0] == 2, "a usage error is 2")

process = launched(here / "killed", sets=LONG)
wait_until(lambda: len(lines(here / "killed")) > 5, "five steps")
os.kill(rank_processes(here / "killed")[1], signal.SIGKILL)
code, text = end_of(process)
check(code == 6, f"a killed rank gives {code}, expected 6\n{text}")

# Preempted once: started again without being asked, and the end is the calm run's.
sets = ["train.images=4800"]
train(here / "long", 2, sets)
process = launched(here / "again", sets=sets)
wait_until(lambda: len(lines(here / "again")) > 5, "five steps")
os.kill(rank_processes(here / "again")[0], signal.SIGUSR1)
code, text = end_of(process)
check(code == 0 and "start 1 of at most 10" in text, f"status {code}\n{text}")
check_same_end(here / "long", here / "again", "after a restart")

process = launched(here / "limit", "--restarts", "0", sets=LONG)
wait_until(lambda: len(lines(here / "limit")) > 5, "five steps")
os.kill(rank_processes(here / "limit")[0], signal.SIGUSR1)
code, text = end_of(process)
check(code == 75 and "start 1" not in text, f"status {code}\n{text}")

# Ctrl-C, once: a checkpoint, and no restart. At a terminal the whole process group gets SIGINT.
for name, wait in (("early", lambda run: rank_processes(run)), ("late", lambda run: len(lines(run)) > 5)):
    run = here / name
    process = launched(run, sets=LONG)
    wait_until(lambda: wait(run), name)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    code, text = end_of(process)
    check(code == 75 and "stopping with a checkpoint" in text and "start 1" not in text,
          f"Ctrl-C, {name}: status {code}\n{text}")
    check(name == "early" or status(run)["state"] == "interrupted" and latest(run).exists(), name)

# Twice: at once.
process = launched(here / "twice", sets=LONG)
wait_until(lambda: len(lines(here / "twice")) > 5, "five steps")
os.killpg(process.pid, signal.SIGINT)
time.sleep(0.02)
os.killpg(process.pid, signal.SIGINT)
code, text = end_of(process)
check(code != 0 and not rank_processes(here / "twice"), f"Ctrl-C twice: status {code}\n{text}")
