"""The rows of tools/peers/engine: what is run, in which turns, and what comes out. Not a program.

Each row is a function of a Bench; it returns Results. Contenders of a row take turns within every
round, and a ratio is the median over the rounds of the rounds' own ratios, so that other work on the
machine falls on all of them.
"""
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

# glibc's malloc told to keep what was freed, as lastframe tells its own: without it PyTorch's steps
# take up to 1.7 times as long in page faults.
TUNED_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000",
                "MALLOC_TOP_PAD_": str(64 << 20)}

# Sizes of model.autoencoder: width, multipliers, latent, clip (frames, height, width, channels), batch.
SMALL = (8, [1, 2], 4, (4, 16, 16, 3), 4)       # bound by what surrounds the arithmetic
CIFAR = (64, [1, 2, 2], 16, (8, 32, 32, 3), 8)  # an image net's width on clips of 8 frames
LARGE = (64, [1, 2, 4], 16, (8, 32, 32, 3), 16)
HEAVY = (168, [1, 2, 4], 16, (2, 8, 8, 3), 8)   # weights, averages and moments of about 200 MB


@dataclass
class Result:
    """One line of the report: a figure, the bound it is to keep, and what it comes from."""
    name: str
    value: float
    bound: float
    at_most: bool  # else at least
    details: dict = field(default_factory=dict)

    def kept(self):
        return self.value <= self.bound if self.at_most else self.value >= self.bound


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def python_with(folder, packages):
    """The python of a virtual environment in `folder` that has these packages."""
    venv = folder / "venv"
    python, mark = venv / "bin" / "python", venv / "packages"
    wanted = " ".join(packages)
    if not mark.exists() or mark.read_text() != wanted:
        say(f"making the virtual environment {venv} with {wanted}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages],
                       check=True, stdout=sys.stderr)
        mark.write_text(wanted)
    return str(python)


def last_object(text):
    """The last line of JSON of what a command printed."""
    return json.loads(next(line for line in reversed(text.splitlines()) if line.startswith("{")))


@dataclass
class Bench:
    program: str
    python: str  # of an environment with torch
    folder: pathlib.Path
    rounds: int
    seconds: int

    def environment(self, threads, **more):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "OMPI_COMM"))}
        return {**clean, "OMP_NUM_THREADS": str(threads), "OMPI_ALLOW_RUN_AS_ROOT": "1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **more}

    def execute(self, words, threads=1, **more):
        """Standard output of a command that must succeed."""
        words = [str(word) for word in words]
        done = subprocess.run(words, env=self.environment(threads, **more), capture_output=True, text=True,
                              errors="replace")
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: status {done.returncode}: {done.stderr.strip()[-600:]}")
        return done.stdout

    def ranks(self, count):
        return ["mpirun", "-n", count, "--oversubscribe", "--bind-to", "none"] if count > 1 else []

    def step(self, size, threads=1, ranks=1, precision="FP32"):
        """`lastframe bench step`, every rank with the size's whole batch."""
        words = [self.program, "bench", "step", "--json", "--threads", threads, "--seconds", self.seconds]
        words += sets(size, ranks) + ["--set", f"train.precision={precision}"]
        return json.loads(self.execute(self.ranks(ranks) + words, threads))

    def twin_step(self, size, threads=1, ranks=1, precision="FP32"):
        """The same network in PyTorch; over several ranks with torchrun and DDP over gloo."""
        width, multipliers, latent, clip, batch = size
        words = [twin_script(), "step", "--clip", commas(clip), "--batch", batch, "--width", width,
                 "--multipliers", commas(multipliers), "--latent", latent, "--threads", threads,
                 "--seconds", self.seconds, "--precision", precision]
        if ranks > 1:
            words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", ranks, *words, "--ddp"]
        out = self.execute([self.python, *words], threads, **TUNED_MALLOC)
        return json.loads([line for line in out.splitlines() if line.startswith("{")][-1])

    def store(self, size):
        """A store of the size's clips, built once."""
        folder = self.folder / ("store-" + "x".join(map(str, size[3])))
        if not (folder / "index").exists():
            self.execute([self.program, "build", *sets(size), "--out", folder])
        return folder

    def train_words(self, size, run, images, more=()):
        words = [self.program, "train", "--run", run, "--until-images", images, *sets(size)]
        for line in ("train.threads=1", "train.preview_images=0", f"train.log_images={size[4]}",
                     f"train.store={self.store(size)}", "checkpoint.every_minutes=0", *more):
            words += ["--set", line]
        return words


def twin_script():
    return str(pathlib.Path(__file__).with_name("engine_twin.py"))


def commas(values):
    return ",".join(map(str, values))


def sets(size, ranks=1):
    width, multipliers, latent, (frames, height, _, _), batch = size
    lines = ["source.generated.kind=shapes", "source.generated.count=1024", f"source.size={height}",
             f"recipe.frames={frames}", f"train.batch={batch * ranks}", f"model.autoencoder.width={width}",
             f"model.autoencoder.multipliers={commas(multipliers)}", f"model.autoencoder.latent={latent}"]
    return [word for line in lines for word in ("--set", line)]


def lines_of(run):
    path = pathlib.Path(run) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def seconds_of_line(line, batch):
    return batch / line["images_per_second"]


def median_ratio(above, below):
    return statistics.median(a / b for a, b in zip(above, below))


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


# ---- rows -----------------------------------------------------------------------------------------


def overhead(bench):
    """Time in the training loop outside model and communication, at a CIFAR-size model."""
    shares, steps = [], 4 + 4 * bench.rounds
    for number in range(2):
        run = bench.folder / f"overhead-{number}"
        shutil.rmtree(run, ignore_errors=True)
        bench.execute(bench.train_words(CIFAR, run, steps * CIFAR[4], ["checkpoint.every_images=0"]))
        shares += [line["overhead"] for line in lines_of(run)[3:]]  # the first steps make memory
        shutil.rmtree(run)
    return [Result("overhead share of a step", statistics.median(shares), 0.03, True, spread(shares))]


def write_speed(bench, size, folder):
    """Bytes a second of dd with conv=fsync, which writes what it is given in one stream."""
    path = pathlib.Path(folder) / "dd"
    begin = time.perf_counter()
    bench.execute(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size >> 20}", "conv=fsync"])
    took = time.perf_counter() - begin
    path.unlink()
    return (size >> 20 << 20) / took


def written(run, size):
    """Bytes a second of each save of the run, as its log tells."""
    log = (pathlib.Path(run) / "logs" / "rank-0000.log").read_text(errors="replace")
    lines = [line for line in log.splitlines() if " written and synced in " in line]
    return [size / float(line.rsplit(" s", 1)[0].split()[-1]) for line in lines]


def save_run(bench, asynchronous):
    """A run of three saves; its folder and batch."""
    batch, run = HEAVY[4], bench.folder / "save"
    shutil.rmtree(run, ignore_errors=True)
    bench.execute(bench.train_words(HEAVY, run, 80 * batch, [
        f"checkpoint.every_images={20 * batch}", "checkpoint.keep_last=1",
        f"checkpoint.asynchronous={'true' if asynchronous else 'false'}"]))
    return run


def newest(bench, run):
    listed = json.loads(bench.execute([bench.program, "inspect", run, "--json"]))["checkpoints"][0]
    return pathlib.Path(run) / "checkpoints" / listed["name"], listed["bytes"]


def save(bench):
    """What an asynchronous save costs the loop against torch.save, and how fast a save is written."""
    stalls, slowed, saves, stall_ratios, slow_ratios, ours, dd = [], [], [], [], [], [], []
    for _ in range(bench.rounds):
        run = save_run(bench, asynchronous=True)
        steps = lines_of(run)
        walls = [seconds_of_line(line, HEAVY[4]) for line in steps]
        # A save after step n falls into the interval of line n + 1.
        held = [line["checkpoint_stall"] * wall for line, wall in zip(steps, walls)]
        stall = statistics.median(held[at] for at in (20, 40, 60))
        calm = statistics.median(walls)
        extra = statistics.median(sum(walls[at:at + 15]) - 15 * calm for at in (20, 40, 60))
        checkpoint, size = newest(bench, run)
        twin = json.loads(bench.execute([bench.python, twin_script(), "save", "--checkpoint", checkpoint,
                                         "--dir", bench.folder], **TUNED_MALLOC))
        stalls.append(stall)
        slowed.append(extra)
        saves.append(twin["save_s"])
        stall_ratios.append(stall / twin["save_s"])
        slow_ratios.append(extra / twin["save_s"])
        shutil.rmtree(run)
        run = save_run(bench, asynchronous=False)
        ours.append(statistics.median(written(run, size)))
        dd.append(write_speed(bench, size, bench.folder))
        shutil.rmtree(run)
    return [
        Result("asynchronous save: stall / torch.save", statistics.median(stall_ratios), 0.10, True,
               {"stall_s": spread(stalls), "torch_save_s": spread(saves), "bytes": size}),
        # The core that writes is taken from training where there is none to spare.
        Result("the same with the steps slowed behind it", statistics.median(slow_ratios), 0.10, True,
               {"seconds": spread(slowed)}),
        Result("write and fsync bandwidth / dd", median_ratio(ours, dd), 0.8, False,
               {"ours_bytes_per_s": spread(ours), "dd_bytes_per_s": spread(dd)}),
    ]


def read_seconds(checkpoint):
    begin = time.perf_counter()
    for path in pathlib.Path(checkpoint).iterdir():
        path.read_bytes()
    return time.perf_counter() - begin


def first_step_seconds(bench, words, run):
    """From starting the command to the line of its first step."""
    before, begin = len(lines_of(run)), time.perf_counter()
    with subprocess.Popen([str(word) for word in words], env=bench.environment(1), stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True) as process:
        while len(lines_of(run)) <= before and process.poll() is None:
            time.sleep(0.002)
        took = time.perf_counter() - begin
        errors = process.communicate()[1]
    if process.returncode != 0 or len(lines_of(run)) <= before:
        raise RuntimeError(f"{run} was not resumed: status {process.returncode}: {errors[-600:]}")
    return took


def resume(bench):
    """From the start of a process to the end of its first step, with a state of 200 MB to take up."""
    batch, run = HEAVY[4], bench.folder / "resume"
    shutil.rmtree(run, ignore_errors=True)
    results, images = [], 0
    for ranks in (1, 2):
        bench.execute(bench.train_words(HEAVY, run, images + batch))  # ends with a checkpoint
        images += batch
        starts, reads = [], []
        for _ in range(bench.rounds):
            images += batch
            reads.append(read_seconds(newest(bench, run)[0]))
            words = bench.ranks(ranks) + bench.train_words(HEAVY, run, images)
            starts.append(first_step_seconds(bench, words, run))
        beyond = statistics.median(start - read for start, read in zip(starts, reads))
        results.append(Result(f"resume, {ranks} rank(s): seconds to the first step less reading", beyond, 3, True,
                              {"start_s": spread(starts), "read_s": spread(reads)}))
    shutil.rmtree(run)
    return results


def step(bench):
    """A step against the same network in eager PyTorch: same threads, same dtype, both tuned."""
    for name, size, bound in (("small", SMALL, 0.9), ("large", LARGE, 1.03)):
        for precision in ("FP32", "BF16"):
            for threads in (1, 2):
                ours, theirs = [], []
                for _ in range(bench.rounds):
                    mine = bench.step(size, threads, precision=precision)
                    twin = bench.twin_step(size, threads, precision=precision)
                    if mine["parameters"] != twin["parameters"]:
                        raise RuntimeError(f"the twin has {twin['parameters']} parameters, the model "
                                           f"{mine['parameters']}: they are not the same network any more")
                    ours.append(mine["ms_per_step"])
                    theirs.append(twin["ms_per_step"])
                yield Result(
                    f"step, {name}, {precision}, {threads} thread(s): lastframe / PyTorch",
                    median_ratio(ours, theirs), bound, True,
                    {"lastframe_ms": spread(ours), "pytorch_ms": spread(theirs), "torch": twin["torch"],
                     "parameters": mine["parameters"], "peak_bytes": mine["peak_bytes"]})


def scaling(bench):
    """Weak scaling from one rank to two, a thread each, and DDP's over gloo beside it."""
    times = {"lastframe": {1: [], 2: []}, "DDP": {1: [], 2: []}}
    for _ in range(bench.rounds):
        for ranks in (1, 2):
            times["lastframe"][ranks].append(bench.step(CIFAR, 1, ranks)["ms_per_step"])
            times["DDP"][ranks].append(bench.twin_step(CIFAR, 1, ranks)["ms_per_step"])
    efficiency = {name: median_ratio(by[1], by[2]) for name, by in times.items()}
    details = {f"{name}_{ranks}_ms": spread(ms) for name, by in times.items() for ranks, ms in by.items()}
    return [Result("weak scaling, 2 ranks of 1 thread", efficiency["lastframe"], 0.9, False,
                   {"ddp_gloo": efficiency["DDP"], **details})]


ROWS = {"overhead": overhead, "save": save, "resume": resume, "step": step, "scaling": scaling}
