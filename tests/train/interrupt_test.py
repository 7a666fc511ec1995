"""Ctrl-C at random instants, at steps of 1.7 s and at fast ones: what is lost at most, the next start
says what it resumes from, and the run ends as the calm one, every byte.

mpirun (to the process group, as a terminal sends it, or to mpirun alone): its ranks get SIGCONT at
once, SIGTERM after 1 s and SIGKILL after 2 s. launch/local: they get SIGUSR1 and no more. Lost is at
most the step in flight at the signal, should it end before SIGKILL and not be saved.
srun (Ctrl-C twice within a second): SIGINT and, without a pause, SIGKILL for all that the step has
forked. Lost is what was done since the last checkpoint.

Called with the fault program, the number of instants and a seed; with the folder of a test cluster
too, for srun alone. Prints a line of figures for each launcher and speed."""

import random
import signal

from faulty import *

instants, seed = int(arguments[1]), int(arguments[2])
cluster_folder = pathlib.Path(arguments[3]) if len(arguments) > 3 else None
if cluster_folder:
    sys.path.insert(0, str(root / "tests" / "slurm"))
    import cluster
    if cluster.find(cluster_folder, "login") is None:
        skip("no test cluster is up; slurm.the_cluster_starts says why")
random.seed(seed)
SETS = ["train.images=2400000", "checkpoint.every_minutes=0", "checkpoint.min_shard_mib=16"]
INTERVAL = 2  # steps between checkpoints, under srun
if cluster_folder:
    SETS += [f"checkpoint.every_images={INTERVAL * BATCH}", "checkpoint.asynchronous=false"]
else:
    SETS += ["checkpoint.every_images=0"]
MOST = INTERVAL if cluster_folder else 1  # steps that may be lost
SLOW, FAST = "crawl-on forward 0 0", "none none 0 0"


def words_of(launcher, run, fault):
    plain = [fault_program, *train_words(run, SETS)[1:]]
    if launcher == "local":
        return [root / "launch" / "local", "-n", "2", "--", *plain[1:]]
    if launcher == "srun":
        return cluster.words_inside(cluster_folder, [
            "env", f"LF_FAULT={fault}", "OMP_NUM_THREADS=1", "srun", "--mpi=pmix", "--quiet",
            "--partition=calm", "--nodes=2", "--ntasks=2", *plain], here)
    return ranks(2) + plain


def begin(launcher, run, fault, log):
    extra = {"LF_FAULT": fault, "LASTFRAME": fault_program,
             "PATH": f"{pathlib.Path(mpiexec).parent}:{os.environ['PATH']}"}
    return subprocess.Popen([str(word) for word in words_of(launcher, run, fault)],
                            env={**environment, **extra}, stdout=log, stderr=log,
                            start_new_session=True)


def sruns(run):
    return [pid for pid, words in command_lines() if words[0] == "srun" and str(run) in words]


def interrupt(launcher, process, run):
    """Ctrl-C, once; srun wants it twice within a second."""
    if launcher == "srun":
        for _ in range(2):
            for pid in sruns(run)[:1]:
                os.kill(pid, signal.SIGINT)
            time.sleep(0.3)
    elif launcher == "mpirun-alone":
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)


def steps(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def saved(run):
    return int(latest(run).name.split("-")[1]) // BATCH if (run / "latest").exists() else 0


def wait_for_instant(process, run, pace):
    """One in five falls anywhere from the start of the processes on, the others into the steps."""
    if random.random() < 0.2:
        time.sleep(random.uniform(0.2, 3))
        return
    before = steps(run)
    wait_until(lambda: process.poll() is not None or steps(run) not in (0, before), "a step", 120)
    time.sleep(random.uniform(0, 2 * pace))


def interrupted(launcher, name, fault, pace):
    run, log = here / f"{launcher}-{name}", here / f"{launcher}-{name}.log"
    lost, seconds = [], []
    for instant in range(instants):
        before, made = saved(run), steps(run)
        process = begin(launcher, run, fault, log.open("wb"))
        wait_for_instant(process, run, pace)
        began = time.time()
        interrupt(launcher, process, run)
        code = process.wait(timeout=120)
        wait_until(lambda: not fault_processes(run), "the end of all ranks and of the heir")
        seconds.append(time.time() - began)
        text = log.read_text(errors="replace")
        what = f"{run.name}, instant {instant}, seed {seed}, status {code}"
        check(code != 0, f"{what}: it was not interrupted\n{text}")
        check(saved(run) >= before, f"{what}: {before} steps were saved, now {saved(run)}\n{text}")
        lost.append(steps(run) - saved(run))
        check(lost[-1] <= MOST, f"{what}: {steps(run)} steps made, {saved(run)} saved\n{text}")
        if before:
            check("resumed from" in text or steps(run) == made, f"{what}: no word of resuming\n{text}")
        if saved(run) > before and launcher != "srun":
            check(status(run)["state"] == "interrupted", f"{what}: {status(run)}")
    print(f"{launcher}, {name} steps: {instants} interrupts, {saved(run)} steps, at most "
          f"{max(0, *lost)} finished steps lost, all gone after at most {max(seconds):.1f} s", flush=True)
    calm = here / f"{run.name}-calm"
    if saved(run):
        end = saved(run) + 2
        execute(faulty_words(calm, 2, SETS, end * BATCH), extra={"LF_FAULT": FAST})
        execute(faulty_words(run, 2, SETS, end * BATCH), extra={"LF_FAULT": FAST},
                contains="resumed from")
        check_same_end(calm, run, run.name)


launchers = ["srun"] if cluster_folder else ["mpirun", "mpirun-alone", "local"]
for launcher in launchers:
    interrupted(launcher, "slow", SLOW, 1.7)
    if instants > 2 or launcher in ("mpirun", "srun"):  # all alike, where time is short
        interrupted(launcher, "fast", FAST, 0.3)
