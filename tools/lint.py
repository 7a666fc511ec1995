#!/usr/bin/env python3
"""clang-format and clang-tidy over the tracked sources, in parallel, with a cache of clean results.

Needs a build folder that is configured (preset lint) and in which the generated headers are
generated. A file's clean clang-tidy result is remembered under a key made of everything it depends
on: the tool's version, .clang-tidy, the compile command, the file and every header of ours that it
reaches, and the torch wheels. A file that fails is never remembered. The cache is in the build
folder, or where LASTFRAME_LINT_CACHE says.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

INCLUDE = re.compile(rb'^\s*#\s*include\s+["<]([^">]+)[">]', re.MULTILINE)
# .clang-tidy says which warnings are errors.
ERRORS = re.compile(r" -Werror(?!=)")
SOURCES = (".cc", ".cpp", ".c")
HEADERS = (".h", ".hpp", ".cu", ".cuh")


def tool(name):
    """The versioned name first: another version formats and checks differently."""
    for candidate in (name + "-14", name):
        if shutil.which(candidate):
            return candidate
    sys.exit(f"lint: no {name} found; ./launch/setup --lint-tools installs it")


def tracked():
    """Tracked files and new ones that git does not ignore."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
               "--exclude-standard"]
    try:
        names = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked tarball
        names = []
        for top in ("src", "data", "launch", "tests", "tools"):
            for folder, _, files in os.walk(top):
                names += [os.path.join(folder, file) for file in files]
    return sorted({name for name in names if name and os.path.isfile(name)})


def check_format(files):
    if not files:
        return True
    run = subprocess.run([tool("clang-format"), "--dry-run", "-Werror", "--ferror-limit=1", *files],
                         capture_output=True, text=True)
    wrong = sorted(set(re.findall(r"^(\S+?):\d+:\d+: (?:error|warning)", run.stderr, re.MULTILINE)))
    for name in wrong:
        print(f"{name}: not formatted; run {tool('clang-format')} -i {name}")
    if run.returncode != 0 and not wrong:
        print(run.stderr, end="")
    print(f"clang-format: {len(files) - len(wrong)} of {len(files)} files are formatted")
    return run.returncode == 0


class Tidy:
    """clang-tidy of one build folder, with its cache."""

    def __init__(self, build, everything):
        self.build = build
        self.everything = everything
        self.cache = os.environ.get("LASTFRAME_LINT_CACHE") or os.path.join(build, "lint-cache")
        os.makedirs(self.cache, exist_ok=True)
        with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
            entries = json.loads(ERRORS.sub("", file.read()))
        self.commands = {os.path.realpath(os.path.join(entry["directory"], entry["file"])): entry
                         for entry in entries}
        self.folder = os.path.join(build, "lint-commands")
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, "compile_commands.json"), "w", encoding="utf-8") as file:
            json.dump(entries, file)
        self.tool = tool("clang-tidy")
        version = subprocess.run([self.tool, "--version"], capture_output=True, text=True).stdout
        # The lines that name the host's CPU differ between machines, the checks do not.
        self.common = "\n".join(re.findall(r".*version.*", version))
        self.common += self.read(".clang-tidy").decode()
        self.contents = {}

    @staticmethod
    def read(path):
        with open(path, "rb") as file:
            return file.read()

    def reached(self, path, folders, seen):
        """Adds to `seen` the contents of `path` and of every header of ours that it includes."""
        path = os.path.realpath(path)
        if path in seen:
            return
        if path not in self.contents:
            data = self.read(path)
            self.contents[path] = (hashlib.sha256(data).hexdigest(), INCLUDE.findall(data))
        seen[path], includes = self.contents[path]
        for name in includes:
            for folder in [os.path.dirname(path), *folders]:
                candidate = os.path.join(folder, os.fsdecode(name))
                if os.path.isfile(candidate):
                    self.reached(candidate, folders, seen)
                    break

    def key(self, path):
        entry = self.commands[os.path.realpath(path)]
        command = entry.get("command") or " ".join(entry["arguments"])
        # -I only: -isystem folders hold what is installed, which the wheels' stamp stands for.
        folders = [os.path.join(entry["directory"], folder)
                   for folder in re.findall(r"-I\s*(\S+)", command)]
        folders += [os.path.join(self.build, "src", "config")]
        seen = {}
        self.reached(path, folders, seen)
        stamp = os.path.join(".deps", "python", ".wheels")
        wheels = self.read(stamp).decode() if os.path.exists(stamp) else ""
        # Paths as seen from here, so that another checkout finds what this one has checked.
        text = json.dumps([self.common, command, wheels, sorted(seen.items())]).replace(os.getcwd(), ".")
        return hashlib.sha256(text.encode()).hexdigest()

    def check(self, path):
        """(path, clean, output, seconds), seconds None for a remembered result."""
        mark = os.path.join(self.cache, self.key(path))
        if not self.everything and os.path.exists(mark):
            return path, True, "", None
        began = time.monotonic()
        run = subprocess.run([self.tool, "-p", self.folder, "--quiet", path],
                             capture_output=True, text=True)
        clean = run.returncode == 0
        if clean:
            with open(mark, "w", encoding="utf-8"):
                pass
        # clang counts the warnings it suppressed in system headers; nobody wants to know.
        output = "" if clean else re.sub(r"^\d+ warnings? .*generated\.\n", "",
                                         run.stdout + run.stderr, flags=re.MULTILINE)
        return path, clean, output, time.monotonic() - began


def check_tidy(build, files, everything, jobs):
    tidy = Tidy(build, everything)
    # The tests include GoogleTest's macros and cost as much as the product; --all looks at them too.
    files = [path for path in files if everything or not path.startswith("tests/")]
    known = [path for path in files if os.path.realpath(path) in tidy.commands]
    other = [path for path in files if path not in known]
    failed, remembered = [], 0
    # Threads, since each only waits for its clang-tidy.
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(tidy.check, path) for path in known]
        for count, done in enumerate(concurrent.futures.as_completed(waiting), 1):
            path, clean, output, seconds = done.result()
            if seconds is None:
                remembered += 1
                continue
            verdict = "" if clean else ": FAILED"
            print(f"[{count}/{len(known)}] {path} {seconds:.1f} s{verdict}", flush=True)
            if not clean:
                failed.append(path)
                print(output, end="", flush=True)
    print(f"clang-tidy: {len(known) - len(failed)} of {len(known)} files are clean"
          f" ({remembered} remembered)")
    if other:
        print(f"clang-tidy: not in this build, so not checked: {' '.join(other)}")
    for path in failed:
        print(f"clang-tidy: {path} failed")
    return not failed


def main():
    parser = argparse.ArgumentParser(prog="tests/run lint", description=__doc__.split("\n")[0])
    parser.add_argument("--build", required=True, help="a configured build folder")
    parser.add_argument("--all", action="store_true",
                        help="clang-tidy the tests and files with a remembered result too")
    parser.add_argument("-j", type=int, default=len(os.sched_getaffinity(0)),
                        help="clang-tidy processes at a time (default: cores)")
    parser.add_argument("files", nargs="*", help="only these (default: all)")
    options = parser.parse_args()
    files = options.files or tracked()
    formatted = check_format([name for name in files if name.endswith(SOURCES + HEADERS)])
    sources = [name for name in files if name.endswith(SOURCES)]
    tidy = check_tidy(os.path.abspath(options.build), sources, options.all, max(1, options.j))
    return 0 if formatted and tidy else 1


if __name__ == "__main__":
    sys.exit(main())
