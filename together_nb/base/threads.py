"""Threads, where there are any."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def start_thread(name: str, target: Callable[..., object], *arguments: Any) -> threading.Thread | None:
    """Start a daemon thread called ``together_nb NAME``; return None where there are none, as in a browser's kernel."""
    thread = threading.Thread(target=target, args=arguments, name=f"together_nb {name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread
