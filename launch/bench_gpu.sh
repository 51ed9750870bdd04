#!/usr/bin/env bash
# Measures alljax on this machine's GPU (or TPU, or CPU), beside PyTorch where it is installed.
#
#   launch/bench_gpu.sh            # 10 to 20 minutes; paste the output into an issue
#   launch/bench_gpu.sh --quick    # tiny sizes: shows that everything runs
#   PYTHON=.venv/bin/python PEERS=/tmp/torch/bin/python launch/bench_gpu.sh
#
# PYTHON has alljax with jax[cuda12] or jax[cuda13], PEERS has torch, torchvision, timm and numpy (default: PYTHON).
# It must run in a clone of the repository, because the weights are generated from files of the tests.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-$here/../.venv/bin/python}
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit --format=csv,noheader || true
fi
git -C "$here" log -1 --format='alljax at %h of %cs' 2>/dev/null || true
PYTHONPATH=$here/.. exec "$python" "$here/bench_gpu.py" --peers="${PEERS:-$python}" "$@"
