#!/bin/sh
# Installs what the trainer and its tests need (python/pyproject.toml) into the virtual environment
# build/python, once. Fails with pip's last line, as without a network.
set -eu
cd "$(dirname "$0")/.."
venv=build/python
log=build/python.log
limit=1200  # seconds for the download of some GB; a network that stalls must not hold up the rest

mkdir -p build
python3 - > build/python_requirements.txt <<'PY'
import tomllib
project = tomllib.load(open("python/pyproject.toml", "rb"))["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["test"]))
PY
if cmp -s build/python_requirements.txt "$venv/requirements.txt"; then exit 0; fi
echo "setup: installing PyTorch into $venv"
rm -rf "$venv"
if python3 -m venv "$venv" >"$log" 2>&1 &&
   timeout "$limit" "$venv/bin/python" -m pip install --quiet --retries 5 \
     -r build/python_requirements.txt >>"$log" 2>&1; then
  cp build/python_requirements.txt "$venv/requirements.txt"
  exit 0
fi
rm -rf "$venv"
echo "setup: PyTorch could not be installed: $(tail -n 1 "$log")" >&2
exit 1
