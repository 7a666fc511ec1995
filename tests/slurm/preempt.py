"""A more urgent job takes the nodes: the ranks leave with a checkpoint, SLURM starts the job again, and
it ends as if nothing had been. Called with the launcher and how often to do that."""

from jobs import *

launcher, times = words_left[0], int(words_left[1])
job = Training("preempted", launcher, {"srun": SRUN, "mpirun": MPIRUN}[launcher], gate_from=times)
for number in range(1, times + 1):
    job.wait_for_steps()
    rival = urgent(launcher)
    rival.wait_for("COMPLETED")
    job.wait_for_life(number)
    if number == times:
        left = wait_until_left(job.run)
        job.finish()
        check(resumed_from(job.run, times + 1) == left, "what was done after the warning is lost")
check(job.output().count("requeued (restart") == times, job.output())
