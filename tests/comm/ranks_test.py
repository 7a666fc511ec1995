"""Ranks that die, stop, hang or pause: how the job ends, when, and who is named. Called with the fault
and the program whose ranks all-reduce for ever."""

import re
import signal
import threading

from harness import *

RANKS = 3
TIMEOUT = 4  # comm.timeout_seconds of the job
fault, hang_program = arguments


class Job:
    """mpirun of the program; its stderr is read as it comes."""

    def __init__(self, hanging=-1, seconds=600.0):
        self.process = subprocess.Popen(
            [*ranks(RANKS), hang_program, str(TIMEOUT), str(hanging), str(seconds)],
            stderr=subprocess.PIPE, text=True, env={**environment, "OMP_NUM_THREADS": "1"})
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
        found = lambda: re.findall(r"^rank (\d+) is process (\d+)", self.text(), re.M)
        wait_until(lambda: len(found()) == RANKS, "the start of all ranks", 30)
        return {int(rank): int(pid) for rank, pid in found()}

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


def check_named(job, rank, what):
    pattern = rf"lastframe: .*rank {rank} has {what}.*step \d+, phase 'train', last collective #\d+"
    check(re.search(pattern, job.text()), f"no line like {pattern}:\n{job.text()}")


def kill(job, pids):
    time.sleep(1.0)  # in the middle of one of its all-reduces
    os.kill(pids[1], signal.SIGKILL)
    status, took = job.wait(10)
    check(status != 0, "the job ends with 0")
    return f"status {status}, others gone {took:.1f} s after the kill"


def stop_rank(job, pids, rank):
    time.sleep(1.0)
    os.kill(pids[rank], signal.SIGSTOP)
    status, took = job.wait(TIMEOUT + 10)
    check(status == 6, f"status {status}:\n{job.text()}")
    check_named(job, rank, "not been heard")
    return f"status 6, {took:.1f} s after the stop (timeout {TIMEOUT} s)"


def stop(job, pids):
    return stop_rank(job, pids, 1)


def stop_root(job, pids):
    return stop_rank(job, pids, 0)


def hang(job, pids):
    status, took = job.wait(TIMEOUT + 15)
    check(status == 6, f"status {status}:\n{job.text()}")
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
    check(status == 0 and "lastframe:" not in job.text(), f"status {status}:\n{job.text()}")
    return "status 0 after a pause longer than the timeout"


job = Job(hanging=2 if fault == "hang" else -1, seconds=TIMEOUT + 8.0 if fault == "pause" else 600.0)
pids = {}
try:
    pids = job.pids()
    print(f"{fault}: {globals()[fault](job, pids)}")
    wait_until(lambda: all(map(is_gone, pids.values())), "the end of all ranks", 2)
finally:
    job.end(pids)
print("\n".join(line for line in job.lines if line.startswith("lastframe:")))
