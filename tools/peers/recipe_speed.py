"""Eight-frame recursive blur on one core: `lastframe bench recipe` against OpenCV, scipy and torch.

Seven blurs, sigma 0.4, 0.5, ... 1.0, kernel radius int(4 sigma + 0.5), border half-sample symmetric,
recursion in float, frames rounded to bytes. All contenders take turns in every round, one thread each,
and are compared by the CPU time they used, so that a busy machine disturbs the ratios little; wall
figures are printed beside them. Makes a throw-away virtual environment with numpy, scipy, OpenCV and
torch (pip's usual variables choose where from; a CPU build will do), or takes the one of --python.

  python3 tools/peers/recipe_speed.py build/release/lastframe [--sizes 32,256] [--rounds 3]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv

SIGMAS = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
BATCH = 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", help="lastframe")
    parser.add_argument("--sizes", default="32,256")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=1, help="of each contender in each round")
    parser.add_argument("--python", help="an environment's python that has the packages already")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def run_in_environment(args):
    with tempfile.TemporaryDirectory(prefix="lastframe-peers-") as folder:
        python = args.python
        if python is None:
            venv.create(folder, with_pip=True)
            python = os.path.join(folder, "bin", "python")
            packages = ["numpy", "scipy", "opencv-python-headless", "torch"]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1",
                           MKL_NUM_THREADS="1")
        return subprocess.run([python, __file__, *sys.argv[1:], "--inside"], env=environment).returncode


def contenders(size):
    """name -> function of a batch of images that returns their clips' corrupted frames."""
    import cv2
    import numpy as np
    from scipy.ndimage import gaussian_filter, gaussian_filter1d
    cv2.setNumThreads(1)

    def to_bytes(frame):
        return np.clip(np.rint(frame), 0, 255).astype(np.uint8)

    def opencv(images):
        out = []
        for image in images:
            frame = image.astype(np.float32)
            for sigma in SIGMAS:
                width = 2 * int(4 * sigma + 0.5) + 1
                frame = cv2.GaussianBlur(frame, (width, width), sigma, borderType=cv2.BORDER_REFLECT)
                out.append(cv2.convertScaleAbs(frame))
        return out

    def scipy(images):
        frame, out = images.astype(np.float32), []
        for sigma in SIGMAS:
            frame = gaussian_filter(frame, (0, sigma, sigma, 0), truncate=4.0, mode="reflect")
            out.append(to_bytes(frame))
        return out

    try:
        import torch
    except ImportError as error:  # an environment of --python may lack it
        print(f"torch is left out: {error}", file=sys.stderr)
        return {"opencv": opencv, "scipy": scipy}
    torch.set_num_threads(1)
    matrices = [torch.from_numpy(gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect")).float()
                for sigma in SIGMAS]

    def torch_products(images):
        frame = torch.from_numpy(images).permute(0, 3, 1, 2).reshape(-1, size, size).float()
        out = []
        for matrix in matrices:
            frame = matrix @ frame @ matrix.T
            out.append(frame.round().clamp(0, 255).to(torch.uint8))
        return out

    return {"opencv": opencv, "scipy": scipy, "torch": torch_products}


def lastframe(program, size, seconds):
    run = subprocess.run(
        [program, "bench", "recipe", "--json", "--size", str(size), "--seconds", str(seconds), "--set",
         "recipe.blur.sigmas=" + ",".join(map(str, SIGMAS))], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    return report["clips"] / report["cpu_seconds"], report["clips_per_s"]


def peer(function, images, seconds):
    clips, cpu, wall = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < seconds:
        function(images)
        clips += len(images)
    return clips / (time.process_time() - cpu), clips / (time.perf_counter() - wall)


def main():
    args = arguments()
    if not args.inside:
        sys.exit(run_in_environment(args))
    import numpy as np
    for size in map(int, args.sizes.split(",")):
        images = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3), dtype=np.uint8)
        if size > 64:
            images = images[:8]
        functions = contenders(size)
        for function in functions.values():
            function(images)
        cpu, wall = {}, {}
        for _ in range(args.rounds):
            runs = {name: peer(function, images, args.seconds) for name, function in functions.items()}
            runs["lastframe"] = lastframe(args.program, size, args.seconds)
            for name, (by_cpu, by_wall) in runs.items():
                cpu.setdefault(name, []).append(by_cpu)
                wall.setdefault(name, []).append(by_wall)
        report = {"size": size, "rounds": args.rounds,
                  "clips_per_cpu_second": {n: round(statistics.median(v)) for n, v in cpu.items()},
                  "clips_per_second": {n: round(statistics.median(v)) for n, v in wall.items()}}
        ours = report["clips_per_cpu_second"]
        report["ratio"] = {n: round(ours["lastframe"] / ours[n], 2) for n in ours if n != "lastframe"}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
