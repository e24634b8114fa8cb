#!/bin/sh
# Builds a preset and runs its tests; ctest's line of counts comes last.
# Usage: scripts/run_tests.sh PRESET [CTEST_ARGUMENT...]
set -eu
preset=${1:?usage: scripts/run_tests.sh PRESET [CTEST_ARGUMENT...]}
shift
cmake --preset "$preset"
cmake --build --preset "$preset"
log=build/$preset/ctest.log
status=0
# No pipe into tee: its status would hide that of ctest.
ctest --preset "$preset" -j "$(nproc)" --no-tests=error "$@" >"$log" 2>&1 || status=$?
if [ "$status" -ne 0 ]; then
  cat "$log"
  exit "$status"
fi
grep -v 'tests passed' "$log" | tail -3
grep 'tests passed' "$log"
