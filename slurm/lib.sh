# What the sbatch files of this folder share: how the ranks are started, warned and waited for, and
# when SLURM is asked to start the job again. They source it on the batch node and call run_job; it
# is not a program, and there is nothing to edit here.
#
# A job is restarted only when lastframe asks for it (exit status 75: interrupted, with a
# checkpoint), never when its user cancelled it, and at most `restarts` times.
#
# Who receives the warning that the job must stop, `seconds` before its time limit or when it is preempted:
#   --signal=USR1@seconds     every rank that srun started, from SLURM itself; this script receives
#                             nothing. mpirun's ranks on this node would receive nothing either: they
#                             belong to the batch step. Hence srun for this form,
#   --signal=B:USR1@seconds   this script alone, which hands USR1 to mpirun, which hands it to
#                             every rank. It must be USR1: at SIGTERM mpirun kills its ranks.
# For preemption SLURM respects --signal only with SlurmctldParameters=preempt_send_user_signal.
# Without it srun's ranks get SIGTERM instead, which lastframe treats alike; under mpirun
# SIGTERM ends the far nodes' daemons and all ranks with them, and what was done since the last
# checkpoint is lost: at most one interval (checkpoint.every_minutes, every_images).
set -uo pipefail

# The only trap: bash loses one of two trapped signals that arrive together, and SLURM sends SIGCONT
# right before every other. srun passes USR1 on as well, should it be srun that runs.
warned=0 ranks=
trap 'warned=1; [[ -z $ranks ]] || kill -USR1 "$ranks"' USR1

say() { printf '%(%F %T)T job %s, life %s: %s\n' -1 "$job" "$life" "$*"; }
fail() { say "$*"; exit 2; }

# One field of what SLURM knows about this job, times in seconds since 1970. An empty answer: the
# controller did not answer.
job_field() {
  local record attempt
  for attempt in 1 2 3 4 5 6; do
    if record=$(SLURM_TIME_FORMAT=%s scontrol --oneliner show job "$job" 2>/dev/null); then
      [[ " $record " =~ \ $1=([^ ]*) ]] && printf '%s' "${BASH_REMATCH[1]}"
      return
    fi
    sleep 10
  done
}

find_program() {
  local candidate
  if [[ -n $lastframe ]]; then
    [[ -x $lastframe ]] || fail "lastframe=$lastframe is not a program; mend the line at the top"
    return
  fi
  for candidate in "$home/build/release/lastframe" "$home/../../bin/lastframe"; do
    [[ ! -x $candidate ]] || { lastframe=$candidate; return; }
  done
  lastframe=$(command -v lastframe) ||
    fail "no lastframe in $home/build/release nor on PATH; run ./launch/setup on the login node"
}

# lastframe exits with a checkpoint in time for it (train.deadline_margin_seconds), signal or not.
# SLURM_JOB_END_TIME is what newer SLURM sets by itself; 22.05 does not.
find_deadline() {
  local end=${SLURM_JOB_END_TIME:-$(job_field EndTime)}
  [[ ! $end =~ ^[0-9]+$ ]] || export LASTFRAME_DEADLINE=$end
}

# The line at the top that says who is warned also says who starts the ranks; see above.
choose_launcher() {
  if grep -q '^#SBATCH.*--signal=B:' "$0"; then
    # Without --bind-to none mpirun ties each of two ranks to one core, loader threads included.
    launcher=(mpirun -n "$SLURM_NTASKS" --bind-to none)
  else
    # pmix is how Open MPI's ranks find each other; none and pmi2 start strangers. A site may have
    # --kill-on-bad-exit on, which would kill ranks that are still exiting when the first has exited
    # with 75. And srun has not inherited --cpus-per-task since 22.05.
    launcher=(srun --mpi=pmix --kill-on-bad-exit=0)
    [[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    # Each life counts its steps from 0. A life whose node was given up while it lives (the network
    # failed) cancels the step of its ranks by number when they end; ours must have another one.
    ((life % 2 == 0)) || srun --mpi=none --nodes=1 --ntasks=1 true
  fi
  # A command that starts ranks itself, several times, is one process and is told how.
  if [[ -n ${ranks_by_command:-} ]]; then
    export LASTFRAME_LAUNCHER="${launcher[*]}"
    launcher=(env)
  fi
}

# Runs the ranks to their end and leaves their exit status in `status`.
run_ranks() {
  "${launcher[@]}" "$lastframe" "$@" &
  ranks=$!
  ((!warned)) || kill -USR1 "$ranks"
  # A trap ends `wait` before the ranks have ended; asked again it gives their own status.
  while :; do
    warned=0
    wait "$ranks"
    status=$?
    ((warned)) || break
  done
  ranks=
  case $status in
    137) status=6 ;;   # killed from outside: a peer was lost
    138) status=75 ;;  # USR1 came before a rank had a handler: nothing was done yet
  esac
}

# Stays until SLURM ends this life: a script that exits meanwhile ends its job for good. If SLURM
# does not, the job ends as its ranks did. Short naps leave no process behind for SLURM to find.
await_slurm() {
  local second
  say "$1"
  for ((second = 0; second < ${2:-600}; second += 5)); do sleep 5; done
  say "SLURM has not ended this life; it ends with $status"
  exit "$status"
}

restart() {
  local state lives
  state=$(job_field JobState)
  lives=$(job_field Restarts)
  case $state in
    CANCELLED*) say "cancelled, so it is not started again; submit it again to resume"; exit 75 ;;
    PREEMPTED) await_slurm "preempted; SLURM requeues it" ;;
  esac
  if [[ ${lives:-$life} != "$life" ]]; then
    # This node was given up while it lived; the job is not ours any more.
    say "SLURM has started this job again elsewhere (life $lives); this one ends"
    exit 75
  fi
  if ((life >= restarts)); then
    say "interrupted with a checkpoint, but it was started again $restarts times already" \
      "(restarts, at the top); submit it again to resume"
    exit 75
  fi
  # Said first: SLURM may end this script before scontrol returns.
  say "interrupted with a checkpoint; to be requeued (restart $((life + 1)) of at most $restarts)"
  scontrol requeue "$job" || { say "it cannot be requeued; submit it again"; exit 75; }
  await_slurm "requeued"
}

# Ranks that were killed rather than failed: if it was SLURM's or a dead node's doing, SLURM
# requeues the job by itself, but only while this script lives. Otherwise returns.
excuse() {
  local preempted started silence
  preempted=$(job_field PreemptTime)
  started=$(job_field StartTime)
  if [[ $preempted =~ ^[0-9]+$ ]] && ((preempted >= ${started:-0})); then
    await_slurm "preempted without a checkpoint; SLURM requeues it, to resume from the last one"
  fi
  # SLURM gives a silent node up after SlurmdTimeout; ranks miss their peers sooner.
  silence=$(scontrol show config 2>/dev/null | sed -n 's/^SlurmdTimeout *= *\([0-9]*\) sec.*/\1/p')
  silence=$((${silence:-300} + 60))
  timeout --kill-after=5 20 srun --mpi=none --overlap --nodes="$SLURM_NNODES" \
    --ntasks="$SLURM_NNODES" true >/dev/null 2>&1 && return
  await_slurm "status $status, and not every node answers; SLURM is to requeue it in $silence s" \
    "$silence"
}

# run_job COMMAND [options]: what the sbatch files end with.
run_job() {
  find_program
  find_deadline
  choose_launcher
  say "on $SLURM_JOB_NODELIST: ${launcher[*]} $lastframe $*"
  run_ranks "$@"
  ((status != 75)) || restart
  case $status in
    0) say "done" ;;
    [1-5] | 7) say "lastframe ended with $status; its message is above" ;;
    *) excuse; say "ranks ended with $status" ;;
  esac
  exit "$status"
}

# The last element of an array has the array's own number in SLURM_JOB_ID; A_a means one element.
life=${SLURM_RESTART_COUNT:-0}
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-${SLURM_JOB_ID:-none}}
[[ $job != none ]] || fail "no SLURM job here; submit this file with sbatch"
cd "$home" || fail "home=$home cannot be entered; mend the line at the top"
[[ $restarts =~ ^[0-9]+$ ]] || fail "restarts=$restarts, expected a whole number"
