"""The peers of tools/peers/evaluation: pytorch-fid's and torch-fidelity's distances and pytorch-fid's
Inception, timed as they are asked for, one JSON object a line on standard input and output. Not called
by hand. Needs numpy, torch, torchvision, pytorch-fid and torch-fidelity."""
import json
import os
import pathlib
import sys
import time

import numpy as np
import torch

folder = pathlib.Path(sys.argv[1])
answers = os.fdopen(os.dup(1), "w")  # what libraries print goes elsewhere
os.dup2(2, 1)
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
kept = {}


def timed(work):
    begin = time.perf_counter()
    value = work()
    return time.perf_counter() - begin, value


def write_features(samples, dim):
    """Correlated and cut off at zero, as pooled activations are."""
    fixed = np.random.default_rng(1234)
    mix = fixed.standard_normal((256, dim)) * np.arange(1, 257)[:, None] ** -0.5
    base = fixed.standard_normal(dim) * 0.5
    for name, seed, shift in (("a", 1, 0.0), ("b", 2, 0.1)):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((samples, 256)) @ mix / 2 + base + shift * np.linspace(0, 1, dim)
        kept[name] = np.maximum(x + 0.3 * rng.standard_normal((samples, dim)), 0).astype(np.float32)
        np.save(folder / f"{name}.npy", kept[name])
    return {}


def frechet(peer):
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    def work():
        (m1, s1), (m2, s2) = [(x.mean(0), np.cov(x, rowvar=False)) for x in
                              (kept["a"].astype(np.float64), kept["b"].astype(np.float64))]
        if peer == "pytorch-fid":
            return calculate_frechet_distance(m1, s1, m2, s2)
        return fid_statistics_to_metric({"mu": m1, "sigma": s1}, {"mu": m2, "sigma": s2},
                                        False)["frechet_inception_distance"]

    seconds, value = timed(work)
    return {"seconds": seconds, "value": float(value)}


def write_images(images):
    kept["images"] = np.random.default_rng(5).integers(0, 256, (images, 32, 32, 3), np.uint8)
    np.save(folder / "images.npy", kept["images"])
    return {}


def write_weights():
    """Random, and such that activations neither vanish nor grow."""
    import pytorch_fid.inception
    import torchvision
    torch.manual_seed(0)
    plain = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False)
    for name, value in plain.named_parameters():
        if name.endswith("conv.weight"):
            torch.nn.init.kaiming_normal_(value, nonlinearity="relu")
    torch.save(plain.state_dict(), folder / "random.pth")
    pytorch_fid.inception.load_state_dict_from_url = lambda *a, **k: plain.state_dict()
    kept["network"] = pytorch_fid.inception.InceptionV3([3]).eval()
    return {}


def inception(batch):
    def work():
        out = []
        with torch.no_grad():
            for first in range(0, len(kept["images"]), batch):
                pixels = torch.from_numpy(kept["images"][first:first + batch]).permute(0, 3, 1, 2) / 255
                out.append(kept["network"](pixels)[0].squeeze(3).squeeze(2).numpy())
        return np.concatenate(out)

    seconds, kept["features"] = timed(work)
    return {"seconds": seconds}


def compare(file):
    ours = np.load(folder / file)
    apart = np.linalg.norm(ours - kept["features"], axis=1) / np.linalg.norm(kept["features"], axis=1)
    return {"relative": float(apart.max())}


def write_cifar(data, images):
    records = np.fromfile(pathlib.Path(data) / "cifar10" / "data_batch_1.bin", np.uint8).reshape(-1, 3073)
    pictures = records[:2 * images, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    noise = np.random.default_rng(0).standard_normal((images, 32, 32, 3)) * 12
    np.save(folder / "real.npy", np.ascontiguousarray(pictures[:images]))
    np.save(folder / "fake.npy",
            np.clip(np.rint(pictures[images:2 * images] + noise), 0, 255).astype(np.uint8))
    return {}


for line in sys.stdin:
    words = json.loads(line)
    answers.write(json.dumps(globals()[words.pop("what")](**words)) + "\n")
    answers.flush()
