"""`lastframe bench sample` makes clips without a run: what it reports, in both precisions, on one rank and on
two, and where it says that time goes. No figure is compared with a clock."""

from harness import *

DIFFUSION = ("model.unet={ width: 8 multipliers: [1, 2] blocks: 1 }", "model.diffusion.sampler.steps=3",
             "model.diffusion.classes=3", "model.diffusion.sampler.guidance=2")


def bench(*words, count=1, sets=DIFFUSION):
    text = execute([*ranks(count), program, "bench", "sample", "--config", config, "--seconds", "1",
                    "--count", "2", "--json", *words, *with_sets(sets)])
    return json_in(text)


dry = json.loads(output("train", "--config", config, "--dry-run", "--json"))
for count in (1, 2):
    report = bench(count=count)
    check(report["clip_shape"] == dry["clip_shape"] and report["clips"] == 2 * count and report["ranks"] == count and
          report["levels"] == 3 and report["batches"] >= 3 and report["precision"] == "FP32", str(report))
    check(abs(report["clips_per_s"] * report["ms_per_batch"] - 2000 * count) < 1 and "operations" not in report,
          str(report))

whole = bench("--breakdown", "--precision", "BF16")
names = {row["name"]: row for row in whole["operations"]}
check(whole["precision"] == "BF16" and names["lf::norm_silu"]["calls"] > 0 and
      sum(row["ms"] for row in whole["operations"]) <= whole["observed_ms_per_batch"], str(whole)[:500])
# Both answers of a guided step come of one pass: as many calls as without guidance.
alone = bench("--breakdown", sets=(*DIFFUSION[:-1], "model.diffusion.sampler.guidance=1"))
calls = {row["name"]: row["calls"] for row in alone["operations"]}
check(calls["lf::norm_silu"] == names["lf::norm_silu"]["calls"], f"{calls} {names}"[:500])
text = execute([program, "bench", "sample", "--config", config, "--seconds", "1", "--breakdown"])
check("clips/s" in text and "outside of operations" in text, text)
execute([program, "bench", "sample", "--config", config, "--precision", "HALF"], 2,
        "--precision is 'HALF', expected FP32 or BF16")
