"""Every command's table of options, as `lastframe list commands --json` prints it: the help shows each
option, a value out of its range is refused, and so is an option that has no meaning in the call or
for what the call opens.
"""

import json
import re

from harness import expect, finish, here, is_one_sentence, program, run, store, train, write_npy

commands = json.loads(run(program, "list", "commands", "--json").stdout)["commands"]
config_options = {row["name"]: row for row in json.loads(run(program, "list", "options", "--json").stdout)["options"]}
(here / "run" / "checkpoints").mkdir(parents=True)
(here / "folder").mkdir()
script = here / "script.sh"
script.write_text("echo")
# Of each mode the first argument and the options of a call that is of it, and of one that is not.
WITHIN = {
    "for stores": (here / "folder", []),
    "for runs and checkpoints": (here / "run", []),
    "to make clips": (None, []),
    "of options": (None, ["options"]),
}
ELSEWHERE = {
    "for stores": (here / "run", []),
    "for runs and checkpoints": (here / "folder", []),
    "for exported files": (here / "folder", []),
    "to make clips": (None, ["--store", "x"]),
    "of options": (None, ["metrics"]),
}
TEXTS = {"--scheme": "long-range", "--observe": "0"}  # of those whose text is looked at first
calls = 0


def refused(words, *parts):
    global calls
    calls += 1
    result = run(program, *words)
    what = " ".join(map(str, words))
    expect(result.returncode == 2 and result.stdout == "" and is_one_sentence(result.stderr),
           f"'{what}' ended with {result.returncode}: {result.stderr[:300]!r}")
    for part in parts:
        expect(part in result.stderr, f"'{what}' does not mention {part!r}: {result.stderr[:300]!r}")


def valid(option):
    """The option with a value of its kind."""
    if option["kind"] == "switch":
        return [option["name"]]
    if option["words"]:
        value = option["words"][0]
    elif option["kind"] == "integer":
        value = (re.findall(r"\d+", option["range"]) or ["1"])[0]
    elif option["kind"] == "rate":
        value = "1GB/s"
    elif option["kind"] == "number":
        value = "0.1"
    elif option["kind"] == "set":
        value = {"source": "source.size=8", "recipe": "recipe.frames=2", "loader": "loader.flip=0.5"}.get(
            option["config"].split("|")[0], "train.batch=8")
    else:
        value = TEXTS.get(option["name"], "x")
    return [option["name"]] + [value] * option["arguments"]


def first_words(command, folder=None):
    """The command and as many arguments as it needs."""
    needed = [word for word in command["arguments"].split() if not word.startswith("[")]
    return [*command["name"].split(), *[folder or here / "folder" for _ in needed]]


def meaningful(command, options, option):
    """A call in which the option has a meaning, without the option."""
    needed = (option["only_with"] or [""])[0]
    folder, words = WITHIN.get(needed, (None, []))
    if needed.startswith("--"):
        words = valid(options[needed])
    return [*first_words(command, folder), *words]


def check_table(command, options):
    name = command["name"]
    expect(command["help"] and command["example"], f"{name} has no summary or no example")
    for names in (command["one_of"], *(row[list_] for row in options.values()
                                       for list_ in ("only_with", "without", "required_unless"))):
        for other in names:
            known = other in options if other.startswith("--") else other in command["modes"]
            expect(known, f"{name}: a condition names {other!r}, which is neither option nor mode")
    for option in options.values():
        if option["config"] and option["kind"] != "set":
            expect(option["config"] in config_options, f"{name} {option['name']}: no option {option['config']!r}")


def check_help(command, options):
    words = " ".join(run(program, *command["name"].split(), "--help").stdout.split())
    for option in options.values():
        head = " ".join((option["name"], option["value"])).strip()
        expect(f" {head} {option['help']}" in words, f"{command['name']} --help does not show {head}")
        for fact in ("range", "default"):
            expect(option[fact] in words, f"{command['name']} --help does not show the {fact} of {head}")


def check_values(command, options):
    wrong = {"integer": "-1", "number": "0", "rate": "5GB", "word": "nonsense"}
    for option in options.values():
        if option["kind"] in wrong:
            value = wrong[option["kind"]]
            refused([*first_words(command), f"{option['name']}={value}"], option["name"], value, "expected")
        if option["endings"]:
            refused([*first_words(command), option["name"], "x.jpg"], "x.jpg", "expected")
            call = [*meaningful(command, options, option), option["name"]]
            there = script if "/" in option["endings"] else here / "folder"
            kind = "which is a file" if "/" in option["endings"] else "which is a folder"
            refused([*call, there], option["name"], kind, "expected")
            refused([*call, script / "x"], option["name"], "is a file", "expected")
            for ending in set(option["endings"]) - {"/"}:
                refused([*call, here / "absent" / ("x" + ending)], "no folder", "absent")
            if "/" not in option["endings"]:
                refused([*call, script], option["name"], "of another kind")
    option = next(iter(options.values()))
    if option["kind"] == "switch":
        refused([*first_words(command), option["name"] + "=x"], option["name"], "takes no value")
    else:
        refused([*first_words(command), option["name"]], option["name"], option["value"])


def check_meaning(command, options):
    for option in options.values():
        needed = option["only_with"]
        if not needed:
            continue
        for mode in needed if not needed[0].startswith("--") else []:
            expect(mode in ELSEWHERE, f"{command['name']}: this test knows no call that is not {mode!r}")
            folder, words = ELSEWHERE[mode]
            refused([*first_words(command, folder), *words, *valid(option)], option["name"], "no meaning")
        if needed[0].startswith("--"):
            for choice in [name for name in command["one_of"] if name not in needed] or [None]:
                words = valid(options[choice]) if choice else []
                refused([*first_words(command), *words, *valid(option)], option["name"], "no meaning",
                        choice or needed[0])


def check_contradictions(command, options):
    for option in options.values():
        for other in option["without"]:
            refused([*meaningful(command, options, option), *valid(option), *valid(options[other])],
                    option["name"], other)
    for first, second in zip(command["one_of"], command["one_of"][1:]):
        refused([*first_words(command), *valid(options[first]), *valid(options[second])])


def check_required(command, options):
    for choice in command["one_of"] or [None]:
        needed = [row["name"] for row in options.values()
                  if row["required"] and (not row["only_with"] or choice in row["only_with"])]
        if needed:
            words = valid(options[choice]) if choice else []
            refused([*first_words(command), *words], needed[0], "is required")


def without_needs():
    """Of everything that an option needs of what a call opens, a call that opens one without it."""
    codec, enlarger = here / "codec", here / "enlarger"
    train(codec, sets=["train.images=12"])
    small = "unet { width: 8 multipliers: 1 blocks: 1 } diffusion { upscale: 2 }"
    train(enlarger, sets=["train.images=12", f"model={{ {small} }}", "train.batch=2", "train.images=2"])
    features = write_npy(here / "features.npy", "<f4", (4, 2), bytes(32))
    clips = write_npy(here / "clips.npy", "|u1", (1, 3, 4, 4, 3), bytes(144))
    make = ["sample", "--run", codec, "--count", 2, "--out", here / "x.png"]
    judge, compare = ["evaluate", "--run", codec, "--metrics"], ["evaluate", "--features", features, features]
    return {
        "a model with classes": make,
        "a model of texts": make,
        "a model with model.diffusion.frames=FLEXIBLE": make,
        "an adaptive --scheme": make,
        "a model that draws": [*make, "--store", store()],
        "clips to continue": ["sample", "--run", enlarger, "--from", clips, "--count", 1, "--out", here / "x.png"],
        "random corruptions": ["inspect", store(), "--strip", here / "x.png"],
        "a metric by features": [*judge, "psnr"],
        "a metric that compares with a reference": [*judge, "psnr"],
        "a metric that compares with real images": ["evaluate", "--fake", clips, "--metrics", "inception_score"],
        "the metric lpips": [*judge, "psnr"],
        "a file of weights": [*judge, "fd_pixels", "--extractor", "pixels"],
        "a metric of neighbours": [*compare, "--metrics", "frechet"],
        "samples or the metric kid_subsets": [*compare, "--metrics", "frechet"],
    }


def check_needs():
    calls_without = without_needs()
    needed = {option["needs"] for command in commands for option in command["options"]} - {""}
    expect(needed == calls_without.keys(), f"calls without {calls_without.keys() ^ needed}")
    for need, call in calls_without.items():
        command = next(row for row in commands if row["name"] == call[0])
        for option in command["options"]:
            if option["needs"] == need:
                refused([*call, *valid(option)], option["name"], need, "leave it out")
    expect(not (here / "x.png").exists(), "a refused call wrote something")


expect(len(commands) >= 18, f"only {len(commands)} commands")
for command in commands:
    options = {row["name"]: row for row in command["options"]}
    expect(len(options) == len(command["options"]), f"{command['name']} has an option twice")
    for check in (check_table, check_help, check_values, check_meaning, check_contradictions, check_required):
        check(command, options)
check_needs()
expect(script.read_text() == "echo", "a refused call wrote over a file")
print(f"{len(commands)} commands, {sum(len(row['options']) for row in commands)} options, {calls} refused calls")
finish()
