#!/usr/bin/env bash
# One study on all devices of this machine.
#
#   launch/local.sh --config=configs/finetune.py --workdir=runs/finetune [--config.key=value …]
#   PROCESSES=2 launch/local.sh …
#
# One process drives all devices already. PROCESSES=n starts n, each with its share of the GPUs, as n hosts would.
# SIGTERM stops all of them at the end of a step, saved; the same command goes on from there.
set -euo pipefail

count=${PROCESSES:-1}
port=${PORT:-12765}
if ((count == 1)); then
  exec alljax study "$@"
fi
gpus=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
if ((gpus % count)); then
  echo "$0: PROCESSES=$count does not divide the $gpus GPUs" >&2
  exit 2
fi

started=()
trap 'kill -TERM "${started[@]}"; again=yes' TERM USR1
for ((process = 0; process < count; process++)); do
  if ((gpus)); then
    JAX_LOCAL_DEVICE_IDS=$(seq -s, $((process * gpus / count)) $(((process + 1) * gpus / count - 1)))
    export JAX_LOCAL_DEVICE_IDS
  fi
  alljax study "$@" --coordinator="localhost:$port" --processes="$count" --process="$process" &
  started+=($!)
done
code=0
for each in "${started[@]}"; do
  again=yes
  while [[ $again ]]; do # a signal ends a wait before the process does
    again='' ended=0
    wait "$each" || ended=$?
  done
  ((ended == 0)) || code=$ended
done
exit "$code"
