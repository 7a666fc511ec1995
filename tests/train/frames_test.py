"""Models that make any frames from any: whole runs of them resume exactly after a stop, one and two
ranks agree, and `lastframe sample --task` makes what it says, keeps what it is given bit for bit,
refuses the rest with status 2, and takes no more memory for a longer video. Called with "runs", "tasks" or
"length"."""

import signal

from harness import *

SHORT = "model.diffusion.sampler.steps=3"
UNET = "model.unet={ width: 8 multipliers: [1, 2] blocks: 1 attention: 4 heads: 2 %s }"
# At the rate of harness.py the loss of `rvd` is so steep that what ranks round differently grows ten
# thousandfold in twenty steps, with plain operations as with fused ones.
MODELS = {
    "flexible": [UNET % "temporal: RELATIVE mark_observed: true dropout: 0.2", "model.diffusion.frames=FLEXIBLE",
                 "model.diffusion.window=4"],
    "random": [UNET % "temporal: VOLUME dropout: 0.2", "model.diffusion.frames=RANDOM",
               "model.diffusion.most_given=2"],
    "rvd": ["model.rvd={ width: 8 mean_multipliers: [1, 2] multipliers: [1, 2] given: 3 running_scale: true }",
            "model.diffusion.schedule=COSINE_LOG_SNR", "train.optimizer.lr=0.0002"],
}
FRAMES, SIDE = 6, 8 * 8 * 3
clips = here / "clips"
execute([program, "build", "--config", config, "--set", "store.threads=1", "--set",
         f"recipe.frames={FRAMES}", "--out", clips])


def sets_of(name):
    return MODELS[name] + [SHORT, f"train.store={clips}", f"recipe.frames={FRAMES}"]


def clips_of(path, frames, count):
    """The bytes of a .npy of so many clips, and a function that gives a frame of one of them."""
    found = pixels(path, (count, frames, 8, 8, 3))
    return found, lambda clip, frame: found[(clip * frames + frame) * SIDE:][:SIDE]


def sample(run, *words, status=0, contains="", count=1):
    return execute(ranks(count) + [program, "sample", "--run", run, *words], status, contains)


def runs():
    for name in MODELS:
        ends = {}
        for count in (1, 2):
            whole, parts = here / f"{name}-whole-{count}", here / f"{name}-parts-{count}"
            train(whole, count, sets_of(name), until=240)
            train(parts, count, sets_of(name), until=7 * BATCH)
            train(parts, count, sets_of(name), until=240)
            check_same_end(whole, parts, f"{name} at {count} ranks")
            ends[count] = lines(whole)
        for one, two in zip(ends[1], ends[2]):
            check(abs(one["loss"] - two["loss"]) <= 1e-3 * abs(one["loss"]), f"{name}: {one} and {two}")
        words = ["--task", "predict", "--store", clips, "--count", 20, "--given", 3, "--frames", 8]
        made = {}
        for count in (1, 2):
            sample(here / f"{name}-whole-1", *words, "--out", here / f"{name}-{count}.npy", count=count)
            made[count] = clips_of(here / f"{name}-{count}.npy", 8, 20)[0]
        check(made[1] == made[2], f"{name}: 2 ranks make other clips than one")


def kept(run, task, observed, frames, *words):
    """Makes four clips and checks that what was observed is in them as it was."""
    truth = clips_of(here / "clips.npy", FRAMES, 4)[1]
    sample(run, "--task", task, "--store", clips, "--count", 4, "--out", here / "made.npy", *words)
    made = clips_of(here / "made.npy", frames, 4)[1]
    for clip in range(4):
        for frame in observed:
            check(made(clip, frame) == truth(clip, frame), f"{task}: frame {frame} of clip {clip} is not kept")
        for frame in set(range(min(frames, FRAMES))) - set(observed):
            check(made(clip, frame) != truth(clip, frame), f"{task}: frame {frame} was not made")


def tasks():
    output("export", clips, "--npy", here / "clips.npy", "--range", "0:4")
    for name in MODELS:
        train(here / name, 1, sets_of(name), until=24)
    out = ["--out", here / "no.npy"]
    for name in ("flexible", "random"):
        run = here / name
        sample(run, "--task", "generate", "--count", 4, "--out", here / "new.npy")
        clips_of(here / "new.npy", FRAMES, 4)
        kept(run, "predict", [0, 1], 6, "--given", 2)
        kept(run, "infill", [0, 5], 6)
        kept(run, "upsample", [0, 2, 4], 5)
        kept(run, "complete", [1, 3], 7, "--observe", "1,3", "--frames", 7)
        kept(run, "extend", range(6), 13, "--frames", 13)
        sample(run, "--task", "infill", "--observe", "0,1", "--store", clips, *out, status=2, contains="expected a gap")
        sample(run, "--task", "complete", "--store", clips, *out, status=2, contains="--observe names")
        sample(run, "--task", "complete", "--observe", "1,9", "--store", clips, *out, status=2, contains="frame 9")
        sample(run, "--task", "predict", "--observe", "0,1,2", "--frames", 3, "--store", clips, *out, status=2,
               contains="ask for more")
        sample(run, "--task", "predict", *out, status=2, contains="--store DIR")
        sample(run, "--task", "generate", "--store", clips, *out, status=2, contains="unconditionally")
        sample(run, "--task", "infil", *out, status=2, contains="infill")

    flexible = here / "flexible"
    for scheme in ("autoregressive", "long-range", "hierarchy-2", "hierarchy-3", "adaptive-hierarchy-2"):
        kept(flexible, "complete", [0, 1, 5], 11, "--observe", "0,1,5", "--frames", 11, "--scheme", scheme)
    stages = ["--task", "extend", "--store", clips, "--frames", 10, "--dry-run", "--scheme"]
    told = json.loads(output("sample", "--run", flexible, *stages, "autoregressive", "--json"))["stages"]
    check(told == ["4, 5 -> 6, 7", "6, 7 -> 8, 9"], f"stages {told}")
    text = sample(flexible, *stages, "hierarchy-2")
    check("2 stages" in text, text)
    sample(flexible, *stages, "hierarchy", status=2, contains="hierarchy-N")
    sample(here / "random", *stages, "hierarchy-2", status=2, contains="frames=FLEXIBLE")
    sample(flexible, "--task", "generate", "--frames", 9, "--set", "model.diffusion.sampler.step=4", *out, status=2,
           contains="steps of 4")
    execute(train_words(here / "bad", sets_of("flexible") + ["model.diffusion.window=1"]), 2, "window")
    execute(train_words(here / "bad", sets_of("flexible") + ["model.diffusion.window=7"]), 2, "window is 7")

    rvd = here / "rvd"
    kept(rvd, "predict", [0, 1, 2], 6)
    kept(rvd, "extend", range(6), 9, "--frames", 9)
    sample(rvd, "--task", "infill", "--store", clips, *out, status=2, contains="model.diffusion.frames=FLEXIBLE")
    sample(rvd, "--task", "generate", *out, status=2, contains="model.rvd can do")
    sample(rvd, *out, status=2, contains="first 2 frames")
    for words in (["--given", 6], ["--observe", "0,1,2,3,4,5"]):
        sample(rvd, "--store", clips, *words, *out, status=2, contains="nothing would be made")

    stopped()
    folder = here / "pictures"
    sample(flexible, "--task", "infill", "--store", clips, "--count", 2, "--out", folder)
    names = sorted(path.name for path in folder.iterdir())
    check(names == ["clips.npy", "images.png", "moving.apng", "strips.png"], f"{names}")
    rows = [line.split()[0] for line in output("list", "tasks").splitlines() if not line.startswith(" ")]
    check(rows == ["generate", "predict", "extend", "infill", "upsample", "complete"], f"{rows}")


def stopped():
    """A signal ends what makes clips at its next step, here the first of a hundred thousand."""
    slow = ["--set", "model.diffusion.sampler.steps=100000", "--set", "model.diffusion.sampler.spacing=TIME"]
    for words in (["evaluate", "--metrics", "psnr"],
                  ["sample", "--store", clips, "--count", 2, "--out", here / "never.npy"]):
        process = subprocess.Popen([program, words[0], "--run", str(here / "rvd"), *map(str, words[1:] + slow)],
                                   env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
        check(process.returncode == 75 and "asked to stop" in said, f"{words}: {process.returncode}, {said}")


def peak(*words):
    """The most memory that a command of the program, which must succeed, takes: MiB."""
    child = subprocess.Popen([program, *map(str, words)], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    check(status == 0, f"{words}: status {status}")
    return usage.ru_maxrss / 1024


def length():
    """Ten times as many frames of 32x32 take no tenth more memory: the device holds a window of them."""
    large = here / "large"
    execute([program, "build", "--config", config, "--set", "store.threads=1", "--set",
             f"recipe.frames={FRAMES}", "--set", "source.size=32", "--out", large])
    train(here / "long", 1, [*MODELS["flexible"], "model.diffusion.sampler.steps=2", f"train.store={large}",
                             f"recipe.frames={FRAMES}", "source.size=32"], until=24)
    words = ["sample", "--run", here / "long", "--task", "extend", "--store", large, "--count", 1, "--given", 2,
             "--scheme", "hierarchy-2", "--out", here / "long.npy", "--threads", 1, "--frames"]
    short, long = peak(*words, 100), peak(*words, 1000)
    print(f"{short:.0f} MiB for 100 frames, {long:.0f} MiB for 1,000")
    check(long < 1.1 * short, f"{short} MiB for 100 frames and {long} MiB for 1,000")


{"runs": runs, "tasks": tasks, "length": length}[arguments[0]]()
