"""The figures of a GGUF file, measured through the engine that serves it.

Bits per byte come from `larder eval perplexity`. Retrieval is scored by generation: the prompt ends
where the answer begins, the greedy continuation must be it.
"""

import json
import pathlib

import numpy as np
from tokenizers import Tokenizer

from larder_train.card import write_card
from larder_train.data.documents import END_OF_TEXT, documents
from larder_train.data.tasks import ANSWER, Task, TaskMaker
from larder_train.data.tokenizer import load_tokenizer
from larder_train.engine import Engine
from larder_train.errors import InputError
from larder_train.options import MeasureOptions
from larder_train.training.progress import Progress

DEPTHS = [0.0, 0.25, 0.5, 0.75, 1.0]
SLACK_TOKENS = 16  # text that was cut between tokens may have a few more when it is read again
FILLER_BYTES = 400_000


def heldout_texts(folder: pathlib.Path) -> list[pathlib.Path]:
    """heldout_*.txt by name."""
    paths = sorted(folder.glob("heldout_*.txt"))
    if not paths:
        raise InputError(f"{folder}: no heldout_*.txt in it")
    return paths


def task_maker(tokenizer: Tokenizer, text: pathlib.Path) -> TaskMaker:
    """Tasks that hide their keys in held-out text."""
    parts, size = [], 0
    for document in documents(text):
        parts.append(document)
        size += len(document)
        if size > FILLER_BYTES:
            break
    ids = np.asarray(tokenizer.encode("".join(parts)[:FILLER_BYTES],
                                      add_special_tokens=False).ids, np.uint16)
    ids = ids[ids != tokenizer.token_to_id(END_OF_TEXT)]

    def window(rng: np.random.Generator, n: int) -> np.ndarray:
        start = int(rng.integers(0, max(1, len(ids) - n)))
        return ids[start:start + n]

    return TaskMaker(tokenizer, window)


def question(tokenizer: Tokenizer, task: Task) -> tuple[str, str, int]:
    """(prompt, answer, tokens of the answer) of a task's last question."""
    at = np.flatnonzero(task.kinds == ANSWER)
    last = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)[-1]
    ids = task.ids.tolist()
    # A window of text may begin or end inside a character.
    prompt = tokenizer.decode(ids[:last[0]]).replace("\ufffd", "").replace("\x00", "")
    return prompt, tokenizer.decode(ids[last[0]:last[-1] + 1]), len(last)


def retrieval(engine: Engine, gguf: pathlib.Path, maker: TaskMaker, options: MeasureOptions,
              progress: Progress) -> list[dict]:
    """Pass-key (in all and by depth) and key-value accuracy at each length."""
    tokenizer, rows, done = maker.tokenizer, [], 0
    for length in options.lengths:
        by_depth: dict[str, list[bool]] = {}
        values: list[bool] = []
        for i in range(options.samples):
            rng = np.random.default_rng([options.seed, length, i])
            depth = DEPTHS[i % len(DEPTHS)]
            n = length - SLACK_TOKENS
            tasks = [maker.passkey(rng, n, depth), maker.key_value(rng, n, n_questions=1)]
            right = []
            for task in tasks:
                prompt, answer, n_answer = question(tokenizer, task)
                # A tokenizer of few tokens makes longer prompts than were asked for.
                needed = len(tokenizer.encode(prompt).ids) + n_answer
                text = engine.complete(gguf, prompt, n_answer, max(length, needed))
                right.append(text.strip() == answer.strip())
            by_depth.setdefault(f"{depth:.2f}", []).append(right[0])
            values.append(right[1])
            done += 1
            progress.update(done, f"{gguf.name}: {length} tokens")
        hits = [hit for list_ in by_depth.values() for hit in list_]
        rows.append({"tokens": length, "samples": options.samples,
                     "passkey": sum(hits) / len(hits),
                     "passkey_by_depth": {d: sum(h) / len(h) for d, h in by_depth.items()},
                     "key_value": sum(values) / len(values)})
    return rows


def _bits(engine: Engine, gguf: pathlib.Path, texts: list[pathlib.Path], context: int,
          max_tokens: int) -> dict:
    return {text.stem: engine.bits_per_byte(gguf, text, context, max_tokens)["bits_per_byte"]
            for text in texts}


def measure_file(engine: Engine, gguf: pathlib.Path, tokenizer: Tokenizer | None,
                 options: MeasureOptions) -> dict:
    """Bits per byte on each held-out text; retrieval too when there is a tokenizer."""
    texts = heldout_texts(pathlib.Path(options.text))
    result: dict = {"model": gguf.name, "file_bytes": gguf.stat().st_size,
                    "context": options.context, "max_tokens": options.tokens}
    result["bits_per_byte"] = _bits(engine, gguf, texts, options.context, options.tokens)
    if tokenizer is not None and options.lengths and options.samples > 0:
        progress = Progress(options.samples * len(options.lengths), "prompts")
        result["retrieval"] = retrieval(engine, gguf, task_maker(tokenizer, texts[0]), options,
                                        progress)
        progress.close()
    return result


def measure(options: MeasureOptions) -> dict:
    """Prints the figures of --gguf and of each file of --beside; writes JSON to --out."""
    if not options.gguf or not options.larder or not options.text:
        raise InputError("measure needs --gguf, --larder and --text")
    if options.card and not options.run:
        raise InputError("measure --card needs --run")
    engine = Engine(options.larder, options.threads)
    tokenizer = load_tokenizer(pathlib.Path(options.tokenizer)) if options.tokenizer else None
    gguf = pathlib.Path(options.gguf)
    results = [measure_file(engine, gguf, tokenizer, options)]
    if options.long_context > 0:
        bits = _bits(engine, gguf, heldout_texts(pathlib.Path(options.text)), options.long_context,
                     options.tokens)
        results[0]["long"] = {"context": options.long_context, "bits_per_byte": bits}
    for path in options.beside:
        results.append(measure_file(engine, pathlib.Path(path), None, options))
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(results, indent=2) + "\n")
    if options.card:
        write_card(pathlib.Path(options.card), gguf, pathlib.Path(options.run), results)
    for result in results:
        for name, value in result["bits_per_byte"].items():
            print(f"{result['model']}: {name} {value:.4f} bits per byte")
        for row in result.get("retrieval", []):
            print(f"{result['model']}: {row['tokens']} tokens, pass-key {row['passkey']:.0%}, "
                  f"key-value {row['key_value']:.0%}, pass-key by depth {row['passkey_by_depth']}")
    return {"results": results}
