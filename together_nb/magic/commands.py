"""The table of ``%together`` commands: running them, help, Tab and the reference page derive from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from together_nb.base.suggest import suggestion
from together_nb.errors import InputError
from together_nb.magic import account_commands, follow_up_commands, session_commands
from together_nb.run import options

if TYPE_CHECKING:
    from argparse import Action
    from collections.abc import Callable, Iterator

    from together_nb.magic.notebook import Notebook

    Argument = tuple[tuple[str, ...], dict[str, Any]]


_LONGEST_WORD = 20  # characters of a word that a message repeats


def argument(*names: str, **how: Any) -> Argument:
    """An argument of a command, as `argparse.ArgumentParser.add_argument` takes it."""
    return names, how


@dataclass(frozen=True)
class Command:
    """One command.

    Parameters
    ----------
    name
        What is typed after ``%together``; "" for nothing.
    function
        Called with the `Notebook` and the arguments, as keywords.
    help
        What it does, in the imperative: ``forget the key``.
    arguments
        Its arguments, each made by `argument`.
    cell_options
        The cell options that it takes, by the names of `Options`; the function is called with ``given``.
    verbatim
        The keyword for all of the text after the name, as it stands: a name may hold quotes and spaces, and a message
        that repeats an argument would show a key. "" if the text is parsed.
    """

    name: str
    function: Callable[..., None]
    help: str
    arguments: tuple[Argument, ...] = ()
    cell_options: tuple[str, ...] = ()
    verbatim: str = field(default="", kw_only=True)

    @cached_property
    def parser(self) -> options.Parser:
        """The parser of the arguments."""
        if self.cell_options:
            return options.parser(self.cell_options)
        parser = options.Parser("", prog=self.name, add_help=False, allow_abbrev=False)
        for names, how in self.arguments:
            parser.add_argument(*names, **how)
        quotes = ". Put a value with spaces in quotes." if self.arguments else ""
        parser.hint = f"Usage: %together {self._typed(parser)}{quotes}"
        return parser

    @property
    def typed(self) -> str:
        """The usage after ``%together``: ``save FILE [--force]``."""
        return self._typed(self.parser)

    def _typed(self, parser: options.Parser) -> str:
        if self.cell_options:
            return f"{self.name} [OPTIONS]"
        # argparse would put the options before the file.
        actions = sorted(parser._actions, key=lambda action: bool(action.option_strings))  # noqa: SLF001
        return " ".join(filter(None, (self.name, *map(_spelled, actions))))

    def run(self, notebook: Notebook, text: str) -> None:
        """Parse `text` and call the function.

        Raises
        ------
        InputError
            An argument is missing, unknown, surplus or invalid.
        """
        self.function(notebook, **self._parsed(text))

    def _parsed(self, text: str) -> dict[str, Any]:
        if self.verbatim:
            return {self.verbatim: text}
        if self.cell_options:
            return {"given": options.parse(text, self.cell_options)}
        words = list(options.split(text))
        for word in self._unknown(words):
            self._refuse(word)
        given, surplus = self.parser.parse_known_args(words)
        for word in surplus:
            self._refuse(word)
        return vars(given)

    def _unknown(self, words: list[str]) -> Iterator[str]:
        """The words that look like options and are none."""
        takes_value = {name: one.nargs != 0 for one in self.parser._actions for name in one.option_strings}  # noqa: SLF001
        is_value = False
        for word in words:
            name, equals, _ = word.partition("=")
            if (
                not is_value
                and word.startswith("-")
                and (name not in takes_value or (equals and not takes_value[name]))
            ):
                yield word
            is_value = not equals and takes_value.get(word, False) and not is_value

    def _refuse(self, word: str) -> NoReturn:
        """Refuse a surplus or unknown word; a long one is not repeated, since it may be a key."""
        name = word.partition("=")[0]
        near = suggestion(name, self.parser.spellings()) if name.startswith("-") else ""
        what = word if 0 < len(word) <= _LONGEST_WORD else "what follows"
        raise InputError(f"`%together {self.name}` does not take {what}.", near or self.parser.hint)


def _spelled(action: Action) -> str:
    value = "" if action.metavar is None else str(action.metavar)
    if action.option_strings:
        return f"[{f'{action.option_strings[-1]} {value}'.rstrip()}]"
    return f"[{value}]" if action.nargs in ("*", "?") else value


def _open_panel(notebook: Notebook) -> None:
    notebook.open_panel()


_FILE = argument("file", metavar="FILE")
_FILE_OR_OFF = argument("file", metavar="FILE|off")
_FORCE = argument("--force", action="store_true")

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("", account_commands.status, "show the server, the model, the key's ending and the defaults"),
        Command("login", account_commands.login, "ask for a key; it is neither shown nor saved", verbatim="text"),
        Command("logout", account_commands.logout, "forget the key"),
        Command(
            "models",
            account_commands.models,
            "list the models of the server and their prices",
            (argument("text", metavar="TEXT", nargs="*"),),
            verbatim="text",
        ),
        Command(
            "get",
            account_commands.get,
            "fetch a small language model to this machine: SmolLM2-135M, or any GGUF file",
            (
                argument("source", metavar="PATH_OR_URL.gguf", nargs="?"),
                argument("--sha256", metavar="HEX"),
            ),
        ),
        Command("panel", _open_panel, "open the panel: sliders, a live answer, its tokens and events"),
        Command(
            "continue",
            follow_up_commands.continue_answer,
            "continue the last answer where it ended, in its place",
            cell_options=("show", "out", "sampling"),
        ),
        Command(
            "explain",
            follow_up_commands.explain,
            "ask the model about the error of the cell that failed last",
            cell_options=("model", "api", "system", "extra", "show", "out", "dry_run", "sampling"),
        ),
        Command(
            "history",
            session_commands.show,
            "list the answers and the conversations, or all turns of one",
            (argument("name", metavar="NAME", nargs="*"),),
            verbatim="name",
        ),
        Command(
            "reset",
            session_commands.reset,
            "forget a conversation",
            (argument("name", metavar="NAME", nargs="*"),),
            verbatim="name",
        ),
        Command("usage", session_commands.usage, "show requests, tokens and cost by model"),
        Command("save", session_commands.save, "write the answers and conversations to a file", (_FILE, _FORCE)),
        Command("load", session_commands.load, "add the answers and conversations of a file", (_FILE,)),
        Command(
            "record",
            session_commands.record,
            "write every request and answer to a file from now on; off ends it",
            (_FILE_OR_OFF, _FORCE),
        ),
        Command(
            "replay",
            session_commands.replay,
            "answer from a recording, with no key and no network; off ends it",
            (_FILE_OR_OFF, argument("--speed", metavar="X", type=float)),
        ),
    )
}


def run(notebook: Notebook, line: str) -> None:
    """Run the command on a line of ``%together``.

    Raises
    ------
    InputError
        There is no such command, or an argument is invalid.
    """
    name, text = [*line.split(maxsplit=1), "", ""][:2]
    if re.match(r"login\W", name):  # a key may follow, which no message repeats
        name, text = "login", name
    if name not in COMMANDS:
        names = [one for one in COMMANDS if one]
        hint = suggestion(name, names) or f"There are: {', '.join(names)}."
        raise InputError(f"There is no command `%together {name}`.", hint)
    COMMANDS[name].run(notebook, text.strip())


def help_text() -> str:
    """All commands, one per line."""
    width = max(len(command.typed) for command in COMMANDS.values())
    rows = [f"  {command.typed or '(alone)':<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join(["%together COMMAND", "", *rows, "", "OPTIONS are some of those of %%together above.", ""])
