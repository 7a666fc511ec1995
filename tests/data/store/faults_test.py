"""What happens to a store when its build is killed, its files are damaged, its disk is full or its
HDF5 files are hostile: from outside, by the program's exit status and words. Called with the fault."""

import hashlib
import random
import signal

from harness import *

ITEMS, SHARD = 600, 20
environment["OMP_NUM_THREADS"] = "1"


def build_words(out, items=ITEMS):
    return [program, "build", "--out", str(out), *with_sets(
        ["source.generated.kind=shapes", f"source.generated.count={items}",
         f"store.clips_per_shard={SHARD}", "store.threads=1"])]


def digest(store):
    total = hashlib.sha256()
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(store)).encode() + path.read_bytes())
    return total.hexdigest()


def valid_store(name="valid"):
    execute(build_words(here / name), 0)
    return here / name


def kill():
    """SIGKILL of a build of three ranks at twenty random moments, then the same command again."""
    begin = time.time()
    expected = digest(valid_store())
    random.seed(4)
    out = here / "killed"
    cut = 0
    longest = 0.0
    start = time.time()
    execute(ranks(3) + build_words(here / "undisturbed"), 0)
    longest = time.time() - start
    check(digest(here / "undisturbed") == expected, "three ranks and one built different stores")
    while cut < 20:
        shutil.rmtree(out, ignore_errors=True)
        while cut < 20:
            process = subprocess.Popen(ranks(3) + build_words(out), env=environment,
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
        execute(ranks(3) + build_words(out), 0)
        check(digest(out) == expected, f"after {cut} kills the store differs from an undisturbed one")
        execute([program, "verify", out], 0)
    print(f"{cut} kills, {time.time() - begin:.0f} s")


def ranks_of(out):
    return [pid for pid, words in command_lines() if str(out) in words and "build" in words]


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
    expected = digest(valid_store())
    out = here / "array"
    for task in (7, 3, 5):
        execute(build_words(out), 0, extra={"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_MIN": "3",
                                        "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "3"})
        if task != 5:
            execute([program, "inspect", out], 2, "not finished")
    check(digest(out) == expected, "the store of an array differs")
    execute(build_words(here / "p") + ["--part", "4/4"], 2, "expected K/N")


def interrupt():
    """SIGUSR1 ends a build with 75, a STOP file with 0; a different store in the folder is 2."""
    expected = digest(valid_store())
    out = here / "out"
    # Large enough to be under way when the signal comes.
    process = subprocess.Popen(build_words(here / "large", 10**7), env=environment,
                               stderr=subprocess.DEVNULL)
    while not list((here / "large" / "shards").glob("*.h5")):
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    check(process.wait(timeout=30) == 75, f"SIGUSR1 gave status {process.returncode}, expected 75")
    (here / "large" / "STOP").touch()
    execute(build_words(here / "large", 10**7), 0, "STOP")
    execute(build_words(out), 0)
    execute(build_words(out, ITEMS + 1), 2, f"source.generated.count: {ITEMS} -> {ITEMS + 1}")
    check(digest(out) == expected, "a refused build changed the store")


def damage():
    """Every kind of damage is named with status 3, and repaired to the very same bytes."""
    store = valid_store()
    expected = digest(store)
    shard, other = store / "shards/00003.h5", store / "shards/00007.h5"

    def swap():
        bytes_of = shard.read_bytes(), other.read_bytes()
        other.write_bytes(bytes_of[0])
        shard.write_bytes(bytes_of[1])

    cases = [
        ("flipped bits in clip", lambda: flip_bit(shard)),
        ("HDF5 metadata", lambda: flip_bit(shard, 20)),
        ("trailer", lambda: flip_bit(shard, shard.stat().st_size - 40)),
        ("index", lambda: flip_bit(store / "index", 100)),
        ("plan", lambda: flip_bit(store / "plan", 50)),
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
        execute([program, "verify", store], 3, words)
        execute([program, "verify", store, "--repair"], 0)
        shutil.rmtree(store / "extra", ignore_errors=True)
        check(digest(store) == expected, f"repairing '{words}' gave other bytes")
    # Reading, too, names the shard and never gives wrong pixels.
    flip_bit(shard)
    execute([program, "export", store, "--npy", here / "x.npy"], 3, "shard 00003.h5, clip")
    execute([program, "inspect", store, "--shard", "3"], 3, "flipped bits")
    execute([program, "inspect", store, "--shard", "2"], 0)


def full():
    """A full disk is status 7; with room again the same command resumes."""
    disk = here / "disk"
    disk.mkdir()
    size = sum(p.stat().st_size for p in valid_store().rglob("*") if p.is_file())
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(disk)],
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        skip("a small tmpfs cannot be mounted here: " + mounted.stderr.strip())
    try:
        execute(build_words(disk / "store"), 7, "No space left")
        execute(ranks(3) + build_words(disk / "store"), 7, "No space left")
        subprocess.run(["mount", "-o", f"remount,size={size * 3}", str(disk)], check=True)
        execute(build_words(disk / "store"), 0)
        check(digest(disk / "store") == digest(here / "valid"), "the store differs after the disk was full")
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
    store = valid_store()
    shard = store / "shards/00003.h5"
    valid = shard.read_bytes()
    limited = ["bash", "-c", "ulimit -v 4000000; exec \"$@\"", "bash", program]
    for name, data in list(hostile_files(valid)) + list(external_files()):
        if data == valid:
            continue
        shard.write_bytes(data)
        for words in (["verify", store], ["inspect", store, "--shard", "3"]):
            execute(limited + words, 3, "00003.h5")
        try:
            execute([program, "export", store, "--npy", here / "x.npy"], 3, "00003.h5")
        except SystemExit:
            # Damage in what reading pixels does not need, HDF5's own metadata or the trailer.
            if not name.startswith(("metadata of noise", "trailer of")):
                raise
    execute([program, "verify", store, "--repair"], 0)
    check(shard.read_bytes() == valid, "the shard was not repaired")
    shard.unlink()
    shard.symlink_to("/etc/passwd")
    execute([program, "verify", store], 3, "leads out")
    shard.unlink()
    (store / "shards" / "bad\nname\x1b[31m.h5").write_bytes(b"")
    text = subprocess.run([program, "verify", str(store)], capture_output=True).stderr
    check(b"\x1b[31m" not in text, "a hostile file name reached the terminal unescaped")


def tools():
    """HDF5's own tools read shards."""
    store = valid_store()
    if shutil.which("h5dump") is None:
        skip("there is no h5dump (Debian: hdf5-tools)")
    text = execute(["h5dump", "-d", "/labels", store / "shards/00000.h5"], 0, f"( {SHARD} ) / ( {SHARD} )")
    header = execute(["h5dump", "-H", "-p", store / "shards/00000.h5"], 0, "CONTIGUOUS")
    for word in ("recipe", "crc_columns", f"( {SHARD}, 8, 32, 32, 3 )"):
        check(word in header, f"h5dump does not show {word}:\n{header}{text}")


globals()[arguments[0]]()
