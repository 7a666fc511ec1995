"""A job that reaches its time limit exits with a checkpoint before it and resumes in a new life:
told by SLURM's signal, and by the end that SLURM names to lastframe."""

from jobs import *

# SLURM looks at limits every 30 s: of two minutes, it signals in the second, when a slow machine
# trains too.
signalled = Training("signalled", "calm", SRUN, directives={"time": 2},
                     sets=["train.deadline_margin_seconds=0"])
# Nobody signals before the last second; half a minute after the start is as much before the end.
punctual = Training("punctual", "calm", MPIRUN, directives={"time": 1, "signal": f"{MPIRUN}@1"},
                    sets=["train.deadline_margin_seconds=30"])
for job, reason in ((punctual, "the deadline"), (signalled, "a signal")):
    job.wait_for_life(1)
    left = wait_until_left(job.run)
    check(f"stopped by {reason} at image {left}" in job.output(), job.output())
for job in (punctual, signalled):
    left = status(job.run)["images"]
    job.finish()
    check(resumed_from(job.run, 2) == left,
          f"{job.name} went on from {resumed_from(job.run, 2)}, not {left}")
