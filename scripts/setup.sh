#!/bin/sh
# Installs the Debian packages that a build (default), the tests or the linters need.
# Usage: scripts/setup.sh [build] [test] [lint]. Asks for no input; does nothing when all are there.
set -eu

# docs/dependencies.md gives the reason and the minimum version of each.
build="g++ cmake ninja-build pkg-config ccache libfmt-dev nlohmann-json3-dev libpcre2-dev
  libexpected-dev libcli11-dev libeigen3-dev libyaml-cpp-dev libboost1.81-dev libssl-dev prometheus-cpp-dev
  libgtest-dev libgmock-dev libbenchmark-dev"
test="python3 python3-venv clang-14 libclang-rt-14-dev chromium qemu-user"
lint="clang-tidy-14 clang-format-14"

wanted=""
for group in "${@:-build}"; do
  case $group in
    build) wanted="$wanted $build" ;;
    test) wanted="$wanted $test" ;;
    lint) wanted="$wanted $lint" ;;
    *) echo "setup: unknown group '$group' (build, test, lint)" >&2; exit 2 ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is not a Debian system; install by other means:" $wanted >&2
  exit 0
fi
missing=""
for package in $wanted; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
    missing="$missing $package"
done
[ -z "$missing" ] && exit 0

echo "setup: installing$missing"
if [ "$(id -u)" -eq 0 ]; then
  as_root=""
elif command -v sudo >/dev/null; then
  as_root="sudo"
else
  echo "setup: not root and no sudo; run as root: apt-get install$missing" >&2
  exit 1
fi
$as_root apt-get update -qq
# shellcheck disable=SC2086  # the lists are meant to be split into words
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
