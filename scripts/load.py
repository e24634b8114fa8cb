#!/usr/bin/env python3
"""Load on a server that speaks OpenAI's API: what many clients at once get, and whether anything leaks.

load.py mixed  -m MODEL    64 clients, prompts and answers of mixed lengths: throughput, time to the
                           first token, time between tokens
load.py shared -m MODEL    requests with one long system prompt: how much of it comes from the cache,
                           and the time to the first token with and without sharing; then by several
                           clients at once
load.py soak   -m MODEL    clients of all manners for --seconds; bytes and descriptors of the server at
                           the end must be those of the beginning

Starts `larder serve` by itself (--larder). mixed and shared also ask llama.cpp's server when --peer
names its program, with as many sequences, threads and tokens of context.
"""

import argparse
import asyncio
import json
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse

WORDS = ("river stone garden window winter letter yellow market silver forest mother island candle "
         "bridge summer orange little Lily dog was happy and the ran home to play with a big red").split()


class Server:
    """`larder serve` on a free port of the loopback; ends with the block."""

    def __init__(self, args, n_context, *flags):
        self.process = subprocess.Popen(
            [args.larder, "serve", "-m", args.model, "--port", "0", "-np", str(args.parallel), "-t",
             str(args.threads), "-c", str(n_context), *flags], stderr=subprocess.PIPE, text=True)
        self.log = ""
        for line in self.process.stderr:
            self.log += line
            if found := re.search(r"at (http://\S+:\d+)", line):
                self.url = found.group(1)
                return
        raise SystemExit(f"load: the server did not start:\n{self.log}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


class Peer(Server):
    """llama.cpp's server with the same sequences, threads and context; its cache of bf16 as ours, in one
    piece that all its slots share."""

    def __init__(self, args, n_context, *flags):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [args.peer, "-m", args.model, "--port", str(port), "-np", str(args.parallel), "-t",
             str(args.threads), "-tb", str(args.threads), "-c", str(n_context * args.parallel),
             "-ctk", "bf16", "-ctv", "bf16", "-fa", "on", "--no-webui", *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                if asyncio.run(ask(self.url, "GET", "/health"))[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"load: {args.peer} did not start")


def address(url):
    parts = urllib.parse.urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise SystemExit(f"load: {parts.hostname} is not this machine")
    return parts.hostname, parts.port


async def ask(url, method, path, body=None):
    """Status and body of one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address(url))
    data = b"" if body is None else json.dumps(body).encode()
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


async def generate(url, body, stop_after=None):
    """Streams an answer: times of its tokens since the request, and its usage. `stop_after`: hangs up
    after so many tokens."""
    reader, writer = await asyncio.open_connection(*address(url))
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    begun = time.perf_counter()
    writer.write(f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                 f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
    await writer.drain()
    status = int((await reader.readline()).split()[1])
    times, usage = [], None
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            raise RuntimeError(event["error"])
        usage = event.get("usage") or usage
        if event["choices"]:
            times.append(time.perf_counter() - begun)
        if stop_after is not None and len(times) >= stop_after:
            break
    writer.close()
    if status != 200:
        raise RuntimeError(f"status {status}")
    return times, usage


def words(rng, n):
    return " ".join(rng.choices(WORDS, k=n))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(name, report, as_json):
    if as_json:
        print(json.dumps({"workload": name, **report}))
        return
    print(name)
    for key, value in report.items():
        print(f"  {key:34} {value:.4g}" if isinstance(value, float) else f"  {key:34} {value}")


async def crowd(url, bodies, n_clients):
    """All bodies, by so many clients, each one request after the other. Returns their answers and the
    seconds it took."""
    queue = list(reversed(bodies))
    answers = []

    async def client():
        while queue:
            answers.append(await generate(url, queue.pop()))

    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(n_clients)))
    return answers, time.perf_counter() - begun


def summary(answers, seconds):
    firsts = [times[0] for times, _ in answers if times]
    gaps = [b - a for times, _ in answers for a, b in zip(times, times[1:])]
    n_out = sum(usage["completion_tokens"] if usage else len(times) for times, usage in answers)
    report = {"requests": len(answers), "seconds": seconds, "tokens written": n_out,
              "tokens written per second": n_out / seconds}
    if all(usage for _, usage in answers):
        n_prompt = sum(usage["prompt_tokens"] for _, usage in answers)
        n_cached = sum((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
                       for _, usage in answers)
        report.update({"prompt tokens": n_prompt, "prompt and written per second":
                       (n_prompt + n_out) / seconds, "prompt tokens from cache": n_cached / n_prompt})
    for name, values in [("first token", firsts), ("between tokens", gaps)]:
        report[f"{name} p50 ms"] = 1e3 * statistics.median(values)
        report[f"{name} p99 ms"] = 1e3 * percentile(values, 0.99)
    return report


def text(args, rng, n):
    """n words, or as many token ids for models whose vocabulary knows no words."""
    return [rng.randrange(100, args.ids) for _ in range(n)] if args.ids else words(rng, n)


def mixed_bodies(args):
    rng = random.Random(1)
    return [{"prompt": text(args, rng, rng.choice([16, 64, 128, 256])), "seed": i, "temperature": 0.8,
             "max_tokens": rng.choice([16, 32, 64]), "ignore_eos": True} for i in range(args.requests)]


def run_crowd(server, bodies, n_clients, first=0):
    """`first`: so many bodies are asked alone before the measured ones."""
    with server:
        if first:
            asyncio.run(crowd(server.url, bodies[:first], 1))
        return summary(*asyncio.run(crowd(server.url, bodies, n_clients)))


def compare(name, args, reports):
    """`reports`: of each server, one a round. Shows the rounds' medians side by side."""
    medians = {server: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
               for server, rounds in reports.items()}
    if args.json:
        for server, report in medians.items():
            print(json.dumps({"workload": name, "server": server, "rounds": reports[server], **report}))
        return medians
    print(f"{name}\n  {'':34}" + "".join(f"{server:>16}" for server in medians))
    for key in next(iter(medians.values())):
        print(f"  {key:34}" + "".join(f"{m[key]:>16.4g}" if key in m else f"{'-':>16}"
                                      for m in medians.values()))
    return medians


def both(args, n_context, bodies, n_clients, first=0):
    """Reports of Larder's server and of the peer's, in turn."""
    reports = {"Larder": []}
    if args.peer:
        reports["llama.cpp"] = []
    for _ in range(args.rounds):
        for name, rounds in reports.items():
            start = Server if name == "Larder" else Peer
            rounds.append(run_crowd(start(args, n_context), bodies, n_clients, first))
    return reports


def mixed(args):
    compare(f"mixed lengths, {args.clients} clients", args,
            both(args, 1024, mixed_bodies(args), args.clients))


def shared_bodies(args, n):
    rng = random.Random(2)
    system = text(args, rng, args.prefix)
    questions = [text(args, rng, 25) for _ in range(n)]
    return [{"prompt": system + question if args.ids else f"{system}\nQuestion: {question}\nAnswer:",
             "max_tokens": 16, "temperature": 0, "ignore_eos": True} for question in questions]


def shared(args):
    n_context = 2 * args.prefix + 1024
    bodies = shared_bodies(args, args.requests)
    # One client, so that the time to the first token is not that of a queue.
    alone = {"shared": [run_crowd(Server(args, n_context), bodies, 1, first=1)],
             "not shared": [run_crowd(Server(args, n_context, "--no-enable-prefix-caching"),
                                      bodies[:args.without], 1)]}
    medians = compare("one system prompt, 1 client", args, alone)
    if not args.json:
        ratio = medians["not shared"]["first token p50 ms"] / medians["shared"]["first token p50 ms"]
        print(f"first token {ratio:.1f} times earlier with sharing")
    compare(f"one system prompt, {args.clients} clients", args,
            both(args, n_context, bodies[:args.crowd], args.clients, first=1))


async def soak_client(url, rng, end, counts):
    while time.perf_counter() < end:
        kind = rng.choice(["whole", "whole", "leave", "chat", "bad", "json", "look", "embed"])
        body = {"prompt": words(rng, rng.randrange(1, 60)), "max_tokens": rng.randrange(1, 40)}
        try:
            if kind == "leave":
                await generate(url, body, stop_after=rng.randrange(1, 5))
            elif kind == "bad":
                status, _ = await ask(url, "POST", "/v1/completions", {"prompt": [rng.randrange(-9, 0)]})
                assert status == 400, status
            elif kind == "look":
                for path in ("/cache", "/metrics", "/v1/models", "/"):
                    assert (await ask(url, "GET", path))[0] == 200
            elif kind == "embed":
                assert (await ask(url, "POST", "/v1/embeddings", {"input": body["prompt"]}))[0] == 200
            else:
                if kind == "json":
                    body["response_format"] = {"type": "json_object"}
                if kind == "chat":
                    body.update(n=2, temperature=1, logprobs=2)
                await generate(url, body)
            counts[kind] = counts.get(kind, 0) + 1
        except RuntimeError as full:
            if "429" not in str(full):
                raise
            await asyncio.sleep(0.1)


async def in_use(url):
    """Bytes of live blocks once nothing runs and nothing is kept."""
    for _ in range(100):
        status, _ = await ask(url, "POST", "/cache/drop", {"all": True})
        view = json.loads((await ask(url, "GET", "/cache"))[1])
        if status == 200 and not view["sequences"] and view["bytes"] == 0:
            break
        await asyncio.sleep(0.1)
    return view["bytes"]


def soak(args):
    with Server(args, 256) as server:
        def state():
            blocks = asyncio.run(in_use(server.url))
            time.sleep(0.5)  # closed connections are let go of
            return blocks, server.descriptors(), server.resident_bytes()

        async def run(seconds):
            end, counts = time.perf_counter() + seconds, {}
            await asyncio.gather(*(soak_client(server.url, random.Random(i), end, counts)
                                   for i in range(args.clients)))
            return counts

        asyncio.run(run(min(20, args.seconds / 4)))  # what is allocated once is there now
        before = state()
        counts = asyncio.run(run(args.seconds))
        after = state()
    show("soak", {"seconds": args.seconds, "requests": sum(counts.values()),
                  **{f"of kind {k}": v for k, v in sorted(counts.items())},
                  "KV bytes before, after": f"{before[0]}, {after[0]}",
                  "descriptors before, after": f"{before[1]}, {after[1]}",
                  "resident MB before, after": f"{before[2] / 1e6:.1f}, {after[2] / 1e6:.1f}"}, args.json)
    if before[:2] != after[:2] or after[2] > before[2] * 1.1 + 16e6:
        sys.exit("load: the server holds more than at the beginning")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workload", choices=["mixed", "shared", "soak"])
    parser.add_argument("--larder", default="build/release/bin/larder")
    parser.add_argument("-m", "--model", default="models/larder-4m.gguf")
    parser.add_argument("--peer", help="mixed, shared: llama.cpp's llama-server, asked in turn")
    parser.add_argument("--rounds", type=int, default=1, help="mixed, shared: repetitions; medians are shown")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clients", type=int)
    parser.add_argument("--parallel", type=int, default=16, help="sequences that the server runs at once")
    parser.add_argument("--requests", type=int)
    parser.add_argument("--ids", type=int, help="mixed, shared: prompts of token ids from 100 to this one, "
                        "for models with random weights")
    parser.add_argument("--prefix", type=int, default=1500, help="shared: words (ids) of the system prompt")
    parser.add_argument("--crowd", type=int, help="shared: requests of many clients (default: all)")
    parser.add_argument("--without", type=int, default=20, help="shared: requests without sharing")
    parser.add_argument("--seconds", type=float, default=600, help="soak: how long")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.clients = args.clients or {"mixed": 64, "shared": 16, "soak": 16}[args.workload]
    args.requests = args.requests or {"mixed": 192, "shared": 200, "soak": 0}[args.workload]
    {"mixed": mixed, "shared": shared, "soak": soak}[args.workload](args)


if __name__ == "__main__":
    main()
