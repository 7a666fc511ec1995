"""A rank that is stopped, hangs or is slow in a training: the watchdog names it and ends the job with
6; one that is only slow is named in the log and in status.json. A long validation or preview of one
rank is no hang. (F12 of faults.md.)"""

import re
import signal

from faulty import *

TIMEOUT = 8  # as short as a busy machine allows
LONG = ["train.images=2400000", f"comm.timeout_seconds={TIMEOUT}", "checkpoint.every_images=0"]


def check_named(text, rank, what):
    # What was last known of it may be old: on a busy machine its heartbeats come late.
    found = re.search(rf"lastframe: (rank \d: )?rank {rank} has {what} for .*rank {rank}: ", text)
    check(found, f"no line that rank {rank} has {what}:\n{text}")
    # Who speaks first is right. While the job ends, ranks may also miss those that have just left.
    blamed = re.findall(r"lastframe: (?:rank \d: )?rank (\d) has", text)
    check(blamed[0] == str(rank), f"another rank was blamed:\n{text}")


for rank in (1, 0):
    run, log = here / f"stopped-{rank}", here / f"stopped-{rank}.log"
    process = start(run, 3, LONG, log=log.open("wb"))
    wait_until(lambda: len(lines(run)) > 10, "ten steps")
    # Ranks have logs of their own; mpirun starts them in order, but nobody promises it.
    victim = {int(environ_of(pid)["OMPI_COMM_WORLD_RANK"]): pid for pid in rank_processes(run)}[rank]
    os.kill(victim, signal.SIGSTOP)
    try:
        code = process.wait(timeout=120)
    finally:
        for pid in rank_processes(run):
            os.kill(pid, signal.SIGKILL)
    check(code == 6, f"a stopped rank {rank} gives {code}:\n{log.read_text()}")
    check_named(log.read_text(), rank, "not been heard")

run = here / "hang"
text = faulty("hang forward 2 12", run, 3, LONG, status=6)
check_named(text, 2, "made no progress")
check("step 12, phase" in text, f"the step is missing:\n{text}")

# Longer than the timeout, but in phases that may take long: nobody is blamed.
patient = ["train.validation_images=48", "train.validation_clips=12", "train.preview_images=48",
           "comm.timeout_seconds=5", "train.log_images=12"]
for where, step in (("build", -1), ("validation", 3), ("preview", 3), ("checkpoint", 9)):
    text = faulty(f"sleep {where} 0 {step}", here / f"long-{where}", 2, patient, until=12 * BATCH)
    check("no progress" not in text and "not been heard" not in text, text)

# Ten times slower than the others: named while it trains. (On a busy machine others may be named too,
# for a while.)
run, log = here / "slow", here / "slow.log"
process = start_faulty("sleep-on forward 1 3", run, 3, LONG, log=log.open("wb"))
wait_until(lambda: (run / "status.json").exists() and "rank 1 takes" in status(run)["straggler"],
           "status.json that names the slow rank")
wait_until(lambda: "straggler: rank 1 takes" in log.read_text(), "a line that names the slow rank")
os.kill(fault_processes(run)[0], signal.SIGUSR1)
check(process.wait(timeout=60) == 75, "a slow rank is no reason to fail")
