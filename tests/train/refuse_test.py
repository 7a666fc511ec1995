"""What training refuses with status 2: a config that sets what its store was built by otherwise; at
a resume another config, store or seed; a batch that the ranks do not divide; a second job on one run.
What may change is shown as a diff."""

import re
import signal

from harness import *

# What a config sets otherwise than its store was built by, and what it leaves to the store.
untouched = here / "untouched"
for sets, words in (
        (["recipe.frames=4"], "recipe.frames is 4, the store's 3"),
        (["recipe.noise={}", "recipe.topology=STAR"],
         "recipe.topology is STAR, the store's CHAIN; recipe.noise is set, the store's recipe.blur"),
        (["source.size=16", "source.channels=1"], "source.size is 16, the store's 8; source.channels is 1, the store's 3"),
        (["source.split.part=TRAIN"], "source.split.part is TRAIN, the store's ALL"),
        (["source.folder.path=photos"], "source.folder is set, the store's source.generated"),
        (["store.draws=2"], "store.draws is 2, the store's 1")):
    train(untouched, 1, sets, status=2, contains=words)
    execute([*train_words(untouched, sets), "--dry-run"], 2, words)
execute([program, "build", "--config", config, "--set", "recipe.frames=2", "--out", here / "validation"])
for sets in ([], ["train.store="]):
    train(untouched, 1, [f"train.validation_store={here / 'validation'}", *sets], status=2, contains="recipe.frames: 3 -> 2")
execute([program, "train", "--run", untouched], 2, "there is no run in")
for sets in (["model.code_prior={}"], ["model.code_prior={}", "train.store="], ["train.device=CUDA"],
             ["evaluation.every_images=24", "evaluation.metrics=code_usage"], ["source.frames={}", "train.store="]):
    execute(train_words(untouched, sets), 2)
check(not untouched.exists(), "a refused training made its run folder")
execute([*train_words(store()), "--dry-run"], 2, "which is a store")
left = here / "left-to-the-store"
train(left, 1, ["source={}", "recipe={}", "source.size=8", "recipe.blur.ratio=3"], until=2 * BATCH)
train(left, 1, ["recipe={ frames: 3 blur {} }"], until=3 * BATCH)
said = (left / "config.pbtxt").read_text()
for words in ("frames: 3\n", "count: 240", "  blur {", "width: 8"):
    check(words in said, f"no {words!r} in {said}")

run = here / "run"
train(run, until=5 * BATCH)
before = files_of(latest(run)), learned(run)
for line, words in (
        ("model.autoencoder.width=12", "model.autoencoder.width: 8 -> 12"),
        ("model.autoencoder.gan_weight=0.1", "model.autoencoder.gan_weight: 0 -> 0.1"),
        ("train.seed=3", "train.seed: 0 -> 3"),
        ("loader.flip=0.5", "loader.flip: 0 -> 0.5"),
        ("train.ema.half_life_images=10", "train.ema.half_life_images: 200 -> 10"),
        ("model.vqvae={ width: 8 multipliers: [1, 2] blocks: 1 latent: 4 quantiser { learnt { codes: 16 } } }",
         "may not change: model.autoencoder: {} -> (unset); model.vqvae: (unset) -> {}. Give another --run folder")):
    train(run, 1, [line], status=2, contains=words)
train(run, 2, ["train.seed=3"], status=2, contains="train.seed: 0 -> 3")
other = store(seed=1)
train(run, 1, [f"train.store={other}"], status=2, contains="was trained on store")
check((files_of(latest(run)), learned(run)) == before, "a refused resume changed the run")

moved = here / "moved"
execute([program, "train", "--run", run, "--set", f"train.store={moved}"], 2, "--set train.store=FOLDER says where to")
train(here / "rising", 1, ["train.images=24"], contains="the run ends while its learning rate still rises")

text = train(run, 1, ["train.optimizer.lr=0.001", "checkpoint.keep_last=5"], until=7 * BATCH)
for words in ("train.optimizer.lr: 0.002 -> 0.001", "checkpoint.keep_last: 3 -> 5"):
    check(words in text, f"no '{words}' in {text}")
check(lines(run)[-1]["lr"] == 0.001, "the new learning rate is not used")

# The store of the same folder, built anew from other pictures.
mine = here / "mine"
shutil.copytree(store(), mine)
train(here / "rebuilt", 1, [f"train.store={mine}"], until=3 * BATCH)
shutil.rmtree(mine)
shutil.copytree(other, mine)
text = train(here / "rebuilt", 1, [f"train.store={mine}"], status=2, contains="was trained on store")
ids = [re.search(r"on store ([0-9a-f-]+), this is store ([0-9a-f-]+)", text)]
check(ids[0] and ids[0][1] != ids[0][2], f"both ids should be shown: {text}")

# Ranks that were started with different words.
shared = [mpiexec, "--oversubscribe", "--bind-to", "none"]
for sets, words in ((["train.optimizer.lr=0.003"], "rank 1 has another config than rank 0"),
                    ([f"train.store={other}"], "rank 1 has another config than rank 0")):
    execute([*shared, "-n", "1", *train_words(here / "parted"), ":",
             "-n", "1", *train_words(here / "parted", sets)], 2, words)

train(here / "batch", 5, status=2, contains="start with one of 1, 2, 3, 4, 6, 12 ranks")
train(here / "batch", 3, ["train.accumulation=3"], status=2, contains="start with one of 1, 2, 4 ranks")
execute([program, "train", "--config", config, "--run", here / "none",
         "--set", f"train.store={here}/absent"], 2, "absent")
execute([program, "train", "--config", config], 2, "--run")

first = start(here / "shared", 1, ["train.images=2400000"])
wait_until(lambda: len(lines(here / "shared")) > 5, "five steps")
train(here / "shared", 1, status=2, contains="is in use by process")
train(here / "shared", 2, status=2, contains="is in use by process")
check(first.poll() is None, "the first job was disturbed")
first.send_signal(signal.SIGUSR1)
check(first.wait(timeout=60) == 75, "the first job did not end in order")
images = [line["images"] for line in lines(here / "shared")]
check(images == list(range(BATCH, images[-1] + 1, BATCH)), "the metrics are not one job's")

# Another config's own store is not drawn into the folder of a run that it cannot resume.
other_config = here / "drawing.pbtxt"
other_config.write_text('source { generated { kind: "shapes" count: 8 } size: 8 } model { vqvae {} }')
execute([program, "train", "--config", other_config, "--run", here / "shared"], 2, "is not of this config")
check(not (here / "shared" / "store").exists(), "a refused training drew its store")
