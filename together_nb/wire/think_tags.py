"""The `<think>…</think>` block with which some models begin a text, split off while the text grows.

DeepSeek R1 and Qwen write their thinking this way; most servers move it to a field of its own, others pass it on.
"""

from __future__ import annotations

_BEGIN, _END = "<think>", "</think>"


class ThinkTags:
    """Splits a growing text into thinking and answer.

    Only a block at the start is thinking: a text that mentions the tag later is left as it is. Without its end tag, all of
    the text is thinking. White space around both tags belongs to neither part.

    Attributes
    ----------
    open : bool
        Whether what comes next may belong to a block.
    found : bool
        Whether the text begins with a block.
    """

    def __init__(self) -> None:
        self.open = True
        self.found = False
        self._thinking = False
        self._ended = False
        self._thought = False  # whether any thinking was returned
        self._held = ""  # the beginning of a tag, or white space that may precede one

    def add(self, text: str) -> tuple[str, str]:
        """Return the new thinking and the new text, as far as they can be told apart."""
        if not self.open:
            return "", text
        self._held += text
        if not self._thinking and not self._ended:
            start = self._held.lstrip()
            if not start.startswith(_BEGIN):
                return self._before(start)
            self.found = self._thinking = True
            self._held = start[len(_BEGIN) :]
        thought = self._think() if self._thinking else ""
        if not self._ended:
            return thought, ""
        said, self._held = self._held.lstrip(), ""
        self.open = not said
        return thought, said

    def end(self) -> tuple[str, str]:
        """Return what was held back, at the end of the text."""
        held, self._held, self.open = self._held, "", False
        return (held.rstrip(), "") if self._thinking else ("", "" if self._ended else held)

    def _before(self, start: str) -> tuple[str, str]:
        if _BEGIN.startswith(start):  # as does ""
            return "", ""
        self.open = False
        said, self._held = self._held, ""
        return "", said

    def _think(self) -> str:
        if not self._thought:
            self._held = self._held.lstrip()
        thought, found, rest = self._held.partition(_END)
        if found:
            self._thinking, self._ended, self._held = False, True, rest
            return thought.rstrip()
        keep = next((length for length in range(len(_END) - 1, 0, -1) if thought.endswith(_END[:length])), 0)
        thought = thought[: len(thought) - keep].rstrip()
        self._held = self._held[len(thought) :]
        self._thought = self._thought or bool(thought)
        return thought
