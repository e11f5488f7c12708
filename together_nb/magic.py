"""``%%together`` and ``%together``."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from together_nb import frontend
from together_nb.config import KEY_VARIABLE, LOCAL_MODEL, Key, configurable_traits, mirror, settings
from together_nb.errors import AuthenticationError, InputError, TogetherError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.background import BackgroundRun
    from together_nb.client import CompletionStream
    from together_nb.completion import Completion
    from together_nb.options import Options


@magics_class
class TogetherMagics(Magics):
    """Send a cell to a language model and watch the answer arrive.

    Its traits are those of `together_nb.settings`: ``%config TogetherMagics.temperature = 0.7``
    holds for every cell that does not say otherwise.

    Parameters
    ----------
    shell
        The running IPython.
    commands
        What other doors add to ``%together``: each is called with what stands after its name.
    """

    def __init__(self, shell: Any, commands: dict[str, Callable[[str], None]] | None = None) -> None:
        self.add_traits(**configurable_traits(settings))
        super().__init__(shell)
        self._shell = shell
        self._runs: dict[str, BackgroundRun] = {}  # what streams in the background, by its cell
        mirror(settings, self)
        self._commands: dict[str, Callable[[str], None]] = {
            "login": self._login,
            "logout": self._logout,
            "models": self._models,
            **(commands or {}),
        }
        shell.set_hook("complete_command", self._complete_cell, str_key="%%together")
        shell.set_hook("complete_command", self._complete_line, str_key="%together")

    @no_var_expand
    @cell_magic("together")
    def run_cell(self, line: str, cell: str) -> None:
        """Send this cell to a language model; the answer streams below."""
        # Imported here, as all that is heavy: loading the extension must not wait for it.
        from together_nb import options
        from together_nb.interrupts import told

        with told("stopped by you; nothing was sent."):
            self._end_run_of_this_cell()
            given = options.parse(line)
            if given is None:
                print(options.help_text())  # noqa: T201
                return
            self._run(given, cell)

    def _run(self, given: Options, cell: str) -> None:
        """Ask and draw."""
        from together_nb import resolve, session, views
        from together_nb.fill import fill
        from together_nb.interrupts import put_off, told
        from together_nb.views.notice import waits_shown

        prompt, system = self._as_typed(cell), given.system
        filled: tuple[str, ...] = ()
        if not given.raw:
            prompt, filled = fill(prompt, self._shell.user_ns)
            if system is not None:
                system, more = fill(system, self._shell.user_ns)
                filled = tuple(dict.fromkeys((*filled, *more)))
        with put_off(), waits_shown(self._shell):
            opened = resolve.open_stream(
                prompt, model=given.model, api=given.api, system=system, filled=filled, **given.sampling
            )
        if given.dry_run:
            self._show_request(opened, filled)
            return

        def keep(completion: Completion) -> None:
            if completion.came_to_nothing:
                return
            session.history.append(completion)
            names = {session.LAST: completion}
            if given.out is not None and not given.background:
                names[given.out] = completion
            self._shell.push(names, interactive=given.out is not None)

        chat = opened.dialect.chat
        # From before there are widgets until there are none, or a thread has them.
        with told("stopped by you; what came is kept."), put_off() as came:
            if given.background:
                self._run_in_background(given, opened, keep)
            else:
                session.run(opened, views.view_for(self._shell, given.show, chat=chat), keep)
            if came:
                opened.cancel()

    def _run_in_background(self, given: Options, opened: CompletionStream, keep: Callable[[Completion], None]) -> None:
        """Return at once and stream on, where that can be seen; elsewhere wait for the end."""
        from together_nb import views
        from together_nb.background import BackgroundRun

        watched = frontend.has_kernel(self._shell) and frontend.someone_watches(self._shell)
        returns = watched and frontend.draws_from_threads()
        view = views.view_for(
            self._shell, given.show, chat=opened.dialect.chat, stop=opened.cancel if returns else None
        )
        run = BackgroundRun(lambda: opened, view, keep)
        if given.out is not None:
            self._shell.push({given.out: run})
        if returns:
            view.start(opened)  # here, where it is this cell that displays
            self._runs[frontend.cell(self._shell)] = run.start()
        else:
            run.run()
            run.result()  # raises what it failed with

    def _end_run_of_this_cell(self) -> None:
        """The answer that this cell streams from an earlier run has lost its place."""
        earlier = self._runs.pop(frontend.cell(self._shell), None)
        if earlier is not None:
            earlier.cancel()
        self._runs = {cell: run for cell, run in self._runs.items() if not run.done()}

    @no_var_expand
    @line_magic("together")
    def run_command(self, line: str) -> None:
        """``%together`` [login | logout | models [TEXT] | panel]; alone: where it stands."""
        from together_nb.interrupts import told
        from together_nb.views.notice import waits_written

        with told("stopped by you."), waits_written(self._shell):
            self._command(line)

    def _command(self, line: str) -> None:
        name, _, rest = line.strip().partition(" ")
        if not name:
            self._status()
        elif name in self._commands:
            self._commands[name](rest.strip())
        else:
            hint = suggestion(name, self._commands) or f"There are: {', '.join(self._commands)}."
            raise InputError(f"There is no command `%together {name}`.", hint)

    def _as_typed(self, cell: str) -> str:
        """The body as the front end sent it: IPython takes `>>>` and blanks out of it, and adds a line end.

        In a terminal, where nothing tells, blank lines are what ends a cell; there they are no part of it.
        """
        first, _, body = frontend.code_as_sent(self._shell).lstrip("\n").partition("\n")
        return body if first.startswith("%%together") else cell.rstrip("\n")

    def _complete_cell(self, _: Any, event: Any) -> list[str]:
        from together_nb import completer

        return completer.options(event.line, event.symbol)

    def _complete_line(self, _: Any, event: Any) -> list[str]:
        from together_nb import completer

        return completer.words(event.line, event.symbol, self._commands)

    def _show_request(self, opened: CompletionStream, filled: tuple[str, ...]) -> None:
        import json

        from together_nb.escape import fenced, literal, visible

        where = f"POST {opened.endpoint.root}{opened.dialect.path}"
        body = visible(json.dumps(opened.payload, indent=2, ensure_ascii=False))
        names = f", filled in: {', '.join(filled)}" if filled else ""
        self._display(
            f"{literal(where)}\n\n{fenced(body, 'json')}\n\n<sub>not sent{literal(names)}</sub>",
            f"{where}\n{body}\n[not sent{names}]",
        )

    def _display(self, markdown: str, plain: str) -> None:
        from IPython.display import display

        if not frontend.has_kernel(self._shell):
            print(plain)  # noqa: T201  (a terminal shows no Markdown)
        else:
            display({"text/markdown": markdown, "text/plain": plain}, raw=True)

    def _status(self) -> None:
        """Where it stands: server, model, key, defaults."""
        from together_nb import resolve, session

        model, server = resolve.standing()
        key = settings.api_key
        ending = f", ending in …{key.ending}" if key is not None and key.ending else ""
        lines = {
            "server": server,
            "model": model,
            "key": f"none; `%together login` takes one, or set {KEY_VARIABLE}"
            if key is None
            else f"from {key.source}{ending}",
            "defaults": ", ".join(f"{k}={v!r}" for k, v in settings.sampling.to_dict().items()) or "none set",
            "answers so far": str(len(session.history)),
        }
        width = max(map(len, lines))
        print("\n".join(f"{name + ':':<{width + 1}} {value}" for name, value in lines.items()))  # noqa: T201

    def _login(self, rest: str) -> None:
        """Take a key, unseen and unsaved, and see whether the server takes it."""
        from IPython.core.error import StdinNotImplementedError

        from together_nb import session

        if rest:
            raise InputError(
                "The key does not go on the line: IPython keeps each line in its history, and the notebook too.",
                "Run `%together login` alone. If that was a real key, withdraw it and make another.",
            )
        try:
            # Looked up now: a kernel puts its own in that place while a cell runs. The text itself is given no
            # name here, since tracebacks show what has one.
            key = Key(getpass.getpass("Together API key (it is not shown and not saved): "), "`%together login`")
        except (StdinNotImplementedError, EOFError):
            raise InputError(
                "Nobody can be asked for a key here.", f"Set {KEY_VARIABLE} in the environment instead."
            ) from None
        before = settings.api_key
        settings.api_key = key
        try:
            found = [row for row in session.models(fresh=True) if row.writes_text]
        except AuthenticationError:
            settings.api_key = None if before is None or before.source == KEY_VARIABLE else before
            raise
        except TogetherError as error:
            print(f"The key is kept until the kernel ends; it could not be tried out: {error.message}")  # noqa: T201
        else:
            print(f"The key works, and is kept until the kernel ends: {len(found)} models that write text.")  # noqa: T201

    def _logout(self, _: str) -> None:
        """Forget the key."""
        settings.api_key = None
        left = settings.api_key
        print("The key is forgotten." if left is None else f"Forgotten; the key from {left.source} is still there.")  # noqa: T201

    def _models(self, rest: str) -> None:
        """List the models that can be asked."""
        from together_nb import session, tables
        from together_nb.catalog import Catalog

        found = session.models(rest)
        rows = Catalog(tuple(found)).callable()
        if not rows:
            raise InputError(
                f"No model that writes text has {rest!r} in its name.", "`%together models` alone lists them all."
            )
        left = len(found) - len(rows)
        note = (
            f"{len(rows)} of {len(found)}: the others write no text or need an endpoint of their own." if left else ""
        )
        if settings.api_key is None and rows[0].id == LOCAL_MODEL:
            note = "Without a key there is this one; `%together login` brings Together's."
        self._display(*tables.of_models(rows, note))


COMMANDS = """%together COMMAND

  (alone)               where it stands: server, model, key or none, defaults
  login                 take a key, unseen and unsaved
  logout                forget it
  models [TEXT]         the models that can be asked, and their prices
  panel                 sliders, a live answer, its tokens, its events, in widgets
"""


def _help() -> str:
    from together_nb import options

    return f"Send a cell to a language model; the answer streams below it.\n\n{options.help_text()}\n{COMMANDS}"


# What `%%together?` shows: IPython asks an object for its documentation by this name first. It is
# the same for both, since Shift+Tab on `%%together` looks up `%together`.
TogetherMagics.run_cell.getdoc = _help
TogetherMagics.run_command.getdoc = _help
