#!/usr/bin/env python3
"""What low-rank corrections and calibrated codes of keys before rope would bring.

Codes K and V of a Qwen 3 model (a Hugging Face directory) in Python, block by block, and prints for
each way of coding them its bits per element, the relative squared errors of K and V, and the KL
against the model as it is. Every row is coded, that of the query's own block too, so figures
compare with each other only, not with those of the engine. Needs torch and transformers.

    scripts/kv_codes.py MODEL_DIR TEXT [--ways REGEX]
"""

import argparse
import dataclasses
import re
from collections.abc import Callable

import torch
import transformers
from transformers.models.qwen3 import modeling_qwen3

BLOCK = 32
LLOYD_MAX = {  # N(0, 1), positive halves
    2: [0.4528, 1.5104],
    3: [0.2451, 0.7560, 1.3439, 2.1519],
    4: [0.1284, 0.3880, 0.6568, 0.9423, 1.2562, 1.6180, 2.0690, 2.7326],
    5: [0.0659, 0.1981, 0.3314, 0.4667, 0.6049, 0.7471, 0.8946, 1.0488,
        1.2118, 1.3863, 1.5762, 1.7872, 2.0287, 2.3177, 2.6911, 3.2607],
}

Tensor = torch.Tensor


def nearest(x: Tensor, values: Tensor) -> Tensor:
    return values[torch.bucketize(x.contiguous(), (values[1:] + values[:-1]) / 2)]


def hadamard(d: int) -> Tensor:
    h = torch.ones(1, 1)
    while h.shape[0] < d:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    return h / d**0.5


def integers(x: Tensor, bits: int) -> Tensor:
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-9) / (2 ** (bits - 1) - 1)
    return (x / scale).round() * scale


def rotated(x: Tensor, bits: int) -> Tensor:
    half = torch.tensor(LLOYD_MAX[bits])
    y = x @ hadamard(x.shape[-1])
    size = y.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-9)
    codes = nearest(y / size, torch.cat([-half.flip(0), half]))
    kept = (y.square().sum(-1, keepdim=True) / codes.square().sum(-1, keepdim=True)).sqrt()
    return codes * kept @ hadamard(x.shape[-1])


def blocks(x: Tensor, n: int = BLOCK) -> Tensor:
    return x.unflatten(-2, (-1, n))  # [..., T, d] -> [..., T / n, n, d]


def between(x: Tensor, bits: int, dim: int) -> Tensor:
    """Even steps from smallest to largest: of a channel in its block (dim -2), of a row (-1)."""
    return in_range(x, torch.arange(2**bits) / (2**bits - 1), dim)


def in_range(x: Tensor, values: Tensor, dim: int) -> Tensor:
    """The same with other values than even steps between 0, the smallest, and 1."""
    y = blocks(x)
    low, high = y.amin(dim, keepdim=True), y.amax(dim, keepdim=True)
    size = (high - low).clamp_min(1e-9)
    return (nearest((y - low) / size, values) * size + low).flatten(-3, -2)


def best_table(x: Tensor, bits: int) -> Tensor:
    """k-means in one dimension."""
    x = x.flatten()
    x = x[torch.randperm(x.numel(), generator=torch.Generator().manual_seed(1))[:100_000]]
    values = x.quantile((torch.arange(2**bits) + 0.5) / 2**bits)
    for _ in range(60):
        at = torch.bucketize(x, (values[1:] + values[:-1]) / 2)
        sums = torch.zeros_like(values).index_add_(0, at, x)
        counts = torch.bincount(at, minlength=len(values))
        values = torch.where(counts > 0, sums / counts.clamp_min(1), values)
    return values


def range_table(rows: Tensor, bits: int) -> Tensor:
    y = blocks(rows[..., : rows.shape[-2] // BLOCK * BLOCK, :])
    low, high = y.amin(-2, keepdim=True), y.amax(-2, keepdim=True)
    return best_table((y - low) / (high - low).clamp_min(1e-9), bits)


def low_rank(x: Tensor, coded: Tensor, rank: int, n: int) -> Tensor:
    """coded + the best correction of that rank of each head's n rows, its factors in f16."""
    u, s, vt = torch.linalg.svd(blocks(x - coded, n), full_matrices=False)
    left = (u[..., :rank] * s[..., None, :rank].sqrt()).half().float()
    right = (s[..., :rank, None].sqrt() * vt[..., :rank, :]).half().float()
    return coded + (left @ right).flatten(-3, -2)


class Calibrated:
    """Codes of channels whose mean and spread, and the table for all, come from other text."""

    def __init__(self, rows: Tensor, bits: int, outliers: float):
        self.mean, self.spread = rows.mean(-2), rows.std(-2).clamp_min(1e-9)  # [heads, d]
        x = self.scaled(rows)
        self.limit = None
        if outliers:
            some = x.flatten()[:: max(1, x.numel() // 1_000_000)]
            self.limit = some.abs().quantile(1 - outliers).item()
            x = x[x.abs() <= self.limit]
        self.values = best_table(x, bits)

    def scaled(self, x: Tensor) -> Tensor:
        return (x - self.mean[..., None, :]) / self.spread[..., None, :]

    def __call__(self, x: Tensor) -> Tensor:
        y = self.scaled(x)
        coded = nearest(y, self.values)
        if self.limit is not None:
            coded = torch.where(y.abs() > self.limit, y, coded)  # kept apart
        return coded * self.spread[..., None, :] + self.mean[..., None, :]


def as_is(x: Tensor, _layer: int) -> Tensor:
    return x


Coder = Callable[[Tensor, int], Tensor]


@dataclasses.dataclass
class Way:
    name: str
    bits_k: float
    bits_v: float
    v: Coder
    k: Coder = as_is  # after rope
    k_before: Coder = as_is  # before rope


class Probe:
    """Runs the model with K and V coded, or keeps them."""

    def __init__(self, model: torch.nn.Module):
        self.model, self.way, self.kept = model, None, None
        self.errors: dict[str, list[float]] = {"k": [], "v": []}
        self.n_layers, self.calls = model.config.num_hidden_layers, 0
        self.rotate = modeling_qwen3.apply_rotary_pos_emb
        modeling_qwen3.apply_rotary_pos_emb = self.keys
        for i, layer in enumerate(model.model.layers):
            layer.self_attn.v_proj.register_forward_hook(
                lambda _m, _i, out, i=i: self.values(out, i)
            )

    def note(self, side: str, x: Tensor, coded: Tensor) -> None:
        error = (x - coded).square().sum() / x.square().sum()
        self.errors[side].append(error.item())

    def keys(self, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, **more):
        layer = self.calls % self.n_layers
        self.calls += 1
        q_out, k_out = self.rotate(q, k, cos, sin, **more)
        if self.kept is not None:
            self.kept["before", layer].append(k[0])
            self.kept["after", layer].append(k_out[0])
        if self.way is None:
            return q_out, k_out
        coded = self.way.k_before(k[0], layer)[None]
        coded = self.way.k(self.rotate(q, coded, cos, sin, **more)[1][0], layer)[None]
        self.note("k", k_out, coded)
        return q_out, coded

    def values(self, out: Tensor, layer: int) -> Tensor | None:
        if self.way is None:
            return None
        d = self.model.config.head_dim
        x = out[0].unflatten(-1, (-1, d)).transpose(0, 1)
        coded = self.way.v(x, layer)
        self.note("v", x, coded)
        return coded.transpose(0, 1).flatten(-2)[None]

    def run(self, windows: list[Tensor], way: Way | None) -> list[Tensor]:
        self.way = way
        self.errors = {"k": [], "v": []}
        with torch.no_grad():
            return [self.model(ids[None]).logits[0].log_softmax(-1) for ids in windows]


def fixed(f: Callable, *args: object) -> Coder:
    return lambda x, _layer: f(x, *args)


def by_layer(f: Callable, tables: list) -> Coder:
    return lambda x, layer: f(x, tables[layer])


def plain_ways(d: int) -> list[Way]:
    row, channel = 16 / d, 32 / BLOCK
    ways = []
    for b in (5, 4, 3, 2):
        ways.append(Way(f"rot{b}", b + row, b + row, fixed(rotated, b), fixed(rotated, b)))
    ways.append(Way("int4", 4 + row, 4 + row, fixed(integers, 4), fixed(integers, 4)))
    for b in (4, 3, 2):
        k, v = fixed(between, b, -2), fixed(between, b, -1)
        ways.append(Way(f"kivi{b}", b + channel, b + 2 * row, v, k))
    return ways


def corrected_ways(d: int) -> list[Way]:
    def corrected(base: Callable, bits: int, rank: int, n: int) -> Coder:
        return lambda x, _layer: low_rank(x, base(x, bits), rank, n)

    ways = []
    bases = [("int4", integers, 4)] + [(f"rot{b}", rotated, b) for b in (4, 3, 2)]
    for name, base, bits in bases:
        for rank, n in ((1, 32), (2, 32), (1, 128), (2, 128), (4, 128)):
            cost = bits + 16 / d + 16 * rank * (n + d) / (n * d)
            coder = corrected(base, bits, rank, n)
            ways.append(Way(f"{name} + rank {rank} of {n} rows", cost, cost, coder, coder))
    return ways


def calibrated_ways(probe: "Probe", calibration: list[Tensor], d: int) -> list[Way]:
    """Keys only: the values are those of rotN, so that keys are compared."""
    layers = range(probe.n_layers)
    probe.kept = {(at, i): [] for at in ("before", "after") for i in layers}
    probe.run(calibration, None)
    kept = {key: torch.cat(rows, -2) for key, rows in probe.kept.items()}
    probe.kept = None
    ways = []
    for bits in (4, 3, 2):
        v, v_bits, channel = fixed(rotated, bits), bits + 16 / d, 32 / BLOCK

        def add(name: str, at: str, k_bits: float, k: Coder) -> None:
            way = Way(f"{bits} bits, keys {name} {at} rope", k_bits, v_bits, v)
            setattr(way, "k_before" if at == "before" else "k", k)
            ways.append(way)

        for at in ("before", "after"):
            for outliers in (0.0, 0.01):
                codes = [Calibrated(kept[at, i], bits, outliers) for i in layers]
                k = by_layer(lambda x, code: code(x), codes)
                kind = "calibrated, 1 % apart," if outliers else "calibrated"
                add(kind, at, bits + 32 * outliers, k)
            add("kivi", at, bits + channel, fixed(between, bits, -2))
            tables = [range_table(kept[at, i], bits) for i in layers]
            k = by_layer(lambda x, table: in_range(x, table, -2), tables)
            add("kivi with a table", at, bits + channel, k)
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--ways", default="", help="only those whose name has this in it")
    args = parser.parse_args()
    torch.set_num_threads(1)
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = load(args.model, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    with open(args.text, encoding="utf-8") as file:
        text = file.read()

    def windows(part: str) -> list[Tensor]:
        step = len(part) // args.windows
        pieces = [part[i * step : i * step + 8 * args.context] for i in range(args.windows)]
        return [torch.tensor(tokenizer(p).input_ids[: args.context]) for p in pieces]

    probe = Probe(model)
    measured, calibration = windows(text[: len(text) // 2]), windows(text[len(text) // 2 :])
    d = model.config.head_dim
    ways = plain_ways(d) + corrected_ways(d) + calibrated_ways(probe, calibration, d)
    expected = probe.run(measured, None)
    print("| K and V | bits | error of K | error of V | KL, nats | same top token |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for way in ways:
        if not re.search(args.ways, way.name):
            continue
        got = probe.run(measured, way)
        k, v = (sum(e) / len(e) for e in (probe.errors["k"], probe.errors["v"]))
        pairs = list(zip(expected, got, strict=True))
        kl = torch.cat([(a.exp() * (a - b)).sum(-1) for a, b in pairs]).mean()
        same = torch.cat([(a.argmax(-1) == b.argmax(-1)).float() for a, b in pairs]).mean()
        bits = (way.bits_k + way.bits_v) / 2
        figures = f"{bits:.2f} | {k:.5f} | {v:.5f} | {kl:.5f} | {100 * same:.1f} %"
        print(f"| {way.name} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
