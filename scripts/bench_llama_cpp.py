#!/usr/bin/env python3
"""Speed of llama.cpp on this machine, for the comparison in docs/performance.md.

Needs the Python package llama-cpp-python (installed outside this tree). Takes the flags and writes
the JSON of `larder bench`, so that both are read alike:

    python scripts/bench_llama_cpp.py -m model.gguf -p 512 -n 32 -d 0,4096 > llama_cpp.json

A depth is filled with one prefill of 512 tokens whose rows of the cache are repeated through the
library's own state format: what decoding costs depends on the number of rows, not on their values.
"""
import argparse
import ctypes
import json
import random
import resource
import statistics
import struct
import sys
import time

FILL = 512  # rows computed for real; the rest of a depth repeats them


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--n-prompt", default="512")
    parser.add_argument("-n", "--n-gen", default="32")
    parser.add_argument("-d", "--n-depth", default="0")
    parser.add_argument("-b", "--batch", type=int, default=1, help="sequences side by side")
    parser.add_argument("--shared-prefix", action="store_true", help="they share their depth")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("-ctk", "--cache-type", default="f16", help="f16, bf16, q8_0, q4_0")
    parser.add_argument("-fa", "--flash-attn", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, metavar="CONTEXT",
                        help="only: seconds from nothing to the first and the 64th token, peak memory")
    arguments = parser.parse_args()
    for name in ("n_prompt", "n_gen", "n_depth"):
        text = getattr(arguments, name)
        setattr(arguments, name, [int(part) for part in text.split(",") if int(part) >= 0])
    return arguments


class Peer:
    """One model and context of llama.cpp through its C interface."""

    def __init__(self, arguments, n_context):
        import llama_cpp  # the import is not what is timed by --start

        self.lib, self.arguments = llama_cpp, arguments
        self.begin = time.perf_counter()
        self.silence = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        options = llama_cpp.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(arguments.model.encode(), options)
        if not self.model:
            sys.exit(f"{arguments.model}: llama.cpp cannot load it")
        self.context = self._make_context(n_context)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.filled = {}  # by depth: a sequence's state
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(vocabulary)

    def _make_context(self, n_context):
        types = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}
        options = self.lib.llama_context_default_params()
        options.n_ctx = n_context
        options.n_batch, options.n_ubatch = 2048, 512
        options.n_threads = options.n_threads_batch = self.arguments.threads
        options.n_seq_max = self.arguments.batch
        options.type_k = options.type_v = types[self.arguments.cache_type]
        options.flash_attn_type = self.arguments.flash_attn
        # Sharing a prefix needs one cache for all; with texts of their own, caches of their own
        # are faster: nobody looks at the others' rows.
        options.kv_unified = self.arguments.shared_prefix
        context = self.lib.llama_init_from_model(self.model, options)
        if not context:
            sys.exit("llama.cpp cannot make a context of these settings")
        return context

    def random_tokens(self, n):
        return [random.randrange(3, self.n_vocab) for _ in range(n)]

    def decode(self, rows):
        """One call for rows of (token, position, sequence); logits of the last row per sequence."""
        batch = self.lib.llama_batch_init(len(rows), 0, 1)
        last = {sequence: i for i, (_, _, sequence) in enumerate(rows)}
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = last[sequence] == i
        batch.n_tokens = len(rows)
        code = self.lib.llama_decode(self.context, batch)
        self.lib.llama_batch_free(batch)
        if code != 0:
            sys.exit(f"llama_decode returned {code}")

    def prefill(self, n, first, sequence):
        tokens = self.random_tokens(n)
        for start in range(0, n, 2048):
            part = tokens[start : start + 2048]
            self.decode([(t, first + start + i, sequence) for i, t in enumerate(part)])

    def clear(self):
        self.lib.llama_memory_clear(self.memory, True)

    def truncate(self, sequence, n):
        self.lib.llama_memory_seq_rm(self.memory, sequence, n, -1)

    def fill(self, depth, sequence):
        """Rows 0 .. depth - 1 of a sequence. The same for all: only the first is computed."""
        if not depth:
            return
        if depth not in self.filled:
            self.prefill(min(depth, FILL), 0, sequence)
            state = self.state_of(sequence)
            self.truncate(sequence, 0)
            self.filled[depth] = repeat_rows(state, depth) if depth > FILL else state
        state = self.filled[depth]
        data = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if not self.lib.llama_state_seq_set_data(self.context, data, len(state), sequence):
            sys.exit(f"llama.cpp does not take a state of {depth} rows")

    def state_of(self, sequence):
        size = self.lib.llama_state_seq_get_size(self.context, sequence)
        state = (ctypes.c_uint8 * size)()
        self.lib.llama_state_seq_get_data(self.context, state, size, sequence)
        return bytes(state)


def repeat_rows(state, depth):
    """A sequence's state with its rows repeated to `depth` rows at positions 0, 1, ..."""
    n_head = 8  # two words before the number of streams
    n_streams, n_cells = struct.unpack_from("<II", state, n_head)
    if n_streams != 1 or n_cells != FILL:
        sys.exit("the state of this llama.cpp has another form than expected")
    at = n_head + 8 + 12 * n_cells  # a cell: position, number of sequences, sequence
    out = [state[:n_head], struct.pack("<II", 1, depth)]
    out += [struct.pack("<iII", i, *struct.unpack_from("<II", state, n_head + 12)) for i in range(depth)]
    transposed, n_layers = struct.unpack_from("<II", state, at)
    if transposed:
        sys.exit("the state of this llama.cpp stores V transposed; use --flash-attn 1")
    out.append(state[at : at + 8])
    at += 8
    for _ in range(2 * n_layers):  # K of every layer, then V
        kind, row = struct.unpack_from("<iQ", state, at)
        rows = state[at + 12 : at + 12 + FILL * row]
        out.append(struct.pack("<iQ", kind, row))
        out.append((rows * (depth // FILL + 1))[: depth * row])
        at += 12 + FILL * row
    if at != len(state):
        sys.exit("the state of this llama.cpp has another form than expected")
    return b"".join(out)


def fill_all(peer, depth, n_sequences, shared):
    peer.clear()
    if shared:
        peer.fill(depth, 0)
        for sequence in range(1, n_sequences):
            peer.lib.llama_memory_seq_cp(peer.memory, 0, sequence, -1, -1)
        return
    for sequence in range(n_sequences):
        peer.fill(depth, sequence)


def time_once(peer, n_prompt, n_gen, depth, n_sequences):
    begin = time.perf_counter()
    if n_prompt:
        for sequence in range(n_sequences):
            peer.prefill(n_prompt, depth, sequence)
    for i in range(n_gen):
        tokens = peer.random_tokens(n_sequences)
        peer.decode([(tokens[s], depth + n_prompt + i, s) for s in range(n_sequences)])
    peer.lib.llama_synchronize(peer.context)
    seconds = time.perf_counter() - begin
    for sequence in range(n_sequences):
        peer.truncate(sequence, depth)
    return seconds


def measure(peer, case, arguments):
    n_prompt, n_gen, depth = case
    time_once(peer, min(n_prompt, 512), min(n_gen, 4), depth, arguments.batch)  # warm up
    seconds = [time_once(peer, n_prompt, n_gen, depth, arguments.batch)
               for _ in range(arguments.repetitions)]
    counted = arguments.batch * (n_prompt + n_gen)
    name = (f"pp{n_prompt}" if n_prompt else f"tg{n_gen}") + (f"@d{depth}" if depth else "")
    if arguments.batch > 1:
        name += f" x{arguments.batch}" + (" shared" if arguments.shared_prefix and depth else "")
    return {"engine": "llama.cpp", "model_filename": arguments.model, "test": name,
            "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": depth, "n_parallel": arguments.batch,
            "n_threads": arguments.threads, "type_k": arguments.cache_type,
            "type_v": arguments.cache_type, "median_ts": counted / statistics.median(seconds),
            "min_ts": counted / max(seconds), "max_ts": counted / min(seconds),
            "samples_s": seconds}


def start(arguments):
    peer = Peer(arguments, arguments.start)
    peer.decode([(t, i, 0) for i, t in enumerate(peer.random_tokens(8))])
    seconds = time.perf_counter() - peer.begin
    for i in range(8, 8 + 63):
        peer.decode([(peer.random_tokens(1)[0], i, 0)])
    seconds_64 = time.perf_counter() - peer.begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [{"engine": "llama.cpp", "model_filename": arguments.model, "test": "start",
             "n_context": arguments.start, "seconds": seconds, "seconds_64": seconds_64,
             "peak_bytes": peak}]


def main():
    arguments = parse_arguments()
    random.seed(1)
    if arguments.start:
        print(json.dumps(start(arguments), indent=2))
        return
    longest = max(arguments.n_prompt + arguments.n_gen)
    n_own = 1 if arguments.shared_prefix else arguments.batch
    n_context = max(arguments.n_depth) * n_own + (longest + 64) * arguments.batch
    if not arguments.shared_prefix:  # the library deals it out evenly, in parts of 256
        n_context = -(-n_context // (256 * arguments.batch)) * 256 * arguments.batch
    peer = Peer(arguments, n_context)
    results = []
    for depth in arguments.n_depth:
        fill_all(peer, depth, arguments.batch, arguments.shared_prefix)
        cases = [(p, 0, depth) for p in arguments.n_prompt if p]
        cases += [(0, n, depth) for n in arguments.n_gen if n]
        for case in cases:
            results.append(measure(peer, case, arguments))
            print(f"llama.cpp {results[-1]['test']}: {results[-1]['median_ts']:.2f} tokens/s",
                  file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
