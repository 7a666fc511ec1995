"""An array builds a store, and a job that depends on it waits; it has the bytes of one built alone."""

from jobs import *


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


built, config = here / "built", here / "build.pbtxt"
write_config(config, 480)
clips = "--set store.clips_per_shard=20 --set store.threads=1"
alone = here / "alone"
execute([program, "build", "--config", config, "--out", alone, *clips.split()])
array = Job("build", edited("build", {"array": "0-3", "cpus-per-task": 1, "time": 10},
                            {"home": root, "lastframe": program, "config": config, "store": built,
                             "options": f"({clips})"}), "--partition=calm")
trainer = Training("after", "calm", SRUN, images=480,
                   options=[f"--dependency=afterok:{array.number}"])
for number in range(4):
    array.element(number).wait_for("COMPLETED")
check(files(built) == files(alone), f"{sorted(files(built))} and {sorted(files(alone))}")
trainer.wait_for("COMPLETED")
