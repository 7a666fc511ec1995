"""Storage that is full at a save: training continues, the next save is tried, and the checkpoint before
stays; after three failures in a row, and at the end of a run, the status is 7. With room again the
same command resumes to the end of the calm run."""

from harness import *

disk = here / "disk"
disk.mkdir()
mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)],
                         capture_output=True, text=True)
if mounted.returncode != 0:
    skip("a small tmpfs cannot be mounted here: " + mounted.stderr.strip())
atexit.register(subprocess.run, ["umount", "-l", str(disk)], check=False)
ballast = disk / "ballast"


def fill(leave=65536):
    """Takes all room but about `leave` bytes."""
    room = os.statvfs(disk)
    with ballast.open("ab") as file:
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))


# Storage that can only be read: a run there does not begin, and what it had stays.
train(disk / "read-only", 2, until=5 * BATCH)
execute(["mount", "-o", "remount,ro", disk])
for name in ("read-only", "new"):
    train(disk / name, 2, status=7, contains="ead-only file system")
execute(["mount", "-o", "remount,rw", disk])
train(disk / "read-only", 2, until=7 * BATCH)
shutil.rmtree(disk / "read-only")

for count in (1, 2):
    for asynchronous in ("true", "false"):
        how = [f"checkpoint.asynchronous={asynchronous}"]
        name = f"{count}-{asynchronous}"
        calm, run = here / name, disk / name
        train(calm, count, how)

        # Room for nothing: two saves and the one at the end fail, the first checkpoint stays.
        train(run, count, how, until=10 * BATCH)
        fill()
        text = train(run, count, [*how, "checkpoint.every_images=36"], until=18 * BATCH, status=7,
                     contains="could not be saved")
        check("(1 in a row)" in text and "training continues" in text and "No space left" in text, text)
        check(text.count("in a row)") == 3, f"three saves should fail at {name}:\n{text}")
        text = train(run, count, [*how, "checkpoint.every_images=48"], until=16 * BATCH, status=7)
        check("the run's last checkpoint could not be saved" in text, text)
        check(int(latest(run).name.split("-")[1]) == 10 * BATCH, "the old checkpoint is not the latest")
        # One save fails; then there is room, and the run neither ended nor lost a step.
        process = start(run, count, [*how, "train.images=2400000", "checkpoint.every_minutes=0.02",
                                     "checkpoint.every_images=0"], log=(here / "log").open("wb"))
        wait_until(lambda: b"could not be saved (1 in a row)" in (here / "log").read_bytes(),
                   "a save that fails")
        ballast.unlink()
        wait_until(lambda: b"saved" in (here / "log").read_bytes() and
                   int(latest(run).name.split("-")[1]) > 10 * BATCH, "a save that succeeds")
        for pid in rank_processes(run):
            os.kill(pid, 10)
        code = process.wait(timeout=60)
        text = (here / "log").read_text()
        check(code == 75, f"status {code} after the disk was full for a while:\n{text}")
        images = [line["images"] for line in lines(run)]
        check(images == list(range(BATCH, status(run)["images"] + 1, BATCH)),
              f"metrics.jsonl has gaps after the disk was full: {images[:60]}")
        for a, b in zip(learned(calm), learned(run)):
            check(a == b, f"{name}: {a} and {b} differ")
        shutil.rmtree(run)
