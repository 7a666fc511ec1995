"""tools/experiments/pseudo_video: the theory's numbers against closed forms; in a small form, networks learn
more from three frames of a star than from one, and from three of a chain no more; image and video models leave
rows and a table, those of equal compute see more images, and rows are not run again."""

import importlib.machinery

from harness import *

tool = root / "tools" / "experiments" / "pseudo_video"
sys.path.insert(0, str(tool.parent))
theory = importlib.machinery.SourceFileLoader("pseudo_video", str(tool)).load_module()
results = here / "rows.jsonl"
environment["LASTFRAME"] = str(pathlib.Path(program).resolve())


def driver(*words):
    done = run(sys.executable, tool, *words, "--seeds", 1, "--allow-short", "--results", results, seconds=900)
    check(done.returncode == 0, f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}")
    print(done.stdout)
    return done, {row["arm"]: row for row in map(json.loads, results.read_text().splitlines())}


# Independent frames add their SNRs; on a chain the cleanest tells all, in a window two do.
bars = (0.3, 0.25, 0.2)
snr = [bar / (1 - bar) for bar in bars]
found = {arm: theory.information(arm.split("-")[0], int(arm.split("-")[1]), bars) for arm in theory.THEORY}
for seen in (1, 2, 3):
    check(abs(found[f"star-{seen}"] - sum(snr[:seen])) < 1e-12, f"star: {found}")
    check(abs(found[f"chain-{seen}"] - snr[0]) < 1e-12, f"chain: {found}")
check(found["window-1"] < found["window-2"] and abs(found["window-3"] - found["window-2"]) < 1e-12, f"{found}")
values = theory.eigenvalues([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
check(all(abs(a - b) < 1e-9 for a, b in zip(sorted(values), (2 - 2**0.5, 2, 2 + 2**0.5))), f"{values}")
check(theory.least_error([1e-9], 1) < 1e-9 < 0.1 < theory.least_error([1e9], 1) < 1, "least error of nothing, of all")

_, rows = driver("theory", "--arms", "star-1,star-3,chain-1,chain-3", "--images", 6400, "--out", here / "theory")
gain = {topology: rows[f"{topology}-1"]["error"] / rows[f"{topology}-3"]["error"] for topology in ("star", "chain")}
check(rows["star-3"]["least"] < rows["star-1"]["least"] == rows["chain-3"]["least"], f"{rows}")
check(gain["star"] > 1.05 and gain["star"] > gain["chain"] + 0.05, f"three frames against one: {gain}")

words = ["models", "--arms", "image,image-compute,star-4", "--images", 64, "--samples", 20, "--out", here / "models"]
_, rows = driver(*words)
check(rows["image"]["images"] == 64 < rows["image-compute"]["images"] < 400, f"{rows}")
check(all(rows[arm]["fd_own"] > 0 for arm in ("image", "image-compute", "star-4")), f"{rows}")
check((here / "models" / "pictures.png").read_bytes().startswith(b"\x89PNG"), "no picture")
again, _ = driver(*words)
check("0 runs to go" in again.stderr, again.stderr)
