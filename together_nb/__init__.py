"""Stream a language model's answer in a notebook: ``%load_ext together_nb``, then ``%%together``.

Names are imported on first use, so that loading the extension waits for nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from together_nb.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from together_nb.background import BackgroundRun
    from together_nb.batch import BatchResults, map_prompts
    from together_nb.catalog import Model
    from together_nb.chats import conversations
    from together_nb.client import CompletionStream
    from together_nb.comparison import compare
    from together_nb.completion import Choice, Chunk, Completion, CompletionRequest, Token, Usage
    from together_nb.config import settings
    from together_nb.continuing import continue_from
    from together_nb.conversation import Conversation, Turn
    from together_nb.errors import TogetherError
    from together_nb.panel import Panel
    from together_nb.params import SamplingParams
    from together_nb.recording import record, replay
    from together_nb.session import complete, history, models, stream
    from together_nb.spending import ledger
    from together_nb.store import load, save

__all__ = [
    "BackgroundRun",
    "BatchResults",
    "Choice",
    "Chunk",
    "Completion",
    "CompletionRequest",
    "CompletionStream",
    "Conversation",
    "Model",
    "Panel",
    "SamplingParams",
    "TogetherError",
    "Token",
    "Turn",
    "Usage",
    "__version__",
    "compare",
    "complete",
    "continue_from",
    "conversations",
    "history",
    "ledger",
    "load",
    "load_ipython_extension",
    "map_prompts",
    "models",
    "record",
    "replay",
    "save",
    "settings",
    "stream",
    "unload_ipython_extension",
]

_HOME = {
    "BackgroundRun": "background",
    "BatchResults": "batch",
    "Choice": "completion",
    "Chunk": "completion",
    "Completion": "completion",
    "CompletionRequest": "completion",
    "CompletionStream": "client",
    "Conversation": "conversation",
    "Model": "catalog",
    "Panel": "panel",
    "SamplingParams": "params",
    "TogetherError": "errors",
    "Token": "completion",
    "Turn": "conversation",
    "Usage": "completion",
    "compare": "comparison",
    "complete": "session",
    "continue_from": "continuing",
    "conversations": "chats",
    "history": "session",
    "ledger": "spending",
    "load": "store",
    "map_prompts": "batch",
    "models": "session",
    "record": "recording",
    "replay": "recording",
    "save": "store",
    "settings": "config",
    "stream": "session",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext together_nb``: register the magics and their ``%config``."""
    from together_nb.magic import TogetherMagics

    unload_ipython_extension(shell)
    shell.register_magics(TogetherMagics(shell, {"panel": _open_panel}))


def _open_panel(_: str) -> None:
    """``%together panel``."""
    from IPython.display import display

    from together_nb.panel import Panel

    display(Panel())


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext together_nb``: take the magics away again."""
    for kind in shell.magics_manager.magics.values():
        kind.pop("together", None)
    shell.configurables[:] = [one for one in shell.configurables if type(one).__name__ != "TogetherMagics"]
