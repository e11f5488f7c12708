"""The lines of a stream as they came over the wire, with the moment of each: to look at, not to parse."""

from __future__ import annotations

import codecs
import threading
from collections import deque
from dataclasses import dataclass

KEPT = 300  # lines; a class looks at the last few, and a long answer has a hundred thousand
LONGEST = 2000  # characters of a line that are kept: one event may be 10 MB


@dataclass(frozen=True)
class WireLine:
    """One line, without its end.

    Parameters
    ----------
    number
        Which one it is of the stream, from 1.
    seconds
        Since the request was sent, until its last byte had come.
    text
        What stands on it; "" for the blank lines that end events.
    """

    number: int
    seconds: float
    text: str


class Wiretap:
    """Takes bytes, cut anywhere; keeps the last lines.

    One thread adds, another may look.

    Parameters
    ----------
    kept
        The most lines that are kept.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.count = 0
        self._kept = kept
        self._lines: deque[WireLine] = deque(maxlen=kept)
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._begun = ""  # of the line that has no end yet
        self._left_out = 0  # characters of it that are too many
        self._after_return = False
        self._lock = threading.Lock()

    def add(self, piece: bytes, seconds: float) -> None:
        """Take bytes that came `seconds` after the request was sent."""
        text = self._decode(piece)
        if self._after_return and text.startswith("\n"):
            text = text[1:]
            self._after_return = False
        if text:
            self._after_return = text.endswith("\r")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        before, *ends = text.rsplit("\n", self._kept)
        with self._lock:
            # Of a million lines only those that are kept are looked at.
            passed, line_end, before = before.rpartition("\n")
            if line_end:
                self.count += passed.count("\n") + 1
                self._begun, self._left_out = "", 0
            for end in (before, *ends[:-1]) if ends else ():
                self._go_on(end)
                self._keep(seconds)
            self._go_on(ends[-1] if ends else before)

    def end(self, seconds: float) -> None:
        """No more bytes come: what has no line end is a line too."""
        with self._lock:
            self._go_on(self._decode(b"", final=True))  # of a character that was cut
            if self._begun:
                self._keep(seconds)

    def since(self, number: int) -> list[WireLine]:
        """The kept lines after the one of that number."""
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
