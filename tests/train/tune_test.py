"""Fine-tuning in whole runs: train.init, train.freeze and train.lora resume exactly at two ranks, leave
frozen weights as they were to the bit, and need the source only once; adapters are exported apart and
merged; tables of positions grow; what cannot be is refused before anything is written."""

from harness import *

DIT = ["model.dit={ width: 16 layers: 1 heads: 2 patch: 4 }", "model.diffusion.sampler.steps=2"]


def export(run, out, *words):
    execute([program, "export", run, "--out", here / out, *words])
    return tensors(here / out)


def init_of(run):
    return json.loads(output("inspect", latest(run), "--json"))["init"]


base = here / "base"
train(base, 1, DIT, until=10 * BATCH)
start_weights = export(base, "base.safetensors")
cases = {
    "frozen": ["train.freeze=layers.0.spatial.*,f?rst.weight", "train.optimizer.factor=*temporal*=3"],
    "adapters": ["train.lora={ rank: 2 alpha: 4 full: \"last.linear.*\" }", "train.preview_images=240"],
}
for name, sets in cases.items():
    sets = [*DIT, f"train.init={base}", *sets]
    whole, parts = here / f"{name}-whole", here / f"{name}-parts"
    text = train(whole, 2, sets)
    check("initial weights from" in text and "taken" in text, f"no summary in {text}")
    train(parts, 2, sets, until=17 * BATCH)
    base.rename(here / "away")  # read once
    train(parts, 2, sets)
    (here / "away").rename(base)
    check_same_end(whole, parts, name)
    trained = {key.removesuffix("/exp_avg") for key in weights(whole, "optimizer") if key.endswith("/exp_avg")}
    check(trained == weights(whole, "ema").keys(), f"{name}: averages of {weights(whole, 'ema').keys()}")
    now = weights(whole)
    for key, values in start_weights.items():
        same = now[key] == values
        check(same == (key not in trained), f"{name}: {key} is {'as before' if same else 'changed'}")
    check(len(trained) < len(now) - 3, f"{name}: {len(trained)} of {len(now)} are trained")
    train(parts, 1, [*sets[:-1], f"train.init={here}/base.safetensors"], status=2, contains="train.init")

# The list names every tensor, and a run and its export are the same source.
lora = here / "adapters-whole"
listed = (lora / "logs" / "initial-weights.txt").read_text().splitlines()
check(len(listed) == len(weights(lora)) and sum(line.startswith("new ") for line in listed) == 28, f"{listed}")
other = here / "other"
train(other, 1, [*DIT, f"train.init={here}/base.safetensors"], until=BATCH)
check(init_of(other)["hash"] == init_of(lora)["hash"] and init_of(lora)["new"] == 28, f"{init_of(other)}")

# Apart and merged.
adapters = export(lora, "adapters.safetensors", "--kind", "adapters")
averages = weights(lora, "ema")
check(adapters == averages and any("lora_A" in key for key in adapters), "other adapters than the averages")
merged = export(lora, "merged.safetensors")
check(merged.keys() == start_weights.keys(), "merged weights are not the model's")
key = "layers.0.spatial.qkv"
a, b = adapters[f"{key}.lora_A.weight"], adapters[f"{key}.lora_B.weight"]
for at, value in enumerate(merged[f"{key}.weight"]):
    row, column = divmod(at, 16)
    product = sum(b[2 * row + r] * a[16 * r + column] for r in range(2))
    check(abs(value - start_weights[f"{key}.weight"][at] - 2 * product) < 1e-6, f"{key}: entry {at}")
check(merged == export(base, "again.safetensors", "--adapters", here / "adapters.safetensors"), "base and adapters")
execute([program, "sample", "--run", lora, "--count", 2, "--out", here / "clips.npy"])
after = here / "after"
text = train(after, 1, [*DIT, f"train.init={lora}"], until=BATCH)
check(f"{len(merged)} taken, 0 adapted, 0 new, 0 left out" in text, text)

# More frames: the tables of positions of a prior are stretched, their ends stay.
tokenizer = here / "tokenizer"
train(tokenizer, 1, ["model.cvivit={ width: 16 patch: 4 spatial_layers: 1 temporal_layers: 1 heads: 2 head_width: 8 "
                     "quantiser { fsq { levels: [4, 4] } } }"], until=BATCH)
export(tokenizer, "tokenizer.safetensors")
PRIOR = [f"model.code_prior={{ tokenizer: \"{here}/tokenizer.safetensors\" layers: 1 width: 16 heads: 2 }}"]
short, long = here / "short", here / "long"
train(short, 1, PRIOR, until=BATCH)
more = [*PRIOR, "train.store=", "recipe.frames=5", f"train.init={short}", "train.optimizer.lr=1e-9"]
train(here / "strict", 1, more, status=2, contains="'time' is F32 [3, 16] there, F32 [5, 16] here")
train(long, 1, [*more, "train.init_strict=false"], until=BATCH)
old, new = weights(short, "ema")["time"], weights(long)["time"]
for row, (i, j) in enumerate([(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]):
    for at in range(16):
        expected = (old[16 * i + at] + old[16 * j + at]) / 2
        check(abs(new[16 * row + at] - expected) < 1e-6, f"position {row} is not between {i} and {j}")

# What is refused, in a sentence, and leaves nothing behind.
refused = here / "refused"
empty = here / "empty"
empty.mkdir()
torn = here / "torn.safetensors"
torn.write_bytes((here / "base.safetensors").read_bytes()[:-9])
for sets, status_of, words in (
        ([f"train.init={empty}"], 4, "holds no checkpoint"),
        ([f"train.init={store()}"], 2, "is a store"),
        ([f"train.init={here}/nothing"], 2, "which is not there"),
        ([f"train.init={torn}"], 4, "torn.safetensors"),
        ([f"train.init={here}/adapters.safetensors"], 2, "merge them first"),
        ([f"train.init={tokenizer}", "train.init_strict=false"], 2, "is one of the model's"),
        ([f"train.init={base}", "model.dit.width=32"], 2, "F32 [16] there, F32 [32] here"),
        (["train.init_strict=false"], 2, "train.init_strict=false would do nothing"),
        (["train.freeze=lawyers*"], 2, "did you mean 'layers'"),
        (["train.freeze=*"], 2, "nothing to train"),
        (["train.lora.rank=64"], 2, "no trained linear map"),
        (["train.optimizer.factor=first.*=0"], 2, "PATTERN=FACTOR")):
    for count in (1, 2) if "merge them" in words else (1,):
        text = train(refused, count, [*DIT, *sets], status=status_of, contains=words)
        said = "\n".join(line for line in text.splitlines() if not line.startswith("warning: "))
        check(count > 1 or is_one_sentence(said), f"not one sentence: {text}")
check(not refused.exists(), "a refused training made its run folder")
train(refused, 1, ["train.lora.rank=4"], status=2, contains="no trained linear map")
for words, said in (([base, "--kind", "adapters"], "has no adapters"), ([base, "--kind", "merged"], "has no adapters"),
                    ([lora, "--adapters", here / "adapters.safetensors"], "has adapters of its own"),
                    ([base, "--adapters", here / "merged.safetensors"], "holds no adapters"),
                    ([tokenizer, "--adapters", here / "adapters.safetensors"], "has not the shapes of that map")):
    execute([program, "export", *words, "--out", here / "not.safetensors"], 2, said)
check(not (here / "not.safetensors").exists(), "a refused export wrote a file")
