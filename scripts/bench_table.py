#!/usr/bin/env python3
"""The table of docs/performance.md: Larder's speed, cell by cell, beside llama.cpp's.

    python3 scripts/bench_table.py --larder build/release/bin/larder --models FOLDER [--json OUT]

Writes models of random weights to FOLDER (5 GB) unless they are there. `--peer-python` names a
Python that has the package llama-cpp-python; without one, only Larder is measured. The two engines
take turns on each cell. A finished cell is kept in FOLDER/cells.json, so that a broken run goes on
where it stopped; `--again` measures anew.
"""
import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))

# name: shape, type of the weights
MODELS = {
    "135m-q8_0": ("SmolLM2-135M", "q8_0"),
    "1b-q8_0": ("Llama-3.2-1B", "q8_0"),
    "1b-q4_0": ("Llama-3.2-1B", "q4_0"),
    "1b-bf16": ("Llama-3.2-1B", "bf16"),
    "0.6b-q8_0": ("Qwen3-0.6B", "q8_0"),
}


def cell(title, model, target, prompt=0, gen=0, depth=0, batch=1, shared=False, kv=("bf16", "f16")):
    return {"title": title, "model": model, "target": target, "prompt": prompt, "gen": gen,
            "depth": depth, "batch": batch, "shared": shared, "kv": kv}


def all_cells():
    cells = []
    for model in ("1b-q8_0", "1b-q4_0"):
        for n in (512, 2048):
            cells.append(cell(f"prefill {n}", model, 4.0, prompt=n))
    cells.append(cell("prefill 512", "1b-bf16", 8.0, prompt=512))
    cells.append(cell("prefill 512", "0.6b-q8_0", None, prompt=512))
    cells.append(cell("prefill 512", "135m-q8_0", None, prompt=512))
    cells.append(cell("prefill 512 at depth 16384", "1b-q8_0", 5.0, prompt=512, depth=16384))
    cells.append(cell("prefill 512 at depth 16384", "135m-q8_0", 5.0, prompt=512, depth=16384))
    cells.append(cell("decode", "1b-q8_0", 1.0, gen=32))
    cells.append(cell("decode", "1b-q4_0", 1.3, gen=32))
    cells.append(cell("decode", "135m-q8_0", None, gen=64))
    cells.append(cell("decode", "0.6b-q8_0", None, gen=32))
    for model, targets in (("135m-q8_0", (2.0, 3.0, 4.0)), ("1b-q8_0", (1.4, 2.2, 3.0))):
        for depth, target in zip((4096, 16384, 32768), targets):
            cells.append(cell(f"decode at depth {depth}", model, target, gen=16, depth=depth))
    cells.append(cell("decode at depth 16384", "0.6b-q8_0", None, gen=16, depth=16384))
    cells.append(cell("16 sequences behind 512 tokens each", "1b-q8_0", 2.5, gen=16, depth=512,
                      batch=16))
    cells.append(cell("16 sequences behind 2048 shared tokens", "1b-q8_0", 4.0, gen=16, depth=2048,
                      batch=16, shared=True))
    return cells


def positive(text):
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return int(text)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--larder", required=True, help="the built binary")
    parser.add_argument("--models", required=True, help="folder for the random models")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--repetitions", type=positive, default=5)
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    parser.add_argument("--again", action="store_true", help="measure finished cells again")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--prefix", default="", help="command put before each measurement")
    parser.add_argument("--json", default="", help="file for the results")
    return parser.parse_args()


def model_path(arguments, name):
    path = os.path.join(arguments.models, name + ".gguf")
    if not os.path.exists(path):
        shape, kind = MODELS[name]
        command = [arguments.larder, "bench", "--random-model", shape, "--type", kind, "--output",
                   path, "-p", "1", "-n", "0", "-r", "1", "-t", str(arguments.threads)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


def flags(arguments, one, kv):
    out = ["-m", model_path(arguments, one["model"]), "-p", str(one["prompt"]), "-n",
           str(one["gen"]), "-d", str(one["depth"]), "-b", str(one["batch"]), "-t",
           str(arguments.threads), "-r", "1", "-ctk", kv]
    return out + (["--shared-prefix"] if one["shared"] else [])


def in_turn(arguments, measures):
    """Each of the functions once in each round; per function, the results of all rounds."""
    results = [[] for _ in measures]
    for _ in range(arguments.repetitions):
        for measure, kept in zip(measures, results):
            kept.append(measure())
    return results


def median_and_range(speeds):
    return statistics.median(speeds), [min(speeds), max(speeds)]


def shares_of_limit(one, ours, n_bytes, limits):
    """What decoding reads of what plain reading reaches in the same round, for each round.
    A step reads all weights and the rows of its sequences, or of the shared prefix, once."""
    per_step = n_bytes["weights"] + n_bytes["row"] * one["depth"] * \
        (1 if one["shared"] else one["batch"])
    return [speed / one["batch"] * per_step / limit for speed, limit in zip(ours, limits)]


def run_json(arguments, command):
    prefix = arguments.prefix.split()
    text = subprocess.run(prefix + command, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout
    return json.loads(text)


def read_speed(arguments):
    """Bytes per second that the threads read together, now."""
    command = [arguments.larder, "bench", "--read-bandwidth", "-t", str(arguments.threads)]
    return run_json(arguments, command)["bytes_per_second"]


def measure_larder(arguments, one):
    command = [arguments.larder, "bench", "-o", "json"] + flags(arguments, one, one["kv"][0])
    # A depth is filled as the other side's: the first 512 rows, repeated.
    return run_json(arguments, command + ["-ctv", one["kv"][0], "--quick-depth"])[0]


def measure_peer(arguments, one):
    command = [arguments.peer_python, os.path.join(HERE, "bench_llama_cpp.py")]
    return run_json(arguments, command + flags(arguments, one, one["kv"][1]))[0]


def has_peer(arguments):
    if arguments.no_peer:
        return False
    probe = [arguments.peer_python, "-c", "import llama_cpp as l; l.llama_backend_init(); "
             "print(l.__version__, l.llama_print_system_info().decode())"]
    try:
        found = subprocess.run(probe, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        print(f"{arguments.peer_python} has no llama-cpp-python: only Larder is measured "
              "(docs/performance.md says how to build it)", file=sys.stderr)
        return False
    print(f"llama.cpp {found.strip()}", file=sys.stderr)
    return True


TIMES_OUTPUT = """
import json, os, resource, subprocess, sys, time
begin = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
times = []
while os.read(child.stdout.fileno(), 1 << 16):
    times.append(time.perf_counter() - begin)
child.wait()
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"seconds": times[0], "seconds_64": times[-1], "peak_bytes": peak}))
"""


def start_larder(arguments, path):
    """Seconds from the start of the program to its first byte of text and to its last, of 64
    tokens; peak bytes with 32k of context."""
    command = [sys.executable, "-c", TIMES_OUTPUT] + arguments.prefix.split() + [
        arguments.larder, "run", "-m", path, "-c", "32768", "-t", str(arguments.threads), "-n", "64",
        "--ignore-eos", "-p", "a b c d e f g h", "--temp", "0"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measure_start(arguments, with_peer):
    """Two rows: to the first token, and to the 64th, behind which all deferred work is done."""
    path = model_path(arguments, "1b-q8_0")
    command = [arguments.peer_python, os.path.join(HERE, "bench_llama_cpp.py"), "-m", path,
               "--start", "32768", "-t", str(arguments.threads)]
    measures = [lambda: start_larder(arguments, path)]
    if with_peer:
        measures.append(lambda: run_json(arguments, command)[0])
    ours, theirs = (in_turn(arguments, measures) + [[]])[:2]
    middle = lambda runs, key: statistics.median(run[key] for run in runs) if runs else None
    result = {"unit": "s"}
    for key in ("seconds", "seconds_64"):
        result[key] = {"ours_rounds": [run[key] for run in ours], "ours": middle(ours, key),
                       "peer_rounds": [run[key] for run in theirs], "peer": middle(theirs, key)}
        for who, runs in (("ours", ours), ("peer", theirs)):
            if runs:
                result[key][who + "_range"] = median_and_range([run[key] for run in runs])[1]
    return dict(result, weights_bytes=os.path.getsize(path), ours_bytes=middle(ours, "peak_bytes"),
                peer_bytes=middle(theirs, "peak_bytes"))


def measure_cell(arguments, one, with_peer):
    result = dict(one, unit="tokens/s")
    measures = {"ours": lambda: measure_larder(arguments, one)}
    if one["gen"]:  # the memory's speed wanders: read before and behind
        measures = {"before": lambda: read_speed(arguments), **measures,
                    "behind": lambda: read_speed(arguments)}
    if with_peer:
        measures["peer"] = lambda: measure_peer(arguments, one)
    runs = dict(zip(measures, in_turn(arguments, list(measures.values()))))
    result["description"] = runs["ours"][0]["description"]
    ours = result["ours_rounds"] = [run["median_ts"] for run in runs["ours"]]
    result["ours"], result["ours_range"] = median_and_range(ours)
    if with_peer:
        peer = result["peer_rounds"] = [run["median_ts"] for run in runs["peer"]]
        result["peer"], result["peer_range"] = median_and_range(peer)
    if one["gen"]:
        n_bytes = {"weights": os.path.getsize(model_path(arguments, one["model"])),
                   "row": runs["ours"][0]["kv_bytes_per_token"]}
        limits = [max(pair) for pair in zip(runs["before"], runs["behind"])]
        result["read_bytes_per_second"] = limits
        result["share_of_limit"] = shares_of_limit(one, ours, n_bytes, limits)
    return result


def ratios(result):
    """Of each round, for the machine's speed wanders: both see it alike in a round. Sorted."""
    pairs = zip(result["ours_rounds"], result.get("peer_rounds") or [])
    return sorted(peer / ours if result["unit"] == "s" else ours / peer for ours, peer in pairs)


def verdict(factors, target):
    """`yes` and `no` where at least three quarters of the rounds agree."""
    if not factors or target is None:
        return ""
    n_reached = sum(factor >= target for factor in factors)
    if 4 * n_reached >= 3 * len(factors):
        return "yes"
    return "no" if 4 * n_reached <= len(factors) else "about"


def row(result):
    show = lambda x: "-" if x is None else f"{x:.3g}" if x < 100 else f"{x:.0f}"
    factors, target = ratios(result), result["target"]
    span = lambda key: "" if key not in result else " ({} - {})".format(*map(show, result[key]))
    shares = sorted(result.get("share_of_limit", []))
    return [result["model"], result["title"], show(result["ours"]) + span("ours_range"),
            show(result.get("peer")) + span("peer_range"),
            f"{statistics.median(factors):.2f}x ({factors[0]:.1f} - {factors[-1]:.1f})"
            if factors else "-",
            "-" if target is None else f"{target:.1f}x", verdict(factors, target),
            f"{statistics.median(shares):.0%} ({shares[0]:.0%} - {shares[-1]:.0%})"
            if shares else ""]


def lines_of(result):
    """The start has two rows in the table, everything else one."""
    if result["unit"] != "s":
        return [result]
    named = {"model": "1b-q8_0", "unit": "s"}
    return [dict(result["seconds"], **named, title="start to first token, s", target=3.0),
            dict(result["seconds_64"], **named, title="start to 64th token, s", target=None)]


def table(results):
    rows = [["model", "cell", "Larder", "llama.cpp", "ratio", "aim", "reached", "of read limit"]]
    for result in results:
        rows += [row(one) for one in lines_of(result)]
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(r, widths)) + " |" for r in rows]
    lines.insert(1, "| " + " | ".join("-" * w for w in widths) + " |")
    for result in results:
        if result["unit"] == "s":
            gib = lambda n: "-" if n is None else f"{n / 2**30:.2f} GiB"
            lines.append(f"\nPeak memory with an empty context of 32768: Larder "
                         f"{gib(result['ours_bytes'])}, llama.cpp {gib(result['peer_bytes'])}, "
                         f"weights {gib(result['weights_bytes'])}: "
                         f"{result['ours_bytes'] / result['weights_bytes']:.3f} of them, aim 1.100.")
    return "\n".join(lines) + "\n"


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names)} cores"


def state(arguments):
    """What a figure is of: the commit, and the binary's own hash for what the commit does not say."""
    git = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty"], text=True,
                         capture_output=True, check=False).stdout.strip()
    with open(shutil.which(arguments.larder), "rb") as file:
        return (f"scripts of commit {git or '(none)'}, "
                f"binary {hashlib.sha256(file.read()).hexdigest()[:12]}")


def key_of(arguments, binary, one):
    return ", ".join([binary, f"{arguments.threads} threads", f"{arguments.repetitions} rounds",
                      one["model"], one["title"]])


def has_peer_figure(result):
    return all(one.get("peer") is not None for one in lines_of(result))


def main():
    arguments = parse_arguments()
    if not shutil.which(arguments.larder):
        sys.exit(f"{arguments.larder}: no program; build it with `make build`")
    os.makedirs(arguments.models, exist_ok=True)
    kept_path = os.path.join(arguments.models, "cells.json")
    kept = {}
    if os.path.exists(kept_path):
        with open(kept_path, encoding="utf-8") as file:
            kept = json.load(file)
    with_peer = has_peer(arguments)
    cells = all_cells() + [{"title": "start to first token", "model": "1b-q8_0"}]
    cells = [c for c in cells if arguments.only in f"{c['model']} {c['title']}"]
    if not cells:
        sys.exit(f"--only {arguments.only}: no cell's name holds that")
    if arguments.json:
        open(arguments.json, "a", encoding="utf-8").close()  # or fail before an hour of work
    of = state(arguments)
    results, begin, n_measured = [], time.monotonic(), 0
    for i, one in enumerate(cells):
        key = key_of(arguments, of.rsplit(" ", 1)[1], one)
        if arguments.again or key not in kept or (with_peer and not has_peer_figure(kept[key])):
            left = (time.monotonic() - begin) / max(1, n_measured) * (len(cells) - i)
            eta = f", about {left / 60:.0f} min left" if n_measured else ""
            print(f"{i + 1}/{len(cells)} {key}{eta}", file=sys.stderr, flush=True)
            is_start = one["title"].startswith("start")
            kept[key] = (measure_start(arguments, with_peer) if is_start
                         else measure_cell(arguments, one, with_peer))
            kept[key]["measured"] = time.strftime("%Y-%m-%d %H:%M")
            n_measured += 1
            with open(kept_path, "w", encoding="utf-8") as file:
                json.dump(kept, file, indent=2)
        results.append(kept[key])
    times = sorted(result["measured"] for result in results)
    print(f"{machine()}; {of}; {arguments.threads} threads; median (and range) of "
          f"{arguments.repetitions} rounds; {times[0]} to {times[-1]}\n")
    print(table(results), end="")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "state": of, "threads": arguments.threads,
                       "cells": results}, file, indent=2)


if __name__ == "__main__":
    try:
        main()
    except (OSError, json.JSONDecodeError) as error:
        sys.exit(f"bench_table: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench_table: exit code {error.returncode} of {' '.join(error.cmd[:6])} ...")
