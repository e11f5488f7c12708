"""Where growing text can be cut, so that what is finished need never be sent again.

The part that still grows, the tail, is sent at each repaint. Sealing what can no longer change
keeps it short: the cost of a token is the same at the 100th and the 100,000th.
"""

from __future__ import annotations

import re
from itertools import pairwise

from together_nb.escape import closing, open_fence

SEAL_AFTER = 1200  # characters of tail from which a good place to cut is looked for
LONGEST = 4000  # characters of tail at which it is cut at a place that is not so good
_TABLE_RULE = re.compile(r"[ ]{0,3}\|?[ ]*:?-+:?[ ]*(?:\|[ ]*:?-+:?[ ]*)*\|?[ ]*")


class Blocks:
    """Cuts text that grows.

    Parameters
    ----------
    markdown
        Whether the text is Markdown, which may be cut only where a block ends.

    Attributes
    ----------
    tail : str
        What has not been sealed.
    """

    def __init__(self, *, markdown: bool) -> None:
        self.tail = ""
        self._markdown = markdown

    def add(self, text: str) -> str:
        """Take `text`; return what is sealed by it, or ""."""
        self.tail += text
        if len(self.tail) < SEAL_AFTER:
            return ""
        cut = self._block_end()
        if cut:
            sealed, self.tail = self.tail[:cut].rstrip("\n"), self.tail[cut:]
            return sealed
        return self._forced() if len(self.tail) >= LONGEST else ""

    def _block_end(self) -> int:
        """Where the last block that is known to be over ends, or 0."""
        cut = self.tail.rfind("\n\n")
        while cut > 0:
            after = self.tail[cut + 2 : cut + 3]
            # An indented line may go on a list item; what has not come may be indented.
            if not self._markdown or (after and not after.isspace() and not open_fence(self.tail[:cut])):
                return cut + 2
            cut = self.tail.rfind("\n\n", 0, cut)
        return 0

    def _forced(self) -> str:
        """Cut a block that is too long: at a line, a word, or anywhere; code and tables go on as such."""
        ends = (self.tail.rfind("\n") + 1, self.tail.rfind(" ") + 1)
        # Too near the start would leave as long a tail again.
        cut = next((end for end in ends if end > SEAL_AFTER), len(self.tail))
        sealed, rest = self.tail[:cut].removesuffix("\n"), self.tail[cut:]
        if self._markdown:
            opened = open_fence(sealed)
            if opened:
                sealed, rest = f"{sealed}\n{closing(opened)}", f"{opened.lstrip()}\n{rest}"
            else:
                rest = _table_head(sealed) + rest
        self.tail = rest
        return sealed


def _table_head(markdown: str) -> str:
    """The two lines that head the table in which `markdown` ends, or ""."""
    lines = markdown.rpartition("\n\n")[2].split("\n")
    for first, second in pairwise(lines):
        if "|" in second and _TABLE_RULE.fullmatch(second):
            return f"{first}\n{second}\n"
    return ""
