"""The key taken out of a reply's pieces, be it cut over several of them or spelled out over several events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from together_nb.config import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from together_nb.config import Key

_IN_A_URL = 3  # characters that one of a key may take there
_SPELLED = re.compile(r'"(text|content|reasoning|reasoning_content|token)"\s*:\s*"((?:[^"\\]|\\.)*)"')
_CHOICE = re.compile(r'"index"\s*:\s*(\d+)')

Pieces = list[tuple[float, str]]


def keys_to_hide(sent: Key | None) -> list[Key]:
    """The key that goes with a request, and the one that is set: it may stand in a prompt to a server that needs none."""
    return [key for key in dict.fromkeys((sent, settings.api_key)) if key is not None]


def without_key(pieces: Pieces, key: Key) -> Pieces:
    """`pieces` (seconds, text) without the key and long parts of it.

    Those over whose cut a part of it stands come as one, with the last of them. A model that is
    told the key may repeat it token by token: events that spell it out come with it in the first, blanked.
    """
    pieces = _edited(pieces, list(_spelled_out("".join(text for _, text in pieces), key)))
    if not key.stands_in("".join(text for _, text in pieces)):
        return pieces
    groups = _groups([text for _, text in pieces], key)
    merged = [
        (pieces[last - 1][0], key.blanked("".join(text for _, text in pieces[first:last]))) for first, last in groups
    ]
    whole = "".join(text for _, text in merged)
    return [(pieces[-1][0], key.blanked(whole))] if key.stands_in(whole) else merged


def _groups(texts: list[str], key: Key) -> Iterator[tuple[int, int]]:
    """Runs of `texts` (from, to) between cuts that tear no part of the key."""
    whole = "".join(texts)
    around = _IN_A_URL * len(key.reveal())  # characters on either side of a cut that may belong to one key
    first = begun = end = 0
    for number, text in enumerate(texts, 1):
        end += len(text)
        before, after = whole[max(begun, end - around) : end], whole[end : end + around]
        blanked = key.blanked(before + after)
        clean = blanked == before + after or blanked == key.blanked(before) + key.blanked(after)
        if clean or number == len(texts):
            yield first, number
            first, begun = number, end


def _spelled_out(whole: str, key: Key) -> Iterator[tuple[int, int, str]]:
    """Where (from, to) events spell the key out together, and what is to stand there."""
    fields: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    start = 0
    for line in whole.splitlines(keepends=True):
        found = _CHOICE.search(line)
        seen: dict[str, int] = {}
        for match in _SPELLED.finditer(line):
            name = match[1]  # an event may say the same in several places, so they are told apart
            seen[name] = seen.get(name, 0) + 1
            place = (name, str(seen[name]), found[1] if found else "")
            fields.setdefault(place, []).append((start + match.start(2), start + match.end(2)))
        start += len(line)
    for spans in fields.values():
        texts = [whole[begin:end] for begin, end in spans]
        told = "".join(texts)
        if not key.stands_in(told):
            continue
        for first, last in _groups(texts, key):
            if last > first + 1:
                yield (*spans[first], key.blanked("".join(texts[first:last])))
                yield from ((*span, "") for span in spans[first + 1 : last])


def _edited(pieces: Pieces, edits: list[tuple[int, int, str]]) -> Pieces:
    """`pieces` with what stands at some places replaced; a cut within such a place is moved behind it."""
    if not edits:
        return pieces
    edits.sort()
    whole = "".join(text for _, text in pieces)
    out: Pieces = []
    end = done = 0
    for seconds, text in pieces:
        end += len(text)
        kept = ""
        while edits and edits[0][0] < end:
            begin, until, instead = edits.pop(0)
            kept += whole[done:begin] + instead
            done = until
        kept += whole[done : max(done, end)]
        done = max(done, end)
        if kept:
            out.append((seconds, kept))
    return out
