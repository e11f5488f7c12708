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
    from together_nb.catalog import Model
    from together_nb.client import CompletionStream
    from together_nb.completion import Choice, Chunk, Completion, CompletionRequest, Token, Usage
    from together_nb.config import settings
    from together_nb.errors import TogetherError
    from together_nb.panel import Panel
    from together_nb.params import SamplingParams
    from together_nb.session import complete, history, models, stream

__all__ = [
    "BackgroundRun",
    "Choice",
    "Chunk",
    "Completion",
    "CompletionRequest",
    "CompletionStream",
    "Model",
    "Panel",
    "SamplingParams",
    "TogetherError",
    "Token",
    "Usage",
    "__version__",
    "complete",
    "history",
    "load_ipython_extension",
    "models",
    "settings",
    "stream",
    "unload_ipython_extension",
]

_HOME = {
    "BackgroundRun": "background",
    "Choice": "completion",
    "Chunk": "completion",
    "Completion": "completion",
    "CompletionRequest": "completion",
    "CompletionStream": "client",
    "Model": "catalog",
    "Panel": "panel",
    "SamplingParams": "params",
    "TogetherError": "errors",
    "Token": "completion",
    "Usage": "completion",
    "complete": "session",
    "history": "session",
    "models": "session",
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
