"""The figures of a model's card: what was trained, what it scores."""

import hashlib
import json
import pathlib

from larder_train.errors import InputError
from larder_train.marked import replace_between
from larder_train.model.export import load_run
from larder_train.training.curve import read_metrics

BEGIN, END = "<!-- figures: written by `larder_train measure --card` -->", "<!-- end of figures -->"


def run_facts(run: pathlib.Path) -> dict:
    """What the newest checkpoint of a run has seen."""
    model, options = load_run(run)
    rows = read_metrics(run)
    if not rows:
        raise InputError(f"{run}/metrics.jsonl: no step in it")
    o = model.options
    return {"weights": sum(w.numel() for w in model.parameters()), "steps": rows[-1]["step"] + 1,
            "tokens": rows[-1]["tokens"], "context": o.context, "vocab_size": o.vocab_size,
            "shape": f"{'Qwen 3' if o.family == 'qwen3' else 'Llama'}: {o.n_layers} layers, width "
                     f"{o.n_embd}, {o.n_heads} heads of {o.head_dim}, {o.n_kv_heads} KV heads, "
                     f"feed-forward {o.n_ff}, {o.vocab_size} tokens, context {o.context}",
            "task_share": options["data"]["task_share"]}


def card_text(gguf: pathlib.Path, facts: dict, results: list[dict]) -> str:
    """Markdown: facts, bits per byte beside other models, retrieval."""
    data = gguf.read_bytes()
    texts = list(results[0]["bits_per_byte"])
    lines = ["| | |", "|---|---|", f"| weights | {facts['weights']:,} |",
             f"| shape | {facts['shape']} |",
             f"| training | {facts['tokens']:,} tokens in {facts['steps']:,} steps, "
             f"{facts['task_share']:.0%} of the rows generated tasks |",
             f"| this file | {len(data):,} bytes, sha256 `{hashlib.sha256(data).hexdigest()}` |",
             "",
             f"Bits per byte of held-out text, windows of {results[0]['context']} tokens that move "
             "by half" + (f", first {results[0]['max_tokens']:,} tokens:" if
                          results[0]["max_tokens"] else ", whole texts:"), "",
             "| | " + " | ".join(t.removeprefix("heldout_") for t in texts) + " |",
             "|---" * (len(texts) + 1) + "|"]
    for result in results:
        rows = [(result["model"], result["bits_per_byte"])]
        if long := result.get("long"):
            rows.append((f"{result['model']}, windows of {long['context']}", long["bits_per_byte"]))
        lines += [f"| {name} | " + " | ".join(f"{bits[t]:.3f}" for t in texts) + " |"
                  for name, bits in rows]
    retrieval = results[0].get("retrieval", [])
    if retrieval:
        depths = sorted(retrieval[0]["passkey_by_depth"])
        lines += ["", f"Right answers in {retrieval[0]['samples']} prompts each, keys hidden in "
                  "held-out text:", "",
                  "| tokens | pass-key | " + " | ".join(f"at depth {d}" for d in depths) +
                  " | key-value |", "|---" * (len(depths) + 3) + "|"]
        lines += [f"| {row['tokens']} | {row['passkey']:.0%} | " +
                  " | ".join(f"{row['passkey_by_depth'][d]:.0%}" for d in depths) +
                  f" | {row['key_value']:.0%} |" for row in retrieval]
    return "\n".join(lines)


def write_card(card: pathlib.Path, gguf: pathlib.Path, run: pathlib.Path,
               results: list[dict]) -> None:
    """Replaces the figures of `card`; the words around them stay."""
    facts = run_facts(run)
    replace_between(card, BEGIN, END, card_text(gguf, facts, results))
    gguf.with_suffix(".json").write_text(json.dumps({"run": facts, "results": results}, indent=2) +
                                         "\n")
