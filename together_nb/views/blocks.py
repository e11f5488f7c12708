"""Where growing text can be cut, so that what is finished need never be sent again.

The part that still grows, the tail, is sent at each repaint. Sealing what can no longer change
keeps it short: the cost of a token is the same at the 100th and the 100,000th.
"""

from __future__ import annotations

import re
from itertools import pairwise, repeat

from together_nb.base.fences import closing, open_fence, open_fences

SEAL_AFTER = 1200  # characters of tail from which a good place to cut is looked for
LONGEST = 4000  # characters of tail at which it is cut at a place that is not so good
_GAP = "\n\n"
_TABLE_RULE = re.compile(r"[ ]{0,3}\|?[ ]*:?-+:?[ ]*(?:\|[ ]*:?-+:?[ ]*){0,2000}(?:\|[ ]*)?")


class Plain(str):
    """Text to be drawn to the letter: a part of what begins with lines that are too long to be repeated."""

    __slots__ = ()


class Blocks:
    """Cuts text that grows.

    Parameters
    ----------
    markdown
        Whether the text is Markdown, which may be cut only where a block ends.

    Attributes
    ----------
    tail : str
        What has not been sealed. It may be `Plain`.
    """

    def __init__(self, *, markdown: bool) -> None:
        self.tail = ""
        self._markdown = markdown

    def add(self, text: str) -> str:
        """Take `text`; return what is sealed by it, which may be `Plain`, or ""."""
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
        """Where the last block that is known to be over ends, or 0."""
        if not self._markdown:
            cut = self.tail.rfind(_GAP)
            return cut + len(_GAP) if cut > 0 else 0
        lines = self.tail.split("\n")
        # What is `Plain` is over with the next blank line: what opened it is not known any more.
        fences = repeat("") if isinstance(self.tail, Plain) else open_fences(lines)
        end = start = 0
        blank = within = False
        for line, opening in zip(lines, fences, strict=False):
            # An indented line may go on a list item; what has not come may be indented.
            if blank and not within and start > len(_GAP) and line[:1].strip():
                end = start
            blank, within, start = not line, bool(opening), start + len(line) + 1
        return end

    def _forced(self) -> str:
        """Cut a block that is too long: at a line, a word, or anywhere; code and tables go on as such."""
        ends = (self.tail.rfind("\n") + 1, self.tail.rfind(" ") + 1)
        # Too near the start would leave as long a tail again.
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
    """The two lines that head the table in which `markdown` ends, or ""."""
    lines = markdown.rpartition("\n\n")[2].split("\n")
    for first, second in pairwise(lines):
        if "|" in second and _TABLE_RULE.fullmatch(second):
            return f"{first}\n{second}\n"
    return ""
