"""One cell of ``%%together``: read its line, fill in names, draw and keep the answer."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

from together_nb import views
from together_nb.base.escape import literal, visible
from together_nb.base.fences import fenced
from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.base.suggest import suggestion
from together_nb.base.wording import shorten
from together_nb.config.keys import secret_test, without_keys
from together_nb.errors import InputError
from together_nb.magic.next_cell import NextCell
from together_nb.render.formats import CODE, JSON, format_for
from together_nb.render.token_text import ALTERNATIVES
from together_nb.run import driver
from together_nb.run.answers import LAST
from together_nb.run.background import BackgroundRun
from together_nb.run.template import Filler
from together_nb.run.turns import open_turn
from together_nb.values.parameters import AUTO
from together_nb.values.schema import ANY_JSON, schema_of
from together_nb.views import frontend
from together_nb.views.waits import show_waits
from together_nb.wire.dialects import dialect_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.run.options import Options
    from together_nb.session import Session
    from together_nb.values.completion import Completion
    from together_nb.wire.stream import CompletionStream

SHOWN_UNSENT = 3  # requests, at most, that --dry-run shows
_LONGEST_START = 80  # characters of a value that it shows


class Notebook:
    """Runs the cells of one IPython shell.

    Parameters
    ----------
    shell
        The running IPython shell.
    session
        The session that its answers belong to.
    open_panel
        Opens the panel.
    """

    def __init__(self, shell: Any, session: Session, open_panel: Callable[[], object] | None = None) -> None:
        self.shell = shell
        self.session = session
        self.next_cell = NextCell(shell)
        self.open_panel = open_panel or (lambda: None)
        self._runs: dict[str, BackgroundRun] = {}  # background runs, by cell

    def ask(self, given: Options, prompt: str) -> None:
        """Send one prompt, and draw the answer."""
        filler = self.filler(given)
        with defer_interrupts(), show_waits(self.shell):
            stream, turn = open_turn(
                self.session, prompt, chat=given.chat, cell=frontend.cell_id(self.shell), filler=filler,
                system=given.system, **self.keywords(given),
            )  # fmt: skip
        if given.dry_run:
            self.show_requests([stream], [filler])
            return

        def keep(completion: Completion) -> None:
            out = None if given.background else given.out
            self.session.keep(completion, turn=turn, bind=lambda answer: self.bind(answer, out))

        # Defer interrupts for as long as this thread has widgets.
        with interrupt_message("stopped by you."), defer_interrupts() as interrupts:
            if given.background:
                self._run_in_background(given, stream, keep)
            else:
                answer = driver.run(stream, self.view(given, stream), keep)
                if given.show == CODE:
                    self.next_cell.offer(answer.text)
            if interrupts:
                stream.cancel()

    def view(
        self, given: Options, stream: CompletionStream, stop: Callable[[], Any] | None = None
    ) -> driver.View | None:
        """Return the view of the answer."""
        return views.view_for(self.shell, format_name(given), chat=stream.dialect.chat, stop=stop)

    def bind(self, value: Any, name: str | None) -> None:
        """Bind the last answer, or answers, to its names."""
        names = {LAST: value, **({} if name is None else {name: value})}
        self.shell.push(names, interactive=name is not None)

    def rebind(self, before: object, after: object) -> None:
        """Rebind every user variable that holds `before` to `after`."""
        names = {name: after for name, value in self.shell.user_ns.items() if value is before and name.strip("_")}
        for held in [value for value in self.shell.user_ns.values() if type(value) is list]:  # --compare's
            for number, one in enumerate(held):
                if one is before:
                    held[number] = after
        self.shell.push({**names, LAST: after}, interactive=False)

    def display(self, markdown: str, plain: str, metadata: dict[str, Any] | None = None) -> None:
        """Show output that no view draws."""
        from IPython.display import display

        if not frontend.has_kernel(self.shell):
            print(plain)  # noqa: T201  (a terminal shows no Markdown)
        else:
            display({"text/markdown": markdown, "text/plain": plain}, raw=True, metadata=metadata or {})

    def keywords(self, given: Options) -> dict[str, Any]:
        """The line's options, without prompt and system prompt, as keywords of `turns.open_turn`."""
        sampling = dict(given.sampling)
        if format_for(given.show, chat=True).of_tokens and self.session.settings.sampling.logprobs is None:
            sampling.setdefault("logprobs", ALTERNATIVES)
        offline = {"offline": True} if given.dry_run else {}
        return {
            "model": given.model,
            "api": given.api,
            "schema": self._schema(given),
            "extra_body": given.extra,
            **offline,
            **sampling,
        }

    def _schema(self, given: Options) -> Any:
        """The schema that the line names; for ``--show json``, that of any JSON if the dialect takes one."""
        if given.schema is None:
            askable = given.api == AUTO or dialect_for(given.api).chat
            return ANY_JSON if given.show == JSON and askable else None
        if given.schema not in self.shell.user_ns:
            names = [name for name in self.shell.user_ns if not (name.startswith("_") or hasattr(builtins, name))]
            raise InputError(
                f"There is no variable called {given.schema}.",
                suggestion(given.schema, names)
                or "Run the cell that makes it: a JSON Schema (a dict) or a pydantic model.",
            )
        return schema_of(self.shell.user_ns[given.schema], given.schema)

    def filler(self, given: Options, item: dict[str, Any] | None = None) -> Filler:
        """What fills in the names of an item and the user's; nothing with ``--raw``."""
        names = {} if given.raw else self.shell.user_ns
        return Filler(names, item, limit=self.session.settings.fill_limit, is_secret=secret_test())

    def _run_in_background(self, given: Options, stream: CompletionStream, keep: Callable[[Completion], None]) -> None:
        """Return at once and keep streaming if the front end shows that; else wait for the end."""
        watched = frontend.has_kernel(self.shell) and frontend.someone_watches(self.shell)
        returns = watched and frontend.draws_from_threads()
        view = self.view(given, stream, stop=stream.cancel if returns else None)
        run = BackgroundRun(lambda: stream, view, keep)
        if given.out is not None:
            self.shell.push({given.out: run})
        if returns:
            if view is not None:
                view.start(stream)  # in this thread, so that this cell displays it
            self._runs[frontend.cell(self.shell)] = run.start()
        else:
            run.run()
            run.result()  # raises its error

    def end_earlier_run(self) -> None:
        """Cancel what an earlier run of this cell still streams: its output is gone."""
        earlier = self._runs.pop(frontend.cell(self.shell), None)
        if earlier is not None:
            earlier.cancel()
        self._runs = {cell: run for cell, run in self._runs.items() if not run.done()}

    def body_as_typed(self, cell: str) -> str:
        """The body as the front end sent it: IPython strips `>>>` and blanks, and appends a newline.

        A terminal sends no original; there blank lines end a cell and are not part of it.
        """
        first, _, body = frontend.code_as_sent(self.shell).lstrip("\n").partition("\n")
        return body if first.startswith("%%together") else cell.rstrip("\n")

    def show_requests(self, streams: list[CompletionStream], fillers: list[Filler], more: int = 0) -> None:
        """Show the values filled in and the first requests, out of `more` if that is larger."""
        import json

        names = [(name, filler) for one, filler in zip(streams, fillers, strict=True) for name in one.completion.filled]
        markdown, plain = [], []
        if names:
            lines = dict.fromkeys(f"{{{name}}} = {_start(filler.values[name] or '')}" for name, filler in names)
            values = "\n".join(("Filled in:", *lines))
            markdown.append(literal(values))
            plain.append(visible(values))
        for one in streams[:SHOWN_UNSENT]:
            server = " to the embedded engine: " if one.endpoint.embedded else f" {one.endpoint.root}"
            where = f"POST{server}{one.dialect.path}"
            facts = "\n".join((f"family: {one.endpoint.recognition}", *one.notes))
            body = visible(without_keys(json.dumps(one.payload, indent=2, ensure_ascii=False)))
            markdown += [literal(where), literal(facts), fenced(body, "json")]
            plain += [where, facts, body]
        left = max(len(streams), more) - SHOWN_UNSENT
        unknown = "; ".join(dict.fromkeys(what for one in streams for what in one.unknown))
        words = f"not sent{f', nor are {left} more' if left > 0 else ''}"
        words += f". Unknown until the server is asked: {unknown}." if unknown else ""
        markdown.append(f"<sub>{literal(words)}</sub>")
        plain.append(f"[{words}]")
        self.display("\n\n".join(markdown), "\n".join(plain))


def _start(value: str) -> str:
    """The beginning of a value on one line, with its length if it is cut."""
    more = f" ({len(value):,} characters)" if len(value) > _LONGEST_START else ""
    return f"{shorten(value, _LONGEST_START) or '(empty)'}{more}"


def format_name(given: Options) -> str:
    """Name of the format: JSON by default if there is a schema."""
    return JSON if given.schema is not None and given.show == AUTO else given.show
