"""What is called in the kernel that grows."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tests.benchmarks.texts import tokens

if TYPE_CHECKING:
    from together_nb import Panel

_PROMPT = "And what became of the boats?"
_TEXT = "".join(tokens("prose", 20))
_TALK = "talk"


def megabytes() -> float:
    """Memory of this process that is in use: what it has let go of is given back first, where that can be asked for."""
    gc.collect()
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def standing() -> dict[str, float]:
    """What there is in this process now."""
    from comm import get_comm_manager
    from ipywidgets.widgets import widget

    living = getattr(widget, "_instances", None) or widget.Widget.widgets
    return {
        "widgets": len(living),
        "comms": len(get_comm_manager().comms),
        "threads": threading.active_count(),
        "memory": megabytes(),
    }


def _asked(**options: Any) -> float:
    """Ask once more; CPU milliseconds."""
    from together_nb import complete

    begun = time.process_time()
    answer = complete(_PROMPT, **options)
    took = 1e3 * (time.process_time() - begun)
    if answer.text != _TEXT:
        raise AssertionError(f"not all came: {answer.text!r}")
    return took


def asked_until(count: int) -> list[float]:
    """Fill the history up to `count` completions; CPU milliseconds of the last of them."""
    from together_nb import history

    return [_asked(api="chat") for _ in range(count - len(history))][-20:]


def talked_until(count: int) -> None:
    """Go on with the conversation up to `count` turns."""
    from together_nb import conversations

    while len(conversations.get(_TALK, ())) < count:
        _asked(chat=_TALK)


def turn_and_bare() -> dict[str, float]:
    """CPU milliseconds of one more turn of the conversation, which is left as it was, and of a bare post of the same."""
    import requests
    from sseclient import SSEClient

    from together_nb import conversations, history, settings
    from together_nb.chats import next_turn

    body = next_turn(conversations[_TALK][:], _PROMPT)[0].payload
    begun = time.process_time()
    _asked(chat=conversations[_TALK][:])
    ours = time.process_time() - begun
    del history[-1]
    begun = time.process_time()
    pieces = []
    url = f"{settings.chosen_base_url}/v1/chat/completions"
    with requests.post(url, json=body, stream=True, timeout=60) as reply:
        for event in SSEClient(reply).events():
            if event.data == "[DONE]":
                break
            pieces += [choice["delta"]["content"] for choice in json.loads(event.data)["choices"]]
    bare = time.process_time() - begun
    if "".join(pieces) != _TEXT:
        raise AssertionError("the bare post has not all of the answer")
    return {"ours": 1e3 * ours, "bare": 1e3 * bare}


def saved_and_loaded() -> dict[str, float]:
    """CPU microseconds, and bytes, by completion in the history, which is left as it was."""
    from together_nb import conversations, history, load, save

    path, count, names = Path("history.jsonl"), len(history), set(conversations)
    begun = time.process_time()
    save(path, force=True)
    saved = time.process_time()
    load(path)
    loaded = time.process_time()
    if history[count:] != history[:count]:
        raise AssertionError("what was loaded is not what was saved")
    del history[count:]
    for name in conversations.keys() - names:
        del conversations[name]
    return {
        "save": 1e6 * (saved - begun) / count,
        "load": 1e6 * (loaded - saved) / count,
        "file": path.stat().st_size / count,
    }


def conversation_kept() -> dict[str, float]:
    """CPU microseconds, and bytes, by turn, of the conversation in a file of its own and as it is shown."""
    from together_nb import Conversation, conversations

    talk, path = conversations[_TALK], Path("conversation.json")
    path.unlink(missing_ok=True)
    begun = time.process_time()
    talk.save(path)
    saved = time.process_time()
    if Conversation.load(path) != talk:
        raise AssertionError("what was loaded is not what was saved")
    shown = time.process_time()
    talk.bundle()
    ended = time.process_time()
    return {
        "talk_save": 1e6 * (saved - begun) / len(talk),
        "talk_file": path.stat().st_size / len(talk),
        "talk_shown": 1e6 * (ended - shown) / len(talk),
    }


def held() -> float:
    """Bytes of all that the history holds."""
    from together_nb import history

    seen: dict[int, Any] = {}
    left: list[Any] = list(history)
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, (type, ModuleType)):
            seen[id(one)] = one
            left += gc.get_referents(one)
    return float(sum(map(sys.getsizeof, seen.values())))


def history_tab() -> float:
    """CPU milliseconds in which the panel's History tab is drawn, of several one after another."""
    from together_nb.panel.history_tab import HistoryTab

    tabs = [HistoryTab() for _ in range(20)]  # one draws nothing when there is nothing new
    begun = time.process_time()
    for tab in tabs:
        tab.catch_up()
    return 1e3 * (time.process_time() - begun) / len(tabs)


def pressed(panel: Panel, first: int, last: int) -> list[float]:
    """CPU milliseconds of the runs of a panel from number `first` on, before `last`; a tab after the other is in front."""
    took = []
    for number in range(first, last):
        panel._tab.selected_index = number % len(panel._tabs)
        begun = time.process_time()
        panel._generate.click()
        for thread in threading.enumerate():
            if thread.name.startswith("together_nb "):
                thread.join()
        took.append(1e3 * (time.process_time() - begun))
        if panel.state.value != "Done" or panel.completion.text != _TEXT:
            raise AssertionError(f"run {number} of the panel: {panel.state}, {panel.completion!r}")
    return took
