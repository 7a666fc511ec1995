"""What the scripts of this folder share: running the program and counting failures. Not a test."""

import resource
import subprocess
import sys

failures = []


def expect(condition, sentence):
    """Counts a failure, and says so, unless `condition` holds."""
    if not condition:
        failures.append(sentence)
        print("FAILED:", sentence)


def finish():
    """Ends the script with 0 or 1."""
    print(f"{len(failures)} failed" if failures else "all passed")
    sys.exit(1 if failures else 0)


def run(*words, seconds=300, text_in="", **more):
    """Runs a command; its result has returncode, stdout and stderr as text."""
    return subprocess.run(
        [str(word) for word in words], capture_output=True, timeout=seconds, text=True,
        errors="replace", input=text_in, **more)


def cpu_seconds(*words):
    """User and system time of one run, whatever else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def is_one_sentence(stderr):
    """True for one line 'lastframe: ...' without a stack or a path into LibTorch's sources."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    if len(lines) != 1 or not lines[0].startswith("lastframe: "):
        return False
    return not any(word in lines[0] for word in ("frame #", "Exception raised from", "terminate"))
