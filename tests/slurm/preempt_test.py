"""A more urgent job takes the nodes: the ranks exit with a checkpoint, SLURM restarts the job,
and it ends as an undisturbed one. Called with the launcher and how often to do that; `unwarned`:
at a site whose SLURM sends no warning.
"""

from jobs import *

launcher, times = arguments[0], int(arguments[1])
warned = "unwarned" not in arguments
job = Training("preempted", launcher, {"srun": SRUN, "mpirun": MPIRUN}[launcher],
               gate_from=times, warned=warned)
for number in range(1, times + 1):
    job.wait_for_steps()
    rival = urgent(launcher)
    rival.wait_for("COMPLETED")
    job.wait_for_life(number)
if warned or launcher == "srun":  # SIGTERM does as well, where it reaches the ranks
    left = wait_until_left(job.run)
else:
    # The far daemon dies of SIGTERM, and mpirun ends the ranks, as a rule before they can save.
    left = int(latest(job.run).name.split("-")[1])
    said = job.output()
    check("preempted without a checkpoint" in said or "interrupted with a checkpoint" in said, queue())
job.finish()
check(resumed_from(job.run, times + 1) == left, "it did not resume from what was saved last")
