"""Where to cut growing text, so that finished parts are never sent again.

The tail, which still grows, is sent at each repaint. Sealing what can no longer change keeps it
short: the 100,000th token costs as much as the 100th.
"""

from __future__ import annotations

import re
from itertools import pairwise, repeat

from together_nb.base.fences import closing, open_fence, open_fences

SEAL_AFTER = 1200  # characters of tail from which a good place to cut is sought
LONGEST = 4000  # characters of tail at which a cut is forced
_GAP = "\n\n"
_TABLE_RULE = re.compile(r"[ ]{0,3}\|?[ ]*:?-+:?[ ]*(?:\|[ ]*:?-+:?[ ]*){0,2000}(?:\|[ ]*)?")


class Plain(str):
    """Text drawn literally: part of a block whose opening lines are too long to repeat."""

    __slots__ = ()


class Blocks:
    """Cuts growing text.

    Parameters
    ----------
    markdown
        Whether the text is Markdown, which may be cut only where a block ends.

    Attributes
    ----------
    tail : str
        The text not yet sealed. It may be `Plain`.
    """

    def __init__(self, *, markdown: bool) -> None:
        self.tail = ""
        self._markdown = markdown

    def add(self, text: str) -> str:
        """Append `text`; return the part it seals, which may be `Plain`, or ""."""
        kind = type(self.tail)
        self.tail = kind(self.tail + text)
        if len(self.tail) < SEAL_AFTER:
            return ""
        cut = self._block_end()
        if cut:
            sealed, self.tail = self.tail[:cut].rstrip("\n"), self.tail[cut:]
            return kind(sealed)
        return self._forced() if len(self.tail) >= LONGEST else ""

    def _block_end(self) -> int:
        """Return the end of the last block known to be complete, or 0."""
        if not self._markdown:
            cut = self.tail.rfind(_GAP)
            return cut + len(_GAP) if cut > 0 else 0
        lines = self.tail.split("\n")
        # A `Plain` block ends at the next blank line: its opening line is no longer known.
        fences = repeat("") if isinstance(self.tail, Plain) else open_fences(lines)
        end = start = 0
        blank = within = False
        for line, opening in zip(lines, fences, strict=False):
            # An indented line may continue a list item; the next line may be indented.
            if blank and not within and start > len(_GAP) and line[:1].strip():
                end = start
            blank, within, start = not line, bool(opening), start + len(line) + 1
        return end

    def _forced(self) -> str:
        """Cut a block that is too long, at a line, a word, or anywhere; reopen code and tables after it."""
        ends = (self.tail.rfind("\n") + 1, self.tail.rfind(" ") + 1)
        # A cut near the start would leave a long tail.
        cut = next((end for end in ends if end > SEAL_AFTER), len(self.tail))
        kind, sealed, rest = type(self.tail), self.tail[:cut].removesuffix("\n"), self.tail[cut:]
        if self._markdown and kind is not Plain:
            opening = open_fence(sealed)
            head = f"{opening.lstrip()}\n" if opening else _table_head(sealed)
            if len(opening or head) > min(LONGEST // 2, len(sealed) // 2):
                kind = Plain
            else:
                sealed, rest = f"{sealed}\n{closing(opening)}" if opening else sealed, head + rest
        self.tail = kind(rest)
        return kind(sealed)


def _table_head(markdown: str) -> str:
    """Return the two header lines of the table in which `markdown` ends, or ""."""
    lines = markdown.rpartition("\n\n")[2].split("\n")
    for first, second in pairwise(lines):
        if "|" in second and _TABLE_RULE.fullmatch(second):
            return f"{first}\n{second}\n"
    return ""
