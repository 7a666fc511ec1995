"""A real SLURM cluster on one machine, for the scripts of this folder: munged, slurmctld and a
slurmd a node, each node in namespaces of its own (network, host name, mounts, shared memory,
processes), as near to a machine as one kernel allows. ctest calls `start` before them and `stop`
after them.

    cluster.py start FOLDER [PID]   up within seconds; ends by itself with process PID (the caller)
    cluster.py stop FOLDER          down, whatever state it is in
    cluster.py run FOLDER COMMAND   on the login node, for looking around: sinfo, squeue, bash

Everything is a descendant of one process, pid 1 of the login node's process namespace. Its death is
the end of all of it: the kernel kills what is left, and mounts, links and addresses go with their
namespaces. Nothing listens on the machine's own interfaces and nothing of /etc or /run is touched;
only logs are written, into FOLDER.
"""

import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import time

HERE = str(pathlib.Path(__file__).resolve())
SKIPPED = 77
# One pool of nodes for each way of hurting a job, so that tests run beside each other. A pool is a
# partition; jobs in its `-urgent` twin take its nodes away.
POOLS = {"calm": 2, "srun": 2, "mpirun": 2, "outage": 4, "brain": 2}
NODES = [f"{pool}{i}" for pool, count in POOLS.items() for i in range(1, count + 1)]
NET = "10.213.77"  # only ever seen inside the cluster's own network namespaces
SPACES = ["--net", "--uts", "--ipc", "--mount", "--pid"]
COMMANDS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "unshare", "nsenter", "ip")
os.environ["PATH"] += ":/usr/sbin:/sbin"


def address(node):
    return f"{NET}.{10 + NODES.index(node)}"


def slurm_conf(logs):
    """What makes requeueing quick: cred_expire, which also holds back a requeued job (below 5 SLURM
    silently takes 120), GraceTime, KillWait, SlurmdTimeout, and a scheduler that looks every second.
    MinJobAge keeps ended jobs to be asked about. TmpFS is each node's own: mpi/pmix makes a folder
    of the same name on every node. config_overrides lets nodes claim cores that are not there."""
    pools = "\n".join(
        f"PartitionName={pool} Nodes={pool}[1-{count}] PreemptMode=REQUEUE GraceTime=10\n"
        f"PartitionName={pool}-urgent Nodes={pool}[1-{count}] PriorityTier=10 PreemptMode=OFF"
        for pool, count in POOLS.items())
    nodes = "\n".join(f"NodeName={node} NodeAddr={address(node)} CPUs=16 Gres=gpu:2"
                      for node in NODES)
    return f"""
ClusterName=test
SlurmctldHost=login({NET}.1)
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=/run/munge/socket,cred_expire=5
StateSaveLocation=/run/slurm/state
SlurmdSpoolDir=/run/slurm/spool/%n
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.%n.pid
TmpFS=/run/local
SlurmctldLogFile={logs}/slurmctld.log
SlurmdLogFile={logs}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
PropagatePrioProcess=1
PropagateResourceLimits=NONE
KillWait=5
SlurmdTimeout=10
MinJobAge=3600
MessageTimeout=10
UnkillableStepTimeout=60
ReturnToService=2
{nodes}
PartitionName=DEFAULT MaxTime=60 DefaultTime=10
{pools}
"""


# --- inside the namespaces ------------------------------------------------------------------------


def call(*words):
    subprocess.run([str(word) for word in words], check=True)


def enter_machine(name):
    """The first steps of every machine's pid 1: its name, its /proc, its loopback."""
    call("mount", "-t", "proc", "proc", "/proc")
    call("hostname", name)
    call("ip", "link", "set", "lo", "up")


def reap_for_ever():
    """What a pid 1 is for. It ends by being killed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.5)


def login_node(folder):
    """pid 1 of the login node and of the cluster. /run is its own, and the nodes inherit it."""
    enter_machine("login")
    call("mount", "-t", "tmpfs", "-o", "mode=755", "cluster", "/run")
    for name in ("munge", "slurm", "slurm/state", "slurm/spool", "local", "gpu"):
        os.makedirs(f"/run/{name}", mode=0o755)
    (pathlib.Path("/run/hosts")).write_text(
        "127.0.0.1 localhost\n" + f"{NET}.1 login\n" +
        "".join(f"{address(node)} {node}\n" for node in NODES))
    call("mount", "--bind", "/run/hosts", "/etc/hosts")
    pathlib.Path("/run/slurm/slurm.conf").write_text(slurm_conf(f"{folder}/logs"))
    # Null devices: SLURM only asks that there is a device file for each GPU it hands out.
    for number in (0, 1):
        call("mknod", "-m", "666", f"/run/gpu/{number}", "c", "1", "3")
    pathlib.Path("/run/slurm/gres.conf").write_text(
        "AutoDetect=off\nName=gpu File=/run/gpu/[0-1]\n")
    pathlib.Path("/run/slurm/cgroup.conf").write_text("CgroupPlugin=autodetect\n")
    call("ip", "link", "add", "name", "bridge", "type", "bridge")
    call("ip", "addr", "add", f"{NET}.1/24", "dev", "bridge")
    call("ip", "link", "set", "bridge", "up")

    os.environ["SLURM_CONF"] = "/run/slurm/slurm.conf"
    key = os.open("/run/munge/key", os.O_WRONLY | os.O_CREAT, 0o400)
    os.write(key, os.urandom(1024))
    os.close(key)
    call("munged", "--key-file=/run/munge/key", "--socket=/run/munge/socket",
         "--pid-file=/run/munge/pid", "--log-file=/run/munge/log", "--seed-file=/run/munge/seed")
    subprocess.Popen(["slurmctld", "-D"])
    for node in NODES:
        process = subprocess.Popen(["unshare", *SPACES, "--fork", "--kill-child",
                                    sys.executable, HERE, "node", folder, node])
        # The cable: one end on the bridge, the other is the node's eth0.
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not children.read_text():
            time.sleep(0.01)
        call("ip", "link", "add", "name", f"v-{node}", "type", "veth", "peer", "name", "eth0",
             "netns", children.read_text().split()[0])
        call("ip", "link", "set", f"v-{node}", "master", "bridge", "up")
    reap_for_ever()


def compute_node(node):
    """pid 1 of a compute node: killing it is a power cut."""
    enter_machine(node)
    for path in ("/dev/shm", "/run/local"):
        call("mount", "-t", "tmpfs", "-o", "mode=1777", node, path)
    while subprocess.run(["ip", "link", "show", "eth0"], capture_output=True).returncode != 0:
        time.sleep(0.02)
    call("ip", "addr", "add", f"{address(node)}/24", "dev", "eth0")
    call("ip", "link", "set", "eth0", "up")
    os.makedirs(f"/run/slurm/spool/{node}", exist_ok=True)
    subprocess.Popen(["slurmd", "-D", "-N", node], env={**os.environ, "TMPDIR": "/run/local"})
    reap_for_ever()


# --- outside --------------------------------------------------------------------------------------


def processes():
    """(pid, words of the command line) of everything that runs."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        yield int(folder.name), words


def find(folder, role, *more):
    """The pid 1 with this role in the cluster of this folder; None if there is none."""
    wanted = [HERE, role, str(folder), *more]
    for pid, words in processes():
        if words[1:1 + len(wanted)] == wanted and words[0] == sys.executable:
            return pid
    return None


def hold(folder, guarded):
    """Keeps the cluster until its pid 1 ends, or the process `guarded` does."""
    try:
        os.nice(-10)  # daemons that are not heard of in time are taken for dead
    except OSError:
        pass
    guard = os.pidfd_open(guarded)
    cluster = subprocess.Popen(["unshare", *SPACES, "--fork", "--kill-child", sys.executable, HERE,
                                "login", str(folder)])
    end = os.pidfd_open(cluster.pid)
    select.select([guard, end], [], [])
    stop(folder)
    cluster.kill()
    cluster.wait()


def stop(folder):
    for role in ("login", "hold"):
        pid = find(folder, role)
        if pid is not None and pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
            while os.path.exists(f"/proc/{pid}/fd"):  # its namespace is empty once it is gone
                time.sleep(0.02)


def words_inside(folder, words, at="/"):
    """The words that run `words` on the login node, in the folder `at`."""
    login = find(folder, "login")
    if login is None:
        sys.exit(f"no cluster runs in {folder}; see its logs, and start one with cluster.py start")
    return ["nsenter", "-t", str(login), *SPACES, f"--wd={at}", "--", "env",
            "SLURM_CONF=/run/slurm/slurm.conf", "TMPDIR=/run/local", *map(str, words)]


def skip(reason):
    print("SKIPPED: the slurm suite needs", reason)
    sys.exit(SKIPPED)


def check_possible():
    if os.geteuid() != 0:
        skip("root, for namespaces; this is user " + str(os.geteuid()))
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        skip(f"{', '.join(missing)}, not found; `./launch/setup --slurm` installs what Debian has")
    trial = subprocess.run(
        ["unshare", *SPACES, "--fork", "sh", "-c", "mount -t proc proc /proc && "
         "ip link add name lf0 type bridge && ip link add name lf1 type veth peer name lf2"],
        capture_output=True, text=True)
    if trial.returncode != 0:
        skip("namespaces with links of their own, which are not allowed here: " + trial.stderr.strip())


def start(folder, guarded):
    check_possible()
    stop(folder)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    with open(folder / "logs/start.log", "w") as log:
        subprocess.Popen([sys.executable, HERE, "hold", str(folder), str(guarded)],
                         stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    began, seen = time.time(), ""
    while time.time() < began + 90:
        if find(folder, "login") is not None:
            look = subprocess.run(words_inside(folder, ["sinfo", "-h", "-N", "-o", "%N %t"]),
                                  capture_output=True, text=True)
            seen = look.stdout + look.stderr
            if sorted(set(look.stdout.splitlines())) == sorted(f"{node} idle" for node in NODES):
                print(f"a cluster of {len(NODES)} nodes is up after {time.time() - began:.1f} s")
                return
        time.sleep(0.2)
    stop(folder)
    log = (folder / "logs/start.log").read_text()
    sys.exit(f"FAILED: the cluster is not up after 90 s:\n{seen}\n{log}")


def main():
    role, folder, *rest = sys.argv[1:]
    folder = pathlib.Path(folder).absolute()
    if role == "start":
        start(folder, int(rest[0]) if rest else os.getppid())
    elif role == "stop":
        stop(folder)
    elif role == "run":
        sys.exit(subprocess.run(words_inside(folder, rest, os.getcwd())).returncode)
    elif role == "hold":
        hold(folder, int(rest[0]))
    elif role == "login":
        login_node(folder)
    elif role == "node":
        compute_node(rest[0])


if __name__ == "__main__":
    main()
