"""What documents and examples say of the program is true: every command, option, config file and option of
the config in a line that begins with `lastframe` or `launch/local` exists, every linked file and named script,
and the table of configs is complete. Lines of code blocks and `code` of *.md, the comments at the head of
configs and the examples of --help are read; nothing is run."""

import json
import re
import shlex

from harness import expect, finish, program, root, run

commands = {row["name"]: row
            for row in json.loads(run(program, "list", "commands", "--json").stdout)["commands"]}
config_options = {row["name"] for row in json.loads(run(program, "list", "options", "--json").stdout)["options"]}
# Groups have no row of their own.
groups = {name.rsplit(".", depth)[0] for name in config_options for depth in range(1, name.count(".") + 1)}
tables = {row["name"] for row in json.loads(run(program, "list", "--json").stdout)["tables"]}
lines = 0


def command_lines(text):
    """What follows `lastframe` on lines of code, continued lines joined."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        match = re.match(r"^(?:[#$> ]|\w+=\S+ |mpirun |srun |\./|(?:-n|--bind-to|--oversubscribe|\d+|none)(?= ))*"
                         r"(?:lastframe|launch/local(?: -n \w+)?) (.*)", line)
        if match:
            yield match.group(1).split("  #")[0].split(" | ")[0].split(" > ")[0].strip()


def check_set(where, assignment):
    path = assignment.split("=")[0].rstrip("+")
    path = re.sub(r"\[\d+\]", "", path)
    expect(path in config_options | groups | {"recipe.fade"}, f"{where}: --set {assignment}: no option {path!r}")


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


def check_text(where, text):
    for line in command_lines(text):
        check_words(where, line)


for command in commands.values():
    check_text(f"{command['name']} --help", command["example"])
documents = [path for path in root.rglob("*.md")
             if not {"build", ".deps", "fixtures"} & set(path.relative_to(root).parts) and path.name != "CHANGELOG.md"]
for path in documents:
    text = path.read_text()
    where = path.relative_to(root)
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S):
        check_text(where, block)
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
print(f"{lines} command lines in {len(documents)} documents, the configs and the help")
finish()
