#!/bin/sh
# Runs the trainer's tests (python/tests), or says plainly that they are skipped.
# Usage: scripts/python_tests.sh LARDER [PYTEST_ARGUMENT...]; LARDER is the engine's binary.
# They run in build/python (scripts/python_setup.sh), or with the interpreter that PYTHON names.
# The server's tests use the openai npm package too, where scripts/node_setup.sh can install it.
# That PyTorch cannot be installed is no failure: machines without a network have their tests, too.
# With CI=true it is one.
set -eu
larder=$(realpath "${1:?usage: scripts/python_tests.sh LARDER [PYTEST_ARGUMENT...]}")
shift
cd "$(dirname "$0")/.."
python=${PYTHON:-$PWD/build/python/bin/python}
if [ -z "${PYTHON:-}" ] && ! scripts/python_setup.sh; then
  if [ "${CI:-}" = true ]; then
    echo "FAILED: the trainer's tests (python/tests) cannot run, for the reason above" >&2
    exit 1
  fi
  echo "SKIPPED: the trainer's tests (python/tests), for the reason above"
  exit 0
fi
scripts/node_setup.sh
cd python
# One thread: models this small gain nothing from more.
OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$python" -m pytest -q -c pyproject.toml \
  -p no:cacheprovider --larder="$larder" "$@"
