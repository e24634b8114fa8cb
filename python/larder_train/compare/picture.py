"""Pictures of a comparison."""

import math

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 860, 420, 70, 46, 150, 56
_BLUE, _ORANGE = "#2563a8", "#c2571a"


def _open(height: int, title: str) -> list[str]:
    return [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            f'<text x="{_LEFT}" y="24" font-size="15">{title}</text>']


def _spread(wanted: list[float], gap: float) -> list[float]:
    """Heights of labels, moved down where they would overlap."""
    placed = [0.0] * len(wanted)
    last = -math.inf
    for i in sorted(range(len(wanted)), key=wanted.__getitem__):
        last = placed[i] = max(wanted[i], last + gap)
    return placed


def quality_svg(points: list[tuple[str, int, float]]) -> str:
    """(title, KV bytes per token, bits per byte) as points; the axis of bytes is logarithmic, lower
    and further left is better."""
    sizes = [math.log2(size) for _, size, _ in points]
    bits = [value for _, _, value in points]
    low_x, high_x = math.floor(min(sizes)), math.ceil(max(sizes))
    high_x = max(high_x, low_x + 1)
    margin = max(0.01, 0.1 * (max(bits) - min(bits)))
    low_y, high_y = min(bits) - margin, max(bits) + margin

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low_x) / (high_x - low_x)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high_y - value) / (high_y - low_y)

    parts = _open(_HEIGHT, "Held-out bits per byte against KV bytes per token")
    for i in range(6):
        value = low_y + (high_y - low_y) * i / 5
        parts.append(f'<path d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
                     f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">'
                     f'{value:.3f}</text>')
    for power in range(low_x, high_x + 1):
        parts.append(f'<path d="M{x(power):.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>'
                     f'<text x="{x(power):.1f}" y="{_HEIGHT - _BOTTOM + 20}" '
                     f'text-anchor="middle">{2 ** power}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 14}" '
                 'text-anchor="middle">KV bytes per token, bf16, all layers</text>')
    labels = _spread([y(value) for value in bits], 15)
    for (title, _, value), size, at in zip(points, sizes, labels):
        colour = _ORANGE if " to " in title else _BLUE
        parts.append(f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="5" fill="{colour}"/>'
                     f'<text x="{x(size) + 9:.1f}" y="{at + 4:.1f}" fill="{colour}">{title}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def speed_svg(rates: list[tuple[str, float]], title: str) -> str:
    """(title, tokens per second) as bars."""
    height = _TOP + 34 * len(rates) + 16
    most = max(rate for _, rate in rates)
    parts = _open(height, title)
    for i, (name, rate) in enumerate(rates):
        top, width = _TOP + 34 * i, (_WIDTH - 220 - 90) * rate / most
        parts.append(f'<text x="212" y="{top + 17}" text-anchor="end">{name}</text>'
                     f'<rect x="220" y="{top}" width="{width:.1f}" height="24" '
                     f'fill="{_ORANGE if " to " in name else _BLUE}"/>'
                     f'<text x="{226 + width:.1f}" y="{top + 17}">{rate:.0f}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
