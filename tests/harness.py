"""What the scripts of this folder share: a tiny store, runs of `lastframe train` on it and what they
leave behind. Not a test. A script is called with the program and mpiexec."""

import atexit
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

program, mpiexec = sys.argv[1:3]
words_left = sys.argv[3:]
here = pathlib.Path(tempfile.mkdtemp(prefix="lf-train-"))
atexit.register(shutil.rmtree, here, ignore_errors=True)
environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   PYTHONDONTWRITEBYTECODE="1")

BATCH = 12
CONFIG = """
source { generated { kind: "shapes" count: 240 } size: 8 }
recipe { frames: 3 }
model { autoencoder { width: 8 latent: 4 dropout: 0.3 } }
train {
  batch: 12 images: 480 log_images: 12 threads: 1 preview_images: 0
  optimizer { lr: 0.002 warmup_images: 60 }
  ema { half_life_images: 200 }
}
checkpoint { every_images: 120 every_minutes: 0 min_shard_mib: 0.002 }
loader { threads: 1 }
"""
ADVERSARIAL = ["model.autoencoder.gan_weight=0.1"]
(here / "config.pbtxt").write_text(CONFIG)


def check(condition, sentence):
    if not condition:
        sys.exit("FAILED: " + sentence)


def skip(reason):
    print("SKIPPED:", reason)
    sys.exit(77)


def execute(words, status=0, contains="", seconds=120, extra=None):
    """Runs a command to its end; its output, both streams, is returned."""
    done = subprocess.run([str(word) for word in words], env={**environment, **(extra or {})},
                          capture_output=True, text=True, errors="replace", timeout=seconds)
    text = done.stdout + done.stderr
    check(done.returncode == status and contains in text,
          f"{' '.join(map(str, words))}: status {done.returncode}, expected {status} and "
          f"'{contains}'\n{text}")
    return text


def output(*words):
    """Standard output of a command of the program that must succeed."""
    return subprocess.run([program, *map(str, words)], env=environment, check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def store(seed=0):
    """The folder of the tiny store, built once."""
    folder = here / f"store-{seed}"
    if not folder.exists():
        execute([program, "build", "--config", here / "config.pbtxt", "--set", "store.threads=1",
                 "--set", f"store.seed={seed}", "--set", f"source.generated.seed={seed}",
                 "--out", folder])
    return folder


def ranks(count):
    return [mpiexec, "-n", str(count), "--oversubscribe", "--bind-to", "none"] if count > 1 else []


def train_words(run, sets=(), until=0):
    words = [program, "train", "--config", here / "config.pbtxt", "--run", run,
             "--set", f"train.store={store()}"]
    for line in sets:
        words += ["--set", line]
    return words + (["--until-images", str(until)] if until else [])


def train(run, count=1, sets=(), until=0, **expected):
    return execute(ranks(count) + train_words(run, sets, until), **expected)


def start(run, count=1, sets=(), log=subprocess.DEVNULL):
    return subprocess.Popen([str(word) for word in ranks(count) + train_words(run, sets)],
                            env=environment, stdout=log, stderr=log, start_new_session=True)


def rank_processes(run, of=program):
    """The processes of a program that train in this run folder, the launcher left out."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == str(of).encode() and str(run).encode() in words:
            found.append(int(folder.name))
    return sorted(found)


def environ_of(pid):
    pairs = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def wait_until(condition, what, seconds=60):
    end = time.time() + seconds
    while not condition():
        check(time.time() < end, f"{what} did not happen in {seconds} s")
        time.sleep(0.01)


def lines(run):
    """What metrics.jsonl says so far; the line that is just being written is left out."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


TIMES = ("images_per_second", "images_per_second_per_rank", "data_wait", "communication",
         "checkpoint_stall", "overhead", "memory_bytes")


def learned(run):
    """metrics.jsonl without what depends on the clock."""
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines(run)]


def status(run):
    return json.loads((run / "status.json").read_text())


def latest(run):
    return run / "checkpoints" / pathlib.Path((run / "latest").read_text().strip()).name


def files_of(checkpoint):
    return {path.name: path.read_bytes() for path in checkpoint.glob("*.safetensors*")}


def tensors(path):
    """name -> numbers of the fp32 tensors of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            check(entry["dtype"] == "F32", f"{name} of {path} is {entry['dtype']}")
            found[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
    return found


def weights(run, kind="model"):
    found = {}
    for path in sorted(latest(run).glob(f"{kind}*.safetensors")):
        found.update(tensors(path))
    return found


def check_same_end(a, b, what):
    """Same losses of every step and same bytes of the last checkpoint."""
    for x, y in zip(learned(a), learned(b)):
        check(x == y, f"{what}: {x} and {y} differ")
    check(len(lines(a)) == len(lines(b)), f"{what}: {len(lines(a))} lines and {len(lines(b))}")
    check((b / "metrics.jsonl").read_bytes().endswith(b"\n"), f"{what}: the last line is torn")
    x, y = files_of(latest(a)), files_of(latest(b))
    check(x.keys() == y.keys() and len(x) >= 3, f"{what}: {sorted(x)} and {sorted(y)}")
    for name in x:
        check(x[name] == y[name], f"{what}: {name} differs")


def largest_difference(x, y):
    check(x.keys() == y.keys() and x, "different tensors")
    return max(abs(a - b) / max(1e-3, abs(a)) for name in x for a, b in zip(x[name], y[name]))
