"""A more urgent job takes the nodes: the ranks leave with a checkpoint, SLURM starts the job again,
and it ends as if nothing had been. Called with the launcher and how often to do that; `unheeded`:
at a site whose SLURM sends no warning.
"""

from jobs import *

launcher, times = arguments[0], int(arguments[1])
heeded = "unheeded" not in arguments
job = Training("preempted", launcher, {"srun": SRUN, "mpirun": MPIRUN}[launcher],
               gate_from=times, heeded=heeded)
for number in range(1, times + 1):
    job.wait_for_steps()
    rival = urgent(launcher)
    rival.wait_for("COMPLETED")
    job.wait_for_life(number)
if heeded or launcher == "srun":  # SIGTERM does as well, where it reaches the ranks
    left = wait_until_left(job.run)
else:
    # The far daemon dies of SIGTERM, and mpirun ends the ranks, as a rule before they can save.
    left = int(latest(job.run).name.split("-")[1])
    said = job.output()
    check("preempted without a checkpoint" in said or "interrupted with a checkpoint" in said, queue())
job.finish()
check(resumed_from(job.run, times + 1) == left, "what was saved last was not what it went on from")
