"""An array trains a run for each line of a file. Its elements are interrupted and resume one by one,
each under its own name; an element without a line says so."""

from jobs import *

config, gate, lines_file = here / "sweep.pbtxt", here / "sweep.gate", here / "lines.txt"
write_config(config, DAYS)
sets = {1: ["train.seed=1", "train.images=480"], 2: ["train.seed=2"],
        3: ["model.autoencoder={width: 8  latent: 2}", "train.seed=3"]}
lines_file.write_text("# seeds, and a shape\n\n" + "".join(
    " ".join(f"--set '{line}'" for line in sets[number]) + "\n" for number in sets))


def sweep(name, array):
    text = edited("sweep", {"array": array, "nodes": 1, "ntasks-per-node": 2, "cpus-per-task": 1,
                            "time": 10},
                  {"home": root, "lastframe": gated(name, gate, 1), "config": config,
                   "lines": lines_file, "runs": here / "sweep",
                   "options": f"(--set train.store={store()})"})
    return Job(name, text, "--partition=calm")


array = sweep("sweep", "1-3")
elements = {number: array.element(number) for number in sets}
beyond = sweep("beyond", "4").element(4)

elements[1].wait_for("COMPLETED")
check_finished(here / "sweep/1", 2, 480, sets[1])
for number in (2, 3):
    wait_until(lambda: steps(here / f"sweep/{number}") > 20, f"20 steps of line {number}")
    inside("scancel", "--signal=USR1", elements[number].number)
left = {}
for number in (2, 3):
    elements[number].wait_for_life(1)
    left[number] = wait_until_left(here / f"sweep/{number}")
write_config(config, max(left.values()) + 10 * BATCH)
gate.touch()
for number in (2, 3):
    elements[number].wait_for("COMPLETED")
    run = here / f"sweep/{number}"
    check(resumed_from(run, 2) == left[number], f"line {number} went on from {resumed_from(run, 2)}")
    check_finished(run, 2, max(left.values()) + 10 * BATCH, sets[number])
check(elements[1].field("Restarts") == "0", "line 1 was started again")
beyond.wait_for("FAILED")
check(beyond.field("ExitCode") == "2:0" and "has no line 4" in beyond.output(), beyond.output())
