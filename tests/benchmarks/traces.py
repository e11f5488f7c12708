"""The browser's own account of what its page did: its tasks, in each of which it answers to nothing else."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARKS = {"run", "plain", "end"}
_CATEGORIES = ["disabled-by-default-devtools.timeline", "blink.user_timing"]


class Task(NamedTuple):
    """One task of the page's main thread: while it runs the page answers to nothing.

    Attributes
    ----------
    at, length : float
        In milliseconds.
    processor : float
        How much of it was spent on the processor, in milliseconds: what it needs, whatever else the machine does.
    """

    at: float
    length: float
    processor: float


class Trace:
    """What the browser noted of a while.

    Parameters
    ----------
    events
        The trace's.
    """

    def __init__(self, events: list[dict[str, Any]]) -> None:
        marks = [one for one in events if "blink.user_timing" in one["cat"].split(",") and one["name"] in _MARKS]
        (page,) = {(one["pid"], one["tid"]) for one in marks}
        self._marks = {one["name"]: one["ts"] / 1000 for one in marks}
        # The browser leaves out the processor time of tasks of a microsecond or two; it is no more than their length.
        self._tasks = [
            Task(one["ts"] / 1000, one["dur"] / 1000, one.get("tdur", one["dur"]) / 1000)
            for one in events
            if one["name"] == "RunTask" and (one["pid"], one["tid"]) == page and "dur" in one
        ]

    def tasks(self, since: str, until: str = "end") -> list[Task]:
        """What was not over at one mark, and was at the other: "run", "plain" or "end"."""
        begin, end = self._marks[since], self._marks[until]
        return [one for one in self._tasks if begin <= one.at + one.length < end]


@contextmanager
def traced(page: Any) -> Iterator[list[Trace]]:
    """Trace a page, from the mark "run" to the mark "end"; the trace is put in the list at the end."""
    session = page.context.browser.new_browser_cdp_session()
    complete: dict[str, Any] = {}

    def over(told: dict[str, Any]) -> None:
        complete.update(told)

    session.on("Tracing.tracingComplete", over)
    config = {"includedCategories": _CATEGORIES, "excludedCategories": ["*"]}
    session.send("Tracing.start", {"transferMode": "ReturnAsStream", "traceConfig": config})
    traces: list[Trace] = []
    page.evaluate("() => { performance.mark('run'); }")
    yield traces
    page.evaluate("() => { performance.mark('end'); }")
    session.send("Tracing.end")
    while not complete:
        page.wait_for_timeout(10)
    if complete["dataLossOccurred"]:
        raise AssertionError("the trace has a gap")
    parts, ended = [], False
    while not ended:
        part = session.send("IO.read", {"handle": complete["stream"], "size": 1 << 20})
        parts.append(part["data"])
        ended = part["eof"]
    session.send("IO.close", {"handle": complete["stream"]})
    session.detach()
    traces.append(Trace(json.loads("".join(parts))["traceEvents"]))
