#!/bin/bash
# Runs a study as an array on a real Slurm: Debian's packages, one node, two workers at a time (root, some three minutes).
# One of the tasks is killed (SIGKILL) in the middle of a cell and queued again; then the tables must be complete.
#
#     scripts/slurm-test.sh
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d /tmp/safetape-slurm.XXXXXX)
host=$(hostname -s)

if ! command -v slurmctld >/dev/null || ! command -v munged >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
fi

fail() {
  echo "FAILED: $1" >&2
  tail -n 30 "$work"/*.log >&2 || true
  exit 1
}

# Daemons of this script alone: their state, logs and ports are not those of an installed cluster.
cleanup() {
  scancel --user=root 2>/dev/null || true
  for file in slurmd slurmctld munged; do
    [ ! -f "$work/$file.pid" ] || kill "$(cat "$work/$file.pid")" 2>/dev/null || true
  done
}
trap cleanup EXIT

chmod 755 "$work"
mkdir -p "$work/munge" "$work/state" "$work/spool"
chmod 700 "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=64 count=16 status=none
chmod 400 "$work/munge/key"
munged --force --key-file="$work/munge/key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
  --log-file="$work/munged.log" --seed-file="$work/munge/seed"

export SLURM_CONF="$work/slurm.conf"
cat >"$SLURM_CONF" <<CONF
ClusterName=safetape
SlurmctldHost=$host
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
CryptoType=crypto/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 RealMemory=1000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
slurmctld
slurmd
for _ in $(seq 30); do
  [ "$(sinfo --noheader --format=%t)" != idle ] || break
  sleep 1
done
[ "$(sinfo --noheader --format=%t)" = idle ] || fail "the node is $(sinfo --noheader --format='%t (%E)')"

# Eight cells: two methods, four seeds. The base model and the data are the repository's.
cat >"$work/study.json" <<STUDY
{
  "model": "$PWD/examples/model",
  "tasks": [{ "task": "sst2", "data": "$PWD/examples/data/sentiment", "maxLength": 40, "batch": 16, "steps": 30 }],
  "seeds": [1, 2, 3, 4],
  "methods": [
    { "name": "LoRA", "adapter": { "kind": "lora", "rank": 2 }, "learningRate": 1e-3 },
    { "name": "BitFit", "adapter": { "kind": "bitfit" }, "learningRate": 1e-3 }
  ]
}
STUDY
# Bundles the program once, so that the tasks do not do it at the same time, and refuses a share without a cell.
node scripts/run.mjs src/cli/main.ts study "$work/study.json" --out "$work/results" --cell 9/9 2>/dev/null &&
  fail "a ninth share of eight cells was not refused"
cat >"$work/worker.sh" <<WORKER
#!/bin/bash
cd "$PWD"
exec node scripts/run.mjs src/cli/main.ts study "$work/study.json" --out "$work/results"
WORKER
job=$(sbatch --parsable --array=4-10:2 --requeue --open-mode=append --output="$work/task-%a.log" "$work/worker.sh")
echo "array $job: 4 tasks, 2 at a time"

# Kills the worker that holds a claim, as a crash would: no signal handler runs. Slurm then queues its task again.
for _ in $(seq 120); do
  claim=$(find "$work" -name '*.claim-1' -size +0 | head -n 1)
  [ -z "$claim" ] || break
  sleep 0.25
done
[ -n "$claim" ] || fail "no worker claimed a cell"
pid=$(sed -E 's/.*"pid":([0-9]+).*/\1/' "$claim")
task=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^SLURM_ARRAY_TASK_ID=//p')
kill -KILL "$pid"
echo "killed process $pid of task $task in $(basename "$claim")"
for _ in $(seq 60); do
  scontrol requeue "${job}_$task" 2>/dev/null && break
  sleep 1
done

for _ in $(seq 400); do
  [ -n "$(squeue --noheader --jobs="$job" 2>/dev/null)" ] || break
  sleep 1
done
[ -z "$(squeue --noheader --jobs="$job" 2>/dev/null)" ] || fail "the array did not end: $(squeue)"
cat "$work"/task-*.log | grep -E 'seed|cells' || fail "no task said what it ran"
ran=$(cat "$work"/task-*.log | grep -cE 'seed [1-4] .* s$' || true)
[ "$ran" = 8 ] || fail "$ran cells ran; there are 8"
ls "$work/results" | grep claim && fail "a claim is left"
node scripts/run.mjs src/cli/main.ts study "$work/study.json" --out "$work/results" --collect >"$work/table.md" 2>"$work/collect.log" ||
  fail "the tables could not be made"
grep missing "$work/collect.log" && fail "cells are missing"
cat "$work/table.md"
echo "all 8 cells ran once, one of them after its worker was killed: $work/results"
