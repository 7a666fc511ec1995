"""tools/python/lastframe_torch beside the program: every kind of network, trained for a few steps, exported and loaded
with strict=True, makes of the same inputs what the program makes of them; so do its samplers of the same noise. What
cannot be loaded is refused in one sentence. Arguments: the program of outputs, the folder of torch."""

import re
import runpy

from harness import *
from torch_here import import_torch

outputs_program, torch_folder = arguments
torch = import_torch(torch_folder)
try:
    import numpy
    from safetensors.torch import load_file, save_file

    import lastframe_io
    import lastframe_torch
except ImportError as missing:
    skip(f"{missing}; pip install numpy safetensors")

TOLERANCE = 1e-5  # of the largest value
CLIPS = 3
SHORT = ["train.images=48", "train.optimizer.lr=0.02", "train.optimizer.warmup_images=0",
         "train.ema.half_life_images=10"]
UNET = "model.unet={ width: 8 multipliers: [1, 2] blocks: 1 attention: 4 heads: 2 %s }"
VQVAE = "model.vqvae={ width: 8 multipliers: [1, 2] blocks: 1 latent: 4 attention: 4 quantiser { %s } %s }"
CVIVIT = ("model.cvivit={ width: 16 patch: 2 spatial_layers: 1 temporal_layers: 2 heads: 2 head_width: 8 "
          "quantiser { %s } %s }")
PRIOR = "model.code_prior={ tokenizer: '{here}/%s.safetensors' layers: 2 width: 16 heads: 2 %s }"
LONGER = ["train.images=960", "train.validation_images=960", "train.validation_clips=48"]  # all clips
GAN = "gan { weight: 0.1 layers: 1 width: 4 }"
D, S = "model.diffusion.", "model.diffusion.sampler."
DDIM = [S + "kind=DDIM", S + "steps=4"]
DPM = [S + "kind=DPM", S + "steps=5"]
TOKENS = ["loader.side=object", D + "text=object", D + "text_width=2", D + "text_tokens=2"]

# name -> (options, what else the network is given); `sample`: clips are sampled too.
NETWORKS = {
    "unet": ([UNET % "", D + "prediction=V", D + "zero_terminal_snr=true", D + "classes=10", S + "guidance=2",
              S + "spacing=TRAILING", *DDIM], {"labels", "sample"}),
    "unet-edm": ([UNET % "scale_shift: true scaled_sums: true dropout: 0.2 head_width: 8 norm_groups: 2 first_ddpm: true", "recipe.frames=1", D + "schedule=EDM",
                  D + "prediction=PRECONDITIONED", S + "spacing=KARRAS", *DPM], {"sample"}),
    "unet-fdm": ([UNET % "temporal: RELATIVE mark_observed: true", D + "frames=FLEXIBLE", D + "window=3",
                  D + "prediction=IMAGE", "train.images=480"], {"roles"}),
    "unet-ramvid": ([UNET % "temporal: VOLUME scale_shift: true", D + "frames=RANDOM", D + "most_given=2",
                     D + "schedule=COSINE", S + "spacing=STRIDE", S + "threshold=DYNAMIC", S + "quantile=0.9", *DPM],
                    {"sample"}),
    "unet-text": ([UNET % "temporal_position: false", *TOKENS, D + "schedule=SCALED_LINEAR", *DDIM],
                  {"text", "roles"}),
    "unet3d": (["model.unet3d={ dim: 8 multipliers: [1, 2] heads: 2 head_width: 8 }", D + "schedule=COSINE",
                D + "prediction=V", D + "learned_variance=true", D + "classes=10", *TOKENS, S + "spacing=LOG_SNR",
                *DPM],
               {"labels", "text", "sample", "roles"}),
    "unet3d-images": (["model.unet3d={ dim: 8 multipliers: [1, 2] heads: 2 head_width: 4 spatial_head_width: 6 }",
                       "recipe.frames=1", D + "schedule=LINEAR_LOG_SNR", D + "prediction=V", D + "upscale=2"],
                      {"small"}),
    "dit": (["model.dit={ width: 16 layers: 2 heads: 2 }", D + "schedule=FLOW", D + "prediction=VELOCITY",
             D + "classes=10", *TOKENS, *DDIM], {"labels", "text", "sample", "roles"}),
    "rvd": (["model.rvd={ width: 8 multipliers: [1, 2] mean_multipliers: [1, 2, 3] warm_up: 1 given: 1 "
             "running_scale: true }", D + "prediction=V", "train.images=480", *DDIM], set()),
    "rvd-edm": (["model.rvd={ width: 12 multipliers: [1, 2, 2] mean_multipliers: [2, 1] warm_up: 1 given: 2 }",
                 D + "schedule=EDM", D + "prediction=PRECONDITIONED", S + "spacing=KARRAS", S + "threshold=NONE",
                 "train.images=480", *DPM], set()),
    "vqvae": ([VQVAE % ("ema { codes: 16 dim: 4 } groups: 2", GAN)], set()),
    "vqvae-learnt": ([VQVAE % ("learnt { codes: 16 dim: 4 }", ""), "recipe.frames=1"], set()),
    "vqvae-kl": ([VQVAE % ("variational { dim: 4 }", "decoder_latent: 3 norm_groups: 2")], set()),
    "cvivit": ([CVIVIT % ("ema { codes: 16 dim: 4 }", "temporal_patch: 2 stem: 1 stem_width: 8 " + GAN)], set()),
    "cvivit-fsq": ([CVIVIT % ("fsq { levels: [5, 4, 3] }", "patch_norm: BOTH")], set()),
    "cvivit-lfq": ([CVIVIT % ("lfq { bits: 4 } groups: 2", "raw_keys: true"), "recipe.frames=1"], set()),
    "autoencoder": (["model.autoencoder={ width: 8 multipliers: [1, 2, 2] latent: 4 gan_weight: 0.1 }"], set()),
    "autoencoder-images": (["model.autoencoder={ width: 8 }", "recipe.frames=1"], set()),
    "classifier": (["model.classifier={ width: 8 stages: 2 }"], {"features"}),
    "classifier-images": (["model.classifier={ width: 8 classes: 12 }", "recipe.frames=1"], {"features"}),
    "latent-dit": (["model.dit={ width: 16 layers: 1 heads: 2 temporal_position: false }",
                    D + "schedule=COSINE_LOG_SNR", D + "reference_size=16",
                    D + "tokenizer={here}/cvivit-fsq.safetensors", *DDIM], {"sample"}),
    "prior": ([PRIOR % ("cvivit-fsq", "classes: 10 guidance: 2 temperature: 0.8 top_k: 9"), *LONGER],
              {"codes", "loss"}),
    "prior-masked": ([PRIOR % ("cvivit-fsq", "kind: MASKED rounds: 3 choice_temperature: 2"), *LONGER], {"codes"}),
    "prior-frames": ([PRIOR % ("cvivit-fsq", "kind: FRAME_MASKED classes: 10 rounds: 2 label_smoothing: 0 top_p: 0.9"),
                      *LONGER],
                     {"codes"}),
}


def trained(name, sets):
    """The export of a network after a few steps."""
    sets = [option.replace("{here}", str(here)) for option in sets]
    images = "recipe.frames=1" in sets
    stores = here / f"store-{'images' if images else 'videos'}"
    if not stores.exists():
        execute([program, "build", "--config", config, "--out", stores, *with_sets(
            ["store.threads=1", "source.generated.count=48", f"recipe.frames={1 if images else 3}"])])
    execute([program, "train", "--config", config, "--run", here / name, *with_sets(
        [f"train.store={stores}", "source={}", "recipe={}", *SHORT, *[s for s in sets if s != "recipe.frames=1"]])])
    file = here / f"{name}.safetensors"
    output("export", here / name, "--out", file)
    return file


def inputs_of(net, wants):
    """Tensors for outputs_program."""
    draw = torch.Generator().manual_seed(1)
    if not isinstance(net, lastframe_torch.layers.Denoiser):
        return {"x": torch.rand(CLIPS, *net.clip_shape, generator=draw) * 2 - 1}
    frames, height, width, channels = net.clip_shape
    frames = net.frames
    tensors = {"z": torch.randn(CLIPS, frames, height, width, channels, generator=draw),
               "time": torch.linspace(0.5, 0.8, frames, dtype=torch.float64),
               "index": torch.arange(frames) + ("roles" in wants) * 2, "role": torch.ones(frames, dtype=torch.long)}
    if "roles" in wants:  # observed, latent and absent; of FDM, which has only the frames' offsets, no absent one
        tensors["role"] = torch.tensor([0, 1, 2 if "text" in wants else 1])
        tensors["index"] = torch.tensor([2, 11, 3])
    if "labels" in wants:
        tensors["labels"] = torch.tensor([3, -1, 9])
    if "text" in wants:
        tensors["text"] = torch.randn(CLIPS, 2, 2, generator=draw)
        tensors["text"][1, 1] = 0  # padding
        tensors["text"][2] = 0  # no text
    if "small" in wants:
        tensors["small"] = torch.rand(tensors["z"].shape, generator=draw)
    if "sample" in wants:
        tensors["seed"] = torch.tensor([7])
    return tensors


@torch.no_grad()
def twin_outputs(net, tensors):
    if isinstance(net, lastframe_torch.Autoencoder):
        return {"reconstruction": net(tensors["x"])}
    if isinstance(net, lastframe_torch.Rvd):  # the frames after those given
        return {"reconstruction": net.sample(tensors["x"][:, :net.config.model.rvd.given])}
    if "x" in tensors:
        made = {"latents": net.latents(tensors["x"]), "reconstruction": net(tensors["x"])}
        return made if net.quantiser.codes == 0 else {**made, "ids": net.encode(tensors["x"])}
    schedule = lastframe_torch.Schedule(net.config.model.diffusion, net.clip_shape[1])
    levels = [schedule.at(time) for time in tensors["time"].tolist()]
    role = tensors["role"].unsqueeze(0)
    given = {name: tensors[name] for name in ("labels", "text", "small") if name in tensors}
    made = {"image": lastframe_torch.estimate(net, schedule, tensors["z"], levels, tensors["index"].unsqueeze(0), role,
                                              **given)}
    if "seed" in tensors:
        noise = [torch.from_numpy(lastframe_torch.normals(7, clip, net.clip_shape)) for clip in range(CLIPS)]
        made["sample"] = lastframe_torch.sample(net, torch.stack(noise), **given)
    return made


def check_classifier(name, net):
    """The twin's logits and features beside those of `lastframe features`, of bytes."""
    images = torch.randint(256, (CLIPS, *net.clip_shape), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    shape = net.clip_shape if net.clip_shape[0] > 1 else net.clip_shape[1:]
    numpy.save(here / "bytes.npy", images.reshape(CLIPS, *shape).numpy())
    for layer, twin in (("features", net.features), ("logits", net)):
        output("features", "--extractor", here / f"{name}.safetensors", "--layer", layer, "--images",
               here / "bytes.npy", "--out", here / "rows.npy")
        with torch.no_grad():
            expected = twin(images / 127.5 - 1)
        made = torch.tensor(rows_of(here / "rows.npy"))
        apart = float((made - expected).abs().max() / made.abs().max())
        print(f"{name:14} {layer:15} {apart:.1e}")
        expect(made.shape == expected.shape and apart < TOLERANCE, f"{name}: {layer} is {apart:.1e} apart")


@torch.no_grad()
def check_prior(name, net, wants):
    """The twin's loss of all clips, of which logits are all that it is made of, beside the program's; and clips of the
    same seed, which are others where one code is."""
    if "loss" in wants:
        clips = lastframe_io.Store(here / "store-videos")
        items = [clips[i] for i in range(len(clips))]
        ids = net.tokenizer.encode(torch.stack([torch.tensor(item.frames) for item in items]) / 127.5 - 1)
        logits = net(ids, torch.tensor([item.label for item in items]))
        twin = float(torch.nn.functional.cross_entropy(logits.flatten(0, 3), ids.flatten()))
        ours = lastframe_io.Run(here / name).metrics("validation")[-1]["loss"]
        print(f"{name:14} {'loss':15} {abs(twin / ours - 1):.1e}")
        expect(abs(twin / ours - 1) < TOLERANCE, f"{name}: the loss is {twin}, the program's {ours}")
    classes = net.config.model.code_prior.classes > 0
    array, count = here / "clips.npy", 48
    output("sample", "--run", here / name, "--count", count, "--seed", 5, "--out", array,
           *["--class", 4][:2 * classes])
    ours = torch.tensor(numpy.load(array))
    twin = ((net.sample(count, 5, torch.full((count,), 4) if classes else None) + 1) * 127.5).round()
    apart = float((ours - twin).abs().max())
    print(f"{name:14} {'sample':15} {apart:.0f}")
    expect(ours.shape == twin.shape and ours.float().std() > 1 and apart <= 1, f"{name}: other clips")


nets, given, words = {}, {}, []
for name, (sets, wants) in NETWORKS.items():
    nets[name] = lastframe_torch.load(trained(name, sets))
    if "features" in wants:
        check_classifier(name, nets.pop(name))
        continue
    if "codes" in wants:
        check_prior(name, nets.pop(name), wants)
        continue
    given[name] = inputs_of(nets[name], wants)
    save_file(given[name], here / f"{name}.in")
    words += [latest(here / name), here / f"{name}.in", here / f"{name}.out"]
execute([outputs_program, *words])
for name, net in nets.items():
    ours, twins = load_file(here / f"{name}.out"), twin_outputs(net, given[name])
    expect(ours.keys() == twins.keys(), f"{name}: the program makes {sorted(ours)}, the twin {sorted(twins)}")
    for what, value in ours.items():
        twin = twins[what]
        expect(value.shape == twin.shape and value.float().std() > 1e-3, f"{name}: {what} is {value.shape} or constant")
        if what == "ids":
            expect(bool((value == twin).all()), f"{name}: {int((value != twin).sum())} other codes")
            continue
        apart = float((value - twin).abs().max() / value.abs().max())
        print(f"{name:14} {what:15} {apart:.1e}")
        expect(apart < TOLERANCE, f"{name}: {what} is {apart:.1e} of its largest value apart")

# The example makes the program's clips of the same seed.
picture, array = here / "clips.png", here / "clips.npy"
output("sample", "--run", here / "unet", "--count", 2, "--seed", 3, "--class", 4, "--out", array)
words = [here / "unet.safetensors", picture, "--count", 2, "--seed", 3, "--class", 4, "--guidance", 2, "--steps", 4,
         "--spacing", "TRAILING"]
sys.argv = ["sample.py", *map(str, words)]
example = runpy.run_path(str(root / "tools" / "python" / "examples" / "sample.py"), run_name="__main__")
made = torch.from_numpy(example["pixels"])
truth = torch.frombuffer(bytearray(pixels(array, (2, 3, 8, 8, 3))), dtype=torch.uint8).view(made.shape)
expect(int((truth.int() - made.int()).abs().max()) <= 1, "the example makes other clips than the program")
expect(picture.read_bytes().startswith(b"\x89PNG"), "no picture")

# Stores in torch's loader, whose workers open them for themselves.
store_of_clips = lastframe_io.Store(here / "store-videos")
batches = list(torch.utils.data.DataLoader(store_of_clips, batch_size=16, num_workers=2))
expect([len(batch.label) for batch in batches] == [16] * 3 and batches[1].frames.shape == (16, 3, 8, 8, 3) and
       bool((batches[2].frames[5].numpy() == store_of_clips[37].frames).all()), "a loader with workers")


# The defaults are run.proto's.
messages = {}
for message, option, rest in re.findall(r"^message (\w+)|(?:optional|repeated) [\w.]+ (\w+) = \d+([^;]*);",
                                        (root / "src" / "config" / "run.proto").read_text(), re.MULTILINE):
    if message:
        options = messages.setdefault(message, {})
    else:
        default = re.search(r"default = ([^,\]\s]+)", rest)
        options[option] = default[1] if default else None
for path, name in (("unet", "Unet"), ("unet3d", "Unet3d"), ("dit", "Dit"), ("rvd", "Rvd"),
                   ("vqvae", "VqVae"), ("cvivit", "Cvivit"), ("autoencoder", "Autoencoder"),
                   ("classifier", "Classifier"), ("code_prior", "CodePrior"),
                   ("diffusion", "Diffusion"), ("diffusion.sampler", "Sampler"),
                   ("vqvae.quantiser", "Quantiser"), ("vqvae.quantiser.ema", "EmaQuantiser"),
                   ("vqvae.quantiser.learnt", "LearntQuantiser"), ("vqvae.quantiser.lfq", "LfqQuantiser"),
                   ("vqvae.quantiser.variational", "Variational"), ("cvivit.gan", "Gan")):
    own = lastframe_torch.options.DEFAULTS
    for part in path.split("."):
        own = own[part]
    for option, value in own.items():
        if isinstance(value, (dict, list)) or value == "":
            continue
        default = messages[name + "Config"].get(option)
        expect(default is not None and lastframe_io.parse_text(f"x: {default}", "a default").x == value,
               f"{path}.{option} is {value}, run.proto has {default}")


# --- what cannot be loaded ---


def refused(action, *words):
    try:
        action()
    except lastframe_io.DataError as error:
        expect(all(word in str(error) for word in words) and "\n" not in str(error), f"{error} does not say {words}")
        return
    expect(False, f"nothing was said of {words}")


def changed(name, metadata=(), without=None):
    file = here / "changed.safetensors"
    export = lastframe_io.Export(here / f"{name}.safetensors")
    held = load_file(export.path)
    held.pop(without, None)
    save_file(held, file, {**export.metadata, **dict(metadata)})
    return file


load = lastframe_torch.load
text = lastframe_io.Export(here / "dit.safetensors").metadata["config"]
refused(lambda: load(changed("unet", {"clip_shape": ""})), "clip_shape=(")
expect(load(changed("unet", {"clip_shape": ""}), (3, 8, 8, 3)).clip_shape == (3, 8, 8, 3), "a given shape")
refused(lambda: load(here / "cvivit.safetensors", (1, 8, 8, 3)), "Unexpected key", "encoder.rest")
refused(lambda: load(here / "dit.safetensors", (3, 9, 8, 3)), "model.dit.patch", "9x8")
refused(lambda: load(changed("unet", without="first.weight")), "Missing key", "first.weight")
for old, new, *words in (("layers: 2", "layers: 2000000000", "layers=2000000000", "0 to 256"),
                         ("width: 16", "width: 64", "size mismatch"), ("dit {", "gru {", "model.gru"),
                         ("heads: 2", "heads: \"two\"", "model.dit.heads=two"),
                         ("heads: 2", "heads: 0", "makes no network")):
    refused(lambda: load(changed("dit", {"config": text.replace(old, new)})), *words)
refused(lambda: load(here / "latent-dit.safetensors", tokenizer=here / "none"), "tokenizer", "not there")
refused(lambda: load(here / "prior.safetensors", tokenizer=here / "vqvae-kl.safetensors"), "vectors and no codes")
for name, options, *words in (("unet-fdm", {"kind": "DDIM"}, "frames=FLEXIBLE"), ("unet", {"eta": 0.5}, "eta=0.5"),
                              ("unet", {"kind": "ANCESTRAL"}, "ANCESTRAL", "lastframe sample")):
    refused(lambda: lastframe_torch.sample(nets[name], None, **options), *words)
for given_frames, frames, *words in ((0, 0, "0 frames", "model.rvd.warm_up"), (3, 2, "3 frames", "1 ", "to the 2")):
    refused(lambda: nets["rvd"].sample(torch.zeros(1, given_frames, 8, 8, 3), frames), *words)
refused(lambda: nets["rvd"].sample(torch.zeros(1, 1, 8, 8, 3), eta=0.5), "eta=0.5")
finish()
