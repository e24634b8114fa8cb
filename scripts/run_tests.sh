#!/bin/sh
# Builds a preset, or the tests of one module of it alone, and runs its tests; ctest's line of counts
# comes last.
# Usage: scripts/run_tests.sh PRESET[/MODULE] [CTEST_ARGUMENT...]
set -eu
which=${1:?usage: scripts/run_tests.sh PRESET[/MODULE] [CTEST_ARGUMENT...]}
shift
preset=${which%%/*}
target=all
if [ "$which" != "$preset" ]; then
  module=${which#*/}
  target=${module}_tests
  set -- -L "^$module\$" "$@"
fi
# Kernels that randomise addresses with 32 bits make sanitizers of this age crash at random.
plain=""
if setarch -R true 2>/dev/null; then plain="setarch -R"; fi
cmake --preset "$preset" --log-level=WARNING
$plain cmake --build --preset "$preset" --target "$target"
log=build/$preset/ctest.log
status=0
# No pipe into tee: its status would hide that of ctest.
$plain ctest --preset "$preset" -j "$(nproc)" --no-tests=error "$@" >"$log" 2>&1 || status=$?
if [ "$status" -ne 0 ]; then
  cat "$log"
  exit "$status"
fi
grep -v 'tests passed' "$log" | tail -3
grep 'tests passed' "$log"
