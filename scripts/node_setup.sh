#!/bin/sh
# Installs the openai npm package, a client that the server is tested with, into build/node, once.
# Says so and succeeds where it cannot be had: the tests that need it are skipped then.
set -eu
cd "$(dirname "$0")/.."
package="openai@7"
if ! command -v npm >/dev/null; then
  echo "SKIPPED: the test with the openai npm package: there is no npm"
  exit 0
fi
if [ -f build/node/installed ] && [ "$(cat build/node/installed)" = "$package" ]; then exit 0; fi
mkdir -p build/node
if timeout 300 npm install --prefix build/node --no-audit --no-fund --ignore-scripts "$package" \
    >build/node.log 2>&1; then
  echo "$package" > build/node/installed
else
  echo "SKIPPED: the test with the openai npm package: $(tail -n 1 build/node.log)"
fi
