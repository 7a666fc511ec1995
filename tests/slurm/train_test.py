"""Two nodes of two tasks train to the end, started by srun and by mpirun; every rank sees all GPUs
of its node, to choose one by its local rank."""

from jobs import *

jobs = [Training(name, "calm", warning, images=480, options=["--gpus-per-node=2"])
        for name, warning in (("by-srun", SRUN), ("by-mpirun", MPIRUN))]
for job, launcher in zip(jobs, ("srun --mpi=pmix", "mpirun")):
    job.wait_for("COMPLETED")
    text = job.output()
    check(f"calm[1-2]: {launcher}" in text, f"{launcher} did not start it:\n{text}")
    for node in ("calm1", "calm2"):
        check(text.count(f"rank on {node} sees 0,1\n") == 2,
              f"other ranks or GPUs on {node}:\n{text}")
    job.check_finished(480)
