"""Stream a language model's answer in a notebook: ``%load_ext together_nb``, then ``%%together``.

``%%together?`` describes cells. This page lists the Python names; `help` of each has the details. Without a key, a
small model on this machine answers: SmolLM2-135M once ``%together get`` has fetched it, else ``local/ngram``, a toy.
``%together login`` asks for a key.

Ask:

    complete             Return a whole answer, a `Completion`.
    stream               Return an answer as it arrives: a `CompletionStream`, an iterator of `Chunk`.
    compare              Return answers side by side, to requests that differ in some values: a list of `Completion`.
    map_prompts          Return the answers to many prompts, several at a time: a `BatchResults`.
    continue_from        Continue an answer that was cut, and return both parts as one.
    models               List the models that the server offers, each a `Model`.
    Panel                Show sliders and the live answer, in widgets.

Results:

    Completion           An answer: its `text`, `usage`, `cost` (US dollars), `timings` (seconds), `parsed` and more.
    Choice               One of the `n` answers of a completion.
    Chunk                A piece of an answer, as it arrived.
    Token                A token and its log-probability (natural), if `logprobs` was set.
    Usage                Tokens in and out, as the server counted them.
    CompletionStream     An answer that streams; `cancel` stops it from any thread.
    BackgroundRun        The future of an answer that streams below a cell of ``%%together --background --out run``.
    BatchResults         The answers to many prompts, in their order; see `to_frame` and `retry_failed`.
    Model                A model of the server, with its price.
    CompletionRequest    What was asked: `Completion.request`.
    SamplingParams       All sampling parameters, with their types and bounds.
    TogetherError        The base of all errors; its `completion` is what had arrived.

State of this process:

    settings             The defaults: key, server, model, time-outs, budget, sampling parameters.
    history              All answers, oldest first: a list of `Completion` that you may change.
    conversations        The conversations by name, for ``--chat NAME`` and ``complete(chat=NAME)``.
    Conversation         The turns of a conversation, to read, cut and save.
    Turn                 A prompt and its answer in a conversation.
    ledger               Requests, tokens and cost by model: `rows`, `total()`, `spent` (US dollars).
    save                 Write the history and the conversations to a file.
    load                 Add the history and the conversations of a file.
    record               Record all requests and replies in a file, until `stop` or the end of a ``with`` block.
    replay               Answer from a recording, without a key or a network.
    stop                 End a recording or a replay.
    Session              All of the above for a second key, server or budget beside this one.

The package:

    load_ipython_extension    Run by ``%load_ext together_nb``.
    unload_ipython_extension  Run by ``%unload_ext together_nb``.
    __version__               The version, a str.

In a notebook, ``_together`` is always the last answer. The errors are in `together_nb.errors`, the toy model in
`together_nb.local`.

Examples
--------
>>> from together_nb import complete, history
>>> answer = complete("Once upon a time", max_tokens=20, temperature=0.8, seed=1)
>>> answer.usage.completion_tokens, answer.model
(20, 'local/ngram')
>>> history[-1] is answer
True
"""

# Names are imported on first use, so that loading the extension waits for nothing.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from together_nb.config import environment as _environment  # noqa: F401  (read now, before a cell can change it)
from together_nb.values import hooks as _hooks
from together_nb.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from together_nb.batch.results import BatchResults
    from together_nb.config.settings import settings
    from together_nb.errors import TogetherError
    from together_nb.panel import Panel
    from together_nb.run.background import BackgroundRun
    from together_nb.session import Session
    from together_nb.session import default as _default
    from together_nb.values.chunk import Choice, Chunk, Token, Usage
    from together_nb.values.completion import Completion
    from together_nb.values.conversation import Conversation, Turn
    from together_nb.values.model_list import Model
    from together_nb.values.parameters import SamplingParams
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.stream import CompletionStream

    compare = _default.compare
    complete = _default.complete
    continue_from = _default.continue_from
    conversations = _default.conversations
    history = _default.history
    ledger = _default.ledger
    load = _default.load
    map_prompts = _default.map_prompts
    models = _default.models
    record = _default.record
    replay = _default.replay
    save = _default.save
    stop = _default.stop
    stream = _default.stream

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
    "Session",
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
    "stop",
    "stream",
    "unload_ipython_extension",
]

_HOME = {
    "BackgroundRun": "run.background",
    "BatchResults": "batch.results",
    "Choice": "values.chunk",
    "Chunk": "values.chunk",
    "Completion": "values.completion",
    "CompletionRequest": "values.request",
    "CompletionStream": "wire.stream",
    "Conversation": "values.conversation",
    "Model": "values.model_list",
    "Panel": "panel",
    "SamplingParams": "values.parameters",
    "Session": "session",
    "TogetherError": "errors",
    "Token": "values.chunk",
    "Turn": "values.conversation",
    "Usage": "values.chunk",
    "settings": "config.settings",
}
_OF_THE_SESSION = (
    "compare",
    "complete",
    "continue_from",
    "conversations",
    "history",
    "ledger",
    "load",
    "map_prompts",
    "models",
    "record",
    "replay",
    "save",
    "stop",
    "stream",
)
"""The functions and the state of the session that cells use."""

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name == "recording":  # `recording.stop()` was how to end a recording
            return import_module(f"{__name__}.session").default
        if name in _OF_THE_SESSION:
            return getattr(import_module(f"{__name__}.session").default, name)
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def _load_hooks() -> None:
    """Import what draws values and keeps them in files."""
    from together_nb.render import answers, turns  # noqa: F401
    from together_nb.storage import answers_file  # noqa: F401


_hooks.on_first_use(_load_hooks)


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """``%load_ext together_nb``: register the magics and their ``%config``.

    Parameters
    ----------
    shell : InteractiveShell
        The running IPython.

    Examples
    --------
    >>> from IPython.core.interactiveshell import InteractiveShell
    >>> from together_nb import load_ipython_extension
    >>> shell = InteractiveShell.instance()
    >>> load_ipython_extension(shell)
    >>> shell.find_cell_magic("together") is not None
    True
    """
    from together_nb.magic import TogetherMagics

    unload_ipython_extension(shell)
    shell.register_magics(TogetherMagics(shell, _open_panel))


def _open_panel() -> None:
    """``%together panel``."""
    from IPython.display import display

    from together_nb.panel import Panel

    display(Panel())


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """``%unload_ext together_nb``: take the magics away again.

    Parameters
    ----------
    shell : InteractiveShell
        The running IPython.

    Examples
    --------
    >>> from IPython.core.interactiveshell import InteractiveShell
    >>> from together_nb import load_ipython_extension, unload_ipython_extension
    >>> shell = InteractiveShell.instance()
    >>> load_ipython_extension(shell)
    >>> unload_ipython_extension(shell)
    >>> shell.find_cell_magic("together") is None
    True
    """
    for kind in shell.magics_manager.magics.values():
        kind.pop("together", None)
    shell.configurables[:] = [one for one in shell.configurables if type(one).__name__ != "TogetherMagics"]
