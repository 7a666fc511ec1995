"""tools/experiments/pseudo_video, one command, trains the image model, pseudo videos and their static
control on 200 tiny images and prints a table; the same command again prints it without training anything,
and another budget for the same folder is refused."""

import re

from harness import *

tool = root / "tools" / "experiments" / "pseudo_video"
command = [sys.executable, tool, "--program", program, "--dir", here / "lab", "--parts", "models", "--seeds", 1,
           "--images", 200, "--samples", 20, "--frames", 4]
BUDGET = ["--budget", 0.5]  # some seconds for each run
ROW = re.compile(r"  (\S.*\S) +(\d+) images learnt from, (\d+) weights; an image is made in (\d+) calls, ([\d.]+) ms:"
                 r"  fd_own +([\d.]+) \(.*\)  fd_pixels +([\d.]+) \(.*\)")


def table(text):
    rows = [found.groups() for found in map(ROW.fullmatch, text.splitlines()) if found]
    return {name: [float(value) for value in values] for name, *values in rows}


def stdout_of(words):
    done = run(*words, seconds=500)
    check(done.returncode == 0, f"status {done.returncode}\n{done.stderr}")
    return done.stdout


text = stdout_of(command + BUDGET)
found = table(text)
print(text)
check(list(found) == ["image", "image, deeper", "4 frames, static"] +
      [f"4 frames, {name}" for name in ("chain", "window-2", "star")],
      f"the arms are {list(found)}")
IMAGES, WEIGHTS, CALLS, MS, OWN, PIXELS = range(6)
for name, row in found.items():
    check(row[CALLS] == 20, f"{name}: {row[CALLS]} calls")
    check(min(row[IMAGES], row[MS], row[OWN], row[PIXELS]) > 0, f"{name}: {row}")
check(len({found[name][WEIGHTS] for name in found if "frames" in name}) == 1, "videos have not the same weights")
check(found["image"][WEIGHTS] < found["4 frames, chain"][WEIGHTS] < found["image, deeper"][WEIGHTS],
      "weights are not those of the image model, a video model and the deeper one")
check(found["image"][MS] < found["4 frames, chain"][MS], "frames cost nothing")
check(found["image"][IMAGES] > found["4 frames, chain"][IMAGES], "arms did not compute for equally long")

results = (here / "lab" / "results.json").read_bytes()
check(stdout_of(command + BUDGET) == text, "the same command prints another table")
check((here / "lab" / "results.json").read_bytes() == results, "the same command has other results")
execute(command + ["--budget", 2], status=2, contains="began models with --parts models --budget 0.5")
execute(command + ["--dir", here / "short", "--samples", 100000] + BUDGET, status=2,
        contains="give a larger --budget or fewer --samples")
