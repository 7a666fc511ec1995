"""lastframe sweep --slurm: one job makes what the runs share, and an array of one element a run waits for it. A more
urgent job takes the nodes from the elements, which are requeued and resume; the results are those of a calm sweep on
this machine."""

from jobs import *

write_config(here / "config.pbtxt", DAYS)
sweep = here / "tiny.sweep"
sweep.write_text("""
config: "config.pbtxt" arm { name: "a" } seeds: 3 images: 8000 minimum_steps: 100 samples: 40 pictures: 0
measure { metric: "psnr" curve: true }
""")
(here / "slurm").mkdir()
(here / "slurm" / "sweep.sbatch").write_text(edited(
    "sweep", {"nodes": 1, "ntasks-per-node": 2, "cpus-per-task": 1, "time": 10},
    {"home": root, "lastframe": program}))


class Submitted(Job):
    """A job that the sweep submitted."""

    def __init__(self, name, number):
        self.name, self.number = name, number
        submitted.append(self)


def call(*words):
    done = inside("env", "SBATCH_PARTITION=srun", program, "sweep", sweep, "--out", here / "out", *words)
    check(done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{queue()}")
    return done.stdout


first, rest = re.findall(r"\b(\d+)\b \(", call("--slurm"))
shared, array = Submitted("shared", f"{first}_0"), Submitted("array", rest)
shared.wait_for("COMPLETED")
element = array.element(1)
runs = here / "out" / "runs"
wait_until(lambda: any(steps(run) > 20 for run in runs.glob("a-0-*")), "20 steps of the first run")
urgent("srun").wait_for("COMPLETED")
element.wait_for_life(1)
for number in (1, 2, 3):
    array.element(number).wait_for("COMPLETED")
check(call("--status").splitlines() == [f"a seed {seed}: FINISHED" for seed in range(3)], call("--status"))
check(len(list((next(runs.glob("a-0-*")) / "lives").iterdir())) == 2, "the first run was not interrupted")

execute([program, "sweep", sweep, "--out", here / "calm", "--ranks", 2, "--jobs", 1], seconds=300)


def results(folder):
    found = json.loads((folder / "results.json").read_text())
    for one in found["arms"][0]["runs"]:
        one.pop("seconds")
    return found


check(results(here / "out") == results(here / "calm"), f"{results(here / 'out')}\n{results(here / 'calm')}")
