#!/usr/bin/env python3
"""Checks what the compiler does not: include directions, third-party borders, length of files.

Usage: scripts/check_includes.py [ROOT]. Prints one line per violation, exits with 1 if there are any.
The rules are those of docs/architecture.md ("Folders and what they may include").
"""

import pathlib
import re
import sys

# What a folder may include, itself left out: the closure of
#   base <- {tensor, simd} <- codec <- kernels <- model <- engine <- server <- tools
#   base <- {kv, policy};  policy <- engine;  {kv, codec} <- store <- {model, engine}
BELOW = {
    "base": set(),
    "tensor": {"base"},
    "simd": {"base", "tensor"},
    "codec": {"base", "tensor", "simd"},
    "kernels": {"base", "tensor", "simd", "codec"},
    "kv": {"base"},
    "policy": {"base"},
    "store": {"base", "tensor", "simd", "codec", "kv"},
    "model": {"base", "tensor", "simd", "codec", "kernels", "kv", "store"},
    "engine": {"base", "tensor", "simd", "codec", "kernels", "kv", "policy", "store", "model"},
    "server": {"base", "model", "engine"},
}

# The public headers belong to layers too: result.h to the bottom, the others to the engine.
PUBLIC = {"larder/result.h": "base", "larder/options.h": "engine", "larder/engine.h": "engine"}

INTRINSICS = r"(\w*intrin|arm_neon|arm_sve|cpuid)\.h"

# Third-party header (a regular expression) -> where it may be included, as path prefixes.
THIRD_PARTY = {
    INTRINSICS: ["src/simd/", "tests/simd/"],
    r"nlohmann/.*": ["src/model/io/", "src/model/arch/", "src/model/text/chat",
                     "src/model/text/jinja/", "src/server/", "tools/", "tests/", "fuzz/"],
    r"pcre2\.h": ["src/model/text/"],
    r"boost/.*": ["src/server/http"],
    r"openssl/.*": ["src/server/http", "src/kv/prefix_tree", "src/engine/fingerprint"],
    r"prometheus/.*": ["src/server/metrics"],
    r"yaml-cpp/.*": ["src/policy/policy_file.cc"],
    r"Eigen/.*": ["src/model/surgery/matrix.cc"],
    r"fmt/.*": ["src/", "tools/", "tests/", "bench/", "fuzz/"],
    r"tl/expected\.hpp": ["include/larder/result.h"],
    r"CLI/.*": ["tools/"],
    r"g(test|mock)/.*": ["tests/"],
    r"benchmark/.*": ["bench/"],
}

# Bends of a rule, each with its reason.
EXCEPTIONS = {
    # The spin loop's pause instruction: exists on every x86-64, so nothing has to be chosen.
    ("src/base/thread_pool.cc", "emmintrin.h"),
}

POSIX = {"unistd.h", "stdlib.h", "fcntl.h", "poll.h", "termios.h", "pthread.h", "sched.h", "dlfcn.h",
         "sys/mman.h", "sys/stat.h", "sys/types.h", "sys/resource.h", "sys/ioctl.h",
         "sys/syscall.h", "sys/socket.h", "netinet/in.h",
         "arpa/inet.h", "signal.h", "sys/wait.h", "sys/time.h", "linux/futex.h"}

MAX_LINES = 400
SOURCES = ["include", "src", "tools", "tests", "bench", "fuzz"]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
GETENV = re.compile(r"\bgetenv\s*\(")


def layer_of(path):
    """The folder below src/ that a file or an included name belongs to; None for outer ones."""
    if path in PUBLIC:
        return PUBLIC[path]
    first = path.split("/")[0]
    return first if first in BELOW else None


def check_angled(path, name):
    for pattern, places in THIRD_PARTY.items():
        if re.fullmatch(pattern, name):
            if (path, name) in EXCEPTIONS or any(path.startswith(p) for p in places):
                return None
            return f"<{name}> may be included in {', '.join(places)} only"
    if name in POSIX or ("/" not in name and not name.endswith((".h", ".hpp"))):
        return None
    return f"<{name}> is not a known dependency (docs/dependencies.md, scripts/check_includes.py)"


def check_quoted(path, name, root):
    if path.startswith("src/"):
        own = path.split("/")[1]
        used = layer_of(name)
        if used is None:
            return f'"{name}" is not below src/ or include/'
        if used != own and used not in BELOW.get(own, set()):
            return f'"{name}": {own} must not include {used}'
    elif path.startswith("include/") and name not in PUBLIC:
        return f'"{name}": public headers include public headers only'
    folders = ["include", "src", path.rsplit("/", 1)[0]]
    if path.startswith("tests/"):
        folders += ["tests", "tools"]
    if not any((root / folder / name).is_file() for folder in folders):
        return f'"{name}" does not exist'
    return None


def own_header(path, root):
    """The header that x.cc has to include first, as its #include line names it; None without one."""
    if not path.startswith("src/") or not path.endswith(".cc"):
        return None
    header = path[:-3] + ".h"
    return header.removeprefix("src/") if (root / header).is_file() else None


def check_file(root, path):
    text = (root / path).read_text(encoding="utf-8")
    lines = text.split("\n")
    problems = []
    if len(lines) - 1 > MAX_LINES:
        problems.append((MAX_LINES, f"{len(lines) - 1} lines; at most {MAX_LINES} are allowed"))
    if path.endswith(".h") and "#pragma once" not in text:
        problems.append((1, "a header without #pragma once"))
    first = None
    for number, line in enumerate(lines, 1):
        if GETENV.search(line) and not path.startswith(("tools/", "tests/")):
            problems.append((number, "getenv may be called in tools/ only"))
        match = INCLUDE.match(line)
        if not match:
            continue
        kind, name = match.groups()
        first = first or name
        problem = check_angled(path, name) if kind == "<" else check_quoted(path, name, root)
        if problem:
            problems.append((number, problem))
    wanted = own_header(path, root)
    if wanted and first != wanted:
        problems.append((1, f'includes "{first}" first; must be its own header "{wanted}"'))
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    files = sorted(p.relative_to(root).as_posix() for folder in SOURCES
                   for p in (root / folder).rglob("*") if p.suffix in (".h", ".cc"))
    n_problems = 0
    for path in files:
        for number, problem in check_file(root, path):
            print(f"{path}:{number}: {problem}")
            n_problems += 1
    print(f"check_includes: {len(files)} files, {n_problems} problems")
    return 1 if n_problems or not files else 0


if __name__ == "__main__":
    sys.exit(main())
