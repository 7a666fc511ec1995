"""What the drivers of experiments share: calls of lastframe that stop cleanly, what a run's numbers depend
on, rows of finished runs, paired differences over seeds, and pictures. Standard library only."""
import fcntl
import hashlib
import json
import math
import os
import pathlib
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

root = pathlib.Path(__file__).resolve().parents[2]


class WrongUse(Exception):
    """Exit status 2."""


class Failed(Exception):
    """A call of lastframe that failed."""


class Stopped(Exception):
    """Time is up, or Ctrl-C: the same command resumes. Exit status 75."""


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def digest(what):
    """16 hexadecimal digits of a file, or of anything that JSON can hold."""
    content = what.read_bytes() if isinstance(what, pathlib.Path) else json.dumps(what, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def digest_of_files(folder, files):
    """Of the names below `folder` and the bytes of files."""
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode() + file.read_bytes())
    return found.hexdigest()[:16]


def with_sets(sets):
    return [word for line in sets for word in ("--set", line)]


class Lab:
    """A folder of stores and runs, and the program. Its methods may be called from several threads."""

    def __init__(self, folder, jobs, seconds=None):
        self.folder, self.jobs = pathlib.Path(folder).resolve(), jobs
        self.program = os.environ.get("LASTFRAME") or subprocess.run(
            [root / "launch" / "setup"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1]
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self.end = time.time() + (seconds or math.inf)
        self.children, self.lock, self.stopping = set(), threading.Lock(), False
        self.environment, self.configs = {**os.environ, "OMP_NUM_THREADS": "1"}, {}

    def stop(self):
        """Every call saves what it has done, and raises Stopped; later calls raise it at once."""
        with self.lock:
            self.stopping = True
            for child in self.children:
                child.send_signal(signal.SIGUSR1)

    def call(self, *words, log="log"):
        """Standard output of a call of lastframe; what it reports goes to logs/LOG."""
        words = [str(word) for word in (self.program, *words)]
        with open(self.folder / "logs" / log, "a+") as told:
            with self.lock:
                if self.stopping:
                    raise Stopped
                # A session of its own: the terminal's Ctrl-C reaches only us.
                child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=told, text=True, cwd=root,
                                         env=self.environment, start_new_session=True)
                self.children.add(child)
            out = child.communicate()[0]
            with self.lock:
                self.children.discard(child)
            if child.returncode and self.stopping and child.returncode in (75, -signal.SIGUSR1):
                raise Stopped
            if child.returncode:
                told.seek(0)
                raise Failed(f"`lastframe {words[1]}` ended with status {child.returncode}: "
                             f"{(told.read().strip().splitlines() or ['nothing said'])[-1]}")
        return out

    def json(self, *words, **more):
        return json.loads(self.call(*words, "--json", **more).strip().splitlines()[-1])

    def kept(self, name, find):
        """What `find` returned when `name` was first asked for, by this command or by an earlier one."""
        file = self.folder / "kept" / f"{name}.json"
        if not file.exists():
            value = find()
            file.parent.mkdir(exist_ok=True)
            part = file.with_suffix(f".{threading.get_ident()}")
            part.write_text(json.dumps(value) + "\n")
            part.replace(file)
        return json.loads(file.read_text())

    def train(self, run, words):
        """Trains to the end, and returns the seconds that all calls for this run took."""
        spent = self.folder / "kept" / f"{run.name}.seconds"
        spent.parent.mkdir(exist_ok=True)
        begin = time.time()
        try:
            if '"state":"finished"' not in (run / "status.json").read_text():
                raise FileNotFoundError
        except FileNotFoundError:
            try:
                self.call("train", "--run", run, *words, "--set", "train.threads=1", "--set", "loader.threads=1",
                          log=run.name)
            finally:
                with open(spent, "a") as file:
                    file.write(f"{time.time() - begin}\n")
        return sum(map(float, spent.read_text().split())) if spent.exists() else None

    def export(self, run, weights):
        if not weights.exists():
            part = weights.with_suffix(".part.safetensors")
            self.call("export", run, "--out", part)
            part.replace(weights)
        return weights

    def speed(self, words):
        """Seconds of a step while `jobs` such trainings go at once."""
        return max(told["ms_per_step"] for told in self.at_once(lambda _: self.json(
            "bench", "step", "--seconds", 3, "--threads", 1, *words), range(self.jobs))) / 1000

    def at_once(self, work, things):
        """[work(thing) for thing in things], `jobs` at a time."""
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                futures = [pool.submit(work, thing) for thing in things]
                while not all(future.done() for future in futures):
                    if time.time() > self.end and not self.stopping:
                        say("time is up: saving checkpoints")
                        self.stop()
                    time.sleep(0.1)
            except KeyboardInterrupt:
                say("interrupted: saving checkpoints")
                self.stop()
            return [future.result() for future in futures]

    def resolved(self, words):
        """The whole config, with defaults, of `train` with these words; steps, bits, and parameters."""
        key = tuple(map(str, words))
        if key not in self.configs:
            self.configs[key] = self.json("train", *words, "--dry-run", "--no-memory")
        return self.configs[key]

    def departures(self, config):
        """Where a whole config departs from the defaults, in what decides a run's numbers. Options that later
        versions add leave it as it is; paths are no part of it."""
        listed = self.kept(f"options-{digest(pathlib.Path(self.program))}",
                           lambda: {row["name"]: row["default"] for row in self.json("list", "options")["options"]})
        out = {}

        def walk(path, value):
            if isinstance(value, dict):
                for name, inner in value.items():
                    # What is chosen is named, though all within it be as the defaults are.
                    if isinstance(inner, dict) and path.split(".")[-1] in ("recipe", "model", "quantiser"):
                        out[f"{path}.{name}"] = "chosen"
                    walk(f"{path}.{name}", inner)
            elif path.split(".")[-1] not in ("threads", "network", "store", "validation_store", "prefetch") and \
                    not path.startswith(("train.log_", "train.preview_", "train.validation_")):
                default = listed.get(path, "")
                text = json.dumps(value) if isinstance(value, (bool, str)) else str(value)
                if default not in (text, str(value)):
                    out[path] = value
        for part in ("recipe", "store", "model", "train", "loader"):
            walk(part, config.get(part, {}))
        for name in ("size", "channels"):
            walk(f"source.{name}", config["source"].get(name, 0))
        out.pop("store.mode", None)
        return out


# --- rows -------------------------------------------------------------------------------------------


def rows_of(file):
    """Finished runs by their hash."""
    out = {}
    for number, line in enumerate(file.read_text().splitlines() if file.exists() else [], 1):
        try:
            row = json.loads(line)
            out[row["hash"]] = row
        except (ValueError, KeyError, TypeError):
            raise WrongUse(f"{file} holds no row in line {number}; remove the line") from None
    return out


def add_row(file, row):
    """Appends a row, unless there is one of its hash, whoever else appends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a") as out:
        fcntl.flock(out, fcntl.LOCK_EX)
        if row["hash"] not in rows_of(file):
            out.write(json.dumps(row, sort_keys=True) + "\n")
            out.flush()
            os.fsync(out.fileno())


def commit():
    done = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


# --- statistics -------------------------------------------------------------------------------------


def spread(values, form):
    if not values:
        return "-"
    if len(set(values)) == 1:
        return f"{values[0]:{form}}"
    return f"{statistics.mean(values):{form}} ± {statistics.stdev(values):{form}}"


def compare(first, second, sign):
    """The word for paired values {seed: value}, with the mean of the differences, its standard error and n.
    `sign` is 1 where high values are good and -1 where low ones are."""
    found = [sign * (first[seed] - second[seed]) for seed in sorted(first.keys() & second.keys())]
    if len(found) < 2:
        return {"verdict": "undecided", "n": len(found), "mean": found[0] if found else None, "error": None}
    mean, error = statistics.mean(found), statistics.stdev(found) / math.sqrt(len(found))
    clear = len(found) >= 3 and (min(found) > 0 or max(found) < 0) and abs(mean) > 2 * error
    return {"verdict": ("won" if mean > 0 else "lost") if clear else "undecided", "n": len(found), "mean": mean,
            "error": error}


# --- pictures ---------------------------------------------------------------------------------------


def frames_of(file):
    """The shape of an array of clips [n, T, H, W, C] of bytes, and its bytes."""
    data = file.read_bytes()
    begin = 10 + struct.unpack("<H", data[8:10])[0]
    assert b"'|u1'" in data[:begin], f"{file} is not of bytes"
    shape = data[10:begin].decode().split("'shape': (")[1].split(")")[0]
    return [int(side) for side in shape.split(",") if side.strip()], memoryview(data)[begin:]


def frame(clips, clip, index):
    """The bytes of a frame of a clip; index -1 is the last."""
    (_, count, height, width, channels), data = clips
    size = height * width * channels
    begin = (clip * count + index % count) * size
    return bytes(data[begin:begin + size])


def write_frames(file, clips, index):
    """One frame of every clip, as an array [n, H, W, C]."""
    count, _, *shape = clips[0]
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(count, *shape)}, }}"
    header += " " * (-(11 + len(header)) % 64) + "\n"
    with open(file, "wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for clip in range(count):
            out.write(frame(clips, clip, index))


def write_grid(file, rows, side, zoom=3):
    """A PNG of rows of square RGB images, enlarged."""
    lines = []
    for row in rows:
        for y in range(side):
            line = b"".join(image[at:at + 3] * zoom for image in row
                            for at in range(y * side * 3, (y + 1) * side * 3, 3))
            lines += [b"\0" + line] * zoom

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    size = struct.pack(">IIBBBBB", len(rows[0]) * side * zoom, len(lines), 8, 2, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) +
                     chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b""))
