"""What happens to a store when its build is killed, its files are damaged, its disk is full or its
HDF5 files are hostile: from outside, by the program's exit status and words. Called by ctest."""
import argparse
import hashlib
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ITEMS, SHARD = 600, 20
parser = argparse.ArgumentParser()
parser.add_argument("fault", choices=["kill", "array", "interrupt", "damage", "full", "hostile", "tools"])
parser.add_argument("--program", required=True)
parser.add_argument("--mpiexec", required=True)
arguments = parser.parse_args()
here = pathlib.Path(tempfile.mkdtemp(prefix="lf-store-fault-"))
environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMP_NUM_THREADS="1")


def build_words(out, items=ITEMS):
    return [arguments.program, "build", "--out", str(out), "--set", "source.generated.kind=shapes",
            "--set", f"source.generated.count={items}", "--set", f"store.clips_per_shard={SHARD}",
            "--set", "store.threads=1"]


def mpi(ranks):
    return [arguments.mpiexec, "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]


def run(words, status, contains="", extra=None):
    done = subprocess.run([str(w) for w in words], env={**environment, **(extra or {})},
                          capture_output=True, text=True, errors="replace", timeout=300)
    text = done.stdout + done.stderr
    if done.returncode != status or contains not in text:
        sys.exit(f"{' '.join(map(str, words))}: status {done.returncode}, expected {status} and "
                 f"'{contains}'\n{text}")
    return done.stdout


def digest(store):
    total = hashlib.sha256()
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(store)).encode() + path.read_bytes())
    return total.hexdigest()


def sound_store(name="sound"):
    run(build_words(here / name), 0)
    return here / name


def kill():
    """SIGKILL of a build of three ranks at twenty random moments, then the same command again."""
    begin = time.time()
    expected = digest(sound_store())
    random.seed(4)
    out = here / "killed"
    cut = 0
    longest = 0.0
    start = time.time()
    run(mpi(3) + build_words(here / "undisturbed"), 0)
    longest = time.time() - start
    if digest(here / "undisturbed") != expected:
        sys.exit("three ranks and one built different stores")
    while cut < 20:
        shutil.rmtree(out, ignore_errors=True)
        while cut < 20:
            process = subprocess.Popen(mpi(3) + build_words(out), env=environment,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)
            time.sleep(random.uniform(0.2, 1.0) * longest)
            alive = process.poll() is None
            if alive:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            # mpiexec puts ranks into process groups of their own: they end when it is gone.
            wait_for_ranks(out)
            cut += alive
            if not alive or (out / "index").exists():
                break
        run(mpi(3) + build_words(out), 0)
        if digest(out) != expected:
            sys.exit(f"after {cut} kills the store differs from an undisturbed one")
        run([arguments.program, "verify", out], 0)
    print(f"{cut} kills, {time.time() - begin:.0f} s")


def ranks_of(out):
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in words and b"build" in words:
            found.append(int(folder.name))
    return found


def wait_for_ranks(out):
    for pid in ranks_of(out):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    while ranks_of(out):
        time.sleep(0.02)


def array():
    """A SLURM array without communication, its tasks in any order, makes the same store."""
    expected = digest(sound_store())
    out = here / "array"
    for task in (7, 3, 5):
        run(build_words(out), 0, extra={"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_MIN": "3",
                                        "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "3"})
        if task != 5:
            run([arguments.program, "inspect", out], 2, "not finished")
    if digest(out) != expected:
        sys.exit("the store of an array differs")
    run(build_words(here / "p") + ["--part", "4/4"], 2, "expected K/N")


def interrupt():
    """SIGUSR1 ends a build with 75, a STOP file with 0; a different store in the folder is 2."""
    expected = digest(sound_store())
    out = here / "out"
    # Large enough to be under way when the signal comes.
    process = subprocess.Popen(build_words(here / "large", 10**7), env=environment,
                               stderr=subprocess.DEVNULL)
    while not list((here / "large" / "shards").glob("*.h5")):
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    if process.wait(timeout=30) != 75:
        sys.exit(f"SIGUSR1 gave status {process.returncode}, expected 75")
    (here / "large" / "STOP").touch()
    run(build_words(here / "large", 10**7), 0, "STOP")
    run(build_words(out), 0)
    run(build_words(out, ITEMS + 1), 2, f"source.generated.count: {ITEMS} -> {ITEMS + 1}")
    if digest(out) != expected:
        sys.exit("a refused build changed the store")


def damage():
    """Every kind of damage is named with status 3, and repaired to the very same bytes."""
    store = sound_store()
    expected = digest(store)
    shard, other = store / "shards/00003.h5", store / "shards/00007.h5"

    def flip(path, at):
        data = bytearray(path.read_bytes())
        data[at] ^= 16
        path.write_bytes(data)

    def swap():
        bytes_of = shard.read_bytes(), other.read_bytes()
        other.write_bytes(bytes_of[0])
        shard.write_bytes(bytes_of[1])

    cases = [
        ("flipped bits in clip", lambda: flip(shard, shard.stat().st_size // 2)),
        ("HDF5 metadata", lambda: flip(shard, 20)),
        ("trailer", lambda: flip(shard, shard.stat().st_size - 40)),
        ("index", lambda: flip(store / "index", 100)),
        ("plan", lambda: flip(store / "plan", 50)),
        ("truncated", lambda: os.truncate(shard, 5000)),
        ("truncated", lambda: os.truncate(shard, 0)),
        ("00003.h5: it is missing", shard.unlink),
        ("index: it is missing", (store / "index").unlink),
        ("renamed or left over", lambda: shutil.copy(shard, store / "shards/00099.h5")),
        ("swapped or renamed", swap),
        ("00003.h5: it is missing", lambda: shard.rename(store / "shards/three.h5")),
    ]
    for words, spoil in cases:
        spoil()
        run([arguments.program, "verify", store], 3, words)
        run([arguments.program, "verify", store, "--repair"], 0)
        shutil.rmtree(store / "extra", ignore_errors=True)
        if digest(store) != expected:
            sys.exit(f"repairing '{words}' gave other bytes")
    # Reading, too, names the shard and never gives wrong pixels.
    flip(shard, shard.stat().st_size // 2)
    run([arguments.program, "export", store, "--npy", here / "x.npy"], 3, "shard 00003.h5, clip")
    run([arguments.program, "inspect", store, "--shard", "3"], 3, "flipped bits")
    run([arguments.program, "inspect", store, "--shard", "2"], 0)


def full():
    """A full disk is status 7; with room again the same command goes on."""
    disk = here / "disk"
    disk.mkdir()
    size = sum(p.stat().st_size for p in sound_store().rglob("*") if p.is_file())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(disk)],
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        print("SKIPPED: a small tmpfs cannot be mounted here:", mounted.stderr.strip())
        sys.exit(77)
    try:
        run(build_words(disk / "store"), 7, "No space left")
        run(mpi(3) + build_words(disk / "store"), 7, "No space left")
        subprocess.run(["mount", "-o", f"remount,size={size * 3}", str(disk)], check=True)
        run(build_words(disk / "store"), 0)
        if digest(disk / "store") != digest(here / "sound"):
            sys.exit("the store differs after the disk was full")
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def hostile_files(shard):
    """HDF5 files as an attacker or an accident might leave them in place of a shard."""
    signature = b"\x89HDF\r\n\x1a\n"
    yield "empty", b""
    yield "signature alone", signature
    yield "noise behind the signature", signature + random.randbytes(1 << 16)
    yield "superblock of huge sizes", signature + b"\x02\x08\x08\x00" + b"\xff" * 4000
    yield "superblock at itself", signature + b"\x02\x08\x08\x00" + struct.pack("<4Q", 0, 0, 1 << 60, 0)
    yield "without its trailer", shard[:-200]
    yield "with something behind it", shard + b"x"
    length = struct.unpack("<I", shard[-16:-12])[0]
    yield "trailer of 4 GiB", shard[:-16] + struct.pack("<I", 0xFFFFFFFF) + shard[-12:]
    yield "trailer of noise", shard[:-16 - length] + random.randbytes(length) + shard[-16:]
    for seed in range(40):
        random.seed(seed)
        data = bytearray(shard)
        for _ in range(random.choice([1, 8, 64])):
            data[random.randrange(2000)] = random.randrange(256)
        yield f"metadata of noise {seed}", bytes(data)


def external_files():
    """Well-formed HDF5 with external links, soft links, cycles, filters and wrong types, if h5py is
    at hand."""
    try:
        import h5py
        import numpy
    except ImportError:
        return
    for name in ("external", "soft", "cycle", "filter", "type", "huge"):
        path = here / f"{name}.h5"
        with h5py.File(path, "w") as file:
            if name == "external":
                file["frames"] = h5py.ExternalLink("/etc/passwd", "/")
            elif name == "soft":
                file["frames"] = h5py.SoftLink("/frames")
            elif name == "cycle":
                file.create_group("a")["b"] = file["/"]
            elif name == "filter":
                file.create_dataset("frames", data=numpy.zeros((4, 4)), compression="gzip")
            elif name == "type":
                file["frames"] = numpy.array(["text"], dtype="S9")
            else:
                file.create_dataset("frames", shape=(1 << 40, 1 << 10), dtype="u1", chunks=(1, 1024))
        yield name, path.read_bytes()


def hostile():
    """Each hostile file is named within seconds, with status 3, and nothing crashes or grows."""
    store = sound_store()
    shard = store / "shards/00003.h5"
    sound = shard.read_bytes()
    limited = ["bash", "-c", "ulimit -v 4000000; exec \"$@\"", "bash", arguments.program]
    for name, data in list(hostile_files(sound)) + list(external_files()):
        if data == sound:
            continue
        shard.write_bytes(data)
        for words in (["verify", store], ["inspect", store, "--shard", "3"]):
            run(limited + words, 3, "00003.h5")
        try:
            run([arguments.program, "export", store, "--npy", here / "x.npy"], 3, "00003.h5")
        except SystemExit:
            # Damage in what reading pixels does not need, HDF5's own metadata or the trailer.
            if not name.startswith(("metadata of noise", "trailer of")):
                raise
    run([arguments.program, "verify", store, "--repair"], 0)
    if shard.read_bytes() != sound:
        sys.exit("the shard was not repaired")
    shard.unlink()
    shard.symlink_to("/etc/passwd")
    run([arguments.program, "verify", store], 3, "leads out")
    shard.unlink()
    (store / "shards" / "bad\nname\x1b[31m.h5").write_bytes(b"")
    text = subprocess.run([arguments.program, "verify", str(store)], capture_output=True).stderr
    if b"\x1b[31m" in text:
        sys.exit("a hostile file name reached the terminal unescaped")


def tools():
    """HDF5's own tools read shards."""
    store = sound_store()
    if shutil.which("h5dump") is None:
        print("SKIPPED: there is no h5dump (Debian: hdf5-tools)")
        sys.exit(77)
    text = run(["h5dump", "-d", "/labels", store / "shards/00000.h5"], 0, f"( {SHARD} ) / ( {SHARD} )")
    header = run(["h5dump", "-H", "-p", store / "shards/00000.h5"], 0, "CONTIGUOUS")
    for word in ("recipe", "crc_columns", f"( {SHARD}, 8, 32, 32, 3 )"):
        if word not in header:
            sys.exit(f"h5dump does not show {word}:\n{header}{text}")


try:
    globals()[arguments.fault]()
finally:
    shutil.rmtree(here, ignore_errors=True)
