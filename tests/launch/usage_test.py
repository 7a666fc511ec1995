"""Help, exit statuses and messages of the program."""

import json
import os

from harness import cpu_seconds, expect, finish, here, is_one_sentence, program, ranks, root, run


def commands():
    """Every row of the command table."""
    return json.loads(run(program, "list", "commands", "--json").stdout)["commands"]


def usage_error(*words, saying=()):
    """The command must end with 2 and one sentence on stderr, and print nothing."""
    what = " ".join(str(word) for word in words)[:120]
    result = run(program, *words)
    expect(result.returncode == 2, f"'{what}' ended with {result.returncode}, expected 2")
    expect(result.stdout == "", f"'{what}' printed on stdout: {result.stdout[:80]!r}")
    expect(is_one_sentence(result.stderr), f"'{what}' said {result.stderr[:300]!r}")
    expect(len(result.stderr) < 1200, f"'{what}' said {len(result.stderr)} bytes")
    for part in saying:
        expect(part in result.stderr, f"'{what}' does not mention {part!r}: {result.stderr[:300]!r}")


def check_help():
    whole = run(program, "--help")
    expect(whole.returncode == 0 and whole.stderr == "", "--help fails")
    for same in ([], ["-h"], ["help"]):
        expect(run(program, *same).stdout == whole.stdout, f"{same} differs from --help")
    for name in (row["name"] for row in commands()):
        words = name.split()
        expect(f"  {name}" in whole.stdout, f"--help does not list {name}")
        for flag in ("--help", "-h"):
            result = run(program, *words, flag)
            expect(result.returncode == 0 and result.stderr == "", f"{name} {flag} fails")
            for part in (f"lastframe {name}", "Usage:", "Example:"):
                expect(part in result.stdout, f"{name} {flag} has no {part!r}")
        # Help wins over whatever else is wrong with the line.
        expect(run(program, *words, "--no-such-option", "--help").returncode == 0,
               f"{name} --no-such-option --help fails")
        usage_error(*words, "--no-such-option", saying=["--no-such-option", "--help"])
        usage_error(*words, *["word"] * 40)
        if len(words) > 1:
            expect(run(program, words[0], "--help").returncode == 0, f"{words[0]} --help fails")
    version = run(program, "--version")
    expect(version.returncode == 0 and version.stdout.startswith("lastframe "), "--version fails")
    expect(all(part.isdigit() for part in version.stdout.split()[1].split(".")),
           f"--version says {version.stdout!r}")


def check_wrong_words():
    usage_error("lits", saying=["did you mean 'list'"])
    usage_error("\n\x1b[31mred")
    usage_error("list", "optons", saying=["did you mean 'options'"])
    usage_error("list", "recipes", saying=["did you mean 'corruptions'"])
    usage_error("list", "options", "trian.", saying=["trian."])
    usage_error("list", "metrics", "--basic", saying=["--basic has no meaning"])
    usage_error("list", "options", "train.batchh", saying=["did you mean 'train.batch'"])
    usage_error("list", "--jsno", saying=["did you mean '--json'"])
    usage_error("list", "--json=yes", saying=["takes no value"])
    usage_error("doctor", "--mib", saying=["needs a value"])
    for wrong in ("0", "-1", "many", "1e3", "99999999999999999999999", ""):
        usage_error("doctor", f"--mib={wrong}", saying=["--mib", "[1, 1024]"])


def check_searches():
    """What people type who do not know the names yet."""
    def found(*words):
        return [row["name"] for row in json.loads(run(program, "list", "options", *words, "--json").stdout)["options"]]

    expect("train.optimizer.lr" in found("learning", "rate"), f"learning rate: {found('learning', 'rate')}")
    expect(found("Learning rate") == found("learning", "rate"), "case or quotes count in a search")
    expect(found("train.ema.") == [name for name in found() if name.startswith("train.ema.")], "a prefix finds others")
    expect(15 <= len(found("--basic")) <= 30 and "train.batch" in found("--basic"), f"--basic: {found('--basic')}")
    text = run(program, "list", "options", "recipe.topology").stdout
    expect("      STAR: " in text, f"values without a meaning: {text!r}")
    file = here / "a.pbtxt"
    file.write_text("train { lr: 0.1 }\n")
    for words, part in ((["train", file], f"did you mean --config {file}?"),
                        (["train", "--resume"], "the same command starts a run and resumes it"),
                        (["train", "--lr", "0.1"], "train.optimizer.lr"),
                        (["train", "--batch-size=8"], "train.batch"),
                        (["train", "--dry-run", "--set", "train.lr=0.1"], "did you mean 'train.optimizer.lr'?"),
                        (["train", "--dry-run", "--set", "model.width=8"], "model.vqvae.width"),
                        (["train", "--dry-run", "--config", file], "train.optimizer.lr"),
                        (["plan", "--set", "evaluation.samples=5"], "evaluation has no meaning here"),
                        (["plan", "--set", "train.batch=8"], "model.kind is unset"),
                        (["merge", "a", "b", "--out", "m"], "lastframe merge OUT STORE..."),
                        (["evaluate", "--real", "a", "--fake", "b", "--metrics", "FID"], "did you mean 'fid'?"),
                        (["inspect", file], "is a file; expected the folder of"),
                        (["inspect", here / "nothing"], "there is no folder")):
        usage_error(*words, saying=[part])


def check_ranks():
    """Of all ranks one says what is wrong, and no box of MPI_Abort stands around it."""
    empty = here / "empty"
    empty.mkdir()
    small = ["--set", "source.generated.count=8", "--set", "source.size=8", "--set", "model.autoencoder={}"]
    launch = [root / "launch" / "local", "-n", "2"]
    for what, words in (("before MPI starts", ["train", "--run", here / "a", "--set", "train.bach=1"]),
                        ("on every rank", ["train", "--run", here / "b", *small, "--set", "train.batch=3"]),
                        ("on rank 0 alone", ["sample", "--run", empty, "--out", here / "x.png"])):
        plain = run(*ranks(2), program, *words)
        local = run(*launch, *words, extra={"LASTFRAME": program})
        for by, result in (("mpirun", plain), ("launch/local", local)):
            said = [line for line in result.stderr.splitlines() if line.startswith("lastframe: ")]
            expect(len(said) == 1 and "MPI_ABORT" not in result.stderr and result.returncode in (2, 4),
                   f"{what}, {by}: status {result.returncode}, {result.stderr!r}")
        expect(local.returncode == plain.returncode and is_one_sentence(local.stderr), f"{what}: {local.stderr!r}")


def config_commands():
    """Commands that take --config, as whole command lines that would do no work."""
    found = []
    for row in commands():
        options = {option["name"] for option in row["options"]}
        if {"--config", "--dry-run"} <= options:
            found.append([*row["name"].split(), "--dry-run"])
    return found


def check_configs(command, folder, all_of_them):
    """Every command loads its config by the same function, so one is tried with everything."""
    def write(name, content):
        path = folder / name
        path.write_bytes(content)
        return path

    def wrong(path, *more, saying=()):
        usage_error(*command, "--config", path, *more, saying=saying)

    good = write("good.pbtxt", b"train { batch: 8 }\n")
    wrong(folder / "missing.pbtxt", saying=["missing.pbtxt"])
    wrong(write("random.pbtxt", os.urandom(2 << 20)), saying=["random.pbtxt"])
    wrong(good, "--set", "store.drawss=8", saying=["did you mean", "store.draws"])
    if not all_of_them:
        return
    wrong(folder, saying=[str(folder)])
    wrong(write("empty-name\n.pbtxt", b"nonsense"))
    wrong(write("unknown.pbtxt", b"train { bach: 8 }\n"), saying=["bach"])
    wrong(write("type.pbtxt", b"train { batch: \"many\" }\n"), saying=["type.pbtxt"])
    wrong(write("range.pbtxt", b"train { batch: -8 }\n"), saying=["train.batch"])
    wrong(write("open.pbtxt", b"train { batch: 8\n"), saying=["open.pbtxt"])
    wrong(write("base.pbtxt", b"base: \"no-such.pbtxt\"\n"), saying=["no-such.pbtxt"])
    wrong(write("self.pbtxt", b"base: \"self.pbtxt\"\n"), saying=["self.pbtxt"])
    write("a.pbtxt", b"base: \"b.pbtxt\"\n")
    write("b.pbtxt", b"base: \"a.pbtxt\"\n")
    wrong(folder / "a.pbtxt", saying=["a.pbtxt"])
    wrong(write("deep.pbtxt", b"train {" * 100000), saying=["deep.pbtxt"])
    wrong(write("zeros.pbtxt", bytes(2 << 20)), saying=["zeros.pbtxt"])
    wrong("/dev/zero")
    if os.geteuid() != 0:  # root may read everything
        locked = write("locked.pbtxt", b"train { batch: 8 }\n")
        locked.chmod(0)
        wrong(locked, saying=["locked.pbtxt"])
    wrong(good, "--set", "train.batch", saying=["train.batch"])
    wrong(good, "--set", "store.draws=many", saying=["store.draws"])
    wrong(good, "--set", "store.draws=0", saying=["store.draws", "[1,"])
    wrong(good, "--set", "store.mode=FP8", saying=["store.mode"])
    wrong(good, "--set", "=", saying=[])
    wrong(good, "--set", "a" * 100000 + "=1")
    os.mkfifo(folder / "pipe.pbtxt")
    writer = os.open(folder / "pipe.pbtxt", os.O_RDWR | os.O_NONBLOCK)  # or opening it would wait
    wrong(folder / "pipe.pbtxt")
    os.close(writer)


def best_seconds(words, enough):
    """The least CPU of some runs, of which a shared machine may slow down the first many."""
    best = float("inf")
    for _ in range(30):
        best = min(best, cpu_seconds(program, *words))
        if best < enough:
            break
    return best


def check_speed():
    for words in (["--help"], ["list"], ["list", "options"], ["--version"]):
        best = best_seconds(words, 0.3)
        expect(best < 0.3, f"{' '.join(words)} takes {best:.3f} s of CPU, expected under 0.3 s")
        print(f"{' '.join(words)}: {best:.3f} s of CPU")


check_help()
check_wrong_words()
check_searches()
check_ranks()
lines = config_commands()
for number, line in enumerate(lines):
    place = here / str(number)
    place.mkdir()
    check_configs(line, place, number == 0)
print(f"{len(lines)} commands read a config")
full = run("bash", "-c", f"'{program}' list options > /dev/full")
expect(full.returncode == 7, f"printing to a full disk ended with {full.returncode}, expected 7")
if "asan" not in program:
    check_speed()
finish()
