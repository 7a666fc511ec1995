"""What an sbatch file does with each end of its ranks, without a cluster: srun, mpirun and scontrol
are stand-ins. Only status 75 is started again, and not if the job was cancelled, has lived too often or
lives elsewhere."""

import pathlib
import subprocess
import tempfile

from harness import check, expect, finish, root

STAND_INS = {
    # One step to ask whether the nodes answer, one that a later life begins with, and the ranks.
    "srun": """case "$*" in
  *--overlap*) exit ${nodes_answer:-0} ;;
  *" true") exit 0 ;;
esac
echo "ranks: $*"
if [ -n "${signal_at_start:-}" ]; then
  trap 'exit 75' USR1
  kill -USR1 $PPID
  while sleep_a_little; do :; done
fi
exit $ranks_end
""",
    "mpirun": 'exec srun "$@"\n',
    "scontrol": """case "$*" in
  *"show job"*) echo "JobId=7 JobState=${state:-RUNNING} StartTime=1000 EndTime=2000" \\
    "Restarts=${restarts_known:-${SLURM_RESTART_COUNT:-0}} PreemptTime=${preempted:-None}" ;;
  *"show config"*) echo "SlurmdTimeout           = 40 sec" ;;
  *) echo "scontrol $*"; exit ${requeue_fails:-0} ;;
esac
""",
    "sleep": 'echo "sleep $*"\n',
    "sleep_a_little": "exec /bin/sleep 0.05\n",
    "lastframe": "exit 0\n",
}


def run(name="train", edits=(), **given):
    """(exit status, output) of slurm/NAME.sbatch as SLURM runs it: from a copy, elsewhere."""
    with tempfile.TemporaryDirectory(prefix="lf-slurm-") as folder:
        here = pathlib.Path(folder)
        for stand_in, body in STAND_INS.items():
            path = here / stand_in
            path.write_text("#!/bin/sh\n" + body)
            path.chmod(0o755)
        script = here / "slurm_script"
        text = (root / "slurm" / f"{name}.sbatch").read_text()
        text = text.replace("\nlastframe= ", f"\nlastframe={here}/lastframe ")
        for old, new in edits:
            check(old in text, f"{name}.sbatch does not say {old}")
            text = text.replace(old, new)
        script.write_text(text)
        environment = {"PATH": f"{here}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "8",
                       "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[1-2]",
                       "SLURM_CPUS_PER_TASK": "8", "SLURM_SUBMIT_DIR": str(root),
                       **{key: str(value) for key, value in given.items()}}
        done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True,
                              timeout=60)
        return done.returncode, done.stdout + done.stderr


def ends(what, result, code, *parts, without=()):
    """Expects the script to have ended with `code` and to have said all of `parts`."""
    status, text = result
    wrong = [part for part in parts if part not in text] + [part for part in without if part in text]
    expect(status == code and not wrong, f"{what}: status {status}, expected {code}; wrong about {wrong}\n{text}")


REQUEUE, WAITS = "scontrol requeue", "sleep 5\n"
ends("0 is the end", run(ranks_end=0), 0, "ranks: --mpi=pmix", ": done", without=[REQUEUE])
# What sleeps is still there when SLURM ends this life; here nobody does, and it ends as its ranks.
ends("75 is requeued", run(ranks_end=75), 75, "scontrol requeue 7", "restart 1 of at most 100", WAITS)
ends("138 is too early for a checkpoint", run(ranks_end=138), 75, REQUEUE)
for status in (1, 2, 3, 4, 5, 7):
    ends(f"{status} is final", run(ranks_end=status), status, without=[REQUEUE, WAITS])
for status, code in ((137, 6), (6, 6), (143, 143)):
    ends(f"{status} with live nodes", run(ranks_end=status), code, without=[REQUEUE, WAITS])
ends("a dead node", run(ranks_end=6, nodes_answer=1), 6, "not every node answers", WAITS,
     without=[REQUEUE])
ends("preempted without a word", run(ranks_end=143, preempted=1500), 143, WAITS, without=[REQUEUE])
ends("preempted in an earlier life", run(ranks_end=143, preempted=500), 143, without=[REQUEUE, WAITS])
ends("preempted at once", run(ranks_end=75, state="PREEMPTED"), 75, WAITS, without=[REQUEUE])
ends("cancelled", run(ranks_end=75, state="CANCELLED"), 75, "cancelled", without=[REQUEUE, WAITS])
ends("given up and started elsewhere", run(ranks_end=75, restarts_known=1), 75, "elsewhere", without=[REQUEUE])
ends("the last life but one", run(ranks_end=75, SLURM_RESTART_COUNT=99), 75, "scontrol requeue 7")
ends("the last life", run(ranks_end=75, SLURM_RESTART_COUNT=100), 75, "100 times", without=[REQUEUE])
ends("no requeue allowed", run(ranks_end=75, requeue_fails=1), 75, "submit it again", without=[WAITS])
ends("an element of an array", run("build", ranks_end=75, SLURM_ARRAY_JOB_ID=7, SLURM_ARRAY_TASK_ID=3), 75,
     "scontrol requeue 7_3", "lastframe build --config")
ends("a job that is no array", run("evaluate", ranks_end=75, SLURM_JOB_ID=9), 75, "scontrol requeue 9",
     "evaluate --run runs/quickstart --metrics psnr --json")
ends("a signal to the batch shell", run(signal_at_start=1), 75, REQUEUE)
by_mpirun = [("--signal=USR1@", "--signal=B:USR1@")]
ends("mpirun", run(edits=by_mpirun, ranks_end=0), 0, "ranks: -n 8 --bind-to none", without=["pmix"])
ends("a signal to mpirun", run(edits=by_mpirun, signal_at_start=1), 75, REQUEUE)
ends("an element of a sweep", run("sweep", ranks_end=0, SLURM_ARRAY_JOB_ID=7, SLURM_ARRAY_TASK_ID=3), 0,
     "lastframe sweep --element 3")
ends("a wrong home", run(edits=[("home=$SLURM_SUBMIT_DIR", "home=/nowhere")], ranks_end=0), 2, "/nowhere")
ends("a program that is none", run(edits=[("\nlastframe=", "\nlastframe=/nowhere")], ranks_end=0), 2,
     "lastframe=/nowhere")
ends("outside of SLURM", run(ranks_end=0, SLURM_JOB_ID=""), 2, "sbatch")
finish()
