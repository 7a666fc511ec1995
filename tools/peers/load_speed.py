#!/usr/bin/env python3
"""Loads random clips with `lastframe bench load` and with other readers, taking turns, and prints ratios.

    tools/peers/load_speed.py --program build/release/lastframe --dir /scratch/load-speed

Everybody reads the same clips (8 frames of 32x32x3 uint8, 24,576 bytes, warm in the page cache) in
batches of 64 in a fresh random order each epoch. The readers stay alive and measure one short window
each, in turn, for several rounds, so that other load on the machine falls on all of them; the figure
is the median over the rounds, the ratio the median of the rounds' own ratios.

The peers live in a virtual environment made in --dir; nothing else is installed. ffcv needs system
packages (Debian: libopencv-dev libturbojpeg0-dev pkg-config); where it cannot be built the table says
so. What was made once is kept, so an interrupted run goes on where it stopped; remove --dir when done.

Not part of the program and not called by it. The second half of this file (`--reader`) runs inside the
virtual environment, one process a reader.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time

FRAMES, HEIGHT, WIDTH, CHANNELS = 8, 32, 32, 3
SHAPE = (FRAMES, HEIGHT, WIDTH, CHANNELS)
CLIP_BYTES = FRAMES * HEIGHT * WIDTH * CHANNELS
BATCH = 64

# name: (packages it needs, factor by which we want to be faster or None)
PEERS = {
    "ffcv 1 worker": (["ffcv"], 1.2),
    "numpy memmap": ([], 1.5),
    "h5py per clip": (["h5py"], None),
    "h5py DataLoader 2": (["h5py", "torch"], 15.0),
    "streaming 0": (["streaming", "torch"], 30.0),
    "streaming 2": (["streaming", "torch"], 30.0),
    "webdataset 0": (["webdataset", "torch"], 30.0),
    "webdataset 2": (["webdataset", "torch"], 30.0),
}
PIP_NAMES = {"streaming": "mosaicml-streaming"}

# name: options of `lastframe bench load`
OURS = {
    "lastframe 1 thread": ["--threads", "1"],
    "lastframe 1 thread, MMAP": ["--threads", "1", "--set", "loader.read=MMAP"],
    "lastframe 2 threads": ["--threads", "2"],
    "lastframe 2 threads, MMAP": ["--threads", "2", "--set", "loader.read=MMAP"],
}


def say(*words):
    print(*words, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------
# The driver: standard library only


class Files:
    """Where the clips of one size lie in each format; what is complete has a mark beside it."""

    def __init__(self, folder, clips):
        self.clips = clips
        self.root = os.path.join(folder, str(clips))
        os.makedirs(self.root, exist_ok=True)

    def path(self, name):
        return os.path.join(self.root, name)

    def once(self, name, make):
        mark = self.path(name + ".done")
        if os.path.exists(mark):
            return
        say(f"making {self.path(name)}")
        path = self.path(name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)
        make(path)
        open(mark, "w").close()


def run(command, log, **options):
    """Runs a command quietly; its output is in `log` if it fails."""
    with open(log, "w") as out:
        status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, **options).returncode
    if status != 0:
        with open(log, errors="replace") as text:
            lines = [line.strip() for line in text if line.strip()]
        raise RuntimeError(lines[-1][:200] if lines else f"status {status}")


def make_environment(folder, packages):
    """A virtual environment in `folder`; returns its python and why packages are missing."""
    venv = os.path.join(folder, "venv")
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(os.path.join(venv, "pip.done")):
        say(f"making the virtual environment {venv}")
        run([sys.executable, "-m", "venv", "--clear", venv], os.path.join(folder, "venv.log"))
        run([python, "-m", "pip", "install", "-q", "numpy"], os.path.join(folder, "pip-numpy.log"))
        open(os.path.join(venv, "pip.done"), "w").close()
    missing = {}
    for package in packages:
        if subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode == 0:
            continue
        say(f"installing {package}")
        log = os.path.join(folder, f"pip-{package}.log")
        try:
            run([python, "-m", "pip", "install", "-q", PIP_NAMES.get(package, package)], log, timeout=1800)
            run([python, "-c", f"import {package}"], log)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            missing[package] = f"{package} cannot be installed: {error} (see {log})"
    return python, missing


class Reader:
    """A peer in a process of its own; measures a window when told to."""

    def __init__(self, python, name, files):
        self.name = name
        self.log = open(files.path(name.replace(" ", "-") + ".log"), "w")
        self.process = subprocess.Popen(
            [python, os.path.abspath(__file__), "--reader", name, "--dir", files.root, "--clips", str(files.clips)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True)
        self.answer()  # it says when it has read an epoch, or enough of one

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended; see {self.log.name}")
        return json.loads(line)

    def measure(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return self.answer()["clips_per_s"]

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def bench_load(program, store, options, seconds):
    command = [program, "bench", "load", store, "--json", "--batch", str(BATCH), "--seconds", str(seconds)] + options
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    if not report["warm"]:
        say(f"{store} was not in the page cache; more memory, or fewer clips, are needed for a fair comparison")
    return report["clips_per_s"]


def build_store(program, files):
    def make(path):
        run([program, "build", "--set", f"source.npy.path={files.path('clips.npy')}", "--set",
             f"recipe.frames={FRAMES}", "--out", path], files.path("build.log"))

    files.once("store", make)


def compare(program, python, files, peers, missing, seconds, rounds):
    """All readers of one set in turn; {reader: [clips/s of each round]}."""
    readers, failed = [], dict(missing)
    for name in peers:
        if name in failed:
            continue
        try:
            readers.append(Reader(python, name, files))
        except RuntimeError as error:
            failed[name] = str(error)
    figures = {name: [] for name in [*OURS, *(reader.name for reader in readers)]}
    try:
        for number in range(rounds):
            say(f"{files.clips} clips: round {number + 1} of {rounds}")
            for name, options in OURS.items():
                figures[name].append(bench_load(program, files.path("store"), options, seconds))
            for reader in readers:
                figures[reader.name].append(reader.measure(seconds))
    finally:
        for reader in readers:
            reader.end()
    return figures, failed


def print_table(clips, figures, failed):
    names = list(OURS)
    print(f"\n{clips:,} clips of {CLIP_BYTES:,} bytes, random, batches of {BATCH}, warm; clips/s, median of rounds")
    for name in names:
        print(f"  {name:28s}{statistics.median(figures[name]):12,.0f}")
    print(f"\n  {'peer':22s}{'clips/s':>12s}{'wanted':>9s}   times faster: " + "; ".join(names))
    for peer, (_, wanted) in PEERS.items():
        if peer in failed:
            print(f"  {peer:22s}  not measured: {failed[peer]}")
        if peer not in figures:
            continue
        ratios = []
        for name in names:
            ratio = statistics.median(ours / theirs for ours, theirs in zip(figures[name], figures[peer]))
            short = wanted is not None and ratio < wanted
            ratios.append(f"{ratio:8.2f}{'<' if short else ' '}")
        print(f"  {peer:22s}{statistics.median(figures[peer]):12,.0f}{'-' if wanted is None else wanted:>9}   "
              + "".join(ratios))


def drive(options):
    peers = [name for name in PEERS if not options.peers or any(word in name for word in options.peers.split(","))]
    os.makedirs(options.dir, exist_ok=True)
    packages = list(dict.fromkeys(package for name in peers for package in PEERS[name][0]))
    python, absent = make_environment(options.dir, packages)
    missing = {}
    for name in peers:
        reasons = [absent[package] for package in PEERS[name][0] if package in absent]
        if reasons:
            missing[name] = reasons[0]
    report = {"batch": BATCH, "clip_bytes": CLIP_BYTES, "seconds": options.seconds, "rounds": options.rounds, "sets": []}
    for clips in (int(word) for word in options.clips.split(",")):
        files = Files(options.dir, clips)
        run([python, os.path.abspath(__file__), "--make", "--dir", files.root, "--clips", str(clips), "--peers",
             ",".join(name for name in peers if name not in missing)], files.path("make.log"))
        build_store(options.program, files)
        figures, failed = compare(options.program, python, files, peers, missing, options.seconds, options.rounds)
        report["sets"].append({"clips": clips, "clips_per_s": figures, "not_measured": failed})
        print_table(clips, figures, failed)
    if options.json:
        with open(options.json, "w") as out:
            json.dump(report, out, indent=1)


# ---------------------------------------------------------------------------------------------------
# Inside the virtual environment: writing the formats


def make_sets(files, peers):
    import numpy

    def make_clips(path):
        generator = numpy.random.default_rng(0)
        array = numpy.lib.format.open_memmap(path, "w+", numpy.uint8, (files.clips, *SHAPE))
        for begin in range(0, files.clips, 1000):
            end = min(files.clips, begin + 1000)
            array[begin:end] = generator.integers(0, 256, (end - begin, *SHAPE), dtype=numpy.uint8)
        array.flush()

    files.once("clips.npy", make_clips)
    clips = numpy.load(files.path("clips.npy"), mmap_mode="r")

    def make_h5(path):
        import h5py

        with h5py.File(path, "w") as file:
            data = file.create_dataset("clips", clips.shape, "u1")
            for begin in range(0, len(clips), 1000):
                data[begin:begin + 1000] = clips[begin:begin + 1000]

    def make_streaming(path):
        from streaming import MDSWriter

        with MDSWriter(out=path, columns={"x": f"ndarray:uint8:{','.join(map(str, SHAPE))}"}) as writer:
            for clip in clips:
                writer.write({"x": numpy.array(clip)})

    def make_webdataset(path):
        import webdataset

        os.makedirs(path)
        with webdataset.ShardWriter(f"file:{path}/%05d.tar", maxcount=2500, verbose=0) as writer:
            for number, clip in enumerate(clips):
                writer.write({"__key__": f"{number:09d}", "x.npy": numpy.array(clip)})

    def make_ffcv(path):
        from ffcv.fields import NDArrayField
        from ffcv.writer import DatasetWriter

        class Rows:
            def __len__(self):
                return len(clips)

            def __getitem__(self, number):
                return (numpy.array(clips[number]),)

        field = NDArrayField(numpy.dtype("uint8"), SHAPE)
        DatasetWriter(path, {"x": field}, num_workers=1).from_indexed_dataset(Rows())

    for word, name, make in (("h5py", "clips.h5", make_h5), ("streaming", "streaming", make_streaming),
                             ("webdataset", "webdataset", make_webdataset), ("ffcv", "clips.beton", make_ffcv)):
        if any(word in peer for peer in peers):
            files.once(name, make)


# ---------------------------------------------------------------------------------------------------
# Inside the virtual environment: endless batches of each reader


def orders(clips):
    import numpy

    epoch = 0
    while True:
        order = numpy.random.default_rng(epoch).permutation(clips)
        yield order[:clips // BATCH * BATCH].reshape(-1, BATCH)
        epoch += 1


def read_memmap(files):
    import numpy

    array = numpy.load(files.path("clips.npy"), mmap_mode="r")
    for order in orders(files.clips):
        for numbers in order:
            yield array[numbers]


def read_h5py(files):
    import h5py
    import numpy

    data = h5py.File(files.path("clips.h5"), "r")["clips"]
    for order in orders(files.clips):
        for numbers in order:
            yield numpy.stack([data[number] for number in numbers])


def endless(loader):
    while True:
        yield from loader


def read_dataloader(files, workers):
    import torch

    class Clips(torch.utils.data.Dataset):
        data = None  # opened by each worker for itself

        def __len__(self):
            return files.clips

        def __getitem__(self, number):
            if self.data is None:
                import h5py

                self.data = h5py.File(files.path("clips.h5"), "r")["clips"]
            return torch.from_numpy(self.data[number])

    yield from endless(torch.utils.data.DataLoader(
        Clips(), batch_size=BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0))


def read_streaming(files, workers):
    from streaming import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    clips = StreamingDataset(local=files.path("streaming"), shuffle=True, batch_size=BATCH)
    loader = StreamingDataLoader(clips, batch_size=BATCH, num_workers=workers, drop_last=True,
                                 persistent_workers=workers > 0)
    for batch in endless(loader):
        yield batch["x"]


def read_webdataset(files, workers):
    import glob

    import torch
    import webdataset

    tars = sorted(glob.glob(files.path("webdataset") + "/*.tar"))
    clips = (webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(2000).decode().to_tuple("x.npy")
             .batched(BATCH, partial=False))
    loader = torch.utils.data.DataLoader(clips, batch_size=None, num_workers=min(workers, len(tars)),
                                         persistent_workers=workers > 0)
    for (batch,) in endless(loader):
        yield batch


def read_ffcv(files, workers):
    from ffcv.fields.decoders import NDArrayDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor

    loader = Loader(files.path("clips.beton"), batch_size=BATCH, num_workers=workers, order=OrderOption.RANDOM,
                    os_cache=True, drop_last=True, seed=1, pipelines={"x": [NDArrayDecoder(), ToTensor()]})
    for (batch,) in endless(loader):
        yield batch


def batches_of(name, files):
    kind, workers = name.split()[0], int(next((word for word in name.split() if word.isdigit()), "0"))
    if name == "numpy memmap":
        return read_memmap(files)
    if name == "h5py per clip":
        return read_h5py(files)
    if kind == "h5py":
        return read_dataloader(files, workers)
    return {"ffcv": read_ffcv, "streaming": read_streaming, "webdataset": read_webdataset}[kind](files, workers)


def window(batches, seconds, clips=None):
    """Reads for some seconds, or until so many clips; clips/s. Looks at one byte a page, as we do."""
    begin, seen, total = time.perf_counter(), 0, 0
    for batch in batches:
        assert tuple(batch.shape) == (BATCH, *SHAPE)
        seen += BATCH
        total += int(batch.reshape(-1)[::4096].sum())
        took = time.perf_counter() - begin
        if took >= seconds or (clips is not None and seen >= clips):
            return seen / took
    raise RuntimeError("the reader ended")


def serve(name, files):
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print goes to the log
    if "streaming" in name or "webdataset" in name or "DataLoader" in name or "ffcv" in name:
        import torch

        torch.set_num_threads(1)
    batches = batches_of(name, files)
    window(batches, 20, files.clips)
    print(json.dumps({"ready": name}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps({"clips_per_s": window(batches, float(line))}), file=out, flush=True)
    out.flush()
    os._exit(0)  # workers end with us; some libraries hang in their destructors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True, help="scratch folder, about 7 GB with 50,000 clips and all peers")
    parser.add_argument("--program", default="build/release/lastframe", help="the lastframe to measure")
    parser.add_argument("--clips", default="10000,50000", help="sizes of the sets")
    parser.add_argument("--peers", default="", help="only peers whose names hold one of these words, e.g. ffcv,numpy")
    parser.add_argument("--seconds", type=int, default=2, help="length of a window")
    parser.add_argument("--rounds", type=int, default=5, help="windows of each reader")
    parser.add_argument("--json", help="also write every figure to this file")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.reader and not options.make:
        drive(options)
        return
    files = Files(os.path.dirname(options.dir), int(options.clips))
    if options.make:
        make_sets(files, options.peers.split(","))
    else:
        serve(options.reader, files)


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, OSError) as error:
        sys.exit(f"load_speed.py: {error}")
