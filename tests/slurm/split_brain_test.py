"""SLURM takes a live node for dead and starts its jobs elsewhere while their first lives continue.
One first life trains beside the second and is refused at its next checkpoint; the other sleeps
through it all and wakes up when the run is finished. Neither leaves a trace in its run.
"""

from jobs import *


def files(run):
    """All that the run's folder says, logs and the lock apart."""
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.rglob("*"))
            if path.is_file() and path.relative_to(run).parts[0] not in ("logs", "lock")}


def check_turned_away(job):
    logs = [path.read_text().splitlines() for path in sorted((job.run / "logs").glob("rank-*.log"))]
    # What lives say of checkpoints fills pages.
    told = "\n".join(line for log in logs for line in log if "] saved " not in line)
    check("has taken the run over" in told, f"the first life of {job.name} found nothing wrong\n{told}\n{queue()}")


# A first life's srun hears of the node's failure and leaves. When one of its ranks ends nobody ends
# the other, which misses its peer after this many seconds.
sets = ["comm.timeout_seconds=30"]
awake, asleep = [Training(name, "brain", SRUN, nodes=1, gate_from=gate_from, sets=sets)
                 for name, gate_from in (("awake", 2), ("asleep", 1))]
first_lives = {}
for job in (awake, asleep):
    job.wait_for_steps()
    first_lives[job] = rank_processes(job.run)
    nodes = [node_of(rank) for rank in first_lives[job]]
    check(nodes == ["brain1"] * 2, f"the ranks of {job.name} are on {nodes}")
    for rank in first_lives[job]:  # nothing is to be learned from what they do meanwhile
        os.kill(rank, signal.SIGSTOP)
kill_slurmd("brain1")


def wake(job):
    for rank in first_lives[job]:
        os.kill(rank, signal.SIGCONT)
    wait_until(lambda: not set(first_lives[job]) & set(rank_processes(job.run)),
               f"the end of the first life of {job.name}")
    check_turned_away(job)


awake.wait_for_life(1)
awake.wait_for_steps()  # of the second life
wake(awake)
awake.wait_for_steps()
inside("scancel", "--signal=USR1", awake.number)
awake.wait_for_life(2)
wait_until_left(awake.run)
awake.finish()

asleep.wait_for_life(1)
asleep.finish()
finished = files(asleep.run)
wake(asleep)
now = files(asleep.run)
changed = [name for name in finished.keys() | now.keys() if finished.get(name) != now.get(name)]
check(not changed, f"a life that was over has changed {changed}")
