"""Situations on the wire from public reports, each run through `stream`, `complete` and a `%%together` cell.

::

    @pytest.mark.parametrize("report", REPORTS, ids=str)
    def test_…(report):
        for outcome in outcomes(report):
            assert outcome.text == "Hello"
"""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import together_nb
from tests.servers import Exchange, ScriptedServer
from together_nb.errors import TogetherError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from together_nb.values.completion import Completion

DONE = "data: [DONE]\n\n"
STOP = {"finish_reason": "stop"}


def event(payload: Any, name: str = "") -> str:
    """An event with `payload` as JSON, of a name if there is one."""
    return f"{f'event: {name}' + chr(10) if name else ''}data: {json.dumps(payload)}\n\n"


def delta(content: str | None = None, index: int = 0, finish: str | None = None, **more: Any) -> str:
    """The event of a chat chunk; `more` are further fields of its delta."""
    fields = {} if content is None else {"content": content}
    choice = {"index": index, "delta": {**fields, **more}, "finish_reason": finish}
    return event({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


@dataclass(frozen=True)
class Report:
    """A reply, and the address of the report that it is from ("" for one that is only of its kind).

    A number in `parts` is a pause in seconds, after which the script goes on; so is the client's going. `framing` is
    ``close`` (the body ends with the connection), ``chunked`` (keep-alive) or ``http10``. `route` is the only path that
    answers; others are 404. `listed` is the status and the body of the reply to a request for the list of models.
    """

    name: str
    source: str
    parts: tuple[str | bytes | float, ...]
    status: int = 200
    framing: str = "close"
    headers: dict[str, str] = field(default_factory=dict)
    base_path: str = "/v1"
    route: str = ""
    listed: tuple[int, Any] = (404, {"error": "no"})
    model: str = "m"
    options: dict[str, Any] = field(default_factory=dict)  # of the request; in a cell only `api` and `schema`
    want: Any = None  # what a test makes of it

    def __str__(self) -> str:
        return self.name

    def script(self, exchange: Exchange) -> None:
        """Reply."""
        if exchange.request.method == "GET":
            exchange.reply(*self.listed)
            return
        if self.route and exchange.request.path != self.route:
            exchange.reply(404, {"detail": "Not Found"})
            return
        if self.framing == "chunked":
            exchange.chunked()
        elif self.framing == "http10":
            exchange.http10()
        exchange.headers(self.status, **{"content_type": "text/event-stream", **self.headers})
        for part in self.parts:
            if isinstance(part, (int, float)):
                exchange.wait(part)
            else:
                exchange.send(part if isinstance(part, bytes) else part.encode())


@dataclass
class Outcome:
    """What a user got."""

    way: str
    completion: Completion | None
    error: TogetherError | None
    shown: str  # what the cell printed; "" elsewhere
    requests: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.completion, name)


def outcomes(report: Report, ways: tuple[str, ...] = ("stream", "complete", "%%together")) -> Iterator[Outcome]:
    """What comes of a report in each way to ask, each from a server and a session of its own."""
    for way in ways:
        with ScriptedServer(report.script, models=lambda exchange: exchange.reply(*report.listed)) as server:
            base_url = server.base_url + report.base_path
            kept: Completion | None = None
            error: BaseException | None = None
            shown = io.StringIO()
            with contextlib.redirect_stdout(shown):
                try:
                    kept = _ASK[way](base_url, report)
                except TogetherError as raised:
                    error, kept = raised, raised.completion
            assert error is None or isinstance(error, TogetherError)
            yield Outcome(way, kept, error, shown.getvalue(), len(server.requests))


def _stream(base_url: str, report: Report) -> Completion:
    options = {"api": "chat", **report.options}
    stream = together_nb.stream("Hi", base_url=base_url, model=report.model, **options)
    texts: dict[int, str] = {}
    try:
        for chunk in stream:
            texts[chunk.index] = texts.get(chunk.index, "") + chunk.text
    finally:
        # What is iterated over is what is kept.
        assert texts.get(0, "") == stream.completion.text
    return stream.completion


def _complete(base_url: str, report: Report) -> Completion:
    return together_nb.complete("Hi", base_url=base_url, model=report.model, **{"api": "chat", **report.options})


def _cell(base_url: str, report: Report) -> Completion:
    options = {"api": "chat", **report.options}
    together_nb.settings.base_url = base_url
    line = f"%%together -m {report.model} --api {options['api']} -o told"
    if "schema" in options:
        line += " --schema schema"
    with _ipython() as shell:
        shell.user_ns["schema"] = options.get("schema")
        result = shell.run_cell(f"{line}\nHi")
        if result.error_in_exec is not None:
            raise result.error_in_exec
        told: Completion = shell.user_ns["told"]
        return told


_ASK = {"stream": _stream, "complete": _complete, "%%together": _cell}


@contextlib.contextmanager
def _ipython() -> Iterator[InteractiveShell]:
    config = Config()
    InteractiveShell.clear_instance()
    config.HistoryManager.enabled = False
    try:
        shell = InteractiveShell.instance(config=config)
        shell.run_line_magic("load_ext", "together_nb")
        yield shell
        shell.run_line_magic("unload_ext", "together_nb")
    finally:
        InteractiveShell.clear_instance()
