"""Diffusion in whole runs: every network and space resumes exactly after a stop, one and two ranks
agree, and what a run's model makes, unconditionally or from what it is given, is the same for any
number of ranks. Called with "networks", "conditions" or "spaces"."""

import array

from harness import *

UNET = "model.unet={ width: 8 multipliers: [1, 2] blocks: 1 attention: 4 heads: 2 dropout: 0.2 }"
UNET3D = "model.unet3d={ dim: 8 multipliers: [1, 2] heads: 2 head_width: 8 }"
DIT = "model.dit={ width: 16 layers: 2 heads: 2 }"
SHORT = "model.diffusion.sampler.steps=4"


def sample(run, out, *words, count=1):
    execute(ranks(count) + [program, "sample", "--run", run, "--out", out, *words])
    return out


def check_resume_and_ranks(name, sets):
    ends = {}
    for count in (1, 2):
        whole, parts = here / f"{name}-whole-{count}", here / f"{name}-parts-{count}"
        train(whole, count, sets, until=240)
        train(parts, count, sets, until=7 * BATCH)
        train(parts, count, sets, until=240)
        check_same_end(whole, parts, f"{name} at {count} ranks")
        ends[count] = lines(whole)
    for one, two in zip(ends[1], ends[2]):
        check(abs(one["loss"] - two["loss"]) <= 1e-3 * abs(one["loss"]), f"{name}: {one} and {two}")
    return here / f"{name}-whole-1"


def networks():
    made = {"unet": [UNET, "model.diffusion.images=2"],
            "unet3d": [UNET3D, "model.diffusion.schedule=COSINE", "model.diffusion.learned_variance=true"],
            "dit": [DIT, "model.diffusion.schedule=FLOW", "model.diffusion.prediction=VELOCITY",
                    "model.diffusion.sampler.kind=EULER", "model.diffusion.classes=10"]}
    for name, sets in made.items():
        run = check_resume_and_ranks(name, sets + [SHORT, "train.preview_images=240"])
        check((run / "samples" / "img-000000000240.png").exists(), f"no preview of {name}")
        full, bf16 = (pixels(sample(run, here / f"{name}-{precision}.npy", "--count", 4, "--precision", precision),
                             (4, 3, 8, 8, 3)) for precision in ("FP32", "BF16"))
        apart = sum(abs(a - b) for a, b in zip(full, bf16)) / len(full)
        check(0 < apart < 6, f"{name}: in bf16 bytes are {apart} apart")
        clips = {count: pixels(sample(run, here / f"{name}-{count}.npy", "--count", 40, "--seed", 5,
                                      count=count), (40, 3, 8, 8, 3)) for count in (1, 2)}
        check(clips[1] == clips[2], f"{name}: 2 ranks make other clips than one")
        words = ["--count", 40, "--seed", 5, "--set", "model.diffusion.sampler.steps=5"]
        check(pixels(sample(run, here / "other.npy", *words), (40, 3, 8, 8, 3)) != clips[1],
              f"{name}: --set changes nothing")
    # Evaluation samples, and knows what was sampled in another way.
    results = []
    for count, steps in ((1, 4), (2, 4), (1, 3)):
        text = execute(ranks(count) + [program, "evaluate", "--run", run, "--json", "--subject", "SAMPLES",
                                       "--extractor", "pixels", "--metrics", "fd_pixels", "--samples", 24,
                                       "--set", f"model.diffusion.sampler.steps={steps}"])
        found = json_in(text)["fd_pixels"]
        check(found["subject"] == "samples" and found["n"] == 24, f"{found}")
        results.append(found["value"])
    check(abs(results[0] - results[1]) <= 1e-9 * results[0], f"1 and 2 ranks: {results}")
    check(results[0] != results[2], "another number of steps gave the samples that were kept")
    for command, sets in (("step", []), ("sample", ["--count", 2])):
        told = json.loads(output("bench", command, "--config", config, "--set", UNET, "--set",
                                 SHORT, "--set", "model.diffusion.images=1", "--seconds", 1, "--json", *sets))
        check(told["parameters"] > 0 and told["clips_per_s"] > 0 and told["clip_shape"] == [3, 8, 8, 3], f"{told}")
    check(told["levels"] == 4 and told["ms_per_level"] > 0, f"{told}")


def conditions():
    """What is given: frames, small clips, texts."""
    output("export", store(), "--npy", here / "store.npy", "--range", "0:20")
    truth, frame = pixels(here / "store.npy", (20, 3, 8, 8, 3)), 8 * 8 * 3

    predict = here / "predict"
    train(predict, 2, [UNET, SHORT, "model.diffusion.frames=PREDICT", "model.diffusion.given=2"], until=60)
    made = pixels(sample(predict, here / "predicted.npy", "--store", store(), "--given", 2, "--frames", 6,
                         "--count", 20), (20, 6, 8, 8, 3))
    for i in range(20):
        check(made[6 * i * frame:][:2 * frame] == truth[3 * i * frame:][:2 * frame], f"frames given of clip {i}")
    execute([program, "sample", "--run", predict, "--out", here / "no.npy"], 2, "predicts from 2 frames")
    execute([program, "sample", "--run", predict, "--out", here / "no.npy", "--store", store(), "--observe",
             "0,2"], 2, "continues the first frames")
    text = execute([program, "evaluate", "--run", predict, "--json", "--metrics", "psnr", "--samples", 20])
    found = json_in(text)["psnr"]
    check(found["subject"] == "reconstructions" and found["given_frames"] == 2
          and len(found["per_frame"]) == 1 and 0 < found["value"] < 60, f"{found}")

    between = here / "between"
    train(between, 1, [DIT, SHORT, "model.diffusion.frames=BETWEEN"], until=60)
    made = pixels(sample(between, here / "between.npy", "--from", here / "store.npy", "--count", 20),
                  (20, 5, 8, 8, 3))
    for i in range(20):
        for t in range(3):
            check(made[(5 * i + 2 * t) * frame:][:frame] == truth[(3 * i + t) * frame:][:frame],
                  f"frame {t} of clip {i} is not kept")

    # A cascade: a model of 8x8 and one that makes them 16x16.
    large = here / "large"
    execute([program, "build", "--config", config, "--set", "source.size=16", "--out", large])
    upscale = here / "upscale"
    train(upscale, 2, [UNET, SHORT, f"train.store={large}", "source.size=16", "model.diffusion.upscale=2",
                       "model.diffusion.upscale_noise=0.1"], until=60)
    clips = {count: pixels(sample(upscale, here / f"large-{count}.npy", "--from", here / "store.npy", "--count", 20,
                                  count=count), (20, 3, 16, 16, 3)) for count in (1, 2)}
    check(clips[1] == clips[2], "2 ranks make other large clips than one")
    pixels(sample(upscale, here / "again.npy", "--store", large, "--count", 20), (20, 3, 16, 16, 3))
    execute([program, "sample", "--run", upscale, "--out", here / "no.npy"], 2, "small clips of 8x8x3")

    # Texts: the store's own, or brought.
    width = 6
    rows = array.array("f", [((i * 7 + j * 3) % 11) / 5 - 1 for i in range(240) for j in range(width)])
    write_npy(here / "texts.npy", "<f4", (240, width), rows.tobytes())
    texts = here / "with-texts"
    execute([program, "build", "--config", config, "--set",
             f"source.embeddings={here / 'texts.npy'}", "--out", texts])
    told = here / "told"
    sets = [UNET, SHORT, f"train.store={texts}", "model.diffusion.text=embedding", f"model.diffusion.text_width={width}",
            "loader.side=embedding", "model.diffusion.sampler.guidance=2"]
    train(told, 2, sets, until=60)
    one = pixels(sample(told, here / "one.npy", "--text", here / "texts.npy", "--count", 8), (8, 3, 8, 8, 3))
    none = pixels(sample(told, here / "none.npy", "--count", 8), (8, 3, 8, 8, 3))
    check(one != none, "a text changes nothing")
    execute(train_words(here / "bad", sets[:-2] + ["model.diffusion.text_width=7"]), 2, "loader.side")
    execute(train_words(here / "bad", sets + ["model.diffusion.text_width=7"]), 2, "has 6 values")

    # The same rows as two tokens of three values.
    write_npy(here / "tokens.npy", "<f4", (240, 2, 3), rows.tobytes())
    tokens = here / "with-tokens"
    execute([program, "build", "--config", config, "--set",
             f"source.embeddings={here / 'tokens.npy'}", "--out", tokens])
    sets += [f"train.store={tokens}", "model.diffusion.text_width=3", "model.diffusion.text_tokens=2"]
    attends = here / "attends"
    train(attends, 2, sets, until=60)
    one = pixels(sample(attends, here / "attended.npy", "--text", here / "tokens.npy", "--count", 8), (8, 3, 8, 8, 3))
    row = pixels(sample(attends, here / "row.npy", "--text", here / "texts.npy", "--count", 8), (8, 3, 8, 8, 3))
    none = pixels(sample(attends, here / "unattended.npy", "--count", 8), (8, 3, 8, 8, 3))
    check(one == row and one != none, "tokens change nothing, or not as a row of them does")
    execute(train_words(here / "bad", sets + ["model.diffusion.text_tokens=3"]), 2, "text_tokens is 3")
    execute([program, "sample", "--run", told, "--out", here / "no.npy", "--text", here / "tokens.npy"], 2,
            "expected 16 of 6 values")


def spaces():
    """Latents of a variational autoencoder and of codes."""
    for name, quantiser in (("variational", "variational { dim: 3 }"), ("codes", "fsq { levels: [5, 5, 5] }")):
        tokenizer, file = here / f"{name}-encoder", here / f"{name}.safetensors"
        cvivit = ("model.cvivit={ width: 16 patch: 2 temporal_patch: 2 spatial_layers: 1 temporal_layers: 1 "
                  f"heads: 2 head_width: 8 quantiser {{ {quantiser} }} }}")
        train(tokenizer, 2, [cvivit], until=120)
        output("export", tokenizer, "--out", file)
        sets = [UNET, SHORT, f"model.diffusion.tokenizer={file}"]
        run = check_resume_and_ranks(f"{name}-latents", sets)
        held = weights(run)
        check(held["latents.measured"] == (1,) and all(0 < value < 100 for value in held["latents.deviation"]),
              f"scale of {name}: {held['latents.deviation']}")
        clips = {count: pixels(sample(run, here / f"{name}-{count}.npy", "--count", 20, count=count), (20, 3, 8, 8, 3))
                 for count in (1, 2)}
        check(clips[1] == clips[2], f"{name}: 2 ranks make other clips than one")
        pixels(sample(run, here / "longer.npy", "--store", store(), "--given", 1, "--frames", 7, "--count", 3),
               (3, 7, 8, 8, 3))
        execute(train_words(here / "bad", sets + ["model.diffusion.upscale=2"]), 2, "works on pixels")
        prior = f"model.code_prior={{ tokenizer: '{file}' layers: 1 width: 16 heads: 2 }}"
        if name == "variational":
            execute(train_words(here / "bad", [prior]), 2, "vectors and no codes")


{"networks": networks, "conditions": conditions, "spaces": spaces}[arguments[0]]()
