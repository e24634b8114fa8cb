#!/bin/sh
# Runs the trainer's tests (python/tests) and says plainly when it cannot.
# Usage: scripts/python_tests.sh LARDER [PYTEST_ARGUMENT...]; LARDER is the engine's binary.
# PyTorch and the rest are installed once into build/python, unless PYTHON names an interpreter that
# has them. Without a network the tests are skipped, which is no failure; failing tests are one.
set -eu
larder=${1:?usage: scripts/python_tests.sh LARDER [PYTEST_ARGUMENT...]}
shift
cd "$(dirname "$0")/.."
venv=$PWD/build/python
log=$PWD/build/python.log
limit=1200  # seconds for the download of some GB; a network that stalls must not hold up the rest

requirements() {
  python3 - <<'PY'
import tomllib
project = tomllib.load(open("python/pyproject.toml", "rb"))["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["test"]))
PY
}

install() {
  rm -rf "$venv"
  echo "trainer's tests: installing PyTorch into build/python (once)"
  python3 -m venv "$venv" &&
    timeout "$limit" "$venv/bin/python" -m pip install --quiet --retries 1 \
      -r build/python_requirements.txt &&
    cp build/python_requirements.txt "$venv/requirements.txt"
}

mkdir -p build
python=${PYTHON:-$venv/bin/python}
if [ -z "${PYTHON:-}" ]; then
  requirements > build/python_requirements.txt
  if ! cmp -s build/python_requirements.txt "$venv/requirements.txt" && ! install >"$log" 2>&1; then
    rm -rf "$venv"
    echo "SKIPPED: the trainer's tests; PyTorch could not be installed: $(tail -n 1 "$log")"
    exit 0
  fi
fi
larder=$(realpath "$larder")
cd python
# One thread: tests of seconds lose by more, and the machine may be shared.
OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$python" -m pytest -q -c pyproject.toml \
  -p no:cacheprovider --larder="$larder" "$@"
