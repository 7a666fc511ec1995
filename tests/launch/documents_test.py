"""What documents and examples say of the program is true: every command, option, config file and option of
the config in a line that begins with `lastframe` or `launch/local` exists, every linked file and named script,
and the table of configs is complete. Lines of code blocks and `code` of *.md, the comments at the head of
configs and the examples of --help are read. Those of blocks and of --help are run too, one after the other in
one folder with data made here, with few images and small models; the heads of configs by configs_test."""

import json
import re
import shlex
import time

from examples import ONE_STEP, SMALL, cifar, command_lines, folder_of_pictures, known_sets
from harness import built_without, check, expect, finish, here, program, ranks, root, run, with_sets, write_npy

commands = {row["name"]: row
            for row in json.loads(run(program, "list", "commands", "--json").stdout)["commands"]}
config_options = {row["name"] for row in json.loads(run(program, "list", "options", "--json").stdout)["options"]}
sweep_options = {row["name"] for row in json.loads(run(program, "list", "sweep", "--json").stdout)["sweep"]}
# Groups have no row of their own.
groups = {name.rsplit(".", depth)[0] for name in config_options for depth in range(1, name.count(".") + 1)}
tables = {row["name"] for row in json.loads(run(program, "list", "--json").stdout)["tables"]}
without_ffmpeg = built_without("FFmpeg")
lines = 0


def check_set(where, assignment):
    path = assignment.split("=")[0].rstrip("+")
    path = re.sub(r"\[\d+\]", "", path)
    path = re.sub(r"\.\d+\b", "", path)  # an element of a list
    known = {f"sweep.{name}" for name in sweep_options} if path.startswith("sweep.") else config_options | groups
    expect(path in known | {"recipe.fade"}, f"{where}: --set {assignment}: no option {path!r}")


def check_words(where, line):
    global lines
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    if not words or words[0] in ("--help", "--version", "COMMAND"):
        return
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in commands), None)
    if name is None:
        expect(any(known.startswith(words[0] + " ") for known in commands), f"{where}: no command {words[0]!r}")
        return
    lines += 1
    options = {row["name"]: row for row in commands[name]["options"]}
    rest = words[len(name.split()):]
    if name == "list" and rest and not rest[0].startswith("-"):
        expect(rest[0] in tables or rest[0].isupper(), f"{where}: no table {rest[0]!r}")
    for at, word in enumerate(rest):
        option, _, value = word.partition("=")
        option = option.strip("[]`,.;:")
        if not re.fullmatch(r"--[a-z][a-z-]*", option) or option == "--help":
            continue
        expect(option in options, f"{where}: lastframe {name} has no option {option}")
        value = value or (rest[at + 1] if at + 1 < len(rest) else "")
        if option == "--set" and re.match(r"[a-z_.]+\+?=", value):
            check_set(where, value)
        if option == "--config" and value.startswith("configs/"):
            expect((root / value).is_file(), f"{where}: no file {value}")


def check_text(where, text, run_them=False):
    for launcher, line in command_lines(text):
        check_words(where, line)
        if run_them:
            run_line(where, launcher, line)


# Weights of foreign networks, which are not at hand: the command ends where it would read them.
FOREIGN = ("inception.safetensors", "vae.safetensors")
seconds = {}


def world_of(where):
    """A folder for the examples of a document, with what they assume to be there."""
    world = here / re.sub(r"\W", "-", str(where))
    if not world.exists():
        world.mkdir()
        (world / "configs").symlink_to(root / "configs")
        for name in ("photos", "made", "real"):
            (world / name).symlink_to(here / "pictures")
        for name in ("DIR", "cifar-10-batches-bin"):
            (world / name).symlink_to(here / "cifar")
        for known in (here / "known").iterdir():
            (world / known.name).symlink_to(known)
        for name, high in (("real", 7), ("made", 5)):
            write_npy(world / f"{name}.npy", "<f4", (8, 4), b"".join(bytes([0, 0, i % high, 63]) for i in range(32)))
    return world


def prepare_help(world):
    """What the examples of --help do not make themselves."""
    def step(*words):
        done = run(program, *words, cwd=world)
        check(done.returncode == 0, f"{words}: status {done.returncode}, {done.stderr}")

    def training(name, store, *sets):
        step("train", "--run", f"runs/{name}", *with_sets([f"train.store=stores/{store}", *ONE_STEP, *sets]))

    shape = ["--config", "configs/cifar10/cvivit.pbtxt", "--set", "source.cifar.path=DIR"]
    step("build", *shape, "--out", "stores/cifar10", *SMALL["build"])
    for part in ("one", "two"):
        step("build", "--set", f"source.folder.path=photos/{part}", "--set", "source.size=8", "--out",
             f"stores/part-{part}")
    step("build", *with_sets(["source.generated={ kind: \"moving-digits\" frames: 16 count: 4 }", "source.size=36"]),
         "--out", "stores/moving")
    training("cvivit", "cifar10", "model.cvivit={ width: 16 quantiser { ema { codes: 16 kmeans: 0 } } }")
    step("export", "runs/cvivit", "--out", "cvivit.safetensors")
    training("prior", "cifar10", "model.code_prior={ width: 16 layers: 1 heads: 2 kind: MASKED rounds: 1 }",
             "model.code_prior.tokenizer=cvivit.safetensors")
    training("fdm", "moving", "model={ unet { width: 8 multipliers: 1 blocks: 1 temporal: RELATIVE } diffusion "
             "{ frames: FLEXIBLE window: 4 sampler { steps: 2 } } }")
    training("vae", "cifar10", "model.vqvae={ width: 8 norm_groups: 4 quantiser { "
             "variational {} } }")
    training("own", "cifar10", "model.classifier={ width: 4 }")
    step("export", "runs/own", "--out", "own.safetensors")
    (world / "STORE").symlink_to("stores/cifar10")
    (world / "sweeps" / "board").mkdir(parents=True)
    (world / "sweeps" / "board" / "results.json").write_text('{"format": 1, "metrics": [{"name": "fid"}], "arms": []}')


def small(name, words):
    """What makes the command quick."""
    more = list(SMALL.get(name, []))
    if name == "train" and "--dry-run" not in words:
        previews = any(word.startswith("train.preview_") for word in words)
        more += with_sets([one for one in ONE_STEP if not (previews and one.startswith("train.preview_"))])
        if not any(word.startswith("train.store=") for word in words):
            more += ["--set", "source.generated.count=8"]
    if name == "bench sample" and "configs/peers/unet3d.pbtxt" in words:
        more += with_sets(["model.unet3d.dim=8", "model.diffusion.sampler.steps=2"])
    return more


def run_line(where, launcher, line):
    words = shlex.split(line)
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in commands), None)
    needs_ffmpeg = "source.videos." in line or words[-1].endswith((".mp4", ".gif", ".webp"))
    if name is None or "srun" in launcher or (needs_ffmpeg and without_ffmpeg):
        return
    before = [root / launcher.split()[0], *launcher.split()[1:]] if "launch/local" in launcher else [
        *ranks(2 if "mpirun" in launcher else 1), program]
    if name == "sweep" and "--dry-run" not in words:  # hours, else
        at = words.index("--for") if "--for" in words else len(words)
        words = [*words[:at], *words[at + 2:], "--dry-run"]
    begun = time.time()
    done = run(*before, *words, *small(name, words), cwd=world_of(where), extra={"LASTFRAME": program})
    seconds[line] = time.time() - begun
    missing = next((file for file in FOREIGN if file in words), None)
    expect(done.returncode == (2 if missing else 0) and (not missing or f"there is no file {missing}" in done.stderr),
           f"{where}: lastframe {line}: status {done.returncode}, {done.stderr[-1000:]}")


def check_help_texts():
    """In the order in which one makes what the next takes."""
    prepare_help(world_of("--help"))
    first = ["build", "train", "export"]
    for name in [*first, *(name for name in commands if name not in first)]:
        check_text("--help", commands[name]["example"], run_them=True)
    check_text("launch/local --help", run(root / "launch" / "local", "--help").stdout.split("Example:")[1],
               run_them=True)


folder_of_pictures(here / "pictures", 32, 70, 66)
cifar(here / "cifar")
known_sets(here / "known")
check_help_texts()
documents = [path for path in root.rglob("*.md")
             if not {"build", ".deps", "fixtures"} & set(path.relative_to(root).parts) and path.name != "CHANGELOG.md"]
for path in documents:
    text = path.read_text()
    where = path.relative_to(root)
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        check_text(where, block, run_them=True)
    for target in re.findall(r"\]\(([^)#\s]+)\)", text):
        expect(target.startswith("http") or (path.parent / target).exists(), f"{where}: no file {target}")
    for script in re.findall(r"(?:^|[\s`])(?:\./)?((?:launch|tests|tools|slurm)/[\w./-]*\w)", text, re.M):
        expect(re.search("[A-Z]{2}|/X[_.]", script) or any((folder / script).exists() for folder in (root, path.parent)),
               f"{where}: no file {script}")
    for code in re.findall(r"`(lastframe [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
        check_text(where, " ".join(code.split()))
for path in (root / "configs").rglob("*.pbtxt"):
    head = "\n".join(line.lstrip("# ") for line in path.read_text().split("\n\n")[0].splitlines())
    check_text(path.relative_to(root), head)
linked = set(re.findall(r"\]\(([^)]+\.pbtxt)\)", (root / "configs" / "README.md").read_text()))
there = {path.relative_to(root / "configs").as_posix() for path in (root / "configs").rglob("*.pbtxt")}
expect(linked == there, f"configs/README.md lacks {sorted(there - linked)}, and links {sorted(linked - there)}")
expect(lines > 60, f"only {lines} command lines seen")
for line, took in sorted(seconds.items(), key=lambda row: -row[1])[:8]:
    print(f"{took:.1f} s: {line}")
print(f"{lines} command lines in {len(documents)} documents, the configs and the help")
finish()
