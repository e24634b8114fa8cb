"""Pages in which a program writes one part, between two marks, and people the rest."""

import pathlib


def replace_between(page: pathlib.Path, begin: str, end: str, text: str) -> None:
    """Puts `text` between the marks; a page without them gets both at its end."""
    old = page.read_text() if page.is_file() else ""
    before, mark, rest = old.partition(begin)
    block = f"{begin}\n\n{text.strip()}\n\n{end}"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(before + block + rest.partition(end)[2] if mark else f"{old}{block}\n")
