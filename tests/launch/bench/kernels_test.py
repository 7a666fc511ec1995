"""`lastframe bench kernels` runs each size of an operation in both forms and reports both. No figure is compared
with a clock."""

from harness import *


def bench(*words):
    return execute([program, "bench", "kernels", "--seconds", "1", *words])


report = json_in(bench("--operation", "token_layer", "--json"))
check(report["precision"] == "FP32" and report["threads"] == 1 and len(report["rows"]) >= 2, str(report))
for row in report["rows"]:
    check(row["operation"] == "token_layer" and not row["backward"] and row["plain_seconds"] > 0 and
          row["fused_seconds"] > 0 and 0 < row["fused_bytes"] < row["plain_bytes"], str(row))
text = bench("--operation", "skinny_matmul", "--threads", "2", "--precision", "BF16")
check("| operation | config |" in text and text.count("| skinny_matmul |") >= 2, text)
execute([program, "bench", "kernels", "--operation", "matmul"], 2, "lastframe list kernels")
