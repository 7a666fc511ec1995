"""What the header of a config counts (parameters, bits, images) is what `train --dry-run` finds, without
any data, and times and curves in it are called measured, estimated or published. Parts of configs that
choose no model get a small one; priors and latents the smallest tokenizer of the same grid and codes.
"""

import json
import re

from harness import expect, finish, here, program, root, run, with_sets

configs = root / "configs"
# What the tokenizer of a prior or of latents would be, as small as can be, of the same grid and as many
# codes; by folder.
CODES = "quantiser {{ ema {{ codes: {} kmeans: 0 }} }} }}"
TOKENIZERS = {
    "1": "cvivit={ width: 16 patch: 4 " + CODES.format(512),
    "cifar10": "cvivit={ width: 16 patch: 4 " + CODES.format(1024),
    "celeba64": "cvivit={ width: 16 patch: 8 " + CODES.format(1024),
    "imagenet64": "cvivit={ width: 16 patch: 8 " + CODES.format(1024),
    "imagenet256": "vqvae={ width: 4 multipliers: [1, 1, 1, 1, 1] blocks: 1 " + CODES.format(1024),
    "videos64": "cvivit={ width: 16 patch: 8 temporal_patch: 2 " + CODES.format(4096),
}
LATENTS = "vqvae={ width: 4 multipliers: [1, 1, 1, 1] blocks: 1 quantiser { variational { dim: 4 } } }"
COUNTED = re.compile(r"Counted: ([\d,]+) parameters(?:, ([\d,]+) bits an? (?:image|clip))?; ([\d,]+) "
                     r"images in batches of ([\d,]+)\.")
TIMES = re.compile(r"\b(seconds|minutes?|hours?|days?|week|FLOP|GFLOP|TFLOP)\b|falls from")
SAID = re.compile(r"Estimated|Measured|Published|counted")


def dry_run(config, sets):
    done = run(program, "train", "--config", config, "--dry-run", "--no-memory", "--json", *with_sets(sets))
    expect(done.returncode == 0, f"{config} {sets}: status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout) if done.returncode == 0 else None


def tokenizer(small, shape, name):
    """A file of `lastframe export`, of a tokenizer that made one step on clips of this shape."""
    frames, height, width, channels = shape
    made = here / name
    drawn = ["source.generated.count=1", f"source.size={height}", f"source.width={width}",
             f"source.channels={channels}"]
    drawn += (["source.generated.kind=moving-digits", f"source.generated.frames={frames}"] if "videos" in name
              else [f"recipe.frames={frames}"])
    for words in (["train", "--run", made, *with_sets([*drawn, f"model.{small}", "train.batch=1",
                                                       "train.images=1", "train.preview_images=0"])],
                  ["export", made, "--out", f"{made}.safetensors"]):
        done = run(program, *words)
        expect(done.returncode == 0, f"{words}: status {done.returncode}\n{done.stderr}")
    return f"{made}.safetensors"


def header_of(text):
    """The comment that a config begins with, on one line."""
    lines = []
    for line in text.split("\n"):
        if not line.startswith("#"):
            break
        lines.append(line[1:].strip())
    return " ".join(lines)


def check_header(config, text, outlook):
    """What it counts is true; times and curves are called what they are."""
    header = header_of(text)
    expect(header[:1].isupper(), f"{config} begins with no comment: {header[:60]!r}")
    counted = COUNTED.search(header)
    has_model = re.search(r"^model \{|^base:", text, re.M) and config.parent.name != "recipes"
    expect(bool(counted) == bool(has_model and config.stem != "common"), f"{config}: {header[-200:]!r} counts nothing")
    if counted:
        parameters, bits, images, batch = (int(n.replace(",", "")) if n else None for n in counted.groups())
        train = outlook["config"]["train"]
        found = (outlook["parameters"], outlook.get("bits_per_clip"), int(train["images"]), train["batch"])
        expect((parameters, bits, images, batch) == found, f"{config} counts {counted[0]!r}, found {found}")
    for number in re.findall(r"([\d,]+) bits an image", header):
        expect(int(number.replace(",", "")) == outlook.get("bits_per_clip"),
               f"{config} says {number} bits, has {outlook.get('bits_per_clip')}")
    expect(not re.search(r"million (parameters|weights)|Expected", header), f"{config}: {header!r}")
    for found in TIMES.finditer(header):
        expect(SAID.search(header[:found.end() + 80]), f"{config}: is {found[0]!r} measured or estimated?")


def check(config):
    text = config.read_text()
    whole, base = text, config
    while found := re.search(r'^base: "(.*)"', base.read_text(), re.M):
        base = base.parent / found[1]
        whole += base.read_text()
    sets = []
    if not re.search(r"(?:source \{ |^  )(cifar|folder|frames|generated) \{", whole, re.M):
        sets.append("source.generated={}")
    if not re.search(r"^model \{", whole, re.M):
        sets.append("model.autoencoder={ width: 4 }")
    if "code_prior" in whole or "latent-dit" in config.stem:
        latent = "latent-dit" in config.stem
        # Its shape, by a model that needs no tokenizer.
        shape = dry_run(config, [] if latent else ["model.autoencoder={ width: 4 }"])["clip_shape"]
        small = LATENTS if latent else TOKENIZERS[config.parent.name]
        option = "model.diffusion.tokenizer" if latent else "model.code_prior.tokenizer"
        sets.append(f"{option}={tokenizer(small, shape, f'{config.parent.name}-{config.stem}')}")
    outlook = dry_run(config, sets)
    if outlook is not None:
        check_header(config, text, outlook)
    return outlook or {}


found = {}
for config in sorted(configs.rglob("*.pbtxt")):
    found[str(config.relative_to(configs))] = check(config)
for image, video in (("vqvae", "cvivit"), ("iddpm", "video-diffusion")):
    ways = [found[f"cifar10/{name}.pbtxt"].get("config", {}).get("train") for name in (image, video)]
    expect(ways[0] == ways[1] is not None, f"cifar10: {image} and {video} train in other ways: {ways}")
expect(len(found) > 40, f"only {len(found)} configs below {configs}")
finish()
