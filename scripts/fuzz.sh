#!/bin/sh
# Runs every fuzz target for some seconds on its committed corpus; new inputs go to the build folder.
# Usage: scripts/fuzz.sh SECONDS [TARGET...]. Fails when a target is missing, crashes or hangs.
set -eu
seconds=${1:?usage: scripts/fuzz.sh SECONDS [TARGET...]}
shift
bin=build/dev/bin
if [ $# -eq 0 ]; then
  for source in fuzz/*_fuzz.cc; do
    set -- "$@" "$(basename "$source" .cc)"
  done
fi
# See scripts/run_tests.sh.
plain=""
if setarch -R true 2>/dev/null; then plain="setarch -R"; fi
mkdir -p build/fuzz/artifacts
for target in "$@"; do
  name=${target%_fuzz}
  found=build/fuzz/found/$name
  mkdir -p "$found"
  corpus=fuzz/corpus/$name
  [ -d "$corpus" ] || { echo "fuzz: $corpus does not exist" >&2; exit 1; }
  log=build/fuzz/artifacts/$name.log
  # The committed seeds are read, never written. Memory limits find over-allocation.
  if ! $plain "$bin/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
      -malloc_limit_mb=256 -print_final_stats=1 \
      -artifact_prefix="build/fuzz/artifacts/$name-" "$found" "$corpus" >"$log" 2>&1; then
    tail -60 "$log"
    echo "fuzz: $target failed; the input lies in build/fuzz/artifacts" >&2
    exit 1
  fi
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "fuzz: $target: ${runs:-?} inputs in $seconds s, none failed"
done
