#!/usr/bin/env bash
# Runs a study on all devices of this machine.
#
#   launch/local.sh --config=configs/finetune.py --workdir=runs/finetune [--config.key=value …]
#   PROCESSES=2 launch/local.sh …
#   launch/local.sh --per_device --config=configs/paper.py --workdir=runs/paper [--config.key=value …]
#
# One process uses all devices. PROCESSES=n starts n processes and gives each an equal share of the GPUs; together they
# train on the same batches. --per_device starts a process for each GPU of CUDA_VISIBLE_DEVICES (default: all), which
# trains a shard of the trials on that GPU alone; when all are done, the report of the whole study is written.
# SIGTERM and Ctrl-C stop all of them, with a checkpoint; the same command resumes the run. If processes fail, the
# others finish their work, and the exit code is that of a failed one.
set -euo pipefail

arguments=() per_device=
for argument in "$@"; do
  if [[ $argument == --per_device ]]; then
    per_device=yes
  else
    arguments+=("$argument")
  fi
done
count=${PROCESSES:-1}
port=${PORT:-12765}
gpus=$({ nvidia-smi --list-gpus 2>/dev/null || true; } | wc -l)
if [[ $per_device ]]; then
  IFS=, read -ra devices <<<"${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((gpus - 1)))}"
  count=${#devices[@]}
  if ((count == 0)); then
    echo "$0: --per_device found no GPU: nvidia-smi lists none; name devices in CUDA_VISIBLE_DEVICES" >&2
    exit 2
  fi
fi
if ((count == 1)) || [[ " $* " == *" --dry_run "* ]]; then
  exec alljax study "${arguments[@]}"
fi
if [[ ! $per_device ]] && ((gpus % count)); then
  echo "$0: PROCESSES=$count does not divide the $gpus GPUs" >&2
  exit 2
fi

started=() code=0 stopped=
# Some may have ended; bash lets background processes ignore Ctrl-C.
trap 'kill -TERM "${started[@]}" 2>/dev/null || true; interrupted=yes stopped=yes' TERM USR1
trap 'kill -TERM "${started[@]}" 2>/dev/null || true; interrupted=yes stopped=yes code=130' INT
for ((process = 0; process < count; process++)); do
  if [[ $per_device ]]; then
    label="device ${devices[process]}: "
    CUDA_VISIBLE_DEVICES=${devices[process]} alljax study "${arguments[@]}" --shard="$process/$count" \
      >/dev/null 2> >(trap '' INT && exec sed -u "s|^|$label|" >&2) &
  else
    if ((gpus)); then
      JAX_LOCAL_DEVICE_IDS=$(seq -s, $((process * gpus / count)) $(((process + 1) * gpus / count - 1)))
      export JAX_LOCAL_DEVICE_IDS
    fi
    alljax study "${arguments[@]}" --coordinator="localhost:$port" --processes="$count" --process="$process" &
  fi
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
if [[ $per_device && ! $stopped ]] && ((code == 0 || code == 3)); then # 3: some images are unreadable
  exec alljax study "${arguments[@]}" # nothing is left to train: joins the results and prints them
fi
exit "$code"
