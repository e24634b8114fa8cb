#!/bin/sh
# Exports the newest checkpoint of a trainer's run to models/NAME.gguf (F16), measures it through the
# engine (bits per byte, pass-key and key-value accuracy at 1k, 2k and 4k) and writes the figures into
# models/NAME.md, its card, and models/NAME.json.
# Usage: [PYTHON=...] [NAME=larder-4m] scripts/release_model.sh RUN LARDER HELDOUT [MEASURE_FLAG...]
set -eu
run=$(realpath "${1:?usage: scripts/release_model.sh RUN LARDER HELDOUT [MEASURE_FLAG...]}")
larder=$(realpath "${2:?LARDER is missing}")
heldout=$(realpath "${3:?HELDOUT is missing}")
shift 3
cd "$(dirname "$0")/../python"
name=${NAME:-larder-4m}
hf=../build/$name
python=${PYTHON:-../build/python/bin/python}
most=$((24 * 1024 * 1024))  # what the repository takes

mkdir -p ../build
"$python" -m larder_train export --run "$run" --out "$hf" --larder "$larder" \
  --gguf "../models/$name.gguf" --gguf-type f16
size=$(stat -c %s "../models/$name.gguf")
if [ "$size" -gt "$most" ]; then
  echo "release_model: models/$name.gguf has $size bytes, at most $most may be committed" >&2
  exit 1
fi
"$python" -m larder_train measure --gguf "../models/$name.gguf" --tokenizer "$hf" --run "$run" \
  --larder "$larder" --text "$heldout" --card "../models/$name.md" --long-context 2048 \
  --beside ../models/stories260K.gguf "$@"
