"""Every option does something, or is refused: which options tiny calls read (LASTFRAME_OPTION_READS)
against the conditions in run.proto. An option that has a meaning in a call is read in it; options that
have none change nothing when a file sets them, and are refused when --set does."""

import hashlib

from harness import *

# With train.store, source and recipe are compared with the store's, by reflection, and `build` reads them;
# evaluation without an interval is recorded for `lastframe evaluate`, below; and what needs a GPU, several ranks,
# given frames or several checkpoints is not here.
NOT_HERE = ("source.", "recipe.", "store.", "evaluation.", "base", "train.deterministic", "train.gpu_kernels",
            "train.graph", "comm.address", "checkpoint.keep_best", "model.diffusion.sampler.given")
# Refused by other code where they have no meaning, also from a file.
REFUSED = {"model.diffusion.zero_terminal_snr"}
options = {row["name"]: row for row in json.loads(output("list", "options", "--json"))["options"]}
DIFFUSION = ["model.unet={ width: 8 multipliers: [1, 2] blocks: 1 attention: 4 heads: 2 }", "train.preview_images=24",
             "train.preview_clips=2", "model.diffusion.sampler.steps=3"]
CALLS = {
    "autoencoder": ["model.autoencoder.gan_weight=0.1", "train.optimizer.schedule=COSINE"],
    "vqvae": ["model.vqvae={ width: 8 multipliers: [1, 2] blocks: 1 latent: 4 quantiser { learnt { codes: 16 } } }"],
    "cvivit": ["model.cvivit={ width: 16 patch: 4 spatial_layers: 1 temporal_layers: 1 heads: 2 head_width: 8 "
               "quantiser { lfq { bits: 4 } } gan { weight: 0.1 layers: 1 width: 8 r1: 1 } }"],
    "classifier": ["model.classifier={ width: 4 stages: 2 }", "checkpoint.keep_best=1", "train.validation_images=24",
                   "train.validation_clips=12"],
    "ddim": [*DIFFUSION, "model.diffusion.sampler.kind=DDIM", "model.diffusion.classes=10"],
    "edm": [*DIFFUSION, "model.diffusion={ schedule: EDM prediction: PRECONDITIONED weight: EDM_WEIGHT sampler { kind: "
            "HEUN steps: 3 spacing: KARRAS churn: 4 threshold: DYNAMIC corrector_steps: 1 } }"],
    "flow": ["model.dit={ width: 16 layers: 2 heads: 2 }", *DIFFUSION[1:], "model.diffusion.schedule=FLOW",
             "model.diffusion.prediction=VELOCITY", "model.diffusion.sampler.kind=DPM",
             "model.diffusion.sampler.steps=5"],
    "predict": ["model.unet3d={ dim: 8 multipliers: [1, 2] heads: 2 head_width: 8 }", *DIFFUSION[1:],
                "model.diffusion.frames=PREDICT", "model.diffusion.given=1", "model.diffusion.weight=MIN_SNR",
                "model.diffusion.prediction=V", "train.ema.power_width=0.1"],
    "flexible": [*DIFFUSION, "model.diffusion.frames=FLEXIBLE", "model.diffusion.window=2",
                 "model.diffusion.sampler.scheme=LONG_RANGE"],
    "random": [*DIFFUSION, "model.diffusion.frames=RANDOM", "model.diffusion.most_given=1"],
    "rvd": ["model.rvd={ width: 8 mean_multipliers: [1, 2] multipliers: [1, 2] given: 2 warm_up: 1 }",
            *DIFFUSION[1:], "model.diffusion.schedule=COSINE_LOG_SNR"],
}


def trained(name, words, reads=None):
    run = here / name
    extra = {"LASTFRAME_OPTION_READS": str(reads)} if reads else None
    execute([program, "train", "--run", run, *words, "--until-images", 24], extra=extra)
    made = sorted((run / "samples").glob("*.png")) + sorted(latest(run).glob("*.safetensors"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in made)).hexdigest()


def other_value(name):
    """One that is neither the default nor out of range; None for texts and groups."""
    kind, default = options[name]["type"], options[name]["default"]
    if kind == "true|false":
        return "true" if default == "false" else "false"
    if "|" in kind:
        return next(word for word in kind.split("|") if word != default)
    if kind in ("int", "unsigned int"):
        return str(int(default) + 1)
    if kind == "number":
        return str(float(default) / 2 if float(default) else 0.01)
    return None


def as_file(values):
    """The options as protobuf text; a group may stand there only once."""
    tree = {}
    for path, value in values.items():
        *groups, last = path.split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value

    def text(place):
        return " ".join(f"{key} {{ {text(value)} }}" if isinstance(value, dict) else f"{key}: {value}"
                        for key, value in place.items())
    return text(tree)


seen = set()
for name, sets in CALLS.items():
    sets = [f"train.store={store()}", *sets]
    found = here / f"{name}.reads"
    before = trained(name, ["--config", config, *with_sets(sets)], found)
    rows = [line.split() for line in found.read_text().splitlines()]
    check(len(rows) > 100, f"{name}: only {len(rows)} options")
    for path, meaning, read in rows:
        if read == "1":
            seen.add(path)
        elif meaning == "1" and not path.startswith(NOT_HERE):
            expect(False, f"{name}: {path} has a meaning, and nothing reads it")
    # Those without a meaning, all at once, by a file.
    dead = {path: other_value(path) for path, meaning, _ in rows if meaning == "0"}
    dead = {path: value for path, value in dead.items()
            if value is not None and path not in REFUSED and not path.startswith(NOT_HERE)}
    print(f"{name}: {len(rows)} options, {len(dead)} without a meaning", flush=True)
    below = here / f"{name}.pbtxt"
    below.write_text(f'base: "{config}" {as_file(dead)}')
    after = trained(f"{name}-dead", ["--config", below, *with_sets(sets)])
    expect(before == after, f"{name}: options that are refused would have changed the run: {sorted(dead)}")
    path, value = sorted(dead.items())[0]
    execute([program, "train", "--config", config, "--run", here / "none", *with_sets([*sets, f"{path}={value}"])], 2,
            f"--set {path}={value} would do nothing here")
for sets in (["model.vqvae={}", "train.recompute=true"], ["model.autoencoder={}", "store.threads=3"]):
    execute([program, "train", "--config", config, "--run", here / "none", *with_sets([f"train.store={store()}", *sets])],
            2, f"--set {sets[-1]} would do nothing here")
check(not (here / "none").exists(), "a refused call made its folder")
# What `evaluate` and `sample` read of a run, beyond what training does.
for words, others in ((["evaluate", "--metrics", "fd_pixels", "--extractor", "pixels", "--samples", 8],
                       {"evaluation.every_images", "evaluation.ranks"}),
                      (["sample", "--store", store(), "--given", 1, "--count", 1, "--out", here / "made.npy",
                        "--set", "model.diffusion.sampler.given=RECONSTRUCT"], set())):
    execute([program, *words, "--run", here / "ddim"], extra={"LASTFRAME_OPTION_READS": str(found)})
    read = {path for path, _, read in map(str.split, found.read_text().splitlines()) if read == "1"}
    wanted = ({path for path in options if path.startswith("evaluation.")} - others if words[0] == "evaluate"
              else {"model.diffusion.sampler.given", "model.diffusion.sampler.given_weight"})
    expect(wanted <= read, f"{words[0]} does not read {sorted(wanted - read)}")
found = here / "build.reads"
execute([program, "build", "--config", config, "--out", here / "built"], extra={"LASTFRAME_OPTION_READS": str(found)})
for path, meaning, read in map(str.split, found.read_text().splitlines()):
    if path.startswith(("source.", "recipe.", "store.")) and meaning == "1":
        expect(read == "1" or path == "source.split.seed", f"build: {path} has a meaning, and nothing reads it")
finish()
