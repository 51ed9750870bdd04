#!/usr/bin/env bash
# Runs a study on all devices of this machine.
#
#   launch/local.sh --config=configs/finetune.py --workdir=runs/finetune [--config.key=value …]
#   PROCESSES=2 launch/local.sh …
#
# One process uses all devices. PROCESSES=n starts n processes and gives each an equal share of the GPUs.
# SIGTERM and Ctrl-C stop all of them after the same step, with a checkpoint; the same command resumes the run.
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

started=() code=0
trap 'kill -TERM "${started[@]}"; interrupted=yes' TERM USR1
trap 'kill -TERM "${started[@]}"; interrupted=yes; code=130' INT # bash lets background processes ignore it
for ((process = 0; process < count; process++)); do
  if ((gpus)); then
    JAX_LOCAL_DEVICE_IDS=$(seq -s, $((process * gpus / count)) $(((process + 1) * gpus / count - 1)))
    export JAX_LOCAL_DEVICE_IDS
  fi
  alljax study "$@" --coordinator="localhost:$port" --processes="$count" --process="$process" &
  started+=($!)
done
for child in "${started[@]}"; do
  interrupted=yes
  while [[ $interrupted ]]; do # a signal interrupts `wait` before the process has ended
    interrupted='' result=0
    wait "$child" || result=$?
  done
  ((result == 0)) || code=$result
done
exit "$code"
