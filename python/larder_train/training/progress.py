"""One line that moves on a terminal, few lines in a pipe."""

import sys
import time


def _duration(seconds: float) -> str:
    seconds = int(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


class Progress:
    """Counts to `total`. On a terminal the line is redrawn, elsewhere a line is printed every
    `quiet_s` seconds, so that a log of hours stays readable."""

    def __init__(self, total: int, unit: str, done: int = 0, quiet_s: float = 30.0):
        self._total, self._unit, self._first = total, unit, done
        self._quiet_s = quiet_s
        self._start = time.monotonic()
        self._last = -quiet_s
        self._terminal = sys.stderr.isatty()

    def update(self, done: int, text: str) -> None:
        """Shows `done` of the total, the time left at the present rate, and `text`."""
        now = time.monotonic() - self._start
        if now - self._last < (0.2 if self._terminal else self._quiet_s) and done < self._total:
            return
        self._last = now
        rate = (done - self._first) / now if now > 0 else 0.0
        left = _duration((self._total - done) / rate) if rate > 0 else "?"
        line = f"{done}/{self._total} {self._unit}, {left} left, {text}"
        end = "" if self._terminal else "\n"
        print(("\r\x1b[K" if self._terminal else "") + line, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the moving line."""
        if self._terminal:
            print(file=sys.stderr)
