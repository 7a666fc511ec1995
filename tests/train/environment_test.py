"""Things around a training that are missing or lie: HOME, TMPDIR, a terminal, a clock that jumps by a
day each way. Nothing depends on them, or the words are plain. (F24 of faults.md.) Called
with the library that moves the clock."""

from harness import *

library = arguments[0]
calm = {count: here / f"calm-{count}" for count in (1, 2)}
for count, run in calm.items():
    train(run, count)


def bare(run, count, without=(), **more):
    kept = {key: value for key, value in environment.items() if key not in without}
    done = subprocess.run([str(word) for word in ranks(count) + train_words(run)],
                          env={**kept, **more}, capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


for count in (1, 2):
    for name, without, more in (("home", ["HOME"], {}), ("user", ["HOME", "USER", "LOGNAME", "TERM", "LANG"], {}),
                                ("locale", [], {"LC_ALL": "tr_TR.UTF-8"})):
        run = here / f"{name}-{count}"
        code, text = bare(run, count, without, **more)
        check(code == 0, f"without {name}: status {code}\n{text}")
        check_same_end(calm[count], run, f"without {name}")
# mpirun itself needs a folder for temporary files; one process does not.
run = here / "tmpdir"
code, text = bare(run, 1, TMPDIR=str(here / "absent"))
check(code == 0, f"without TMPDIR: status {code}\n{text}")
check_same_end(calm[1], run, "without TMPDIR")

# The clock jumps a day ahead and back again, ten times a second, while checkpoints are made.
for count in (1, 2):
    run = here / f"clock-{count}"
    code, text = bare(run, count, LD_PRELOAD=library)
    check(code == 0, f"with a clock that jumps: status {code}\n{text}")
    check_same_end(calm[count], run, "with a clock that jumps")
    check([c["valid"] for c in json.loads(output("inspect", run, "--json"))["checkpoints"]] == [True] * 3,
          "checkpoints made while the clock jumped")
# A resume in a time before the run was made.
run = here / "past"
train(run, until=17 * BATCH)
code, text = bare(run, 1, LD_PRELOAD=library, JUMPING_CLOCK="past")
check(code == 0, f"in the past: status {code}\n{text}")
check_same_end(calm[1], run, "in the past")
