"""The own classifier, from labelled store to features: it trains on any number of ranks, its export is
an extractor, and `lastframe features` writes a row for each image or clip in their order."""

from harness import *

run = here / "run"
sets = ["model.classifier.width=4", "model.classifier.stages=2", "train.preview_images=240"]
execute([*train_words(run, sets), "--dry-run", "--json"], contains='"parameters"')
train(run, 2, sets)
train(here / "alone", 1, sets)
one, two = lines(here / "alone")[-1], lines(run)[-1]
check("accuracy" in two and abs(one["loss"] - two["loss"]) < 1e-3 * abs(one["loss"]),
      f"one rank ends with {one}, two with {two}")
check(len(list((run / "samples").iterdir())) == 4, "two previews, as picture and animation")

own, clips, out = here / "own.safetensors", here / "clips.npy", here / "features.npy"
output("export", run, "--out", own)
output("export", store(), "--npy", clips, "--range", "0:70")


def features(images, layer="features", status=0, contains="", more=()):
    return execute([program, "features", "--extractor", own, "--layer", layer, "--images", images,
                    "--out", out, "--threads", "1", "--json", *more], status, contains)


report = json_in(features(clips))
for key, value in (("n", 70), ("layer", "features"), ("dim", 8), ("extractor", "own"),
                   ("preprocessing", "own"), ("out", str(out))):
    check(report.get(key) == value, f"{key} is not {value} in {report}")
check(len(report["hash"]) == 16, f"hash of {report}")
all_rows = rows_of(out)
check(len(all_rows) == 70 and len(all_rows[0]) == 8, f"{len(all_rows)} rows of {len(all_rows[0])}")
output("export", store(), "--npy", clips, "--range", "64:70")
features(clips, more=("--batch", "4"))
check(all(abs(a - b) < 1e-5 for x, y in zip(all_rows[64:], rows_of(out)) for a, b in zip(x, y)) and
      len(rows_of(out)) == 6, "rows depend on the others, or are out of order")
before = out.read_bytes()

features(clips, layer="feature", status=2, contains="did you mean 'features'?")
features(clips, status=2, contains="brings its own preprocessing", more=("--preprocessing", "tf1"))
features(clips, status=2, contains="brings its own preprocessing", more=("--precision", "BF16"))
features(clips, status=2, contains="did you mean 'torch'?", more=("--preprocessing", "torhc"))
features(here / "none", status=2, contains="none")
(here / "float.npy").write_bytes(clips.read_bytes().replace(b"|u1", b"<f4"))
features(here / "float.npy", status=3, contains="float.npy")
damaged = bytearray(own.read_bytes())
damaged[-3:] = b"\x00\xc0\x7f"  # the last weight becomes NaN
(here / "nan.safetensors").write_bytes(damaged)
own = here / "nan.safetensors"
features(clips, status=4, contains="holds NaN or infinity")
own = run
features(clips, status=2, contains="lastframe export")
check(out.read_bytes() == before and not list(here.glob("*.tmp")), "a refused call wrote something")

# Clips without labels cannot be learned.
(here / "unlabelled").mkdir()
output("export", store(), "--png", here / "png", "--range", "0:24")
for i, path in enumerate(sorted((here / "png").rglob("*.png"))):
    path.rename(here / "unlabelled" / f"{i:03}.png")
execute([program, "build", "--set", f"source.folder.path={here / 'unlabelled'}", "--set", "recipe.frames=1",
         "--out", here / "unlabelled-store"])
execute(train_words(here / "failed", [*sets, "source={}", "recipe={}", f"train.store={here / 'unlabelled-store'}"]), 2, "has no label")
