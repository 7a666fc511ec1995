"""What a run leaves behind: each file of the run folder, TensorBoard events as the tensorboard
package reads them, previews, and what inspect and export say of its checkpoints."""

import re
import venv

from harness import *

run = here / "run"
sets = ["train.preview_images=240", "train.validation_images=120", "train.validation_clips=24",
        "checkpoint.keep_best=1", "checkpoint.keep_last=1"]
text = train(run, 2, sets, until=20 * BATCH)
check("loss" in text.splitlines()[-1], f"the last line of progress shows no loss: {text[-300:]}")
check("\r" not in text and f"\nwrote {run}/samples/img-000000000240.png" in text, f"news are no lines: {text}")
check("] wrote " in (run / "logs" / "rank-0000.log").read_text(), "the log file's lines have no place in the sources")
train(run, 2, sets)

expected = {"checkpoints", "config.pbtxt", "latest", "lives", "lock", "logs", "metrics.jsonl", "report.html",
            "samples", "status.json"}
events = sorted(path.name for path in run.glob("events.out.tfevents.*"))
check({path.name for path in run.iterdir()} - set(events) == expected, sorted(os.listdir(run)))
check(len(events) == 2, f"two starts, event files {events}")
check(sorted(os.listdir(run / "logs")) == ["rank-0000.log", "rank-0001.log"], os.listdir(run / "logs"))
check("width: 8" in (run / "config.pbtxt").read_text(), "config.pbtxt is not the resolved config")
check(latest(run).is_dir() and (run / "lock").read_text() == "", "latest, lock")
stems = [f"img-{images:012d}" for images in (240, 480)]
check(sorted(os.listdir(run / "samples")) == [f"{s}.{e}" for s in stems for e in ("apng", "png")],
      os.listdir(run / "samples"))
for path in (run / "samples").iterdir():
    check(path.read_bytes().startswith(b"\x89PNG"), f"{path} is no PNG")
strangers = [path for path in pathlib.Path(tempfile.gettempdir()).glob("lastframe.*") if
             path.stat().st_mtime > (run / "lives").stat().st_ctime]
check(not strangers and not list(pathlib.Path(".").glob("lastframe.*log*")), f"stray logs: {strangers}")

found = status(run)
for key in ("state", "images", "total_images", "loss", "images_per_second", "eta_seconds", "checkpoint",
            "ranks", "host", "pid", "updated"):
    check(key in found, f"status.json lacks {key}")
steps = [line for line in lines(run) if "event" not in line]
validations = [line for line in lines(run) if line.get("event") == "validation"]
check([line["images"] for line in steps] == list(range(12, 481, 12)), "one line a step")
check([line["images"] for line in validations] == [120, 240, 360, 480], "four validations")

# The best by validation loss is kept beside the newest.
listed = json.loads(output("inspect", run, "--json"))["checkpoints"]
losses = {line["images"]: line["loss"] for line in validations}
best = min(losses, key=losses.get)
check([c["images"] for c in listed] == sorted({best, 480}, reverse=True), f"{listed}, best at {best}")
for c in listed:
    check(c["valid"] and c["numbers"]["validation_loss"] == losses[c["images"]] and
          c["bytes"] == sum(p.stat().st_size for p in (run / "checkpoints" / c["name"]).iterdir()), str(c))
inside = json.loads(output("inspect", latest(run), "--json"))
check(inside["images"] == 480 and any(t["kind"] == "ema" for t in inside["tensors"]), str(inside)[:300])
told, last_loss = output("inspect", run), steps[-1]["loss"]
values = sum(math.prod(tensor["shape"]) for tensor in inside["tensors"] if tensor["kind"] == "model")
for line in (f"model +[a-z_]+, {values:,} parameters",
             f"store +{store()}: [0-9,]+ clips of 3 frames of 8x8x3, ", "recipe +frames=3 .*blur",
             r"progress +finished, 480 of 480 images \(100%\), .*/s, .*s ago",
             f"loss +{last_loss:.5g} at image 480", f"validation +loss {losses[480]:.5g} at image 480",
             "img-000000000480  480 images"):
    check(re.search(f"^{line}", told, re.MULTILINE), f"inspect does not say {line!r}: {told}")

# The averages by default, the weights when asked; the same values as in the checkpoint.
for kind, words in (("ema", []), ("model", ["--kind", "model"])):
    out = here / f"{kind}.safetensors"
    output("export", run, "--out", out, *words)
    exported = tensors(out)
    check(exported == weights(run, kind) and len(exported) > 10, f"export of {kind}")
check(tensors(here / "ema.safetensors") != tensors(here / "model.safetensors"), "ema is model")
execute([program, "export", run, "--npy", here / "x.npy"], 2, "--npy has no meaning for runs and checkpoints")
execute([program, "export", store(), "--out", here / "x"], 2, "--out has no meaning for stores")
execute([program, "inspect", run, "--strip", here / "x.png"], 2, "--strip has no meaning for runs")
execute([program, "export", run], 2, "--out")
(here / "empty" / "checkpoints").mkdir(parents=True)
execute([program, "export", here / "empty", "--out", here / "x"], 4, "has no checkpoint yet")
check(json.loads(output("inspect", here / "empty", "--json")) == {"state": "", "checkpoints": []}, "an empty run")

# Without previews there are none, and a store of a generated source is built under the run.
execute([*ranks(2), program, "train", "--config", config, "--run", here / "own",
         "--until-images", "24"])
check((here / "own" / "store" / "index").exists() and not (here / "own" / "samples").exists(), "own store")

python = here / "venv" / "bin" / "python"
tensorboard = os.environ.get("LASTFRAME_TENSORBOARD_PYTHON")
if tensorboard is None:
    venv.create(here / "venv", with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
                           "--only-binary", ":all:", "tensorboard", "setuptools<81"],
                          capture_output=True, text=True)
    if done.returncode != 0:
        skip("TensorBoard events were not read, everything else passed; pip cannot install "
             "tensorboard: " + (done.stderr.strip().splitlines() or ["?"])[-1])
    tensorboard = python
READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'images': 0}).Reload()
print(json.dumps({'scalars': {tag: [[e.step, e.value] for e in events.Scalars(tag)]
                              for tag in events.Tags()['scalars']},
                  'images': {tag: [[e.step, e.width, e.height] for e in events.Images(tag)]
                             for tag in events.Tags()['images']}}))
"""
seen = json.loads(subprocess.run([tensorboard, "-c", READ, run], check=True, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
close = lambda a, b: abs(a - b) <= 1e-6 * abs(b)
for tag, source, key in (("train/loss", steps, "loss"), ("train/lr", steps, "lr"),
                         ("validation/loss", validations, "loss")):
    points = seen["scalars"][tag]
    check([p[0] for p in points] == [line["images"] for line in source] and
          all(close(p[1], line[key]) for p, line in zip(points, source)), f"{tag}: {points}")
check([p[0] for p in seen["images"]["preview"]] == [240, 480] and seen["images"]["preview"][0][1] > 40,
      f"previews: {seen['images']}")
