"""Every config of the tree is one: `train --dry-run` takes it with data of the kind it asks for, made
here, and the options that its own first lines leave to people (store, path, tokenizer). Parts of
configs that choose no model get a small one.
"""

import json
import re
import struct
import zlib

from harness import expect, finish, here, program, root, run, with_sets

configs = root / "configs"
# What a prior's tokenizer would be, as small as can be and of the same grid; by folder.
TOKENIZERS = {
    "cifar10": "cvivit={ width: 16 patch: 4",
    "celeba64": "cvivit={ width: 16 patch: 8",
    "imagenet64": "cvivit={ width: 16 patch: 8",
    "imagenet256": "vqvae={ width: 4 multipliers: [1, 1, 1, 1, 1] blocks: 1",
    "videos64": "cvivit={ width: 16 patch: 8 temporal_patch: 2",
}


def grey_png(width, height):
    """A picture large enough for every crop."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x + y) % 256 for x in range(width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def paths_of():
    """The option that names the data of each kind of source."""
    picture = grey_png(178, 218)
    (here / "cifar").mkdir()
    (here / "cifar" / "data_batch_1.bin").write_bytes((b"\3" + bytes(3072)) * 4)
    for kind in ("folder", "frames"):
        for name in ("one", "two"):
            (here / kind / name).mkdir(parents=True)
            first = here / kind / name / "00000.png"
            first.write_bytes(picture)
            for i in range(1, 100):  # as long as the longest clip that a config wants
                (here / kind / name / f"{i:05d}.png").hardlink_to(first)
    return {kind: f"source.{kind}.path={here / kind}" for kind in ("cifar", "folder", "frames")}


def dry_run(config, sets):
    done = run(program, "train", "--config", config, "--dry-run", "--no-memory", "--json", *with_sets(sets))
    expect(done.returncode == 0, f"{config} {sets}: status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout) if done.returncode == 0 else None


def tokenizer(config, sets):
    """A file of `lastframe export`, of a tokenizer that made one step on the config's own data."""
    name = config.parent.name
    made, store = here / name, here / f"{name}-store"
    small = f"model.{TOKENIZERS[name]} quantiser {{ ema {{ codes: 16 kmeans: 0 }} }} }}"
    for words in (["build", "--config", config, "--set", sets[0], "--out", store],
                  ["train", "--config", config, "--set", small, "--set", "train.batch=1", "--set",
                   "train.images=1", "--set", f"train.store={store}", "--run", made, "--set",
                   "train.preview_images=0"],
                  ["export", made, "--out", f"{made}.safetensors"]):
        done = run(program, *words)
        expect(done.returncode == 0, f"{words}: status {done.returncode}\n{done.stderr}")
    return f"{made}.safetensors"


def check(config, paths):
    text = config.read_text()
    header = text.split("\n\n")[0].split("\n")[0]
    expect(header.startswith("# ") and header[2].isupper(), f"{config} begins with no comment: {header!r}")
    whole, base = text, config
    while found := re.search(r'^base: "(.*)"', base.read_text(), re.M):
        base = base.parent / found[1]
        whole += base.read_text()
    # The kind that this file chooses, or else its base.
    kinds = re.findall(r"(?:source \{ |^  )(cifar|folder|frames|generated) \{", whole, re.M)
    sets = [paths[kinds[0]]] if kinds and kinds[0] in paths else []
    if not kinds:
        sets.append("source.generated={}")
    if not re.search(r"^model \{", whole, re.M):
        sets.append("model.autoencoder={ width: 4 }")
    if "code_prior" in whole:
        sets.append(f"model.code_prior.tokenizer={tokenizer(config, sets)}")
    outlook = dry_run(config, sets)
    if outlook is None:
        return {}
    if ("vqvae {" in whole or "cvivit {" in whole) and "variational {" not in whole:
        said = re.search(r"([\d,]+)\s*(?:#\s*)?bits\s+(?:#\s*)?an\s+(?:#\s*)?image", text)
        told = outlook.get("bits_per_clip", 0)
        expect(told > 0, f"{config}: no bits_per_clip in {outlook.keys()}")
        if said:
            expect(int(said[1].replace(",", "")) == told, f"{config} says {said[0]!r}, has {told} bits")
    return outlook


paths = paths_of()
found = {}
for config in sorted(configs.rglob("*.pbtxt")):
    found[str(config.relative_to(configs))] = check(config, paths)
expect(len(found) > 40, f"only {len(found)} configs below {configs}")
# Controls are controls: what they are to have in common they have.
bits = {name: outlook.get("bits_per_clip") for name, outlook in found.items()}
for group, video, same in (("cifar10", "cvivit", "controls/equal-codes"),
                           ("cifar10", "cvivit", "controls/static"),
                           ("experiments/1", "video", "equal-codes"), ("experiments/1", "video", "static")):
    expect(bits[f"{group}/{video}.pbtxt"] == bits[f"{group}/{same}.pbtxt"], f"{group}/{same}: {bits}")
# The paper's 18 frames are one option away.
long = dry_run(configs / "cifar10" / "cvivit.pbtxt", [paths["cifar"], "recipe.frames=18"])
expect(long and long["clip_shape"] == [18, 32, 32, 3], f"{long and long['clip_shape']}")
finish()
