"""For a request that was not recorded, the nearest recorded one and what differs."""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from together_nb.base.wording import shorten
from together_nb.wire.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from together_nb.storage.entry import Entry

_LONGEST = 60  # characters of a value
_COMPARED = 400  # characters of a prompt
_WORD = re.compile(r"\w+")
_LOOKED_AT = 20  # requests whose prompts are compared: each may take 20 ms


def differences(entries: Iterable[Entry], path: str, payload: dict[str, Any]) -> str:
    """Return a sentence on what differs in the nearest of `entries`; "" if there is none to compare.

    Parameters
    ----------
    entries
        Recorded exchanges.
    path, payload
        Path and payload of the request.
    """
    others = [one for one in entries if isinstance(one.payload, dict)]
    if not others:
        return ""
    likely = nlargest(_LOOKED_AT, others, key=lambda one: _likeness(one, path, payload))
    nearest = max(likely, key=lambda one: _nearness(one, path, payload))
    return f"In the nearest one that is, {'; '.join(_differences(nearest, path, payload))}."


def _prompt(payload: dict[str, Any]) -> str:
    """The prompt, or a conversation's last turn."""
    if "messages" not in payload:
        return str(payload.get("prompt", ""))
    turns = payload["messages"]
    last = turns[-1] if isinstance(turns, list) and turns else None
    return str(last.get("content", "")) if isinstance(last, dict) else str(last)


def _likeness(entry: Entry, path: str, payload: dict[str, Any]) -> float:
    """A cheap estimate of how near a request is."""
    mine, others = (set(_WORD.findall(_prompt(one)[:_COMPARED])) for one in (payload, entry.payload))
    return _sameness(entry, path, payload) + 2 * len(mine & others) / max(len(mine | others), 1)


def _nearness(entry: Entry, path: str, payload: dict[str, Any]) -> tuple[float, bool]:
    prompts = (_prompt(entry.payload)[:_COMPARED], _prompt(payload)[:_COMPARED])
    alike = SequenceMatcher(None, *prompts, autojunk=False).ratio()
    return _sameness(entry, path, payload) + 2 * alike, entry.is_whole


def _sameness(entry: Entry, path: str, payload: dict[str, Any]) -> float:
    same: int = sum(entry.payload.get(name) == value for name, value in payload.items())
    return (entry.path == path) + same / max(len(payload), 1)


def _differences(entry: Entry, path: str, payload: dict[str, Any]) -> Iterator[str]:
    """Yield what differs in `entry`, in words."""
    was = entry.payload
    if entry.path != path:
        names = {dialect.path: name for name, dialect in DIALECTS.items()}
        yield f"the API was {names.get(entry.path, entry.path)}"
    if _prompt(was) != _prompt(payload):
        yield f"the prompt was “{shorten(_prompt(was), _LONGEST)}”"
    elif "messages" in was and "messages" in payload and was["messages"] != payload["messages"]:
        yield "the messages before the prompt were others"
    for name in dict.fromkeys((*payload, *was)):
        if name in ("prompt", "messages") or was.get(name) == payload.get(name):
            continue
        value = was.get(name)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"{name} was {shorten(text, _LONGEST)}" if name in was else f"{name} was not set"
