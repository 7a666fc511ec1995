"""`lastframe bench step` makes the trainer's steps without a store: what it reports, on one rank and on
two, and that it takes what train takes. No figure is compared with a clock."""

import re

from harness import *


def bench(*words, count=1):
    text = execute([*ranks(count), program, "bench", "step", "--config", config, "--seconds", "1",
                    "--json", *words])
    return json_in(text)


dry = json.loads(output("train", "--config", config, "--dry-run", "--json"))
for count in (1, 2):
    report = bench("--threads", "2", count=count)
    check(report["parameters"] == dry["parameters"] and report["clip_shape"] == dry["clip_shape"] and
          report["batch"] == BATCH and report["ranks"] == count and report["threads"] == 2, str(report))
    spread = report["ms_spread"]
    check(0 < spread["min"] <= spread["lower_quartile"] <= spread["upper_quartile"] <= spread["max"] and
          report["steps"] >= 5 and 0 < report["model_share"] <= 1 and report["peak_bytes"] > 1 << 20 and
          report["cpu_ms_per_step"] > 0, str(report))
    check(abs(report["clips_per_s"] * report["ms_per_step"] - 1000 * BATCH) < 1, str(report))
    # Steps live on the memory of earlier ones: what they hold is hundreds of pages.
    check(0 <= report["page_faults_per_step"] < 20, str(report))
    if count == 1:
        check(spread["min"] <= report["ms_per_step"] <= spread["max"], str(report))

# Both phases of an adversarial model, micro-batches, bf16; a store where one is named.
many = bench("--set", ADVERSARIAL[0], "--set", "train.accumulation=2", "--set", "train.precision=BF16")
check(many["parameters"] > dry["parameters"] and many["precision"] == "BF16", str(many))
check(bench("--set", f"train.store={store()}")["clip_shape"] == dry["clip_shape"], "the store's clips")

# Where the time goes: fused operations by their names with their arithmetic, and none of them when they
# are turned off, for the same arithmetic but what attention's plain form counts.
CVIVIT = ("model.cvivit={ width: 16 patch: 4 spatial_layers: 1 temporal_layers: 1 heads: 2 head_width: 8 "
          "quantiser { ema { codes: 16 dim: 4 } } }")
whole = bench("--breakdown", "--set", CVIVIT)
plain = bench("--breakdown", "--set", CVIVIT, "--set", "train.kernels=REFERENCE")
names = {row["name"]: row for row in whole["operations"]}
for name in ("attention", "feed_forward", "depthwise"):
    for ending in ("", "_backward"):
        row = names.get(f"lf::{name}{ending}")
        check(row and row["flops"] > 0 and row["ms"] > 0 and row["calls"] > 0, f"{name}{ending}: {row}")
check(not [row for row in plain["operations"] if row["name"].startswith("lf::")], "REFERENCE runs a kernel")
check(0.5 < whole["flops_per_step"] / plain["flops_per_step"] < 2 and 0 < whole["peak_share"] < 1.5 and
      sum(row["ms"] for row in whole["operations"]) <= whole["observed_ms_per_step"], str(whole)[:500])
text = execute([program, "bench", "step", "--config", config, "--seconds", "1", "--breakdown"])
check("GFLOP of products and convolutions a step" in text and "outside of operations" in text and
      re.search(r"[0-9.]+ new pages a step; model [0-9]{1,2}\.[0-9] %, communication", text), text)

words = [program, "bench", "step", "--config", config, "--seconds", "1"]
execute([*words, "--set", "train.accumulation=7"], 2, "times train.accumulation 7; change train.accumulation")
execute([program, "bench", "step"], 2, "the config names no source")
execute([*words, "--set", "train.graph=ON"], 2, "cannot be recorded because it is computed on the CPU")
check(whole["graph"] == "not recorded: it is computed on the CPU" and whole["device"] == "cpu" and
      whole["taken_bytes"] == whole["peak_bytes"], str(whole)[:500])
