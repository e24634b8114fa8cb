"""What a model knows: bits per byte on held-out text, and whether it finds what it read.

Retrieval is scored by exact match: every token of the answer is the most likely one. With greedy
decoding that is the same as producing the answer, and costs one forward pass.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
from tokenizers import Tokenizer

from larder_train.data.documents import END_OF_TEXT, documents
from larder_train.data.tasks import ANSWER, Task, TaskMaker
from larder_train.data.tokenizer import load_tokenizer
from larder_train.errors import InputError
from larder_train.model.export import load_run
from larder_train.model.hf import load_hf
from larder_train.model.loss import Targets, linear_cross_entropy
from larder_train.model.transformer import Transformer
from larder_train.options import EvaluateOptions


def _open(folder: pathlib.Path) -> tuple[Transformer, Tokenizer]:
    if (folder / "checkpoints").is_dir():
        model, options = load_run(folder)
        return model.eval(), load_tokenizer(pathlib.Path(options["data"]["cache"]))
    return load_hf(folder).eval(), load_tokenizer(folder)


def first_tokens(tokenizer: Tokenizer, path: pathlib.Path, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the first `n` tokens and the bytes of text that each stands for; ends of documents
    are tokens of no byte."""
    eos = tokenizer.token_to_id(END_OF_TEXT)
    ids, sizes = [], []
    for text in documents(path):
        encoded = tokenizer.encode(text, add_special_tokens=False)
        ids += [*encoded.ids, eos]
        # Byte-level pieces write each byte as one character.
        sizes += [*(len(piece) for piece in encoded.tokens), 0]
        if len(ids) >= n:
            break
    return np.asarray(ids[:n], np.int64), np.asarray(sizes[:n], np.int64)


@torch.no_grad()
def bits_per_byte(model: Transformer, ids: np.ndarray, sizes: np.ndarray, context: int) -> float:
    """Windows of `context` tokens advance by half; only tokens new to a window are scored, ends of
    documents never."""
    stride = max(1, context // 2)
    nats, n_bytes, scored = 0.0, 0, 1
    for start in range(0, len(ids) - 1, stride):
        window = torch.from_numpy(ids[start:start + context])
        nll = _losses(model, window)
        first = max(scored, start + 1)
        last = start + len(window)
        fresh = torch.from_numpy(sizes[first:last])
        nats += nll[first - start - 1:][fresh > 0].double().sum().item()
        n_bytes += int(fresh.sum())
        scored = last
        if last == len(ids):
            break
    return nats / math.log(2) / max(1, n_bytes)


def _losses(model: Transformer, ids: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of ids[1:], [n - 1]."""
    hidden = model.hidden(ids[None, :-1])[0]
    targets = Targets(ids[1:], torch.zeros(len(ids) - 1))
    return linear_cross_entropy(hidden, model.output_weight, targets)[1]


@torch.no_grad()
def answered(model: Transformer, task: Task, last_only: bool) -> tuple[int, int]:
    """(right, asked): runs of answer tokens that are most likely throughout."""
    ids = torch.from_numpy(task.ids.astype(np.int64))
    is_answer = task.kinds == ANSWER
    at = np.flatnonzero(is_answer)
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    if last_only:
        runs = runs[-1:]
    hidden = model.hidden(ids[None])[0]
    right = 0
    for run in runs:
        guess = (hidden[run - 1] @ model.output_weight.T).argmax(-1)
        right += bool((guess == ids[run]).all())
    return right, len(runs)


def retrieval(model: Transformer, maker: TaskMaker, length: int, samples: int, seed: int) -> dict:
    """Accuracy of pass-key (in all and by depth) and of key-value at prompts of `length` tokens."""
    by_depth: dict[str, list[bool]] = {}
    key_value = [0, 0]
    for i in range(samples):
        rng = np.random.default_rng([seed, length, i])
        depth = (i % 5) / 4
        right, _ = answered(model, maker.passkey(rng, length, depth), last_only=True)
        by_depth.setdefault(f"{depth:.2f}", []).append(bool(right))
        for k, n in enumerate(answered(model, maker.key_value(rng, length, n_questions=4), False)):
            key_value[k] += n
    hits = [hit for list_ in by_depth.values() for hit in list_]
    return {"tokens": length, "samples": samples, "passkey": sum(hits) / max(1, len(hits)),
            "passkey_by_depth": {d: sum(h) / len(h) for d, h in sorted(by_depth.items())},
            "key_value": key_value[0] / max(1, key_value[1])}


def evaluate(options: EvaluateOptions) -> dict:
    """Prints and returns the figures; writes them to `out` if given."""
    if not options.model or not options.text:
        raise InputError("evaluate needs --model and --text (retrieval hides its keys in the text)")
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    model, tokenizer = _open(pathlib.Path(options.model))
    paths = sorted(pathlib.Path(options.text).glob("heldout_*.txt"))
    if not paths:
        raise InputError(f"{options.text}: no heldout_*.txt in it")
    texts = {p.stem: first_tokens(tokenizer, p, options.tokens) for p in paths}
    result: dict = {"model": options.model, "bits_per_byte": {}, "retrieval": []}
    for name, (ids, sizes) in texts.items():
        result["bits_per_byte"][name] = bits_per_byte(model, ids, sizes, options.context)
        print(f"{name}: {result['bits_per_byte'][name]:.4f} bits per byte, {len(ids)} tokens, "
              f"context {options.context}", flush=True)
    filler = next(iter(texts.values()))[0]
    filler = filler[filler != tokenizer.token_to_id(END_OF_TEXT)].astype(np.uint16)

    def window(rng: np.random.Generator, n: int) -> np.ndarray:
        start = int(rng.integers(0, max(1, len(filler) - n)))
        return filler[start:start + n]

    for length in options.lengths:
        if length > model.options.context:
            print(f"{length}: longer than the model's context", file=sys.stderr)
            continue
        row = retrieval(model, TaskMaker(tokenizer, window), length, options.samples, options.seed)
        result["retrieval"].append(row)
        print(f"{length} tokens: pass-key {row['passkey']:.0%}, key-value {row['key_value']:.0%}, "
              f"by depth {row['passkey_by_depth']}", flush=True)
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(result, indent=2) + "\n")
    return result
