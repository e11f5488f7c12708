"""The raw lines of a stream, and when each arrived: for inspection, not for parsing."""

from __future__ import annotations

import codecs
import threading
from collections import deque
from dataclasses import dataclass

KEPT = 300  # lines; a class looks at the last few, and a long answer has a hundred thousand
LONGEST = 2000  # characters kept of a line: one event may be 10 MB


@dataclass(frozen=True)
class WireLine:
    """One line, without line end.

    Parameters
    ----------
    number
        Its number in the stream, from 1.
    seconds
        From sending the request to the line's last byte.
    text
        Its content; "" for the blank lines that end events.
    """

    number: int
    seconds: float
    text: str


class Wiretap:
    """Splits bytes into lines and keeps the last ones.

    One thread adds, another may read.

    Parameters
    ----------
    kept
        Maximum number of lines.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.count = 0
        self._kept = kept
        self._lines: deque[WireLine] = deque(maxlen=kept)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._begun = ""  # the unfinished line
        self._left_out = 0  # its characters beyond the limit
        self._after_return = False
        self._lock = threading.Lock()

    def add(self, piece: bytes, seconds: float) -> None:
        """Add bytes that arrived `seconds` after the request."""
        text = self._decode(piece)
        if self._after_return and text.startswith("\n"):
            text = text[1:]
            self._after_return = False
        if text:
            self._after_return = text.endswith("\r")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        before, *ends = text.rsplit("\n", self._kept)
        with self._lock:
            # Of a million lines, process only those to be kept.
            passed, line_end, before = before.rpartition("\n")
            if line_end:
                self.count += passed.count("\n") + 1
                self._begun, self._left_out = "", 0
            for end in (before, *ends[:-1]) if ends else ():
                self._go_on(end)
                self._keep(seconds)
            self._go_on(ends[-1] if ends else before)

    def end(self, seconds: float) -> None:
        """End the stream: an unfinished line counts as a line."""
        with self._lock:
            self._go_on(self._decode(b"", final=True))  # an incomplete character
            if self._begun:
                self._keep(seconds)

    def since(self, number: int) -> list[WireLine]:
        """Return the kept lines after line `number`."""
        with self._lock:
            return [line for line in self._lines if line.number > number]

    def _go_on(self, text: str) -> None:
        room = LONGEST - len(self._begun)
        self._begun += text[:room]
        self._left_out += max(len(text) - room, 0)

    def _keep(self, seconds: float) -> None:
        more = f"… ({self._left_out:,} more characters)" if self._left_out else ""
        self.count += 1
        self._lines.append(WireLine(self.count, seconds, self._begun + more))
        self._begun, self._left_out = "", 0
