#!/usr/bin/env bash
# A quick suite with the lowest and the newest dependencies that pyproject.toml allows, on each Python that is found:
#   make test-matrix        tests/matrix.sh 3.13:lowest 3.11:newest
# Builds the source distribution, from it the wheel, and tests that. Needs uv and a package index; environments are
# kept in $MATRIX_DIR (about 1 GB each, most of it linked to uv's cache).
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${MATRIX_DIR:-${TMPDIR:-/tmp}/alljax-matrix}
unset PYTHONPATH
export UV_PYTHON_DOWNLOADS=never PYTHONDONTWRITEBYTECODE=1
export UV_LINK_MODE=hardlink UV_CACHE_DIR=${UV_CACHE_DIR:-$folder/cache}

# Numbers against other libraries, files of every library whose interface changes, the API, the command line.
stages="tests/parity/test_stages.py::test_every_stage"
tests=(tests/test_api.py tests/test_config.py tests/test_doctor.py tests/evaluation/test_metrics.py
  "${stages}[efficientnet_lite0]" "${stages}[vgg16_keras]" "${stages}[dinov2_vits14_timm]" tests/weights/test_formats.py
  tests/training/test_classifiers.py tests/training/test_checkpoints.py tests/data/test_cnmc_tfds.py
  tests/report/test_tables.py tests/report/test_plots.py)

find_python() {
  for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    if "$python" -c 'import venv' 2>/dev/null; then command -v "$python" && return; fi
  done
  return 1
}

try() { # chained: bash ignores `set -e` in conditions
  local python=$1 bounds=$2 env=$3 resolution=highest warnings=error
  if [ "$bounds" = lowest ]; then
    resolution=lowest-direct warnings=default # old versions of libraries warn about each other
  fi
  # promise, of tensorflow-datasets, has no wheel.
  uv venv --quiet --clear --python "$python" "$env" &&
    uv pip install --quiet --python "$env/bin/python" --resolution "$resolution" --only-binary :all: \
      --no-binary promise --requirements pyproject.toml --extra demo --extra keras --extra tensorboard 'pytest>=9' &&
    uv pip install --quiet --python "$env/bin/python" --no-deps "$folder"/dist/*.whl &&
    (cd "$env" && bin/alljax doctor &&
      bin/alljax study --config=quickstart --workdir=w --config.data.synthetic.images=120) &&
    "$env/bin/pytest" -q -W "$warnings" -p no:cacheprovider -m "not long and not system" "${tests[@]}"
}

[ $# -gt 0 ] || set -- 3.11:lowest 3.11:newest 3.12:lowest 3.12:newest 3.13:lowest 3.13:newest
mkdir -p "$folder"
rm -rf "$folder/dist"
uv build --quiet --out-dir "$folder/dist"
failed=0
for pair in "$@"; do
  version=${pair%:*} bounds=${pair#*:}
  if ! python=$(find_python "$version"); then
    echo "Python $version is not installed: skipped"
  elif try "$python" "$bounds" "$folder/$version-$bounds" >"$folder/$version-$bounds.log" 2>&1; then
    echo "Python $version, $bounds versions: $(tail -n 1 "$folder/$version-$bounds.log")"
  else
    echo "Python $version, $bounds versions: FAILED, see $folder/$version-$bounds.log"
    tail -n 30 "$folder/$version-$bounds.log"
    failed=1
  fi
done
exit $failed
