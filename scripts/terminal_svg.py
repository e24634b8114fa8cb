#!/usr/bin/env python3
"""Draws what a command printed as a picture of a terminal (SVG), for the README.

    scripts/terminal_svg.py OUT.svg TITLE < output.txt
"""

import html
import sys
import textwrap

COLUMNS, LINE, CHAR, MARGIN = 100, 18, 7.8, 16


def main():
    out, title = sys.argv[1:3]
    lines = []
    for line in sys.stdin.read().rstrip("\n").split("\n"):
        lines += textwrap.wrap(line, COLUMNS, drop_whitespace=False) or [""]
    width = int(COLUMNS * CHAR + 2 * MARGIN)
    height = int(len(lines) * LINE + 3.2 * MARGIN + 10)
    rows = []
    for i, line in enumerate(lines):
        color = "#8ab4f8" if line.startswith(("$ ", "> ")) else "#e8eaed"
        rows.append(f'<text x="{MARGIN}" y="{52 + i * LINE}" fill="{color}" '
                    f'xml:space="preserve">{html.escape(line)}</text>')
    dots = "".join(f'<circle cx="{20 + 18 * i}" cy="17" r="5.5" fill="{c}"/>'
                   for i, c in enumerate(("#ec6a5e", "#f4bf4f", "#61c554")))
    with open(out, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
                f'viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}">'
                f'<rect width="100%" height="100%" rx="8" fill="#202124"/>{dots}'
                f'<text x="{width / 2}" y="21" fill="#9aa0a6" text-anchor="middle" '
                f'font-family="sans-serif" font-size="12">{html.escape(title)}</text>'
                f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13">'
                + "".join(rows) + "</g></svg>\n")


if __name__ == "__main__":
    main()
