#!/usr/bin/env python3
"""Puts a model's report of `larder eval sweep` into the page of all models.

    scripts/formats_page.py PAGE REPORT

REPORT, "# Configurations of NAME" and what follows, becomes the section "## NAME" of PAGE, in place
of the one that is there; other sections stay. REPORT must lie beside PAGE, for its links are
relative, and is removed.
"""

import os
import re
import sys

HEAD = "# Configurations of "


def main(page_path: str, report_path: str) -> None:
    with open(report_path, encoding="utf-8") as file:
        report = file.read()
    if not report.startswith(HEAD):
        sys.exit(f"{report_path} does not begin with '{HEAD}NAME'")
    title, _, body = report.removeprefix(HEAD).partition("\n")
    page = "# Storage formats, measured\n"
    if os.path.exists(page_path):
        with open(page_path, encoding="utf-8") as file:
            page = file.read()
    intro, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    new = f"{title}\n\n{body.strip()}\n"
    places = [i for i, section in enumerate(sections) if section.partition("\n")[0] == title]
    if places:
        sections[places[0]] = new
    else:
        sections.append(new)
    text = intro.rstrip() + "\n" + "".join(f"\n## {section.strip()}\n" for section in sections)
    with open(page_path, "w", encoding="utf-8") as file:
        file.write(text)
    os.remove(report_path)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
