"""Every config of the tree is one: `train --dry-run` takes it with data of the kind it asks for, made
here, and the options that its own first lines leave to people (store, path, tokenizer). Parts of
configs that choose no model get a small one. The commands of its header do what they say: stores are
built, trainings are dry runs, exports and samples are of one step of a small network.
"""

import json
import re
import shlex

from examples import ONE_STEP, command_lines, network_of, sources
from harness import expect, finish, here, program, root, run, with_sets

configs = root / "configs"
# What a prior's tokenizer would be, as small as can be and of the same grid; by folder.
TOKENIZERS = {
    "1": "cvivit={ width: 16 patch: 4",
    "cifar10": "cvivit={ width: 16 patch: 4",
    "celeba64": "cvivit={ width: 16 patch: 8",
    "imagenet64": "cvivit={ width: 16 patch: 8",
    "imagenet256": "vqvae={ width: 4 multipliers: [1, 1, 1, 1, 1] blocks: 1",
    "videos64": "cvivit={ width: 16 patch: 8 temporal_patch: 2",
}

DIFFUSION = ("unet", "unet3d", "dit", "rvd")


def dry_run(config, sets):
    done = run(program, "train", "--config", config, "--dry-run", "--no-memory", "--json", *with_sets(sets))
    expect(done.returncode == 0, f"{config} {sets}: status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout) if done.returncode == 0 else None


def tokenizer(config, sets):
    """A file of `lastframe export`, of a tokenizer that made one step on the config's own data."""
    name = config.parent.name
    made, store = here / name, here / f"{name}-store"
    small = f"model.{TOKENIZERS[name]} quantiser {{ ema {{ codes: 16 kmeans: 0 }} }} }}"
    drawn = [] if sets else ["source.generated.count=8"]
    for words in (["build", "--config", config, *with_sets(sets[:1] + drawn), "--out", store],
                  ["train", "--config", config, *with_sets(drawn), "--set", small, "--set", "train.batch=1", "--set",
                   "train.images=1", "--set", f"train.store={store}", "--run", made, "--set",
                   "train.preview_images=0"],
                  ["export", made, "--out", f"{made}.safetensors"]):
        done = run(program, *words)
        expect(done.returncode == 0, f"{words}: status {done.returncode}\n{done.stderr}")
    return f"{made}.safetensors"


class Header:
    """The command lines at the head of a config, run in a folder of their own."""

    def __init__(self, config, sets, below="headers"):
        self.config, self.sets = config, sets
        self.folder = here / below / config.parent.name / config.stem
        self.folder.mkdir(parents=True)
        (self.folder / "configs").symlink_to(configs)
        for exported in self.folder.parent.glob("*/*.safetensors"):
            if not exported.is_symlink():
                (self.folder / exported.name).symlink_to(exported)
        self.path = next((one.split("=", 1)[1] for one in sets if ".path=" in one), "")
        self.few = [] if self.path else ["--set", "source.generated.count=8"]
        self.trainings = {}  # by name of the run
        self.outlook = None  # of the last dry run

    def execute(self, *words):
        done = run(program, *words, cwd=self.folder)
        expect(done.returncode == 0, f"{self.config}: {shlex.join(map(str, words))}: {done.returncode} {done.stderr}")
        return done.stdout

    def small_run(self, name):
        """Trains a run of this header, or of another's, for one step, its model made small."""
        if name not in self.trainings:
            (self.folder / name).parent.mkdir(exist_ok=True)
            return (self.folder / name).symlink_to(trained_elsewhere(name))
        words = self.trainings[name]
        first = self.outlook["config"]["train"].get("init", "")  # the weights it begins with
        if first not in ("", name) and not (self.folder / first).exists():
            self.small_run(first)
        kind, network = network_of(self.outlook["config"])
        few_steps = ["--set", "model.diffusion.sampler.steps=2"] if kind in DIFFUSION else []
        self.execute(*words, *network, *with_sets(ONE_STEP), *few_steps)

    def run_line(self, line):
        words = shlex.split(re.sub(r"(source\.\w+\.path)=\S+", rf"\1={self.path}", line))
        if words[0] == "build":
            self.execute(*words, *self.few)
            return
        if words[0] == "train":
            sets = self.sets
            for store in [word.split("=", 1)[1] for word in words if word.startswith("train.store=")]:
                if not (self.folder / store).exists():  # another config's header builds it
                    self.execute("build", "--config", self.config, *with_sets(self.sets[:1]), *self.few, "--out", store)
                # It holds fewer items than the config's source.
                sets = ["source={}"] + [one for one in sets if not one.startswith("source.")]
            self.trainings[words[words.index("--run") + 1]] = words + with_sets(sets)
            said = self.execute(*words, "--dry-run", "--no-memory", "--json", *with_sets(sets))
            self.outlook = json.loads(said) if said else None
            return
        at = words.index("--run") + 1 if words[0] == "sample" else 1
        if words[at].startswith("RUN_OF"):
            words[at] = str(here / self.config.parent.name)  # made by tokenizer()
        elif not (self.folder / words[at]).exists():
            self.small_run(words[at])
        self.execute(*words, *(["--count", "1"] if words[0] == "sample" else []))

    def check(self):
        for line in lines_of(self.config):
            self.run_line(line)
        return self.outlook or dry_run(self.config, self.sets)


def lines_of(config):
    head = config.read_text().split("\n\n")[0]
    return [line for _, line in command_lines("\n".join(row.lstrip("# ") for row in head.splitlines()))]


def trained_elsewhere(name):
    """A run that another config's header trains under this name, of one step."""
    config, line = next((config, line) for config in sorted(configs.rglob("*.pbtxt")) for line in lines_of(config)
                        if f" --run {name}" in line and " train " in f" {line} ")
    header = Header(config, sets_of(config), "elsewhere")
    header.run_line(line)
    header.small_run(name)
    return header.folder / name


def whole_text(config):
    """Of a config and its bases."""
    text = config.read_text()
    found = re.search(r'^base: "(.*)"', text, re.M)
    return text + (whole_text(config.parent / found[1]) if found else "")


def sets_of(config):
    """What a config leaves to people: the data's path, a tokenizer, a model."""
    whole = whole_text(config)
    # The kind that this file chooses, or else its base.
    kinds = re.findall(r"(?:source \{ |^  )(cifar|folder|frames|generated) \{", whole, re.M)
    sets = [paths[kinds[0]]] if kinds and kinds[0] in paths else []
    if not kinds:
        sets.append("source.generated={}")
    if not re.search(r"^model \{", whole, re.M):
        sets.append("model.autoencoder={ width: 4 }")
    if "code_prior" in whole:
        sets.append(f"model.code_prior.tokenizer={tokenizer(config, sets)}")
    return sets


def check(config):
    text, whole = config.read_text(), whole_text(config)
    header = text.split("\n")[0]
    expect(header.startswith("# ") and header[2].isupper(), f"{config} begins with no comment: {header!r}")
    outlook = Header(config, sets_of(config)).check()
    if outlook is None:
        return {}
    if ("vqvae {" in whole or "cvivit {" in whole) and "variational {" not in whole:
        said = re.search(r"([\d,]+)\s*(?:#\s*)?bits\s+(?:#\s*)?an\s+(?:#\s*)?image", text)
        told = outlook.get("bits_per_clip", 0)
        expect(told > 0, f"{config}: no bits_per_clip in {outlook.keys()}")
        if said:
            expect(int(said[1].replace(",", "")) == told, f"{config} says {said[0]!r}, has {told} bits")
    return outlook


paths = sources()
found = {}
for config in sorted(configs.rglob("*.pbtxt")):
    found[str(config.relative_to(configs))] = check(config)
expect(len(found) > 40, f"only {len(found)} configs below {configs}")
# Controls are controls: what they are to have in common they have.
bits = {name: outlook.get("bits_per_clip") for name, outlook in found.items()}
for group, video, same in (("cifar10", "cvivit", "controls/equal-codes"),
                           ("cifar10", "cvivit", "controls/static"),
                           ("experiments/1", "v", "q"), ("experiments/1", "v", "s"),
                           ("experiments/1", "a", "e"), ("experiments/1", "e", "e0")):
    expect(bits[f"{group}/{video}.pbtxt"] == bits[f"{group}/{same}.pbtxt"], f"{group}/{same}: {bits}")
# The paper's 18 frames are one option away.
long = dry_run(configs / "cifar10" / "cvivit.pbtxt", [paths["cifar"], "recipe.frames=18"])
expect(long and long["clip_shape"] == [18, 32, 32, 3], f"{long and long['clip_shape']}")
finish()
