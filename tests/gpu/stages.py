"""The stages of fifteen_minutes, one process each: python3 stages.py STAGE. Each checks by value and keeps
what it measured in the file that STAGE_VALUES names, as it goes, so that a stage that fails or is cut off
tells what it saw. STAGE_DEVICE is CUDA; CPU runs the program's stages where there is no device, to prove the
scripts. Not a test."""

import concurrent.futures
import re
import signal

import harness
from harness import *

on_device = os.environ.get("STAGE_DEVICE", "CUDA") == "CUDA"
build = pathlib.Path(program).parent
values, processes = {}, []
# The forms of a step to be compared. On the CPU the plain and the fused operations stand in.
LAUNCHED = ["train.gpu_kernels=false", "train.graph=OFF"] if on_device else ["train.kernels=REFERENCE"]
FUSED = ["train.gpu_kernels=true", "train.graph=OFF"] if on_device else ["train.kernels=FUSED"]
RECORDED = ["train.gpu_kernels=true", "train.graph=ON"] if on_device else ["train.kernels=FUSED"]
ON_CPU = ["train.device=CPU"]
ON_DEVICE = ["train.device=CUDA", "train.deterministic=true"] if on_device else ON_CPU
# cuDNN would compute FP32 convolutions in TF32, with 10 bits.
EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}

# What the program says of where it computed; fifteen_minutes_test looks for these in the sources.
COMPUTES, REPLAYS, MAKES_FRAMES = "computing on ", "recorded and replayed", "the frames of clips are made on "

UNET3D = "model.unet3d={ dim: 16 multipliers: [1, 2] heads: 2 head_width: 16 }"
UNET = "model.unet={ width: 16 multipliers: [1, 2] attention: [8] heads: 2 dropout: 0.1 }"
CVIVIT = ("model.cvivit={ width: 32 patch: 4 spatial_layers: 1 temporal_layers: 1 heads: 2 head_width: 16 "
          "quantiser { lfq { bits: 6 } } }")
SHORT = "model.diffusion.sampler.steps=8"


def keep(**more):
    values.update(more)
    path = os.environ.get("STAGE_VALUES")
    if path:
        pathlib.Path(path).write_text(json.dumps(values))


def say(sentence):
    keep(sentence=sentence)
    print(sentence)


def apart(a, b):
    return abs(a - b) / max(abs(b), 1e-12)


def at_once(calls):
    """The results of calls that wait for programs, four at a time."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return [future.result() for future in [pool.submit(*call) for call in calls]]


def trained(name, sets, until=240):
    """A run of 20 steps, unless `until` says otherwise, of 4 frames of 16x16."""
    text = train(here / name, 1, sets, until, extra=EXACT)
    if on_device:
        check((COMPUTES + "GPU" in text) == ("train.device=CUDA" in sets), f"{name} computed elsewhere:\n{text}")
        check((REPLAYS in text) == ("train.graph=ON" in sets), f"{name}: recorded or not?\n{text}")
    return here / name


def losses(run):
    found = [line["loss"] for line in lines(run) if "loss" in line]
    check(found and all(math.isfinite(loss) for loss in found), f"{run.name}: losses {found[-3:]}")
    return found


def check_same_weights(a, b, what):
    for kind in ("model", "ema"):
        check(weights(a, kind) == weights(b, kind), f"{what}: the bits of {kind} differ")
    check(losses(a) == losses(b), f"{what}: losses differ")


# ---- the stages ------------------------------------------------------------------------------------


def device():
    """doctor --smoke: the device, the plugin and its libraries, an all-reduce with known sums."""
    found = json_in(execute([program, "doctor", "--smoke", "--folder", here, "--json"]))
    rank = found["ranks"][0]
    libraries = {row["name"]: row["version"] for row in rank["libraries"]}
    keep(device=rank["device"], gpus=rank["gpus"], driver=found["cuda_driver"], commit=found["commit"],
         torch=libraries.get("libtorch_cpu", ""), warnings=found["warnings"], allreduce=found["allreduce"])
    check(found["allreduce_ok"] and found["folder"]["ok"] and found["signals_ok"], f"troubles: {found['troubles']}")
    if on_device:
        check(rank["device"], f"the plugin does not open: {found['warnings']}")
        check(found["allreduce"]["backend"] == "nccl", "the all-reduce did not go over NCCL")
    say(f"{rank['device'] or rank['cpu']}, torch {libraries.get('libtorch_cpu', '?')}; an all-reduce over "
        f"{found['allreduce']['backend']} is exact")


def suite():
    """The gpu suite: kernels against their plain forms, recorded steps bit for bit, NCCL."""
    report = here / "gpu_tests.json"
    done = run(build / "gpu_tests", f"--gtest_output=json:{report}", seconds=900)
    print(done.stdout[-20000:], done.stderr[-5000:])
    check(report.exists(), f"gpu_tests ended with {done.returncode} before its report: {done.stderr[-300:]}")
    tests = [(group["name"] + "." + test["name"], test) for group in json.loads(report.read_text())["testsuites"]
             for test in group["testsuite"]]
    failed = [name for name, test in tests if test.get("failures")]
    skipped = [name for name, test in tests if test.get("result") == "SKIPPED"]
    keep(tests=len(tests), failed=failed, skipped=skipped,
         seconds={name: float(test["time"].rstrip("s")) for name, test in tests})
    check(not failed and done.returncode == 0, f"{len(failed)} of {len(tests)} tests failed: {', '.join(failed)}")
    check(tests and not skipped, f"{len(skipped)} of {len(tests)} tests were skipped: {', '.join(skipped)}")
    say(f"{len(tests)} tests passed")


def numbers():
    """Whole networks: losses of 20 steps against the CPU's, fused and recorded; a recorded step's bits."""
    names = {"unet3d": UNET3D, "unet": UNET, "cvivit": CVIVIT}
    most = {"unet3d": 1e-2, "unet": 1e-2, "cvivit": 1}  # a bit of a code that flips is a step of the loss
    ways = {"cpu": ON_CPU + ["train.kernels=REFERENCE"], "launched": ON_DEVICE + LAUNCHED,
            "fused": ON_DEVICE + FUSED, "recorded": ON_DEVICE + RECORDED}
    store()
    at_once([(trained, f"{name}-{way}", [sets, *more]) for name, sets in names.items() for way, more in ways.items()])
    found = {}
    for name in names:
        truth = losses(here / f"{name}-cpu")
        for way in ("launched", "fused", "recorded"):
            mine = losses(here / f"{name}-{way}")
            check(len(mine) == len(truth) == 20, f"{name}: {len(mine)} and {len(truth)} losses")
            found[f"{name} {way}"] = {"first": apart(mine[0], truth[0]), "most": max(map(apart, mine, truth))}
    keep(apart=found, bound_first=1e-4, bound_most=most)
    for what, gap in found.items():
        bound = most[what.split()[0]]
        check(gap["first"] < 1e-4 and gap["most"] < bound,
              f"{what}: losses are {gap['first']:.1e} (first step) and {gap['most']:.1e} (of 20) from the CPU's, "
              f"expected 1e-4 and {bound} at most")
    for name in names:
        check_same_weights(here / f"{name}-fused", here / f"{name}-recorded", f"{name}, recorded and launched")
    say(f"losses of {len(names)} networks are within {max(gap['first'] for gap in found.values()):.0e} of the CPU's in "
        f"the first step, those without codes within "
        f"{max(gap['most'] for what, gap in found.items() if 'cvivit' not in what):.0e} in 20; recorded steps have "
        f"equal bits")


def killed(name, sets, kills=2):
    """A run that is killed so many times on its way, and started again."""
    folder, log = here / name, here / f"{name}.log"
    resumed = 0
    for kill in range(kills):
        process = start(folder, 1, sets, log=log.open("wb"))
        processes.append(process)
        before, latest_before = len(lines(folder)), (folder / "latest").exists() and latest(folder)
        wait_until(lambda: process.poll() is not None or (len(lines(folder)) > before + 3 and (
            folder / "latest").exists() and latest(folder) != latest_before), f"{name}: a checkpoint", 120)
        check(process.poll() is None, f"{name}: the run ended before kill {kill}: {log.read_text()[-400:]}")
        process.kill()
        process.wait()
        resumed += "resumed from" in log.read_text(errors="replace")
    text = train(folder, 1, sets)
    check("resumed from" in text, f"{name}: the last start did not resume")
    return resumed + 1


def resume():
    """kill -9 and the same command again: every loss and every byte of the last checkpoint."""
    steps = 300 if on_device else 120
    more = [f"train.images={steps * BATCH}", *ADVERSARIAL]
    store()
    ways = {"launched": LAUNCHED, "recorded": RECORDED}
    calls = []
    for way, sets in ways.items():
        calls += [(train, here / f"calm-{way}", 1, ON_DEVICE + sets + more),
                  (killed, f"killed-{way}", ON_DEVICE + sets + more)]
    done = at_once(calls)
    keep(resumes=done[1::2], steps=steps)
    for way in ways:
        check_same_end(here / f"calm-{way}", here / f"killed-{way}", way)
    say(f"runs of {steps} steps killed twice end in the calm runs' bits, launched and recorded "
        f"({sum(done[1::2])} resumes)")


def trained_on_own_store(recipe, mode):
    folder, run = here / f"store-{recipe}-{mode}", here / f"{recipe}-{mode}"
    sets = [f"recipe.{recipe}={{}}", f"store.mode={mode}"]
    execute([program, "build", "--config", config, "--out", folder, *with_sets([*sets, "store.threads=1"])])
    text = execute([program, "train", "--config", config, "--run", run, "--until-images", 240,
                    *with_sets([*sets, f"train.store={folder}", *ON_DEVICE, *FUSED])], extra=EXACT)
    expected = on_device and mode == "RECOMPUTED"
    check((MAKES_FRAMES in text) == expected, f"{run.name}: frames made elsewhere:\n{text}")
    return run


def frames():
    """Frames of a RECOMPUTED store made on the device: the same bits as frames read from disk."""
    names = [(recipe, mode) for recipe in ("blur", "noise") for mode in ("STORED", "RECOMPUTED")]
    ends = at_once([(trained_on_own_store, *name) for name in names])
    for stored, remade in zip(ends[::2], ends[1::2]):
        check_same_weights(stored, remade, f"{stored.name} and {remade.name}")
    say("20 steps on frames made while training have the bits of 20 steps on stored frames, blur and noise")


def bytes_apart(a, b):
    return sum(abs(x - y) for x, y in zip(a, b)) / len(a)


def made(run, name, *words):
    out = here / f"{name}.npy"
    execute([program, "sample", "--run", run, "--count", 16, "--out", out, "--set", SHORT, *words], extra=EXACT)
    return pixels(out, (16, 4, 16, 16, 3))


def sample():
    """sample: the same clips again and recorded, the CPU's up to rounding, bf16."""
    folder = trained("unet3d", [UNET3D, *ON_DEVICE, *FUSED])
    way = {name: with_sets(sets) for name, sets in (
        ("cpu", ON_CPU + ["train.kernels=REFERENCE"]), ("launched", ON_DEVICE + LAUNCHED), ("fused", ON_DEVICE + FUSED),
        ("recorded", ON_DEVICE + RECORDED))}
    clips = dict(zip([*way, "again", "bf16"], at_once(
        [(made, folder, name, *words) for name, words in way.items()] +
        [(made, folder, "again", *way["fused"]), (made, folder, "bf16", *way["fused"], "--precision", "BF16")])))
    gaps = {name: bytes_apart(clips[name], clips["cpu"]) for name in ("launched", "fused", "recorded", "bf16")}
    keep(bytes_apart=gaps, bound=0.5, bound_bf16=6)
    check(clips["again"] == clips["fused"], "the same call makes other clips")
    check(clips["recorded"] == clips["fused"], "recorded, the network makes other clips")
    check(max(gaps["launched"], gaps["fused"]) < 0.5, f"bytes are {gaps} from the CPU's on average, expected 0.5")
    check(0 < gaps["bf16"] < 6, f"in bf16 bytes are {gaps['bf16']} apart")
    say(f"16 clips are {gaps['fused']:.4f} of 255 from the CPU's on average, {gaps['bf16']:.2f} in bf16; made again "
        f"and recorded they have equal bits")


def distance(run, extractor, metric, sets):
    # In a run of its own: kept samples of another device must not answer.
    run = shutil.copytree(run, here / f"{metric}-{len(list(here.iterdir()))}")
    text = execute([program, "evaluate", "--run", run, "--extractor", extractor, "--metrics", metric, "--subject",
                    "SAMPLES", "--samples", 240 if metric == "fd_own" else 64, "--json", *with_sets([SHORT, *sets])], extra=EXACT)
    return json_in(text)[metric]["value"]


def fid():
    """FID's distance of samples, by own features and, if given, by Inception's: the CPU's value."""
    extractors = {"fd_own": here / "own.safetensors"}
    inception = os.environ.get("STAGE_INCEPTION")
    if inception:  # FID's 2048 features, or the 768 where the file ends with those
        extractors["fid" if b'"Mixed_7c.' in pathlib.Path(inception).read_bytes() else "fid768"] = inception
    store()
    images = here / "images"
    execute([program, "build", "--config", config, "--out", images, "--set", "recipe.frames=1"])
    folder, judge = at_once([(trained, "unet", [UNET, *ON_DEVICE, *FUSED], 480), (
        trained, "judge", ["model.classifier={ width: 16 stages: 2 }", "recipe.frames=1", f"train.store={images}",
                           *ON_DEVICE[:1]], 480)])
    output("export", judge, "--out", extractors["fd_own"])
    found = {}
    for metric, extractor in extractors.items():
        found[metric] = {"device": distance(folder, extractor, metric, ON_DEVICE + FUSED),
                         "cpu": distance(folder, extractor, metric, ON_CPU + ["train.kernels=REFERENCE"])}
        keep(distances=found, bound=1e-2)
        check(apart(found[metric]["device"], found[metric]["cpu"]) < 1e-2,
              f"{metric} is {found[metric]['device']} on the device and {found[metric]['cpu']} on the CPU")
    say("; ".join(f"{metric} of the samples is {pair['device']:.4f}, on the CPU {pair['cpu']:.4f}"
                  for metric, pair in found.items()))


def step_speed(precision, sets):
    size = (["model.unet3d.dim=64", "model.unet3d.multipliers=1,2,4,8", "recipe.frames=16", "source.size=64",
             "train.batch=8"] if on_device else
            ["model.unet3d.dim=8", "model.unet3d.multipliers=1,2", "recipe.frames=2", "source.size=8",
             "train.batch=1"])
    words = with_sets([*size, f"train.precision={precision}", *ON_DEVICE[:1], *sets])
    found = json_in(output("bench", "step", "--config", root / "configs/peers/unet3d.pbtxt", "--json", "--breakdown",
                           "--seconds", 3 if on_device else 1, *words))
    check(found["precision"] == precision, f"{found['precision']} instead of {precision}")
    rate = found["flops_per_step"] / (found["ms_per_step"] / 1e3)
    return {"ms_per_step": found["ms_per_step"], "clips_per_s": found["clips_per_s"], "graph": found["graph"],
            "TFLOP_per_s": rate / 1e12, "peak_TFLOP_per_s": found["peak_flops_per_s"] / 1e12,
            "share": found["peak_share"], "parameters": found["parameters"], "peak_GiB": found["peak_bytes"] / 2**30}


def bf16():
    """A bf16 training step: its arithmetic a second, and its share of what the device's products reach."""
    found = {}
    for name, precision, sets in (("launched", "BF16", LAUNCHED), ("fused", "BF16", FUSED), (
            "recorded", "BF16", RECORDED), ("FP32 recorded", "FP32", RECORDED)):
        found[name] = step_speed(precision, sets)
        keep(steps=found)
        check(0 < found[name]["share"] <= 1, f"{name}: a share of {found[name]['share']}")
    check(not on_device or found["recorded"]["graph"] == "recorded", found["recorded"]["graph"])
    ends = [losses(trained(f"learns-{precision}", [UNET3D, f"train.precision={precision}", *ON_DEVICE, *RECORDED], 480))
            for precision in ("FP32", "BF16")]
    keep(loss_apart=max(map(apart, ends[1], ends[0])))
    check(ends[1] != ends[0] and values["loss_apart"] < 0.1, f"bf16 losses are {values['loss_apart']} from fp32's")
    best = max(("launched", "fused", "recorded"), key=lambda name: found[name]["TFLOP_per_s"])
    say(f"a bf16 step of {found[best]['parameters'] / 1e6:.1f} M weights takes {found[best]['ms_per_step']:.1f} ms ({best}): "
        f"{found[best]['TFLOP_per_s']:.1f} TFLOP/s of the {found[best]['peak_TFLOP_per_s']:.1f} that products alone "
        f"reach here, {100 * found[best]['share']:.1f} %")


# ---- compute-sanitizer -----------------------------------------------------------------------------

PLANTED = """
namespace lf {
__global__ void beyond(int* out) { out[threadIdx.x + (1 << 20)] = 1; }
__global__ void race(int* out) {
  __shared__ int last[1];
  last[0] = threadIdx.x;
  out[threadIdx.x] = last[0];
}
}  // namespace lf
int main(int count, char**) {
  int* out = nullptr;
  cudaMalloc(&out, 64 * sizeof(int));
  if (count > 1) lf::race<<<1, 64>>>(out); else lf::beyond<<<1, 64>>>(out);
  return cudaDeviceSynchronize() != cudaSuccess;
}
"""


def tool(name):
    for folder in (os.environ.get("CUDA_HOME", "/usr/local/cuda"), "/usr/local/cuda"):
        if (pathlib.Path(folder) / "bin" / name).exists():
            return pathlib.Path(folder) / "bin" / name
    return shutil.which(name) or check(False, f"there is no {name} on PATH or in /usr/local/cuda/bin")


def findings(text, check_of):
    """(those that concern us, all) of compute-sanitizer's output: of a race the kernel must be ours."""
    check(re.search(r"(ERROR|RACECHECK) SUMMARY: \d+", text), f"{check_of} came to no summary: {text[-300:]}")
    begin = r"^========= (?:Error: |Warning: )?(?=Invalid |Race reported|Out-of-range|Misaligned)"
    all_of = re.split(begin, text, flags=re.M | re.I)[1:]
    # Mangled or not.
    return [one for one in all_of if check_of == "memcheck" or "lf::" in one or "N2lf" in one], all_of


def checked(check_of, *words):
    # Without LibTorch's cache every tensor is an allocation, whose ends memcheck knows.
    done = run(tool("compute-sanitizer"), "--tool", check_of, "--print-limit", 20, *words, seconds=600,
               extra={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    text = done.stdout + done.stderr
    print(text[-8000:])
    return findings(text, check_of), text


def sanitizer():
    """compute-sanitizer: memcheck and racecheck over each kernel once, memcheck over three steps."""
    source, planted = here / "planted.cu", here / "planted"
    source.write_text(PLANTED)
    execute([tool("nvcc"), "-o", planted, "-lineinfo", "-arch=native", source])
    for check_of, words in (("memcheck", []), ("racecheck", ["race"])):
        (ours, _), _ = checked(check_of, planted, *words)
        check(ours, f"{check_of} does not find the planted error, so it proves nothing here")
    counts = {}
    once = [build / "gpu_tests", "--gtest_filter=GpuKernels.RunOnceEach:GpuStep.KeyedNumbersFollowAPositionOnTheDevice"]
    steps = [*train_words(here / "steps", [*ON_DEVICE, *FUSED, UNET3D], 36)]
    for name, check_of, words in (("kernels", "memcheck", once), ("kernels", "racecheck", once),
                                  ("steps", "memcheck", steps)):
        (ours, all_of), text = checked(check_of, *words)
        counts[f"{check_of} of {name}"] = {"ours": len(ours), "all": len(all_of)}
        keep(found=counts)
        check(not ours, f"{check_of} of {name}: {len(ours)} findings, the first: {' '.join(ours[:1])[:300]}")
        check(words is steps or "[  PASSED  ] 2 tests" in text, f"{check_of}: the tests did not pass")
    check(len(losses(here / "steps")) == 3, "three steps were not made")
    say("memcheck and racecheck find what was planted, and nothing in the kernels or in three steps")


STAGES = {stage.__name__: stage for stage in (device, suite, numbers, resume, sample, fid, bf16, frames, sanitizer)}


def main():
    def stop(*_):
        for process in processes:
            process.kill()
        os._exit(124)  # at once: threads wait for programs, which the caller kills

    signal.signal(signal.SIGTERM, stop)
    if os.environ.get("STAGE_LIBRARIES"):
        environment["LD_LIBRARY_PATH"] = os.environ["STAGE_LIBRARIES"]
    config.write_text(CONFIG.replace("size: 8", "size: 16").replace("frames: 3", "frames: 4"))
    try:
        STAGES[arguments[0]]()
    except SystemExit as end:
        if isinstance(end.code, str):
            said = end.code.removeprefix("FAILED: ").splitlines()
            say((said[-1] if said[-1].startswith("lastframe: ") else said[0])[:600])
            print(end.code)
            sys.exit(1)
        raise
    except (OSError, ValueError, KeyError, IndexError, subprocess.TimeoutExpired) as error:
        say(f"{type(error).__name__}: {error}"[:600])
        raise


if __name__ == "__main__":
    main()
