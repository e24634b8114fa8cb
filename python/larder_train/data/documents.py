"""Documents of plain or bzip2-compressed text files, one after the other.

A file holds documents in UTF-8, each followed by a line `<|endoftext|>`.
"""

import bz2
import pathlib
import re
from collections.abc import Iterator

from larder_train.errors import InputError

END_OF_TEXT = "<|endoftext|>"


def text_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The `*.txt` and `*.txt.bz2` files of a folder in the order of their names."""
    files = sorted(p for p in folder.glob("*.txt*") if p.name.endswith((".txt", ".txt.bz2")))
    if not files:
        raise InputError(f"{folder}: no *.txt or *.txt.bz2 file in it")
    return files


def source_name(path: pathlib.Path) -> str:
    """What a file belongs to: books-03.txt.bz2 -> books."""
    return re.sub(r"-\d+$", "", path.name.removesuffix(".bz2").removesuffix(".txt"))


def documents(path: pathlib.Path) -> Iterator[str]:
    """Yields the documents of one file without their separators, empty ones left out."""
    opened = bz2.open(path, "rt", encoding="utf-8") if path.suffix == ".bz2" else \
        open(path, encoding="utf-8")
    lines: list[str] = []
    with opened as file:
        for line in file:
            if line.rstrip("\n") != END_OF_TEXT:
                lines.append(line)
                continue
            if text := "".join(lines).strip("\n"):
                yield text + "\n"
            lines = []
    if text := "".join(lines).strip("\n"):
        yield text + "\n"
