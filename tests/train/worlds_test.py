"""What does not depend on how a step is computed: ranks, micro-batches, and how checkpoints are
written. Losses agree to rounding, saves to the byte."""

from harness import *

for name, sets in (("dropout", []), ("adversarial", ADVERSARIAL)):
    origin = here / f"{name}-at-4"
    train(origin, 4, sets, until=17 * BATCH)
    check(len(list(latest(origin).glob("model-*.safetensors"))) > 1, "the model is in one file")
    runs = {}
    for count in (1, 2, 3, 4):
        runs[count] = here / f"{name}-at-{count}-again"
        shutil.copytree(origin, runs[count])
        train(runs[count], count, sets, until=22 * BATCH)
    # The first loss after loading tells that the same clips, masks and weights were there.
    for count in (1, 2, 3):
        for a, b in zip(lines(runs[4])[17:], lines(runs[count])[17:]):
            check(a["images"] == b["images"] and abs(a["loss"] - b["loss"]) <= 1e-5 * abs(a["loss"]),
                  f"{name}: saved at 4, loss {b['loss']} at {count} and {a['loss']} at 4 ranks, "
                  f"image {a['images']}")

runs = {count: here / f"fresh-{count}" for count in (1, 2, 3)}
for count, run in runs.items():
    train(run, count, until=10 * BATCH)
for count in (2, 3):
    for a, b in zip(lines(runs[1]), lines(runs[count])):
        check(abs(a["loss"] - b["loss"]) <= 1e-5 * abs(a["loss"]), f"{count} ranks: {a} and {b}")

train(here / "halves", 1, ["train.accumulation=2"], until=10 * BATCH)
for a, b in zip(lines(runs[1]), lines(here / "halves")):
    check(abs(a["loss"] - b["loss"]) <= 1e-6 * abs(a["loss"]), f"two micro-batches: {a} and {b}")

train(here / "behind", 2)
train(here / "between", 2, ["checkpoint.asynchronous=false"])
check_same_end(here / "behind", here / "between", "asynchronous and synchronous saves")

# Blocks computed again in backward: no other bits, neither in the sums of micro-batches nor in those
# of ranks.
for name, sets in (("fp32", []), ("halves", ["train.accumulation=2"]), ("bf16", ["train.precision=BF16"]),
                   ("adversarial", ADVERSARIAL)):
    runs = {on: here / f"recompute-{on}-{name}" for on in ("false", "true")}
    for on, run in runs.items():
        train(run, 2, [*sets, f"train.recompute={on}"], until=20 * BATCH)
    check_same_end(*runs.values(), f"{name} with and without recomputing")

train(here / "bf16", 2, ["train.precision=BF16"])
first, last = lines(here / "bf16")[0]["loss"], lines(here / "bf16")[-1]["loss"]
exact = lines(here / "behind")[-1]["loss"]
check(last < first and abs(last - exact) < 0.1 * exact and last != exact,
      f"BF16 goes from {first} to {last}, FP32 to {exact}")
