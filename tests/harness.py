"""What all scripts of tests share: the program and mpirun, what to expect of them, a folder that goes
away, the tiny training, and what runs leave behind. Not a test.

By hand, from the root, a script runs as PYTHONPATH=tests python3 tests/train/resume_test.py 2. LASTFRAME
names another program than build/release/lastframe, MPIEXEC another mpirun. Status 0 is passed, 77 skipped.
"""

import ast
import atexit
import json
import math
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parents[1]
fixtures = root / "tests" / "fixtures"
program = os.environ.get("LASTFRAME") or str(root / "build" / "release" / "lastframe")
mpiexec = shutil.which(os.environ.get("MPIEXEC") or "mpirun") or "mpirun"
arguments = sys.argv[1:]
# The sample data: cifar10/, inception/, ... Tests of it are skipped where it is not.
data = pathlib.Path(os.environ.get("LASTFRAME_DATA") or root.parent / "shared" / "data")
sys.path.append(str(root / ".deps" / "tests"))  # launch/setup puts NumPy and others there
here = pathlib.Path(tempfile.mkdtemp(prefix="lf-test-"))
atexit.register(shutil.rmtree, here, ignore_errors=True)
# Other Python programs need not find this folder.
os.environ["PYTHONPATH"] = ":".join(path for path in os.environ.get("PYTHONPATH", "").split(":")
                                    if path and pathlib.Path(path).resolve() != root / "tests")
environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   PYTHONDONTWRITEBYTECODE="1")

# --- outcomes ---------------------------------------------------------------------------------------

failures = []


def check(condition, sentence):
    """Ends the script as failed unless `condition` holds."""
    if not condition:
        sys.exit("FAILED: " + sentence)


def expect(condition, sentence):
    """Counts a failure, and says so, unless `condition` holds; finish() ends the script."""
    if not condition:
        failures.append(sentence)
        print("FAILED:", sentence, flush=True)


def finish():
    print(f"{len(failures)} failed" if failures else "all passed")
    sys.exit(1 if failures else 0)


def skip(reason):
    print("SKIPPED:", reason)
    sys.exit(77)


# --- running ----------------------------------------------------------------------------------------


def run(*words, seconds=300, extra=None, text_in="", **more):
    """Runs a command; the result has returncode, stdout and stderr as text. `extra` goes into its
    environment."""
    return subprocess.run([str(word) for word in words], env={**environment, **(extra or {})},
                          capture_output=True, timeout=seconds, text=True, errors="replace",
                          input=text_in, **more)


def execute(words, status=0, contains="", seconds=300, extra=None):
    """Runs a command that must end with `status` and say `contains`; returns both streams."""
    done = run(*words, seconds=seconds, extra=extra)
    text = done.stdout + done.stderr
    check(done.returncode == status and contains in text,
          f"{' '.join(map(str, words))}: status {done.returncode}, expected {status} and "
          f"'{contains}'\n{text}")
    return text


def output(*words, seconds=300):
    """Standard output of a command of the program that must succeed."""
    done = run(program, *words, seconds=seconds)
    check(done.returncode == 0, f"{words}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def built_without(library):
    """Whether the program lacks an optional library."""
    return any(library in text for text in json.loads(output("doctor", "--json"))["built_without"])


def json_in(text):
    """The report of a command called with --json, among what else it says."""
    return json.loads(next(line for line in text.splitlines() if line.startswith("{")))


def ranks(count):
    """The words that start a command on so many ranks; none for one."""
    return [mpiexec, "-n", str(count), "--oversubscribe", "--bind-to", "none"] if count > 1 else []


def cpu_seconds(*words):
    """User and system time of one command, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def is_one_sentence(stderr):
    """True for one line 'lastframe: ...' without a stack or a path into LibTorch's sources."""
    said = [line for line in stderr.splitlines() if line.strip()]
    if len(said) != 1 or not said[0].startswith("lastframe: "):
        return False
    return not any(word in said[0] for word in ("frame #", "Exception raised from", "terminate"))


def wait_until(condition, what, seconds=60):
    end = time.time() + seconds
    while not condition():
        check(time.time() < end, f"{what} did not happen in {seconds} s")
        time.sleep(0.01)


def command_lines():
    """(process id, words) of everything that runs."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        yield int(folder.name), words


def rank_processes(run, of=program):
    """The processes of a program that train in this run folder, the launcher left out."""
    return sorted(pid for pid, words in command_lines() if words[0] == str(of) and str(run) in words)


def environ_of(pid):
    pairs = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


# --- files ------------------------------------------------------------------------------------------


def flip_bit(path, at=None):
    """Flips a bit of a file's byte, the middle one unless `at` says which."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if at is None else at] ^= 16
    path.write_bytes(content)


def write_npy(path, kind, shape, content):
    """A .npy file; kind is NumPy's, '<f4' or '|u1'."""
    header = str({"descr": kind, "fortran_order": False, "shape": tuple(shape)})
    header += " " * (-(10 + len(header) + 1) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + content)
    return path


def read_npy(path_or_bytes):
    """(kind, shape, bytes) of a .npy file."""
    content = path_or_bytes if isinstance(path_or_bytes, bytes) else path_or_bytes.read_bytes()
    check(content.startswith(b"\x93NUMPY"), f"{str(path_or_bytes)[:200]} is no .npy file")
    begin = 10 + struct.unpack("<H", content[8:10])[0]
    header = ast.literal_eval(content[10:begin].decode())
    check(not header["fortran_order"], f"{header}")
    return header["descr"], header["shape"], content[begin:]


def pixels(path, shape):
    """The bytes of a .npy file that must hold bytes of this shape."""
    kind, found, content = read_npy(path)
    check(kind == "|u1" and found == tuple(shape) and len(content) == math.prod(shape),
          f"{path} holds {len(content)} bytes, {kind} of {found}, expected {shape}")
    return content


def rows_of(path_or_bytes):
    """The rows of a .npy file of floats."""
    kind, (count, width), content = read_npy(path_or_bytes)
    values = struct.unpack({"<f4": "<%df", "<f8": "<%dd"}[kind] % (count * width), content)
    return [values[i * width:(i + 1) * width] for i in range(count)]


# --- the tiny training ------------------------------------------------------------------------------

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
config = here / "config.pbtxt"
config.write_text(CONFIG)


def with_sets(sets):
    """The words --set LINE of each line."""
    return [word for line in sets for word in ("--set", line)]


def store(seed=0):
    """The folder of the tiny store, built once."""
    folder = here / f"store-{seed}"
    if not folder.exists():
        execute([program, "build", "--config", config, "--out", folder, *with_sets(
            ["store.threads=1", f"store.seed={seed}", f"source.generated.seed={seed}"])])
    return folder


def train_words(run, sets=(), until=0):
    words = [program, "train", "--config", config, "--run", run,
             *with_sets([f"train.store={store()}", *sets])]
    return words + (["--until-images", str(until)] if until else [])


def train(run, count=1, sets=(), until=0, **expected):
    return execute(ranks(count) + train_words(run, sets, until), **expected)


def start(run, count=1, sets=(), log=subprocess.DEVNULL):
    return subprocess.Popen([str(word) for word in ranks(count) + train_words(run, sets)],
                            env=environment, stdout=log, stderr=log, start_new_session=True)


# --- what a run leaves behind -------------------------------------------------------------------------


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
    """name -> values of the fp32 tensors of a safetensors file."""
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
