"""Suggest the nearest names, for a message about a name that does not exist."""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


_LONGEST_NAME = 120  # characters; a longer one is no typo
_MOST_COMPARED = 300  # names, letter by letter
_PIECES = 12


def suggestion(word: str, known: Iterable[str], *, count: int = 3) -> str:
    """Return a sentence with the nearest of `known`, or "" if none is near.

    Parameters
    ----------
    word
        What was typed.
    known
        The valid names.
    count
        The most names to offer.
    """
    import difflib  # takes 3 ms, too long for loading the extension

    if len(word) > _LONGEST_NAME:
        return ""
    by_lower, word = {name.lower(): name for name in known if len(name) <= _LONGEST_NAME}, word.lower()
    # A model is often typed without its organization, an option without its end. Two letters match too many names.
    containing = [lower for lower in by_lower if len(word) > 2 and word in lower]  # noqa: PLR2004
    near = [lower for lower in containing if lower.startswith(word)][:count]
    if not near:
        near = difflib.get_close_matches(word, _likeliest(word, by_lower), n=count, cutoff=0.6)
        closeness = {name: difflib.SequenceMatcher(None, name, word).ratio() for name in near}
        near = [name for name in near if closeness[name] > closeness[near[0]] - 0.1] or containing[:count]
    return f"Did you mean {' or '.join(by_lower[lower] for lower in near)}?" if near else ""


def _likeliest(word: str, names: Collection[str]) -> Collection[str]:
    """Return the `names` that contain the most pieces of `word`: a server's list may be of any length."""
    if len(names) <= _MOST_COMPARED:
        return names
    pieces = [word[at : at + 3] for at in range(0, len(word), len(word) // _PIECES + 1)]
    return nlargest(_MOST_COMPARED, names, key=lambda name: sum(map(name.__contains__, pieces)))
