"""Stop sequences: an answer ends before the first of them, even within or across tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from together_nb.local.vocabulary import Generated


class StopFilter:
    """Passes tokens on once they cannot belong to a stop sequence.

    Parameters
    ----------
    stops
        The stop sequences, none of them empty.

    Attributes
    ----------
    met
        Whether a stop sequence was found. Nothing may be fed after that.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held: list[Generated] = []
        self._text = ""
        self.met = False

    def feed(self, piece: Generated) -> Iterator[Generated]:
        """Take in `piece`, and yield the tokens that are now certain."""
        if not self._stops:
            yield piece
            return
        self._held.append(piece)
        self._text += piece.text
        ends = [(start + len(stop), start) for stop in self._stops if (start := self._text.find(stop)) >= 0]
        if ends:
            # The one completed first, as if the text arrived letter by letter.
            self.met = True
            yield from self._release(min(ends)[1], cut=True)
            self._held.clear()
        else:
            yield from self._release(len(self._text) - self._unsure())

    def flush(self) -> Iterator[Generated]:
        """Yield the tokens still held back, at the end of the text."""
        yield from self._held
        self._held.clear()

    def _unsure(self) -> int:
        """How many trailing characters may begin a stop sequence."""
        for length in range(min(self._longest - 1, len(self._text)), 0, -1):
            end = self._text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _release(self, length: int, *, cut: bool = False) -> Iterator[Generated]:
        """The held tokens within the first `length` characters; with `cut`, also part of one."""
        while self._held and len(self._held[0].text) <= length:
            piece = self._held.pop(0)
            length -= len(piece.text)
            self._text = self._text[len(piece.text) :]
            yield piece
        if cut and length:
            piece = self._held[0]
            yield piece._replace(text=piece.text[:length])
