#!/usr/bin/env bash
# Runs a study on all workers of a Cloud TPU VM, which is created if it does not exist.
#
#   NAME=leukemia ZONE=us-west4-a launch/tpu_vm.sh \
#     --config=configs/finetune.py --workdir=/mnt/shared/runs/finetune [--config.key=value …]
#   DRY_RUN=1 NAME=leukemia ZONE=us-west4-a launch/tpu_vm.sh …    # prints the commands instead of running them
#
# TYPE and VERSION choose the TPU (gcloud compute tpus accelerator-types list, … versions list). SPOT=1 requests a VM
# that may be preempted: the same command creates another one and resumes the run. --workdir and the data must be on
# storage that all workers share, for example Filestore. The commit that is checked out is installed.
set -euo pipefail
: "${NAME:?must be the name of the TPU VM}" "${ZONE:?must be its zone, for example us-west4-a}"

run() {
  if [[ ${DRY_RUN:-} ]]; then
    printf '%q ' "$@" && echo
  else
    "$@"
  fi
}
tpu() { # ACTION ARGUMENT…
  run gcloud compute tpus tpu-vm "$1" --zone="$ZONE" "${@:2}"
}

cd "$(dirname "$0")/.."
archive=${TMPDIR:-/tmp}/alljax-$(git rev-parse --short HEAD).tar.gz
state=
if [[ ! ${DRY_RUN:-} ]]; then
  state=$(tpu describe "$NAME" --format='value(state)' 2>/dev/null || true)
fi
if [[ $state == PREEMPTED ]]; then
  tpu delete "$NAME" --quiet
fi
if [[ $state != READY ]]; then
  tpu create "$NAME" --accelerator-type="${TYPE:-v5litepod-16}" --version="${VERSION:-v2-alpha-tpuv5-lite}" ${SPOT:+--spot}
fi
run git archive --format=tar.gz --output="$archive" HEAD
tpu scp "$archive" "$NAME:alljax.tar.gz" --worker=all
tpu ssh "$NAME" --worker=all --command="mkdir -p alljax && tar -xzf alljax.tar.gz -C alljax && \
pip install --quiet --user uv && cd alljax && ~/.local/bin/uv venv --quiet --allow-existing --python=3.12 && \
~/.local/bin/uv pip install --quiet '.[demo]' 'jax[tpu]' requests"
tpu ssh "$NAME" --worker=all --command="cd alljax && .venv/bin/alljax study$(printf ' %q' "$@")"
