"""SLURM takes a node for dead that lives, and starts its jobs elsewhere while their first lives go on.
One first life trains on and is turned away at its next checkpoint; the other sleeps through it all
and wakes up when the run is finished. Neither leaves a trace in it."""

from jobs import *


def files(run):
    """All that the run's folder says, logs and the lock apart."""
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*"))
            if path.is_file() and path.relative_to(run).parts[0] not in ("logs", "lock")}


# A first life's srun was told of the node's failure and is gone: when one of its ranks ends nobody ends
# the other, which misses its peer after that many seconds.
sets = ["comm.timeout_seconds=30"]
awake, asleep = [Training(name, "brain", SRUN, nodes=1, gate_from=gate_from, sets=sets)
                 for name, gate_from in (("awake", 2), ("asleep", 1))]
for job in (awake, asleep):
    job.wait_for_steps()
    check(job.field("NodeList") == "brain1", f"{job.name} is on {job.field('NodeList')}")
sleepers = rank_processes(asleep.run)
check(len(sleepers) == 2 == len(rank_processes(awake.run)), f"{sleepers}")
for rank in sleepers:
    os.kill(rank, signal.SIGSTOP)
kill_slurmd("brain1")

for job in (awake, asleep):
    job.wait_for_life(1)
check({node_of(rank) for rank in sleepers} == {"brain1"}, "the sleepers are gone")
asleep.finish()
finished = files(asleep.run)
check((asleep.run / "lives/000002").exists(), "there was no second life")
for rank in sleepers:
    os.kill(rank, signal.SIGCONT)
wait_until(lambda: not set(sleepers) & set(rank_processes(asleep.run)), "the sleepers' end")
now = files(asleep.run)
changed = [name for name in finished.keys() | now.keys() if finished.get(name) != now.get(name)]
check(not changed, f"a life that was over has changed {changed}\n{asleep.output()}")

wait_until(lambda: (awake.run / "lives/000002").exists(), "the second life")
wait_until(lambda: all(node_of(rank) == "brain2" for rank in rank_processes(awake.run)),
           "the end of the first life")
check("has taken the run over" in awake.output(), awake.output())
awake.wait_for_steps()
inside("scancel", "--signal=USR1", awake.number)
awake.wait_for_life(2)
wait_until_left(awake.run)
awake.finish()
