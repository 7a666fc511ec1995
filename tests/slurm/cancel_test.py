"""A job that its user cancels stays cancelled: while it runs, by either launcher, and while it waits
for its next life."""

from jobs import *

jobs = [Training(name, "calm", warning)
        for name, warning in (("by-srun", SRUN), ("by-mpirun", MPIRUN), ("waiting", SRUN))]
waiting = jobs[2]
for job in jobs:
    job.wait_for_steps()
inside("scancel", "--signal=USR1", waiting.number)
waiting.wait_for_life(1)
left = wait_until_left(waiting.run)
inside("scancel", *(job.number for job in jobs))
for job in jobs:
    job.wait_for("CANCELLED")
    # COMPLETING until its last process has ended; only then nothing of it can ask for more.
    wait_until(lambda: not inside("squeue", "-h", "-j", job.number).stdout.strip(),
               f"the end of {job.name}")
    wait_until(lambda: not rank_processes(job.run), f"the end of the ranks of {job.name}")
for job in jobs:
    check(job.field("JobState") == "CANCELLED", f"{job.name} is {job.field('JobState')}")
    check(job.field("Restarts") == ("1" if job is waiting else "0"), f"{job.name} was started again")
check(status(waiting.run)["images"] == left, "the waiting job has gone on")
# Its ranks had KillWait seconds, and used them.
wait_until_left(jobs[0].run)
