"""A node loses its power, under one job that has its far ranks there and under one that has its
batch script there: SLURM starts both again on other nodes, and they end as if nothing had been."""

from jobs import *

far = Training("far", "outage", SRUN, options=["--exclude=outage3"])
near = Training("near", "outage", MPIRUN, options=["--exclude=outage1"])
for job, nodes in ((far, "outage[1-2]"), (near, "outage[2-3]")):
    job.wait_for_steps(100)
    check(job.field("NodeList") == nodes, f"{job.name} is on {job.field('NodeList')}, expected {nodes}")
cut_power("outage2")
for job in (far, near):
    job.wait_for_life(1)
for job in (far, near):
    job.finish()
    check("outage2" not in job.field("NodeList"), job.field("NodeList"))
    check(resumed_from(job.run, 2) > 0, f"{job.name} began from scratch")
