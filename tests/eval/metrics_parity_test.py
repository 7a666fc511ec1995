"""`lastframe evaluate` on files against what independent programs said of the same files,
which tools/fixtures/metrics.py made.
"""

import json

from harness import expect, finish, fixtures, output

folder = fixtures / "metrics"
expected = json.loads((folder / "expected.json").read_text())
compared = 0


def evaluate(*words):
    return json.loads(output("evaluate", *words, "--json"))


def compare(what, ours, theirs, tolerance=1e-6):
    global compared
    compared += 1
    off = abs(ours - theirs) / max(abs(theirs), 1e-12)
    expect(off <= tolerance, f"{what}: {ours}, expected {theirs}, relative difference {off:.2g}")


for name, metrics in expected["features"].items():
    files = folder / f"{name}-a.npy", folder / f"{name}-b.npy"
    found = evaluate("--features", *files, "--metrics", ",".join(metrics))
    for metric, values in metrics.items():
        for whose, value in values.items():
            compare(f"{metric} of {name} against {whose}", found[metric]["value"], value)
    same = evaluate("--features", files[0], files[0], "--metrics", "frechet")["frechet"]["value"]
    expect(0 <= same < 1e-6, f"{name} against itself is {same}")

scores = evaluate("--features", folder / "logits.npy", folder / "logits.npy", "--metrics",
                  "inception_score")["inception_score"]
compare("inception_score", scores["value"], expected["inception_score"]["value"])
compare("its deviation", scores["deviation"], expected["inception_score"]["deviation"])

found = evaluate("--pairs", folder / "images-a.npy", folder / "images-b.npy", "--metrics", "psnr,ssim")
for metric, values in expected["pairs"].items():
    for whose, value in values.items():
        compare(f"{metric} against {whose}", found[metric]["value"], value)

# pytorch-fid's statistics in place of the features they are of.
for whose, value in expected["features"]["regular"]["frechet"].items():
    ours = evaluate("--features", folder / "statistics.npz", folder / "regular-b.npy", "--metrics",
                    "frechet")["frechet"]
    compare(f"statistics.npz against {whose}", ours["value"], value)

expect(compared >= 50, f"only {compared} values compared")
finish()
