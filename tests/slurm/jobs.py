"""What the scripts of this folder share: sbatch files edited as a user edits them, jobs of the test
cluster, and their runs beside calm ones. Not a test. A script is called with the
cluster's folder and what else it asks for.

A job's first life would train for days. It is stopped by what the test does to it; later lives wait
at a gate until the test has said how far they are to go, so nothing depends on how fast anything is.
"""

import copy
import re
import signal

import cluster
from harness import *

folder = pathlib.Path(arguments.pop(0))
if cluster.find(folder, "login") is None:
    skip("no test cluster is up; slurm.the_cluster_starts says why")

SRUN, MPIRUN = "USR1", "B:USR1"  # what --signal says, and so who starts the ranks
DAYS = 10**9
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL", "TIMEOUT", "PREEMPTED")
submitted = []


def inside(*words):
    """A command on the login node; its jobs have lower priority than the daemons."""
    return subprocess.run(["nice", *cluster.words_inside(folder, words, here)], env=environment,
                          capture_output=True, text=True, timeout=120)


def wait_until(condition, what, seconds=180):
    end = time.time() + seconds
    while not condition():
        check(time.time() < end, f"{what} did not happen in {seconds} s\n" + queue())
        time.sleep(0.2)


def queue():
    """What SLURM knows, and the last that each job of this test said, for messages."""
    said = (f"{job.name}:\n" + "".join(job.output().splitlines(True)[-15:]) for job in submitted)
    return inside("squeue", "--states=all").stdout + "".join(said)


def edited(name, directives, settings):
    """slurm/NAME.sbatch with lines of its top replaced, all of which must be there."""
    text = (root / "slurm" / f"{name}.sbatch").read_text()
    top = {rf"#SBATCH --{key}=.*": f"#SBATCH --{key}={value}" for key, value in directives.items()}
    top.update({rf"{key}=.*": f"{key}={value}" for key, value in settings.items()})
    for old, new in top.items():
        text, count = re.subn(rf"^{old}$", lambda _: new, text, flags=re.M)
        check(count == 1, f"{name}.sbatch has {count} lines like {old}")
    return text


def write_config(path, images):
    path.write_text(CONFIG.replace("images: 480", f"images: {images}"))


def executable(name, text):
    path = here / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def gated(name, gate, life):
    """The program, which from that life of its job on waits for the file `gate`."""
    return executable(f"{name}.program", f"""#!/bin/sh
echo "rank on $(hostname) sees $CUDA_VISIBLE_DEVICES"
while [ ${{SLURM_RESTART_COUNT:-0}} -ge {life} ] && [ ! -e {gate} ]; do sleep 0.1; done
exec {program} "$@"
""")


class Job:
    """A job of this test, submitted, or the element of an array that was."""

    def __init__(self, name, text, *options):
        script = executable(f"{name}.sbatch", text)
        done = inside("sbatch", "--parsable", *options, script)
        check(done.returncode == 0, f"sbatch {script}: {done.stderr}")
        self.name, self.number = name, done.stdout.strip()
        submitted.append(self)

    def element(self, number):
        one = copy.copy(self)
        one.number = f"{self.number}_{number}"
        return one

    def field(self, name):
        record = inside("scontrol", "--oneliner", "show", "job", self.number).stdout
        found = re.search(rf" {name}=(\S*)", record)
        return found[1] if found else ""

    def output(self):
        path = pathlib.Path(self.field("StdOut"))
        return path.read_text(errors="replace") if path.is_file() else ""

    def wait_for(self, *states):
        def there():
            now = self.field("JobState")
            check(now in states or now not in ENDED,
                  f"{self.name} is {now}, expected {states}\n{queue()}")
            return now in states
        wait_until(there, f"{self.name}, job {self.number}: {states}")

    def wait_for_life(self, number):
        wait_until(lambda: int(self.field("Restarts")) >= number,
                   f"restart {number} of {self.name}")


@atexit.register
def cancel_all():
    """Nothing of ours is to be running when the folder goes."""
    numbers = [job.number for job in submitted]
    if not numbers or cluster.find(folder, "login") is None:
        return
    inside("scancel", *numbers)
    for _ in range(150):
        if not inside("squeue", "-h", "-j", ",".join(numbers)).stdout.strip():
            return
        time.sleep(0.2)


class Training(Job):
    """A job of train.sbatch on a run of its own, whose lives from `gate_from` on wait at the gate
    (the first is 0). `warned` is False for a site whose SLURM ignores --signal at preemption.
    """

    def __init__(self, name, pool, warning, nodes=2, tasks=2, images=DAYS, gate_from=1, sets=(),
                 warned=True, directives=(), options=()):
        self.run, self.gate, self.ranks = here / name, here / f"{name}.gate", nodes * tasks
        self.config, self.sets = here / f"{name}.pbtxt", list(sets)
        self.aim(images)
        words = " ".join(f"--set {line}" for line in (f"train.store={store()}", *self.sets))
        text = edited("train", {"nodes": nodes, "ntasks-per-node": tasks, "cpus-per-task": 1,
                                "time": 10, "signal": f"{warning}@60", **dict(directives)},
                      {"home": root, "lastframe": gated(name, self.gate, gate_from),
                       "run": self.run, "config": self.config, "options": f"({words})"})
        if not warned:  # a comment, to SLURM
            text = text.replace("#SBATCH --signal=", "#SBATCH --comment=--signal=")
        super().__init__(name, text, "--partition", pool, *options)

    def aim(self, images):
        """How far lives that start from now on are to train."""
        write_config(self.config, images)

    def wait_for_steps(self, more=20):
        aim = steps(self.run) + more

        def there():
            check(self.field("JobState") not in ENDED, f"{self.name} has ended\n{queue()}")
            return steps(self.run) >= aim
        wait_until(there, f"{more} steps of {self.name}")

    def finish(self):
        """Lets the last life train for ten more steps, and compares the run with a calm one."""
        images = lines(self.run)[-1]["images"] + 10 * BATCH
        self.aim(images)
        self.gate.touch()
        self.wait_for("COMPLETED")
        self.check_finished(images)

    def check_finished(self, images):
        check_finished(self.run, self.ranks, images, self.sets)


def steps(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until_left(run):
    """Until the ranks have left with a checkpoint; the image they left at."""
    wait_until(lambda: (run / "status.json").exists() and status(run)["state"] != "running",
               f"{run.name} leaving")
    left = status(run)
    saved = int(latest(run).name.split("-")[1])
    check(left["state"] == "interrupted" and left["images"] == saved, f"{run.name}: {left}, {saved}")
    return left["images"]


def resumed_from(run, life):
    """The image at which the first, second, ... start of the run took it up."""
    record = sorted((run / "lives").iterdir())[life - 1].read_text()
    return int(re.search(r"resumed_from_images: (\d+)", record)[1])


def check_finished(run, ranks, images, sets=()):
    """A run is finished, and all it left is what a calm one leaves."""
    found = status(run)
    check(found["state"] == "finished" and found["images"] == images, f"{run.name}: {found}")
    calm = here / f"{run.name}-calm"
    train(calm, ranks, [f"train.images={images}", *sets], seconds=300)
    check_same_end(calm, run, run.name)
    check(exported(calm) == exported(run), f"the exported weights of {run.name} differ")


def exported(run):
    path = here / f"{run.name}.safetensors"
    execute([program, "export", run, "--out", path])
    return path.read_bytes()


def urgent(pool):
    """A job that takes the pool's two nodes from whoever is there, for a moment."""
    return Job(f"urgent-{pool}", "#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n", "--exclusive",
               "--partition", f"{pool}-urgent", "--nodes", "2")


def node_of(pid):
    """The node a process is on, told by its host name's namespace."""
    def space(process):
        return os.readlink(f"/proc/{process}/ns/uts")
    nodes = {space(init): node for node in cluster.NODES
             if (init := cluster.find(folder, "node", node)) is not None}
    return nodes.get(space(pid), "")


def cut_power(node):
    os.kill(cluster.find(folder, "node", node), signal.SIGKILL)


def kill_slurmd(node):
    for pid, words in cluster.processes():
        if words[0] == "slurmd" and node in words:
            os.kill(pid, signal.SIGKILL)
