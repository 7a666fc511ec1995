"""Evaluation of what a model makes unconditionally, a prior over a tiny tokenizer: in training and by the
command, the same results on any number of ranks, of exactly the clips that `lastframe sample` makes;
nothing is sampled twice, and an evaluation that was interrupted resumes."""

import math
import signal

from harness import *

COUNT = 200
METRICS = "fd_pixels,kid,coverage"

# ---- a tokenizer, and a prior that is evaluated as it trains
tokenizer, file, run = here / "tokenizer", here / "tokenizer.safetensors", here / "prior"
train(tokenizer, 1, ["model.cvivit={ width: 16 patch: 4 spatial_layers: 1 temporal_layers: 1 heads: 2 "
                     "head_width: 8 quantiser { ema { codes: 16 dim: 4 half_life_images: 60 } } }"],
      until=240)
output("export", tokenizer, "--out", file)
train(run, 2, [f"model.code_prior={{ tokenizer: '{file}' kind: FRAME_MASKED layers: 1 width: 16 heads: 2 "
               "rounds: 2 }", "train.images=240", "evaluation.every_images=120",
               "evaluation.metrics=fd_pixels", "evaluation.extractor=pixels", "evaluation.samples=40",
               "evaluation.seed=3"])
found = {line["images"]: line["results"]["fd_pixels"] for line in lines(run)
         if line.get("event") == "evaluation"}
check(sorted(found) == [120, 240], f"evaluated at {sorted(found)}")
for images, result in found.items():
    check(result["subject"] == "samples" and result["seed"] == 3 and result["n"] == 40 and
          result["reference_n"] == 240 and result["images"] == images, f"{result}")
check(found[120]["value"] != found[240]["value"], f"training changes nothing: {found}")


def evaluate(*words, count=1, **expected):
    text = execute(ranks(count) + [program, "evaluate", "--run", run, "--extractor", "pixels",
                                   "--subject", "SAMPLES", "--json", *words], **expected)
    return json_in(text)


def cache():
    return run / "evaluations" / "cache"


def chunks(kind="samples"):
    return {path: path.stat().st_mtime_ns for path in sorted(cache().glob(f"{kind}-*/chunk-*.npz"))}


def check_close(a, b, what, tolerance=1e-9):
    check(a.keys() == b.keys(), f"{what}: {a.keys()} and {b.keys()}")
    for metric in a:
        x, y = a[metric]["value"], b[metric]["value"]
        check(math.isfinite(x) and abs(x - y) <= tolerance * max(abs(x), 1e-6),
              f"{what}: {metric} is {x} and {y}")


# ---- by the command: what training found, on any number of ranks
check_close({"fd_pixels": found[240]}, evaluate("--metrics", "fd_pixels", "--samples", 40, "--seed", 3),
            "in training and by the command", 1e-5)
base = ["--metrics", METRICS, "--samples", COUNT, "--seed", 3]
alone = None
for count in (1, 2, 3):
    shutil.rmtree(cache())
    results = evaluate(*base, count=count)
    alone = alone or results
    check_close(alone, results, f"1 and {count} ranks")
    check(results["fd_pixels"]["n"] == COUNT and results["kid"]["seed"] == 3, f"{results}")

# ---- of the very clips that `lastframe sample` makes
output("sample", "--run", run, "--count", COUNT, "--seed", 3, "--out", here / "made.npy")
files = json.loads(output("evaluate", "--real", store(), "--fake", here / "made.npy", "--extractor",
                          "pixels", "--metrics", METRICS, "--json"))
check_close(alone, files, "the run's samples and their file")

# ---- nothing is sampled twice; another seed, or another way to sample, is something else
before = chunks()
check(len(before) == math.ceil(COUNT / 32), f"kept: {sorted(before)}")
evaluate("--metrics", "recall,density", "--samples", COUNT, "--seed", 3, count=2)
check_close(alone, evaluate(*base, count=3), "again")
check(chunks() == before, "what was sampled is sampled again")
fewer = evaluate("--metrics", "fd_pixels", "--samples", 70, "--seed", 3)
check(chunks() == before and fewer["fd_pixels"]["n"] == 70, "fewer samples are not the first of many")
for other in (["--seed", 4], ["--seed", 3, "--set", "model.code_prior.temperature=0.2"]):
    result = evaluate("--metrics", "fd_pixels", "--samples", COUNT, *other)
    check(abs(result["fd_pixels"]["value"] - alone["fd_pixels"]["value"]) >
          1e-6 * alone["fd_pixels"]["value"], f"{other} gives the same samples: {result}")
check_close(alone, evaluate(*base), "after the others")

# ---- in bf16 of those that `lastframe sample` makes in it; it says how fast
bf16 = evaluate(*base, "--precision", "BF16", "--set", "evaluation.batch=16",
                contains=f"{COUNT} samples were made in ")
output("sample", "--run", run, "--count", COUNT, "--seed", 3, "--precision", "BF16", "--out",
       here / "bf16.npy")
files = json.loads(output("evaluate", "--real", store(), "--fake", here / "bf16.npy", "--extractor",
                          "pixels", "--metrics", METRICS, "--json"))
check_close(bf16, files, "the run's samples in bf16 and their file")
check({result["precision"] for result in bf16.values()} == {"BF16"} and
      {result["precision"] for result in alone.values()} == {"FP32"}, f"{bf16} {alone}")
check(bf16["fd_pixels"]["value"] != alone["fd_pixels"]["value"], "bf16 makes the same samples")

# ---- another form of the kernels is another arithmetic: nothing that was kept is served for it
for more, precision in ((["--set", "train.kernels=REFERENCE"], []),
                        (["--set", "train.kernels=REFERENCE"], ["--precision", "BF16"])):
    kept = set(cache().iterdir())
    evaluate(*base, *more, *precision, contains=f"{COUNT} samples were made in ")
    fresh = sorted(path.name.split("-")[0] for path in set(cache().iterdir()) - kept)
    check("samples" in fresh and "features" in fresh, f"{more}, {precision}: only {fresh} are new")
    check(before.items() <= chunks().items(), f"{more}, {precision}: other samples were made again")

# ---- the codes a tokenizer gives to the clips it was trained on; a prior gives none
use = "code_usage,code_perplexity,bits_per_image"
by_count = [json_in(execute(ranks(count) + [program, "evaluate", "--run", tokenizer, "--metrics", use, "--json"]))
            for count in (1, 3)]
check(by_count[0] == by_count[1], f"1 and 3 ranks: {by_count}")
usage, perplexity, bits = (by_count[0][name]["value"] for name in use.split(","))
codes = bits / math.log2(perplexity)  # of a clip: two steps of 2 x 2
check(by_count[0]["code_usage"]["n"] == 240 and 1 < perplexity <= 16 * usage <= 16 and
      abs(codes - round(codes)) < 1e-6 and round(codes) >= 8, f"{by_count[0]}")
execute([program, "evaluate", "--run", run, "--metrics", "code_usage"], status=2, contains="is none")

# ---- an evaluation that was interrupted resumes
# One clip at a time, so that it can be interrupted; clips made so are rounded otherwise than in batches.
ones = ["--set", "evaluation.batch=1"]
shutil.rmtree(cache())
alone = evaluate(*base, *ones)
for attempt in range(20):
    shutil.rmtree(cache())
    words = [program, "evaluate", "--run", run, "--extractor", "pixels", "--subject", "SAMPLES", *base,
             *ones]
    process = subprocess.Popen([str(word) for word in words], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: chunks() or process.poll() is not None, "a chunk")
    process.send_signal(signal.SIGUSR1)
    if process.wait(60) == 75:
        break
check(process.returncode == 75, f"interrupted: status {process.returncode}")
some = chunks()
check(0 < len(some) < len(before), f"{len(some)} of {len(before)} chunks after the interruption")
check_close(alone, evaluate(*base, *ones, count=2), "after an interruption")
check(some.items() <= chunks().items(), "the finished chunks were sampled again")
