"""Times the Frechet distance of 2 x 10,000 features of 2048 numbers, one thread, ours against
pytorch-fid's, torch-fidelity's and clean-fid's, taking turns in one run. Theirs is timed in this
process from arrays in memory, ours as the whole program: start, reading both files, moments and
distance. Needs numpy, scipy, torch, pytorch-fid, torch-fidelity and clean-fid; a quiet machine.

  python tools/peers/frechet_speed.py build/release/lastframe [turns]
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np
import torch
from cleanfid.fid import frechet_distance
from pytorch_fid.fid_score import calculate_frechet_distance
from torch_fidelity.metric_fid import fid_statistics_to_metric

N, DIM = 10000, 2048


def features(seed, shift):
    """Correlated and cut off at zero, as pooled activations are."""
    fixed = np.random.default_rng(1234)
    mix = fixed.standard_normal((256, DIM)) * np.arange(1, 257)[:, None] ** -0.5
    base = fixed.standard_normal(DIM) * 0.5
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 256)) @ mix / 2 + base + shift * np.linspace(0, 1, DIM)
    return np.maximum(x + 0.3 * rng.standard_normal((N, DIM)), 0).astype(np.float32)


def timed(work):
    begin = time.perf_counter()
    value = work()
    return time.perf_counter() - begin, value


def theirs(distance, a, b):
    (m1, s1), (m2, s2) = [(x.mean(0), np.cov(x, rowvar=False)) for x in
                          (a.astype(np.float64), b.astype(np.float64))]
    return float(distance(m1, s1, m2, s2))


def main():
    program, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    torch.set_num_threads(1)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="lf-frechet-"))
    a, b = features(1, 0.0), features(2, 0.1)
    np.save(folder / "a.npy", a)
    np.save(folder / "b.npy", b)

    def ours():
        words = [program, "evaluate", "--features", folder / "a.npy", folder / "b.npy",
                 "--metrics", "frechet", "--json"]
        return json.loads(subprocess.run(list(map(str, words)), check=True,
                                         stdout=subprocess.PIPE).stdout)["frechet"]["value"]

    def torch_fidelity(m1, s1, m2, s2):
        return fid_statistics_to_metric({"mu": m1, "sigma": s1}, {"mu": m2, "sigma": s2},
                                        False)["frechet_inception_distance"]

    candidates = {"lastframe": ours,
                  "pytorch-fid": lambda: theirs(calculate_frechet_distance, a, b),
                  "torch-fidelity": lambda: theirs(torch_fidelity, a, b),
                  "clean-fid": lambda: theirs(frechet_distance, a, b)}
    times = {name: [] for name in candidates}
    for _ in range(turns):
        for name, work in candidates.items():
            seconds, value = timed(work)
            times[name].append(seconds)
            print(f"{name}: {seconds:.2f} s, {value:.12g}", flush=True)
    own = statistics.median(times["lastframe"])
    for name in candidates:
        middle = statistics.median(times[name])
        print(f"{name}: median {middle:.2f} s, {middle / own:.1f} times ours")


if __name__ == "__main__":
    main()
