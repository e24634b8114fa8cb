"""The loss of a run as JSON lines, JSON and a picture."""

import json
import pathlib

from larder_train.training.checkpoint import write_whole

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 900, 420, 60, 40, 20, 50
_SERIES = [("loss", "text", "#2563a8"), ("answer_loss", "answers of tasks", "#c2571a")]


def read_metrics(run: pathlib.Path, before_step: int | None = None) -> list[dict]:
    """The lines of metrics.jsonl, those of `before_step` and later left out."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a kill cut the last line
    return [r for r in rows if before_step is None or r["step"] < before_step]


def write_metrics(run: pathlib.Path, rows: list[dict]) -> None:
    """Replaces metrics.jsonl."""
    write_whole(run / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _smoothed(rows: list[dict], key: str) -> list[tuple[int, float]]:
    """Mean over about a hundredth of the run; steps without a value are left out."""
    points = [(r["tokens"], r[key]) for r in rows if r.get(key) is not None]
    n = max(1, len(points) // 150)
    return [(points[min(i + n, len(points)) - 1][0],
             sum(y for _, y in points[i:i + n]) / len(points[i:i + n]))
            for i in range(0, len(points), n)]


def _axis(top: float, most_tokens: int) -> list[str]:
    """Grid lines with their numbers: nats upwards, millions of tokens to the right."""
    parts = []
    for i in range(6):
        y = _TOP + (_HEIGHT - _TOP - _BOTTOM) * i / 5
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * i / 5
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
                     f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                     f'{top * (5 - i) / 5:.1f}</text>'
                     f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">'
                     f'{most_tokens * i / 5e6:.2f}</text>')
    return parts


def curve_svg(rows: list[dict], title: str) -> str:
    """Both losses over the tokens seen."""
    series = [(label, colour, _smoothed(rows, key)) for key, label, colour in _SERIES]
    most = max((x for _, _, points in series for x, _ in points), default=1)
    top = max((y for _, _, points in series for _, y in points), default=1.0)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
             'font-family="sans-serif" font-size="13">',
             f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
             f'<text x="{_LEFT}" y="22" font-size="15">{title}</text>', *_axis(top, most),
             f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 10}" text-anchor="end">'
             'million tokens seen; loss in nats per token</text>']
    for i, (label, colour, points) in enumerate(series):
        line = " ".join(f"{_LEFT + (_WIDTH - _LEFT - _RIGHT) * x / most:.1f},"
                        f"{_TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - y / top):.1f}"
                        for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
                     f'<text x="{_WIDTH - 200}" y="{_TOP + 20 + 18 * i}" fill="{colour}">'
                     f'{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_curve(run: pathlib.Path, rows: list[dict], title: str) -> None:
    """curve.json and curve.svg."""
    (run / "curve.json").write_text(json.dumps({"title": title, "rows": rows}) + "\n")
    (run / "curve.svg").write_text(curve_svg(rows, title))
