"""What is called in the kernel that grows."""

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.benchmarks.clients import posted
from tests.benchmarks.texts import tokens

_PROMPT = "And what became of the boats?"
_TEXT = "".join(tokens("prose", 20))
_TALK = "talk"


def _cpu(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    """CPU milliseconds of a call, and what it gives."""
    begun = time.process_time()
    given = call(*arguments, **options)
    return 1e3 * (time.process_time() - begun), given


def _same(one: Any, other: Any) -> None:
    if one != other:
        raise AssertionError(f"it should be {other!r}, and is {one!r}")


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

    took, answer = _cpu(complete, _PROMPT, **options)
    _same(answer.text, _TEXT)
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

    from together_nb import conversations, history, session, settings

    body = session.open_turn(session.default, _PROMPT, chat=conversations[_TALK][:])[0].payload
    ours = _asked(chat=conversations[_TALK][:])
    del history[-1]
    bare, text = _cpu(lambda: "".join(posted(requests.post, settings.chosen_base_url, body)))
    _same(text, _TEXT)
    return {"ours": ours, "bare": bare}


def saved_and_loaded() -> dict[str, float]:
    """CPU microseconds, and bytes, by completion in the history, which is left as it was."""
    from together_nb import conversations, history, load, save

    path, count, names = Path("history.jsonl"), len(history), set(conversations)
    saved, _ = _cpu(save, path, force=True)
    loaded, _ = _cpu(load, path)
    _same(history[count:], history[:count])
    del history[count:]
    for name in conversations.keys() - names:
        del conversations[name]
    return {"save": 1e3 * saved / count, "load": 1e3 * loaded / count, "file": path.stat().st_size / count}


def conversation_kept() -> dict[str, float]:
    """CPU microseconds, and bytes, by turn, of the conversation in a file of its own and as it is shown."""
    from together_nb import Conversation, conversations

    talk, path = conversations[_TALK], Path("conversation.json")
    path.unlink(missing_ok=True)
    saved, _ = _cpu(talk.save, path)
    _same(Conversation.load(path), talk)
    shown, _ = _cpu(talk.bundle)
    turns = len(talk)
    return {
        "talk_save": 1e3 * saved / turns,
        "talk_file": path.stat().st_size / turns,
        "talk_shown": 1e3 * shown / turns,
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
    from together_nb import session
    from together_nb.panel.history_tab import HistoryTab

    tabs = [HistoryTab(session.default) for _ in range(20)]  # one draws nothing when there is nothing new
    took, _ = _cpu(lambda: [tab.catch_up() for tab in tabs])
    return took / len(tabs)


def _run_to_its_end(panel: Any) -> None:
    panel._generate.click()
    for thread in threading.enumerate():
        if thread.name.startswith("together_nb "):
            thread.join()


def pressed(panel: Any, first: int, last: int) -> list[float]:
    """CPU milliseconds of the runs of a panel from number `first` on, before `last`; a tab after the other is in front."""
    times = []
    for number in range(first, last):
        panel._tab.selected_index = number % len(panel._tabs)
        took, _ = _cpu(_run_to_its_end, panel)
        times.append(took)
        _same((panel.state.value, panel.completion.text), ("Done", _TEXT))
    return times
