"""Evaluation of a run, by the command and in training: the same results on any number of ranks, from
the cache and after an interruption; results where people look for them; the best checkpoint kept."""

import math
import signal

from harness import *

METRICS = "fd_pixels,kid,precision,coverage,psnr,ssim"


def evaluate(run, *words, count=1, **expected):
    text = execute(ranks(count) + [program, "evaluate", "--run", run, "--json", *words], **expected)
    return json_in(text)


def cache(run):
    return run / "evaluations" / "cache"


def chunks(run, kind):
    return {path: path.stat().st_mtime_ns for path in sorted(cache(run).glob(f"{kind}-*/chunk-*.npz"))}


def check_close(a, b, what, tolerance=1e-9):
    check(a.keys() == b.keys(), f"{what}: {a.keys()} and {b.keys()}")
    for metric in a:
        x, y = a[metric]["value"], b[metric]["value"]
        check(math.isfinite(x) and abs(x - y) <= tolerance * max(abs(x), 1e-6),
              f"{what}: {metric} is {x} and {y}")


# ---- in training: results in metrics.jsonl, evaluations/, the checkpoint, and the best one kept
run = here / "run"
sets = ["evaluation.every_images=60", "evaluation.metrics=fd_pixels,psnr",
        "evaluation.extractor=pixels", "evaluation.samples=40", "checkpoint.keep_last=1",
        "checkpoint.every_images=0", "checkpoint.keep_best=1", "checkpoint.best_metric=psnr",
        "checkpoint.best_is_highest=true", "source.size=16"]
source = here / "store-16"
execute([program, "build", "--config", config, "--set", "store.threads=1",
         "--set", "source.size=16", "--out", source])
words = [f"train.store={source}"] + sets
train(run, 2, words, until=20 * BATCH)
found = {line["images"]: line["results"] for line in lines(run) if line.get("event") == "evaluation"}
check(sorted(found) == [60, 120, 180, 240], f"evaluated at {sorted(found)}")
for images, results in found.items():
    check(set(results) == {"fd_pixels", "psnr"}, f"at {images}: {sorted(results)}")
    result = results["fd_pixels"]
    check(result["n"] == 40 and result["extractor"] == "pixels" and result["extractor_hash"]
          and result["preprocessing"] == "own" and result["reference_n"] == 40
          and result["reference_hash"] == result["reference"]
          and result["images"] == images and result["weights"] == "ema"
          and result["subject"] == "reconstructions", f"provenance: {result}")
    written = list((run / "evaluations").glob(f"img-{images:012}-*.json"))
    check(len(written) == 1 and json.loads(written[0].read_text()) == results,
          f"at {images}: {written}")
kept = json.loads(output("inspect", run, "--json"))["checkpoints"]
best = max(found, key=lambda images: found[images]["psnr"]["value"])
check({row["images"] for row in kept} == {240, best}, f"kept {kept}, the best is at {best}")
check(abs(kept[0]["numbers"]["psnr"] - found[240]["psnr"]["value"]) < 1e-12,
      f"the checkpoint says {kept[0]['numbers']}")

# ---- by the command: equal to what training found, on any number of ranks
base = ["--extractor", "pixels", "--metrics", METRICS, "--samples", "200"]
alone = None
for count in (1, 2, 3, 4):
    shutil.rmtree(cache(run), ignore_errors=True)
    results = evaluate(run, *base, count=count)
    alone = alone or results
    check_close(alone, results, f"1 and {count} ranks")
    check(results["fd_pixels"]["n"] == 200 and results["psnr"]["n"] == 200, f"{results}")
check(len(alone["psnr"]["per_frame"]) == 3 and
      abs(alone["psnr"]["per_frame"][2] - alone["psnr"]["last_frame"]) < 1e-12, f"{alone['psnr']}")
check({result["clips"] for result in alone.values()} == {"training"}, f"whose clips: {alone}")
text = execute([program, "evaluate", "--run", run, "--metrics", "psnr", "--samples", 500],
               contains="the training store holds 240 clips: these are measured")
check("psnr of the last frame  " in text and "was trained on" in text, text)
again = evaluate(run, "--extractor", "pixels", "--metrics", "fd_pixels,psnr", "--samples", "40")
check_close({k: v for k, v in found[240].items()}, again, "in training and by the command", 1e-5)

# ---- nothing is made twice, whatever is asked of it
before = chunks(run, "reconstructions")
check(len(before) >= 7, f"kept: {sorted(before)}")
more = evaluate(run, "--extractor", "pixels", "--metrics", "recall,crps", "--samples", "200", count=2)
check(chunks(run, "reconstructions") == before, "reconstructions were made again")
check(more["crps"]["value"] > 0 and 0 <= more["recall"]["value"] <= 1, f"{more}")

# ---- what is missing or damaged is made again, the answer stays
for number, path in enumerate(before):
    if number % 3 == 0:
        path.unlink()
    elif number % 3 == 1:
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        path.write_bytes(damaged)
for path in chunks(run, "features"):
    path.unlink()
check_close(alone, evaluate(run, *base, count=2, contains="made again"), "after damage")

# ---- an evaluation that was interrupted resumes; clips one at a time, which leaves time for it
slow = [*base, "--set", "evaluation.batch=1"]
shutil.rmtree(cache(run))
calm = evaluate(run, *slow)
shutil.rmtree(cache(run))
for attempt in range(20):
    words = [program, "evaluate", "--run", run, "--json", *slow]
    process = subprocess.Popen([str(word) for word in words], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: chunks(run, "reconstructions") or process.poll() is not None, "a chunk")
    process.send_signal(signal.SIGUSR1)
    if process.wait(60) == 75:
        break
    shutil.rmtree(cache(run))
check(process.returncode == 75, f"interrupted: status {process.returncode}")
some = chunks(run, "reconstructions")
check(0 < len(some) < len(before), f"{len(some)} of {len(before)} chunks after the interruption")
check_close(calm, evaluate(run, *slow), "after an interruption")
check_close(alone, calm, "with other batches", 1e-4)  # in which a pixel may round otherwise
check(some.items() <= chunks(run, "reconstructions").items(), "the finished chunks were made again")

# ---- files of clips and images, against each other and against statistics
execute([program, "export", source, "--npy", here / "real.npy", "--range", "0:100"])
execute([program, "export", source, "--npy", here / "fake.npy", "--range", "100:200"])
two = ["--extractor", "pixels", "--metrics", "fd_pixels", "--json"]
first = json.loads(output("evaluate", "--real", here / "real.npy", "--fake", here / "fake.npy", *two))
output("evaluate", "--real", here / "fake.npy", "--fake", here / "real.npy", *two,
       "--save-statistics", here / "real.npz")
second = json.loads(output("evaluate", "--real", here / "real.npz", "--fake", here / "fake.npy", *two))
check_close(first, second, "images and their statistics")
# Statistics alone are the same file, and nothing is compared.
nothing = output("evaluate", "--fake", here / "real.npy", *two, "--save-statistics", here / "alone.npz")
check(json.loads(nothing) == {}, f"compared with nothing: {nothing}")
check((here / "alone.npz").read_bytes() == (here / "real.npz").read_bytes(), "statistics alone are others")
third = evaluate(run, "--extractor", "pixels", "--metrics", "fd_pixels", "--reference",
                 here / "real.npz", "--samples", "50")
check(third["fd_pixels"]["reference"] == str(here / "real.npz")
      and third["fd_pixels"]["reference_n"] == 100, f"{third}")
check(third["fd_pixels"]["reference_hash"] == second["fd_pixels"]["reference_hash"]
      != first["fd_pixels"]["reference_hash"], f"{first} {second} {third}")

# ---- a reference's features are kept beside its store for every run, or in the run where they cannot
# be, and written by several at a time; part of a reference is told from all of it
kept = source.with_name(source.name + ".features")
check((kept / "README.txt").exists() and list(kept.glob("statistics-*/pixels.npz")), f"{list(kept.rglob('*'))}")
shutil.rmtree(kept)
words = [program, "evaluate", "--real", source, "--fake", here / "fake.npy", *two]
together = [subprocess.Popen([str(word) for word in words], env=environment, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True) for _ in range(3)]
whole = [json.loads(process.communicate()[0]) for process in together]
check(whole[0] == whole[1] == whole[2], f"several at a time: {whole}")
execute(words, contains="statistics are kept")
part = json_in(execute([*words, "--reference-count", "40"], contains="mostly bias"))["fd_pixels"]
everything = whole[0]["fd_pixels"]
check(part["reference_n"] == 40 and part["reference_of"] == everything["reference_n"] > 40
      and "reference_of" not in everything and part["value"] != everything["value"], f"{part} {everything}")
shutil.rmtree(kept)
kept.write_text("a file in the way")
shutil.rmtree(cache(run))
evaluate(run, *base, contains=f"kept in {cache(run)}")
check(list(cache(run).glob("statistics-*/pixels.npz")) or chunks(run, "reference"), "nothing is kept in the run")
kept.unlink()

# ---- what cannot be answered is refused, by name
for words, status, contains in (
        (["--metrics", "fid", "--extractor", "pixels"], 2, "fd_pixels"),
        (["--metrics", "fd_pixels", "--set", "evaluation.extractor="], 2, "extractor"),
        (["--metrics", "psnr", "--samples", "1"], 2, "--samples"),
        (["--metrics", "fd_pixels", "--extractor", "pixels", "--reference", here / "real.npz",
          "--reference-count", "50"], 2, "--reference-count"),
        (["--metrics", "fd_pixels", "--extractor", "pixels", "--subject", "SAMPLES"], 2, "reconstruct"),
        (["--metrics", "psnr", "--checkpoint", here], 4, "holds no checkpoint"),
        (["--metrics", "psnr", "--set", f"train.store={store()}"], 2, "train.store"),
        (["--metrics", "fd_pixels", "--extractor", "pixels", "--subject", "RECONSTRUCTIONS",
          "--reference", store()], 2, "resolution")):
    execute([program, "evaluate", "--run", run, *words], status=status, contains=contains)
execute([program, "evaluate", "--run", source, "--metrics", "psnr"], status=2, contains="is a store")
execute([program, "evaluate", "--run", here, "--metrics", "psnr"], status=4,
        contains="holds no checkpoint")
train(here / "early", 1, ["evaluation.every_images=12", "evaluation.metrics=fid",
                          "evaluation.extractor=pixels"], status=2, contains="fd_pixels")
