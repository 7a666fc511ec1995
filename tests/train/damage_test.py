"""Damaged, foreign and hostile checkpoints, a damaged log and a run that diverges: what is left is
used, or the status says what is wrong. (F3, F10, F16, F17, F18 and F28 of faults.md.)"""

import re

from crc32c import crc32c
from harness import *


calm = here / "calm"
train(calm)
check([path.name for path in sorted((calm / "checkpoints").iterdir())] ==
      [f"img-{images:012d}" for images in (240, 360, 480)], "three checkpoints are kept")

# The newest is damaged: the one before it is taken, and the run ends as it did.
run = here / "newest"
shutil.copytree(calm, run)
victim = sorted(latest(run).glob("model*.safetensors"))[0]
flip_bit(victim)
listed = json.loads(output("inspect", run, "--json"))["checkpoints"]
check([(c["images"], c["valid"]) for c in listed] == [(480, False), (360, True), (240, True)],
      f"inspect says {listed}")
check(all(c["bytes"] > 10000 for c in listed) and victim.name in listed[0]["reason"], str(listed))
text = train(run, 2, contains="passing over a checkpoint")
check(victim.name in text and "img-000000000360 at image 360" in text, text)
check(weights(run).keys() == weights(calm).keys() and
      largest_difference(weights(calm), weights(run)) < 1e-3, "another end after the damage")

# A half line and a half event at a crash are gone after the resume.
run = here / "torn"
shutil.copytree(calm, run)
shutil.rmtree(latest(run))
(run / "latest").unlink()
with (run / "metrics.jsonl").open("a") as file:
    file.write('{"images":492,"lo')
for events in run.glob("events.*"):
    events.write_bytes(events.read_bytes()[:-7])
train(run)
check_same_end(calm, run, "a torn log and no pointer to the latest")

run = here / "all"
shutil.copytree(calm, run)
for folder in (run / "checkpoints").iterdir():
    flip_bit(sorted(folder.glob("*.safetensors"))[0])
for count in (1, 2):
    text = train(run, count, status=4, contains="none of the 3 checkpoints")
shutil.rmtree(run / "checkpoints")
(run / "checkpoints").mkdir()
train(run, until=2 * BATCH)


def forge(run, name, spoil):
    """A copy of a run whose newest model file is spoil(bytes), with a manifest that fits."""
    forged = here / name
    shutil.copytree(run, forged)
    for folder in sorted((forged / "checkpoints").iterdir())[:-1]:
        shutil.rmtree(folder)
    victim = sorted(latest(forged).glob("model*.safetensors"))[0]
    data = spoil(victim.read_bytes())
    victim.write_bytes(data)
    manifest = latest(forged) / "manifest.pbtxt"
    text = manifest.read_text().rpartition("# crc32c")[0]
    text = re.sub(rf'(name: "{victim.name}"\n.*\n  bytes:) \d+\n  crc32c: \d+',
                  rf"\1 {len(data)}\n  crc32c: {crc32c(data)}", text, count=1)
    manifest.write_text(text + f"# crc32c {crc32c(text.encode()):08x}\n")
    return forged, victim.name


def header(text):
    return lambda data: len(text).to_bytes(8, "little") + text.encode() + data[-64:]


HOSTILE = (
    ("pickle", lambda data: b"PK\x03\x04\x14\0\0\0\0" + data[9:], "is a pickle"),
    ("length", lambda data: (1 << 63).to_bytes(8, "little") + data[8:], ""),
    ("overlap", header('{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]},'
                       '"b":{"dtype":"F32","shape":[8],"data_offsets":[16,64]}}'), ""),
    ("product", header('{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,64]}}'),
     ""),
)
for name, spoil, words in HOSTILE:
    forged, file = forge(calm, name, spoil)
    for count in (1, 2):
        text = train(forged, count, status=4, contains=words)
        check(file in text, f"{name}: {file} is not named\n{text}")
    # Through no other command either.
    execute([program, "export", forged, "--out", here / "x.safetensors"], 4, words)
    execute([program, "inspect", latest(forged)], 4, words)
text = train(forge(calm, "pickle-again", HOSTILE[0][1])[0], status=4)
check("safetensors.torch.save_file" in text, f"no word on how to convert a pickle\n{text}")

# A newer program's checkpoint is not passed over: resuming from an older one would lose its work.
run = here / "newer"
shutil.copytree(calm, run)
manifest = latest(run) / "manifest.pbtxt"
text = manifest.read_text().rpartition("# crc32c")[0].replace("format: 1", "format: 2", 1)
manifest.write_text(text + f"# crc32c {crc32c(text.encode()):08x}\n")
for count in (1, 2):
    train(run, count, status=4, contains="has checkpoint format 2, this program reads up to 1")

# Files cut short at any length, down to nothing, are as good as flipped ones.
for length in (0, 4096):
    run = here / f"cut-{length}"
    shutil.copytree(calm, run)
    cut = sorted(latest(run).glob("model*.safetensors"))[0]
    os.truncate(cut, min(length, cut.stat().st_size - 1))
    (run / "checkpoints" / ".tmp-img-000000000492-life-1").mkdir()
    text = train(run, contains="passing over a checkpoint")
    check_same_end(calm, run, f"a file cut at {length}")
    check(not list((run / "checkpoints").glob(".tmp*")), "what an unfinished save left is still there")

# A learning rate and a decay with which weights grow by a factor of nine a step.
wild = ["train.optimizer.lr=10", "train.optimizer.weight_decay=1", "train.optimizer.clip_norm=0",
        "train.optimizer.warmup_images=0", "train.patience=5", "train.images=4800"]
for count in (1, 2):
    run = here / f"wild-{count}"
    text = train(run, count, wild, status=5, contains="were not finite in 6 steps in a row")
    check("no update was made in them" in text and "skip this update" in text, text)
    found = status(run)
    check(found["state"] == "failed" and found["skipped_steps"] >= 6, str(found))
    finite = [line for line in lines(run) if line["loss"] is not None]
    check(len(finite) > 3 and lines(run)[-1]["loss"] is None, f"{lines(run)}")
    # A checkpoint from the time of the skips would hold finite weights only.
    train(here / f"wild-slice-{count}", count, wild, until=finite[-1]["images"] + 3 * BATCH)
    values = [v for part in weights(here / f"wild-slice-{count}").values() for v in part]
    check(all(abs(v) < float("inf") for v in values), "a skipped update moved the weights")
    check(status(here / f"wild-slice-{count}")["skipped_steps"] == finite[-1]["skipped_steps"] + 3,
          "three skipped steps are counted")
