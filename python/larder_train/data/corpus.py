"""The corpus as token ids on disk: tokenised once, then mapped into memory.

A cache folder holds one little-endian uint16 file per source (books.bin, ...), in which every
document ends with `<|endoftext|>`, the tokenizer, and corpus.json that names them. With the
tokenizer of another model it is that one's end, and its BOS comes first where it asks for one.
"""

import dataclasses
import json
import pathlib

import numpy as np
from tokenizers import Tokenizer

from larder_train.data.documents import documents, source_name, text_files
from larder_train.data.tokenizer import end_of_text, load_tokenizer
from larder_train.errors import InputError
from larder_train.training.progress import Progress

BATCH_CHARS = 4_000_000  # encoded at once: enough for all threads, some hundred MB of results
PIECE_CHARS = 100_000    # a book is cut at line ends so that the threads share its work


def _pieces(text: str) -> list[str]:
    """Cuts before a line that starts with a letter: no token of the pre-tokenizer crosses that."""
    pieces, start = [], 0
    while len(text) - start > PIECE_CHARS:
        cut = start + PIECE_CHARS
        while cut < len(text) and not (text[cut - 1] == "\n" and text[cut].isalpha()):
            cut += 1
        pieces.append(text[start:cut])
        start = cut
    return pieces + [text[start:]] if start < len(text) else pieces


def _write(file, tokenizer: Tokenizer, batch: list[str | list[int]]) -> int:
    """Encodes pieces of text; lists of ids stand for themselves."""
    encoded = iter(tokenizer.encode_batch_fast([p for p in batch if isinstance(p, str)],
                                               add_special_tokens=False))
    n_tokens = 0
    for piece in batch:
        ids = piece if isinstance(piece, list) else next(encoded).ids
        file.write(np.asarray(ids, dtype="<u2").tobytes())
        n_tokens += len(ids)
    return n_tokens


def _tokenise(path: pathlib.Path, file, tokenizer: Tokenizer, eos: int) -> dict[str, int]:
    bos = [i for i in tokenizer.encode("").ids if i != eos]
    count = {"tokens": 0, "documents": 0, "bytes": 0}
    batch: list[str | list[int]] = []
    n_chars = 0
    for text in documents(path):
        batch += [bos, *_pieces(text), [eos]]
        n_chars += len(text)
        count["documents"] += 1
        count["bytes"] += len(text.encode())
        if n_chars > BATCH_CHARS:
            count["tokens"] += _write(file, tokenizer, batch)
            batch, n_chars = [], 0
    count["tokens"] += _write(file, tokenizer, batch)
    return count


def prepare_corpus(text: pathlib.Path, tokenizer_folder: pathlib.Path, cache: pathlib.Path) -> dict:
    """Tokenises every file of `text` into `cache`; returns what corpus.json then says."""
    tokenizer = load_tokenizer(tokenizer_folder, foreign=True)
    eos = end_of_text(tokenizer, tokenizer_folder)
    if tokenizer.get_vocab_size() > 65536:
        raise InputError(f"{tokenizer_folder}: vocabulary of {tokenizer.get_vocab_size()} tokens, "
                         "16 bits hold 65536")
    files = text_files(text)
    cache.mkdir(parents=True, exist_ok=True)
    totals: dict[str, dict[str, int]] = {}
    progress = Progress(len(files), "files")
    for i, path in enumerate(files):
        total = totals.setdefault(source_name(path), {"tokens": 0, "documents": 0, "bytes": 0})
        mode = "wb" if total["tokens"] == 0 else "ab"
        with open(cache / f"{source_name(path)}.bin", mode) as file:
            for key, n in _tokenise(path, file, tokenizer, eos).items():
                total[key] += n
        progress.update(i + 1, f"{path.name}: {sum(t['tokens'] for t in totals.values()):,} tokens")
    progress.close()
    tokenizer.save(str(cache / "tokenizer.json"))
    config = tokenizer_folder / "tokenizer_config.json"
    if config.is_file():
        (cache / config.name).write_text(config.read_text())
    info = {"format": "uint16", "sources": totals}
    (cache / "corpus.json").write_text(json.dumps(info, indent=2) + "\n")
    return info


@dataclasses.dataclass
class Corpus:
    """Token ids by source, mapped read-only, and the tokenizer they were made with."""

    tokenizer: Tokenizer
    sources: dict[str, np.ndarray]  # name -> uint16 [n_tokens]
    eos: int

    @staticmethod
    def open(cache: pathlib.Path) -> "Corpus":
        """Maps what `prepare_corpus` wrote; refuses files shorter than corpus.json says."""
        path = cache / "corpus.json"
        if not path.is_file():
            raise InputError(f"{path}: no such file; run `larder_train prepare` first")
        tokenizer = load_tokenizer(cache, foreign=True)
        sources = {}
        for name, total in json.loads(path.read_text())["sources"].items():
            ids = np.memmap(cache / f"{name}.bin", dtype="<u2", mode="r")
            if len(ids) != total["tokens"]:
                raise InputError(f"{cache / name}.bin: {len(ids)} tokens, "
                                 f"corpus.json says {total['tokens']}")
            sources[name] = ids
        return Corpus(tokenizer, sources, end_of_text(tokenizer, cache))
