#!/bin/sh
# Eviction policies compared, a page and two pictures for each ratio of rows that stay:
#   scripts/eviction.sh MODEL TEXT [more flags of `larder eval sweep`]
# What was measured before is read from build/eviction.jsonl. The tasks are those of `eval ruler` that
# larder-4m can do with all of its cache.
set -eu
model=$1 text=$2
shift 2
larder=build/release/bin/larder

mkdir -p docs/results docs/img
"$larder" eval heads -m "$model" -o build/eviction-heads.tsv
for ratio in 1/2:half 1/4:quarter 1/8:eighth; do
  name=${ratio#*:}
  { echo 'full:'; grep " ${ratio%:*}:" scripts/eviction.txt; } > "build/eviction-$name.txt"
  "$larder" eval sweep -m "$model" --text "$text" --configs "build/eviction-$name.txt" \
    --contexts 2048,4096 --passkey 2048,4096 --speed 4096 \
    --tasks niah_single,niah_multikey,niah_multiquery,variable_tracking --task-lengths 2048,4096 \
    --results build/eviction.jsonl --svg "docs/img/eviction-$name-kl.svg" \
    --task-svg "docs/img/eviction-$name-tasks.svg" --report "docs/results/eviction-$name.md" "$@"
done
