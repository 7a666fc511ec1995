"""A store that is damaged, changed or of another format under a training: status 3 with the shard's
name and what to do, or another clip in the place of a bad one where that was asked for. (F7, F8 and
F16 of faults.md, in a training; other commands on such stores are in data/store/faults_test.py.)"""

import hashlib

from crc32c import crc32c
from harness import *

SHARDS = ["store.clips_per_shard=24"]
valid = here / "valid"
execute([program, "build", "--config", config, *with_sets(["store.threads=1", *SHARDS]), "--out", valid])
shards = sorted(path.name for path in (valid / "shards").iterdir())
check(len(shards) == 10, f"{shards}")
SKIP = ["loader.bad_clip=SKIP"]
runs_made = 0


def spoiled(name, spoil):
    folder = here / name
    shutil.copytree(valid, folder)
    spoil(folder)
    return folder


def on(folder, count, more=(), **expected):
    """A training on this store; the run folder and what it said."""
    global runs_made
    runs_made += 1
    run = here / f"run-{runs_made}"
    return run, train(run, count, [f"train.store={folder}", *more], **expected)


# A flipped bit in a clip: named, or replaced by always the same other clip.
bad = spoiled("clip", lambda s: flip_bit(s / "shards" / shards[3]))
for count in (1, 2):
    run, text = on(bad, count, status=3, contains=f"shard {shards[3]}, clip")
    check("flipped bits" in text, text)
ends = []
for _ in range(2):
    run, text = on(bad, 2, SKIP)
    check("loader.bad_clip: SKIP" in text and f"shard {shards[3]}, clip" in text, text)
    check(status(run)["state"] == "finished", str(status(run)))
    ends.append(run)
check_same_end(*ends, "the clip in the place of a damaged one")

# Damage that no other clip can stand in for, and shards that are not what the index knows.
first, second = (lambda s: s / "shards" / shards[1]), (lambda s: s / "shards" / shards[6])


def swap(store):
    a, b = first(store).read_bytes(), second(store).read_bytes()
    first(store).write_bytes(b)
    second(store).write_bytes(a)


CASES = (
    ("metadata", lambda s: flip_bit(first(s), 20), ""),
    ("index", lambda s: flip_bit(s / "index", 100), "verify STORE --repair"),
    ("truncated", lambda s: os.truncate(first(s), 5000), "verify"),
    ("empty", lambda s: os.truncate(first(s), 0), "verify"),
    ("missing", lambda s: first(s).unlink(), "verify"),
    ("renamed", lambda s: first(s).rename(s / "shards" / "one.h5"), "verify"),
    ("swapped", swap, "verify"),
)
for name, spoil, words in CASES:
    store_folder = spoiled(name, spoil)
    if name == "metadata":
        # Clips are read by the addresses in the index; what only HDF5 reads is verify's.
        execute([program, "verify", store_folder], 3, "HDF5 metadata")
        continue
    run, text = on(store_folder, 2, status=3, contains=words)
    check(name == "index" or shards[1] in text, f"{name}: the shard is not named\n{text}")
    check("index" in text or name != "index", text)
shutil.copy(first(valid), valid / "shards" / "00099.h5")  # one too many harms no training
run, text = on(valid, 1, until=2 * BATCH)
(valid / "shards" / "00099.h5").unlink()

# A store of each format there has been is read for ever: its clips have the bytes that they had when
# it was built.
CLIPS = {"format-1": "dc971c39d7325655912ad167c35b094fa7be5905eca205115434b09c17d3f795"}
for name, digest in CLIPS.items():
    kept = fixtures / "stores" / name
    execute([program, "verify", kept])
    execute([program, "export", kept, "--npy", here / "clips.npy"])
    found = hashlib.sha256((here / "clips.npy").read_bytes()).hexdigest()
    check(found == digest, f"the clips of {name} have the digest {found}")
    train(here / f"on-{name}", 2, ["source={}", "recipe={}", f"train.store={kept}"], until=2 * BATCH)


def newer(store):
    data = bytearray((store / "index").read_bytes()[:-4])
    at = data.index(b"\x08\x01")  # field 1, the format
    data[at + 1] = 2
    (store / "index").write_bytes(bytes(data) + crc32c(data).to_bytes(4, "little"))


run, text = on(spoiled("newer", newer), 2, status=3, contains="has format 2, this program reads up to 1")
check("use a newer lastframe" in text, text)
