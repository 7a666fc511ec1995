#!/usr/bin/env python3
"""Ranks that die, stop, hang or pause: how the job ends, when, and who is named.

usage: ranks_test.py kill|stop|stop_root|hang|pause --program PATH --mpiexec PATH
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time

RANKS = 3
TIMEOUT = 4  # comm.timeout_seconds of the job


class Job:
    """mpirun of the program; its stderr is read as it comes."""

    def __init__(self, args, hanging=-1, seconds=600.0):
        environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMP_NUM_THREADS="1",
                           OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        self.process = subprocess.Popen(
            [args.mpiexec, "-n", str(RANKS), "--oversubscribe", "--bind-to", "none", args.program,
             str(TIMEOUT), str(hanging), str(seconds)],
            stderr=subprocess.PIPE, text=True, env=environment)
        self.lines = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip())

    def text(self):
        return "\n".join(self.lines)

    def pids(self):
        """By rank, once all have said so."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = re.findall(r"^rank (\d+) is process (\d+)", self.text(), re.M)
            if len(found) == RANKS:
                return {int(rank): int(pid) for rank, pid in found}
            time.sleep(0.05)
        raise AssertionError("the ranks did not start:\n" + self.text())

    def wait(self, seconds):
        """The exit status and how long it took."""
        begun = time.monotonic()
        status = self.process.wait(timeout=seconds)
        took = time.monotonic() - begun
        self.reader.join(5)
        return status, took

    def end(self, pids):
        for pid in pids.values():
            try:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process.poll() is None:
            self.process.kill()


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def check_all_gone(pids):
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if all(is_gone(pid) for pid in pids.values()):
            return
        time.sleep(0.05)
    raise AssertionError(f"still running: {[p for p in pids.values() if not is_gone(p)]}")


def check_named(job, rank, what):
    pattern = rf"lastframe: .*rank {rank} has {what}.*step \d+, phase 'train', last collective #\d+"
    assert re.search(pattern, job.text()), f"no line like {pattern}:\n{job.text()}"


def kill(job, pids):
    time.sleep(1.0)  # in the middle of one of its all-reduces
    os.kill(pids[1], signal.SIGKILL)
    status, took = job.wait(10)
    assert status != 0, status
    return f"status {status}, others gone {took:.1f} s after the kill"


def stop_rank(job, pids, rank):
    time.sleep(1.0)
    os.kill(pids[rank], signal.SIGSTOP)
    status, took = job.wait(TIMEOUT + 10)
    assert status == 6, f"status {status}:\n{job.text()}"
    check_named(job, rank, "not been heard")
    return f"status 6, {took:.1f} s after the stop (timeout {TIMEOUT} s)"


def stop(job, pids):
    return stop_rank(job, pids, 1)


def stop_root(job, pids):
    return stop_rank(job, pids, 0)


def hang(job, pids):
    status, took = job.wait(TIMEOUT + 15)
    assert status == 6, f"status {status}:\n{job.text()}"
    check_named(job, 2, "made no progress")
    return f"status 6 after {took:.1f} s (timeout {TIMEOUT} s)"


def pause(job, pids):
    """All ranks stopped for longer than the timeout, then continued: nobody is to blame."""
    time.sleep(1.0)
    for pid in pids.values():
        os.kill(pid, signal.SIGSTOP)
    time.sleep(TIMEOUT + 3)
    for pid in pids.values():
        os.kill(pid, signal.SIGCONT)
    status, _ = job.wait(40)
    assert status == 0, f"status {status}:\n{job.text()}"
    assert "lastframe:" not in job.text(), job.text()
    return "status 0 after a pause longer than the timeout"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault", choices=["kill", "stop", "stop_root", "hang", "pause"])
    parser.add_argument("--program", required=True)
    parser.add_argument("--mpiexec", required=True)
    args = parser.parse_args()
    job = Job(args, hanging=2 if args.fault == "hang" else -1,
              seconds=TIMEOUT + 8.0 if args.fault == "pause" else 600.0)
    pids = {}
    try:
        pids = job.pids()
        result = globals()[args.fault](job, pids)
        check_all_gone(pids)
    finally:
        job.end(pids)
    print(f"{args.fault}: {result}")
    named = [line for line in job.lines if line.startswith("lastframe:")]
    print("\n".join(named))


if __name__ == "__main__":
    sys.exit(main())
