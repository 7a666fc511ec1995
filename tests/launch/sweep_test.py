"""lastframe sweep: two tiny arms over two seeds with a judge that is trained first. Arguments: how often the sweep is
killed with -9 at a random instant before it may end, and the ranks of its runs; its results then equal those of a calm
one but for times. Also: a disk that is full, forecasts without data, one run that fails, rows that are carried
elsewhere, and calls that are refused."""

import random
import signal

from harness import *

KILLS, RANKS = (int(arguments[i]) if len(arguments) > i else default for i, default in enumerate((2, 1)))
SWEEP = """
question: "do frames help?"
config: "config.pbtxt"
arm { name: "image" set: "recipe.frames=1" }
arm { name: "video" }
seeds: 2 images: 240 minimum_steps: 20 samples: 40 pictures: 4
first { name: "judge" config: "judge.pbtxt" }
measure { metric: "psnr" curve: true }
measure { metric: "fd_own" extractor: "${judge}" }
measure { metric: "loss" }
anchor { name: "blurred" arm: "video" }
verdict { name: "frames" question: "do they?" compare { better: "video" than: "image" } }
rows: "rows.jsonl"
"""
(here / "judge.pbtxt").write_text("""
base: "config.pbtxt" recipe { frames: 1 }
model { classifier { width: 8 stages: 1 classes: 10 } } train { batch: 24 images: 240 }
""")
file = here / "tiny.sweep"
file.write_text(SWEEP)


def sweep(*words, status=0, of=file):
    done = run(program, "sweep", of, *words)
    check(done.returncode == status, f"{words}: status {done.returncode}, expected {status}\n{done.stdout}{done.stderr}")
    return done


def results(folder, times=True):
    found = json.loads((folder / "results.json").read_text())
    for arm in found["arms"]:
        for one in arm["runs"]:
            check(times or one.pop("seconds") >= 0, f"{one}")
    return found


# A forecast needs no data and begins nothing.
begin = time.time()
told = json.loads(sweep("--dry-run", "--json", "--set", "source.folder.path=nowhere", "--set", "source.size=8").stdout)
check([(one["arm"], one["seed"], one["images"]) for one in told["runs"]] ==
      [("image", 0, 240), ("video", 0, 240), ("image", 1, 240), ("video", 1, 240)], f"{told}")
check(told["runs"][0]["estimated_seconds"] is None and "timed" in told["reason"], f"{told}")
check(time.time() - begin < 10 and not (here / "rows.jsonl").exists(), "a forecast took long or left something")

# Killed at random instants and calm: the same results.
killed, calm, draw = here / "killed", here / "calm", random.Random(KILLS)
for _ in range(KILLS):
    process = subprocess.Popen([program, "sweep", str(file), "--out", str(killed), "--set", "sweep.rows=",
                                "--ranks", str(RANKS)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(draw.uniform(0.2, 6))
    process.send_signal(signal.SIGKILL)
    process.wait()
sweep("--out", killed, "--set", "sweep.rows=", "--ranks", RANKS)
done = sweep("--out", calm, "--ranks", RANKS)
check(results(killed, times=False) == results(calm, times=False), "results differ:\n"
      + (killed / "results.json").read_text() + (calm / "results.json").read_text())
found = results(calm)
check([arm["n"] for arm in found["arms"]] == [2, 2] and not found["unfinished"], f"{found}")
for arm in found["arms"]:
    check(set(arm["values"]) == {"psnr", "fd_own", "loss"} and arm["values"]["psnr"][0] > 5, f"{arm}")
    check([at for at, _ in arm["runs"][0]["curve"]["psnr"]] == [60, 120, 180, 240], f"{arm}")
    check(arm["spread"]["psnr"] > 0 and arm["multiplications"] > 0 and arm["parameters"] > 0, f"{arm}")
    check((calm / arm["runs"][1]["run"] / "latest").exists(), f"{arm}")
check(found["verdicts"][0]["word"] == "undecided" and len(found["comparisons"]) == 3, f"{found}")
check("| video | 240 | 20 |" in done.stdout and "**frames** (do they?): **undecided**" in done.stdout, done.stdout)
check(read_npy(calm / "pictures/video.npy")[1] == (4, 3, 8, 8, 3), "pictures of the video arm")
check(read_npy(calm / "pictures/held_out.npy")[1] == (4, 1, 8, 8, 3), "pictures of the held-out images")

# A full disk ends it by one sentence; with room again the same command goes on to the same results.
disk = here / "disk"
disk.mkdir()
if run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk).returncode == 0:
    atexit.register(run, "umount", "-l", disk)
    full = ["--out", disk / "out", "--set", "sweep.rows=", "--ranks", RANKS]
    told = sweep(*full, status=7).stderr.splitlines()[-1]
    check("No space left on device" in told and is_one_sentence(told), told)
    execute(["mount", "-o", "remount,size=64m", disk])
    sweep(*full)
    check(results(disk / "out", times=False) == results(calm, times=False), "results after a full disk differ")

# Rows are carried, a third seed is added, and what fails is named and kept.
check(str(here) not in (here / "rows.jsonl").read_text(), "rows hold paths")
again = sweep("--out", here / "elsewhere", "--json")
check("0 runs to go" in again.stderr and not list((here / "elsewhere/runs").iterdir()), again.stderr)
check(json.loads(again.stdout)["arms"][1]["mean"] == found["arms"][1]["mean"], again.stdout)
status = sweep("--out", calm, "--status").stdout
check(status.splitlines()[0] == "image seed 0: FINISHED" and len(status.splitlines()) == 4, status)
third = ["--out", calm, "--only", "video", "--set", "sweep.seeds=3"]
failed = sweep(*third, "--set", "sweep.measure.0.metric=lpips", "--set", "sweep.anchor=", status=1)
check("video seed 0 failed" in failed.stderr and "video seed 2 failed" in failed.stderr, failed.stderr)
check(results(calm)["arms"][1]["runs"][2]["state"] == "FAILED", "the failed run is not kept")
sweep(*third)
check(results(calm)["arms"][1]["n"] == 3 and results(calm)["arms"][1]["values"]["psnr"][:2] ==
      found["arms"][1]["values"]["psnr"], "the third seed")

# Refused in one sentence.
other = here / "other.sweep"
other.write_text(SWEEP.replace("verdict", "# verdict") + 'axis { option: "source.size" value: ["8", "16"] }')
for words, said in ((["--out", calm, "--only", "vidoe"], "did you mean 'video'?"),
                    (["--out", calm, "--set", "sweep.seed=1"], "did you mean 'seeds'?"),
                    (["--out", calm, "--set", "recipe.frame=1"], "did you mean 'recipe.frames'?"),
                    (["--out", calm, "--budget", "soon"], "expected a time"),
                    (["--out", calm, "--set", "sweep.name=b"], "holds the results of the sweep tiny"),
                    (["--out", here / "new", "--set", "sweep.minimum_steps=2000"], "--set sweep.images=24000")):
    told = sweep(*words, status=2).stderr
    check(said in told and is_one_sentence(told.splitlines()[-1]), f"{words}: {told}")
told = sweep("--out", here / "new2", of=other, status=2).stderr
check("different held-out images: source.size: 8 -> 16" in told, told)
print(done.stdout)
