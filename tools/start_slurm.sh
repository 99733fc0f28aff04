#!/usr/bin/env bash
# Install and start SLURM on this machine alone, for the tests in tests/cluster. Needs root on Debian or Ubuntu.
# A machine that already has a SLURM configuration is not changed.
set -euo pipefail

readonly CONFIGURATION=/etc/slurm/slurm.conf
readonly MARK="# Written by kvformer's tools/start_slurm.sh"
readonly STATE=/var/lib/kvformer-slurm

if sinfo --noheader >/dev/null 2>&1; then
  echo "SLURM is already running"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "SLURM can only be started by root" >&2
  exit 1
fi
if [ -e "$CONFIGURATION" ] && ! grep -qF "$MARK" "$CONFIGURATION"; then
  echo "$CONFIGURATION belongs to another SLURM, which is not running; it is not changed" >&2
  exit 1
fi

if ! { command -v slurmctld && command -v slurmd && command -v munged; } >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq slurm-wlm munge >/dev/null
fi

host=$(hostname -s)
memory=$(awk '/^MemTotal/ { print int($2 / 1024 * 0.8) }' /proc/meminfo)
mkdir -p "$STATE/controller" "$STATE/node" "$(dirname "$CONFIGURATION")"
cat >"$CONFIGURATION" <<END
$MARK
ClusterName=kvformer
SlurmctldHost=$host(127.0.0.1)
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$STATE/controller
SlurmdSpoolDir=$STATE/node
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
# No control groups and no accounting: a container has neither.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END

for folder in /run/munge /var/log/munge /var/lib/munge; do
  install -d -o munge -g munge -m 0755 "$folder"
done
pgrep -x munged >/dev/null || su -s /bin/sh munge -c /usr/sbin/munged
pgrep -x slurmctld >/dev/null || slurmctld
# Without a controller, slurmd waits for one forever; the loop below then reports it.
pgrep -x slurmd >/dev/null || timeout 60 slurmd || true

for _ in $(seq 60); do
  if sinfo --noheader --states=idle 2>/dev/null | grep -q "$host"; then
    echo "SLURM is running"
    exit 0
  fi
  sleep 0.5
done
echo "SLURM did not come up; see $STATE/*.log" >&2
exit 1
