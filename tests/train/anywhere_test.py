"""A run resumes by its own config, from any folder, also when its store has moved; and with another
batch: the same clips in the same order, the same state on any number of ranks."""

from harness import *

calm = here / "calm"
train(calm, 1, until=30 * BATCH)

# Started with a relative path, resumed from another folder without a config.
run, elsewhere = here / "run", here / "elsewhere"
elsewhere.mkdir()
relative = os.path.relpath(store(), here)


def inside(folder, *words, status=0, contains=""):
    done = subprocess.run([str(word) for word in words], cwd=folder, env=environment, timeout=300,
                          capture_output=True, text=True)
    text = done.stdout + done.stderr
    check(done.returncode == status and contains in text, f"{words}: {done.returncode}\n{text}")
    return text


inside(here, program, "train", "--config", config, "--run", "run", "--set", f"train.store={relative}",
       "--until-images", 10 * BATCH, contains="no checkpoint in run: training begins at image 0")
check(f'store: "{store()}"' in (run / "config.pbtxt").read_text(), "the store's path is not absolute")
inside(elsewhere, program, "train", "--run", "../run", "--until-images", 20 * BATCH,
       contains="resumed from ../run/checkpoints")

# The store has moved.
first, moved = store(), here / "moved"
first.rename(moved)
inside("/", program, "train", "--run", run, status=2, contains=str(first))
inside("/", program, "train", "--run", run, "--set", f"train.store={moved}",
       "--until-images", 30 * BATCH, contains="resumed from")
check_same_end(calm, run, "resumed by its own config")
moved.rename(first)

# Of what a run without --config recorded of its store, the store decides: older programs wrote down what
# was asked for. A drawn store lies in the run itself.
text = (run / "config.pbtxt").read_text()
check("frames: 3" in text, text)
(run / "config.pbtxt").write_text(text.replace("frames: 3", "frames: 5"))
inside("/", program, "train", "--run", run, "--set", f"train.store={store()}",
       "--until-images", 31 * BATCH, contains="resumed from")
check("frames: 3" in (run / "config.pbtxt").read_text(), "the run does not record its store's recipe")
inside("/", program, "train", "--run", run, "--set", "train.optimizer.lr=0.5", "--until-images", 31 * BATCH,
       contains="no step is made")
check("lr: 0.5" not in (run / "config.pbtxt").read_text(), "a config is recorded by which no step was made")
inside(here, program, "train", "--config", config, "--run", "drawn", "--until-images", 2 * BATCH)
inside("/", program, "train", "--run", here / "drawn", "--until-images", 3 * BATCH, contains="resumed from")

# Weights that stay as they are: losses then tell which clips, masks and random numbers a step had.
STILL = ["train.optimizer.lr=1e-12", "train.ema.half_life_images=0"]
for name, sets in (("dropout", []), ("adversarial", ADVERSARIAL)):
    origin = here / f"{name}-origin"
    train(origin, 1, [*STILL, *sets], until=5 * BATCH)

    def resumed(batch, count):
        """The sum of the losses of the clips after the origin's, and the run."""
        other = here / f"{name}-{batch}-at-{count}"
        shutil.copytree(origin, other)
        text = train(other, count, [*STILL, *sets, f"train.batch={batch}", "train.log_images=1"],
                     until=9 * BATCH)
        check(batch == BATCH or f"a step takes {batch} clips instead of {BATCH}" in text, text)
        made = [line for line in lines(other) if line["images"] > 5 * BATCH]
        check([line["images"] for line in made] ==
              list(range(5 * BATCH + batch, 9 * BATCH + 1, batch)), f"{made}")
        return sum(line["reconstruction"] * batch for line in made), other

    whole, _ = resumed(BATCH, 1)
    for batch, count in ((24, 1), (24, 2), (16, 1), (16, 2)):  # neither divides the position, 60
        total, other = resumed(batch, count)
        check(abs(total - whole) <= 1e-5 * whole, f"{name}: batch {batch} at {count} ranks: {total}, "
              f"batch {BATCH}: {whole}")

# From then on as any run: exact when it is resumed.
whole, parts = here / "whole", here / "parts"
for copy in (whole, parts):
    shutil.copytree(here / "dropout-origin", copy)
BIG = ["train.batch=24", "train.ema.half_life_images=0", "train.accumulation=2"]
train(whole, 2, BIG, until=15 * BATCH)
train(parts, 2, BIG, until=9 * BATCH)
train(parts, 2, BIG, until=15 * BATCH)
check_same_end(whole, parts, "resumed with another batch")
