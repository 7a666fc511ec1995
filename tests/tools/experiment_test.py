"""launch/experiment: a plan of few steps is refused with what it would take; with --allow-short two arms of
4 steps leave rows, table and picture, without a verdict, and rows of the same hash are not run again; from
rows alone verdicts come, won, lost or undecided by seeds."""

import importlib.machinery
import random

from harness import *

sys.path.insert(0, str(root / "tools" / "experiments"))
from lab import compare

images = here / "images"
images.mkdir()
draw = random.Random(1)
for name, count in (("data_batch_1", 320), ("test_batch", 40)):
    records = (bytes([i % 10]) + bytes([draw.randrange(256)]) * 3072 for i in range(count))
    (images / f"{name}.bin").write_bytes(b"".join(records))
results = here / "rows.jsonl"
command = [sys.executable, root / "launch" / "experiment", "1", "--data", images, "--out", here / "out",
           "--results", results]
environment["LASTFRAME"] = str(pathlib.Path(program).resolve())


def experiment(*words, status=0):
    done = run(*command, *words, seconds=900)
    check(done.returncode == status, f"{words}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done


# Pairs by seed: by three or more of one sign, beyond twice the error.
one, two = {0: 3.0, 1: 3.1, 2: 3.2}, {0: 1.0, 1: 1.2, 2: 1.1}
check(compare(one, two, 1)["verdict"] == "won" and compare(one, two, -1)["verdict"] == "lost", "clear pairs")
for unclear in ({0: 1.0, 1: 1.2}, {0: 2.9, 1: 3.0, 2: 0.2}, {0: 1.0, 1: 1.0, 2: 4.0}):
    check(compare(one, unclear, 1)["verdict"] == "undecided", f"{unclear} is decided")

told = experiment("--arms", "A", "--images", 6400, status=2).stderr
check("200 steps an arm, expected 1500 or more" in told and "--images 48000, which here takes about" in told, told)
for wrong in (["--arms", "X"], ["--seeds", "0"], ["--for", "soon"], ["--data", here / "none"], ["--image", "1"]):
    told = experiment(*wrong, status=2).stderr
    check(told.startswith("launch/experiment: ") and told.count("\n") == 1, f"{wrong}: {told}")

short = ["--arms", "A,E", "--images", 128, "--seeds", 1, "--allow-short"]
first = experiment(*short)
rows = [json.loads(line) for line in results.read_text().splitlines()]
check(sorted(row["arm"] for row in rows) == ["A", "E"], f"{rows}")
check(all(row["steps"] == 4 and row["samples"] == 40 and row["psnr"] > 5 and row["psnr_quarter"] > 5
          for row in rows), f"{rows}")
check(rows[0]["hash"] != rows[1]["hash"] and str(here) not in results.read_text(), f"{rows}")
check("not learnt" in first.stdout and "No verdict" in first.stdout, first.stdout)
check((here / "out" / "pictures.png").read_bytes().startswith(b"\x89PNG"), "no picture")
again = experiment(*short, "--out", here / "elsewhere")
check("0 runs to go" in again.stderr and again.stdout == first.stdout, again.stderr + again.stdout)
check(not (here / "elsewhere" / "runs").exists(), "rows were run again")

# Rows of V above A by all three seeds, and above S and Q by two of them.
os.environ["LASTFRAME"] = environment["LASTFRAME"]
driver = importlib.machinery.SourceFileLoader("driver", str(command[1])).load_module()
arms = ["--arms", "A,V,S,Q"]
planned = driver.Experiment(driver.options_of([str(word) for word in command[2:] + arms]))
planned.plan()
planned.judge = lambda images: None  # It would be trained.
for arm, seed in planned.prepare():
    better = {"V": 2 + seed / 10, "S": 1.5, "Q": 1.5}.get(arm, 0) + (1 if seed == 2 and arm in "SQ" else 0)
    driver.add_row(results, {**rows[0], "arm": arm, "seed": seed, "hash": planned.hash_of(arm, seed),
                             "psnr": 20 + better, "fd_own": 5 - better})
told = experiment(*arms)
found = json.loads((here / "out" / "results.json").read_text())["verdicts"]
check("0 runs to go" in told.stderr, told.stderr)
check(found["statement"]["verdict"] == "won" and found["mechanism"]["verdict"] == "undecided", f"{found}")
check("PSNR, dB won: V against A won by +2.10 ± 0.06, n 3" in told.stdout, told.stdout)
print(first.stdout, told.stdout)
