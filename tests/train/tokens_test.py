"""Token models and priors in whole runs: two optimisers and a codebook that no gradient moves resume
exactly after a stop and after a kill, one and two ranks agree, and `lastframe sample` makes the same
clips for any number of ranks. Called with "tokenizers" or "priors"."""

import signal

from harness import *

QUANTISER = "quantiser { ema { codes: 16 dim: 4 half_life_images: 60 } }"
GAN = ("gan { weight: 0.2 layers: 1 width: 8 start_images: 48 ramp_images: 60 r1: 1 r1_every: 4 "
       "last_frame: 0.5 }")
VQVAE = ("model.vqvae={ width: 8 multipliers: [1, 2] blocks: 1 latent: 4 attention: 4 "
         f"{QUANTISER} {GAN} }}")
CVIVIT = ("model.cvivit={ width: 16 patch: 4 spatial_layers: 1 temporal_layers: 1 heads: 2 "
          f"head_width: 8 {QUANTISER} {GAN} }}")
# In front of a command: a disk that takes no file of more than 16 KiB.
FULL_DISK = ["bash", "-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "-"]


def tokenizers():
    for name, model in (("vqvae", VQVAE), ("cvivit", CVIVIT)):
        for count in (1, 2):
            whole, parts = here / f"{name}-whole-{count}", here / f"{name}-parts-{count}"
            train(whole, count, [model])
            check("adversarial" in lines(whole)[-1] and "r1" in lines(whole)[-1] and
                  lines(whole)[-1]["adversarial_weight"] > 0, f"{lines(whole)[-1]}")
            train(parts, count, [model], until=17 * BATCH)
            train(parts, count, [model])
            check_same_end(whole, parts, f"{name} at {count} ranks")
            check(weights(whole)["quantiser.started"] == (1,), "the codebook is not saved")

        killed = here / f"{name}-killed"
        process = start(killed, 2, [model])
        wait_until(lambda: len(lines(killed)) > 22 and (killed / "latest").exists(), "22 steps")
        for pid in rank_processes(killed):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait(timeout=60)
        wait_until(lambda: not rank_processes(killed), "the end of all ranks")
        train(killed, 2, [model])
        check_same_end(here / f"{name}-whole-2", killed, f"{name} after a kill")

        # Codes are choices, so that rounding can grow: over the first steps it has not.
        for a, b in list(zip(lines(here / f"{name}-whole-1"), lines(here / f"{name}-whole-2")))[:12]:
            check(abs(a["loss"] - b["loss"]) <= 1e-4 * abs(a["loss"]), f"{name}: 1 rank {a}, 2 ranks {b}")


    of_an_older_program()


def of_an_older_program():
    """A run of a program that had no cvivit.patch_norm goes on, and is exported, with the norms it has."""
    run, export = here / "older", here / "older.safetensors"
    shutil.copytree(fixtures / "runs" / "cvivit-both", run)
    check("patch_norm" not in (run / "config.pbtxt").read_text(), "the fixture is not of an older program")
    output("export", run, "--out", export)
    execute([program, "train", "--run", run, "--set", "train.images=24"])
    check("patch_norm: BOTH" in (run / "config.pbtxt").read_text(), "the run goes on without its norms")
    execute([program, "train", "--run", run, "--set", "train.images=32", "--set", "model.cvivit.patch_norm=AFTER"],
            2, "patch_norm")
    output("evaluate", "--run", run, "--metrics", "psnr", "--samples", 8)
    execute([program, "train", "--run", here / "older-prior", "--set",
             'source={ generated { kind: "shapes" count: 32 } size: 8 }', "--set", "recipe={ frames: 2 blur {} }",
             "--set", f"model.code_prior={{ tokenizer: '{export}' layers: 1 width: 16 heads: 2 }}",
             "--set", "train.batch=8", "--set", "train.images=8"])


def priors():
    tokenizer = here / "tokenizer"
    train(tokenizer, 2, [CVIVIT], until=240)
    file = here / "tokenizer.safetensors"
    output("export", tokenizer, "--out", file)
    held = {name for name in tensors(file)}
    check({"quantiser.codebook", "encoder.first.linear.weight"} <= held, f"the export holds {sorted(held)}")
    model = (f"model.code_prior={{ tokenizer: '{file}' kind: FRAME_MASKED layers: 1 width: 16 heads: 2 "
             "classes: 10 rounds: 3 }")
    whole, parts = here / "prior-whole", here / "prior-parts"
    train(whole, 2, [model, "train.preview_images=240"], until=240)
    check((whole / "samples" / "img-000000000240.png").exists(), "no preview of a prior")
    train(parts, 2, [model], until=7 * BATCH)
    train(parts, 2, [model], until=240)
    check_same_end(whole, parts, "a prior")

    # The same clips for any number of ranks, and the first of many are those of few.
    made = {}
    for count in (1, 2, 3):
        out = here / f"made-{count}.npy"
        execute(ranks(count) + [program, "sample", "--run", whole, "--count", 40, "--seed", 5, "--out", out])
        made[count] = pixels(out, (40, 3, 8, 8, 3))
        check(made[count] == made[1], f"{count} ranks make other clips than one")
    # What an earlier start made is taken, not made again: here its first group stands for the second, too.
    cut, parts = here / "cut.npy", here / "cut.npy.parts"
    words = [program, "sample", "--run", whole, "--count", 40, "--seed", 5, "--out", cut]
    execute(FULL_DISK + words, 7, "cut.npy")
    groups = sorted(parts.glob("*/chunk-*.npz"))
    check(len(groups) == 3, f"kept {groups}")
    shutil.copy(groups[0], groups[1])
    (parts / "mine").write_text("kept")
    execute(words)
    group = 16 * 3 * 8 * 8 * 3
    check(pixels(cut, (40, 3, 8, 8, 3)) == made[1][:group] * 2 + made[1][2 * group:], "groups were made again")
    check(os.listdir(parts) == ["mine"], f"{parts} holds {os.listdir(parts)}")
    (parts / "mine").unlink()
    execute(words)
    check(pixels(cut, (40, 3, 8, 8, 3)) == made[1] and not parts.exists(), "made anew")

    # Groups of one arithmetic are not taken for those of another.
    cut.unlink()
    seen = set()
    for other in ([], ["--set", "train.kernels=REFERENCE"], ["--precision", "BF16"],
                  ["--set", "train.kernels=REFERENCE", "--precision", "BF16"]):
        execute(FULL_DISK + words + other, 7, "cut.npy")
        kept = {path for path in parts.iterdir() if len(list(path.glob("chunk-*.npz"))) == 3}
        check(len(kept) == len(seen) + 1 and kept > seen, f"{other}: kept {kept} after {seen}")
        seen = kept
    shutil.rmtree(parts)

    output("sample", "--run", whole, "--count", 10, "--seed", 5, "--out", here / "few.npy")
    check(made[1].startswith(pixels(here / "few.npy", (10, 3, 8, 8, 3))), "few are not the first of many")
    output("sample", "--run", whole, "--count", 10, "--seed", 6, "--out", here / "other.npy")
    check(not made[1].startswith(pixels(here / "other.npy", (10, 3, 8, 8, 3))), "the seed is not used")

    words = ["sample", "--run", whole, "--count", 5]
    output(*words, "--precision", "BF16", "--out", here / "bf16.npy")
    pixels(here / "bf16.npy", (5, 3, 8, 8, 3))
    for ending in ("png", "apng"):
        output(*words, "--out", here / f"made.{ending}")
        check((here / f"made.{ending}").read_bytes().startswith(b"\x89PNG"), ending)
    told = json.loads(output(*words, "--class", 3, "--frames", 7, "--store", store(), "--given", 2,
                             "--out", here / "folder", "--json"))
    check(told["count"] == 5 and told["frames"] == 7 and told["images"] == 240, f"{told}")
    check({path.name for path in (here / "folder").iterdir()} ==
          {"clips.npy", "images.png", "strips.png", "moving.apng"}, os.listdir(here / "folder"))
    longer = pixels(here / "folder" / "clips.npy", (5, 7, 8, 8, 3))
    output("export", store(), "--npy", here / "store.npy", "--range", "0:5")
    given = pixels(here / "store.npy", (5, 3, 8, 8, 3))
    frame = 8 * 8 * 3
    for i in range(5):
        check(longer[i * 7 * frame:][:2 * frame] == given[i * 3 * frame:][:2 * frame],
              f"the frames given of clip {i} are not kept")

    # An autoencoder reconstructs; it makes nothing unconditionally.
    output("sample", "--run", tokenizer, "--store", store(), "--count", 20, "--out", here / "seen.npy")
    pixels(here / "seen.npy", (20, 3, 8, 8, 3))
    for words, saying in ((["--run", tokenizer], "can only reconstruct"),
                          (["--run", whole, "--class", 10], "label 10"),
                          (["--run", whole, "--given", 2], "--store"),
                          (["--run", whole, "--store", store(), "--frames", 4], "--given"),
                          (["--run", tokenizer, "--store", store(), "--count", 241], "holds 240 clips")):
        execute([program, "sample", *words, "--out", here / "none.npy"], 2, saying)
        execute([program, "sample", *words, "--count", 241, "--out", here / "none.npy"], 2)
    check(not list(here.glob("none.npy*")), "a refused command wrote a file")
    (here / "empty").mkdir()
    execute([program, "sample", "--run", here / "empty", "--out", here / "none.npy"], 4, "no checkpoint")
    execute(train_words(here / "bad", [model.replace(str(file), str(here / "absent"))]), 2, "absent")


{"tokenizers": tokenizers, "priors": priors}[arguments[0]]()
