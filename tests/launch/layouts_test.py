"""`lastframe export --layout`, `lastframe import` and what comes of the files: the same elements back, a tokenizer of
latent diffusion from another program's autoencoder, and bad input, which writes nothing."""

import json
import struct

from harness import check, execute, expect, finish, here, is_one_sentence, output, program, run, with_sets

VAE = ["source.generated.count=16", "source.size=16", "recipe.frames=1", "train.batch=4", "train.preview_images=0",
       "model.vqvae={ width: 16 multipliers: [1, 2] blocks: 1 attention: 1 latent: 8 decoder_latent: 4 norm_groups: 8 "
       "quantiser { variational { dim: 4 } } gan { weight: 0.1 layers: 1 width: 8 } }"]
KL = "diffusers-autoencoder-kl"


def read(path):
    """Metadata, and (type, shape, bytes) by name."""
    content = path.read_bytes()
    begin = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:begin])
    metadata = header.pop("__metadata__", {})
    return metadata, {name: (entry["dtype"], entry["shape"], content[begin + entry["data_offsets"][0]:
                                                                     begin + entry["data_offsets"][1]])
                      for name, entry in header.items()}


def write(path, tensors):
    header, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def imported(path, out, sets=VAE, layout=KL, status=0):
    return run(program, "import", path, "--layout", layout, "--out", out, *with_sets(sets))


def refused(done, status, out, *words):
    expect(done.returncode == status and is_one_sentence(done.stderr) and all(word in done.stderr for word in words),
           f"status {done.returncode}, expected {status} and {words}: {done.stderr}")
    expect(not out.exists(), f"{out} was written")


vae = here / "vae"
theirs, ours, again = (here / f"{name}.safetensors" for name in ("theirs", "ours", "again"))
execute([program, "train", "--run", vae, *with_sets(VAE), "--until-images", "8"])
output("export", vae, "--out", here / "own.safetensors")
output("export", vae, "--out", theirs, "--layout", KL)
metadata, tensors = read(theirs)
check(metadata["layout"] == KL and tensors["quant_conv.weight"][1] == [8, 8, 1, 1], "an autoencoder in the layout")
expect(not any("discriminator" in name for name in tensors), "a discriminator is no part of it")

# There and back: the same bytes, but for the discriminator, and a file like an export.
check(imported(theirs, ours).returncode == 0, "an import")
before, own = read(here / "own.safetensors")
after, back = read(ours)
expect(own.keys() == back.keys() and before.keys() == after.keys(), "the import has what the export has")
expect(all(own[name] == back[name] for name in own if not name.startswith("discriminator")), "the same elements")
output("export", ours, "--out", again, "--layout", KL)
expect(read(again)[1] == tensors, "the same file again, from a file")
again.unlink()

# Older names, and half precision, which loses only digits.
older = {name.replace("to_q", "query").replace("to_out.0", "proj_attn"): tensor for name, tensor in tensors.items()}
check(older.keys() != tensors.keys(), "older names")
check(imported(write(here / "older.safetensors", older), again).returncode == 0, "an older file is read")
expect(again.read_bytes() == ours.read_bytes(), "an older file holds the same network")
again.unlink()
for kind, dtype in (("bf16", "BF16"), ("fp16", "F16")):
    output("export", vae, "--out", again, "--dtype", kind)
    expect({tensor[0] for tensor in read(again)[1].values()} == {dtype}, f"--dtype {kind}")
    again.unlink()

# A tokenizer of latent diffusion, whose own weights are exported without it.
LATENT = ["source.generated.count=16", "source.size=16", "recipe.frames=1", "train.batch=4", "train.preview_images=0",
          "model.dit={ width: 16 layers: 1 heads: 2 }", "model.diffusion.classes=10",
          f"model.diffusion.tokenizer={ours}"]
execute([program, "train", "--run", here / "dit", *with_sets(LATENT), "--until-images", "8"])
output("export", here / "dit", "--out", again, "--layout", "dit")
expect(read(again)[1]["x_embedder.proj.weight"][1] == [16, 4, 2, 2], "a DiT of the autoencoder's four channels")
check(imported(again, here / "dit.safetensors", LATENT, "dit").returncode == 0, "DiT back")
expect("tokenizer.encoder.pixels.weight" in read(here / "dit.safetensors")[1], "with its tokenizer")
again.unlink()

# Bad input.
name, (kind, shape, content) = "encoder.conv_in.weight", tensors["encoder.conv_in.weight"]
for label, changed, words in (
        ("missing", {key: tensor for key, tensor in tensors.items() if key != name}, ("lacks", name)),
        ("extra", {**tensors, "encoder.more": ("F32", [1], bytes(4))}, ("also holds", "encoder.more")),
        ("shape", {**tensors, name: (kind, shape[::-1], content)}, (name, "[3, 3, 3, 16] there")),
        ("type", {**tensors, name: ("I32", shape, content)}, (name, "I32")),
        ("ours", own, ("lacks", "also holds"))):
    refused(imported(write(here / "bad.safetensors", changed), again), 4, again, *words)
(here / "bad.safetensors").write_bytes(theirs.read_bytes()[:5000])
refused(imported(here / "bad.safetensors", again), 4, again, "bad.safetensors")
refused(imported(here / "nothing.safetensors", again), 2, again, "there is no file")
refused(imported(theirs, again, layout="diffusers"), 2, again, "no layout 'diffusers'", "did you mean")
refused(imported(theirs, again, layout="dit"), 2, again, "not for this kind of model")
for words, said in ((["--layout", "taming-vqgan"], "quantiser.learnt"), (["--layout", "dit"], "kind of model"),
                    (["--layout", "unet"], "there is no layout")):
    refused(run(program, "export", vae, "--out", again, *words), 2, again, said)
refused(run(program, "export", theirs, "--out", again, "--layout", KL), 2, again, "in the layout", "already")
refused(run(program, "export", vae, "--out", again, "--dtype", "int8"), 2, again, "bf16")
expect(KL in output("list", "layouts") and len(json.loads(output("list", "layouts", "--json"))["layouts"]) >= 9,
       "list layouts")
finish()
