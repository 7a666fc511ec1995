"""fifteen_minutes without a device: help, plan and usage; every stage is skipped, with the reason, and ends with
77; results are JSON. With the CPU in the device's place its stages run the program: kill and resume, samples."""

from harness import *

sys.path.insert(0, str(root / "tests" / "gpu"))
from stages import COMPUTES, MAKES_FRAMES, REPLAYS

script = root / "tests" / "gpu" / "fifteen_minutes"
NO_DEVICE = {"CUDA_VISIBLE_DEVICES": ""}


def results(folder):
    found = json.loads((folder / "results.json").read_text())
    return {row["stage"]: row for row in found["stages"]}


text = execute([script, "--help"])
check(all(word in text for word in ("pack", "--only", "results.json", "exit status")), text)
execute([script, "pack", "--help"], contains="--build")
plan = [line.split()[0] for line in execute([script, "--list"]).splitlines()]
check(plan[0] == "build" and {"suite", "numbers", "resume", "sample", "fid", "bf16", "sanitizer"} <= set(plan), f"{plan}")
execute([script, "--only", "sweet"], 2, "there is no stage 'sweet'; there are build,")
execute([script, "--program", here / "none"], 2, "is no file")

text = execute([script, "--out", here / "none"], 77, "no device here: ", extra=NO_DEVICE)
skipped = results(here / "none")
check(list(skipped) == plan and all(row["status"] == "skipped" and row["sentence"].startswith("no device here")
                                    for row in skipped.values()), f"{skipped}")

# Only a device's run says these, and its stages look for them.
for said, file in ((COMPUTES, "src/run/accelerator.cc"), (REPLAYS, "src/train/step.cc"),
                   (MAKES_FRAMES, "src/train/trainer_setup.cc")):
    check(said in (root / file).read_text(), f"{file} does not say '{said}' any more; stages.py waits for it")

words = [script, "--device", "cpu", "--program", program, "--out", here / "cpu"]
words += [word for stage in ("device", "resume", "sample", "suite") for word in ("--only", stage)]
execute(words, contains="killed twice end in the calm runs' bits")
first = results(here / "cpu")
check([row["status"] for row in first.values()] == ["passed", "passed", "skipped", "passed", "passed"], f"{first}")
check(first["resume"]["values"]["resumes"] == [2, 2] and first["build"]["values"]["program"] == program, f"{first}")
execute(words)
again = results(here / "cpu")
changed = [stage for stage, row in again.items() if row != first[stage] and row["status"] == "passed"]
check(not changed, f"{changed} passed and ran again: {again}, before {first}")
broken = here / "broken"
broken.write_text("#!/bin/sh\nexit 3\n")
broken.chmod(0o755)
execute([script, "--device", "cpu", "--program", broken, "--out", here / "out", "--only", "device"], 1,
        "there is no program to run")
check(results(here / "out")["build"]["status"] == "failed", "a program that does not start was taken")
print("all passed")
