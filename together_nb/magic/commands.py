"""The one table of ``%together``'s commands: the help, Tab and the guide's table come from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One command.

    Parameters
    ----------
    name
        What is typed after ``%together``; "" for what it does alone.
    arguments
        What may follow, for the help.
    help
        What it does, as an order: ``forget the key``.
    where
        ``module:function`` of this package, which is called with the `Cells` and what follows the name;
        "" where another door does it.
    """

    name: str
    arguments: str
    help: str
    where: str = ""

    @property
    def typed(self) -> str:
        """As it is typed after ``%together``."""
        return f"{self.name} {self.arguments}".strip()


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("", "", "show the server, the model, the key's ending and the defaults", "account:status"),
        Command("login", "", "ask for a key; it is neither shown nor saved", "account:login"),
        Command("logout", "", "forget the key", "account:logout"),
        Command("models", "[TEXT]", "list the models of the server and their prices", "account:models"),
        Command("panel", "", "open the panel: sliders, a live answer, its tokens and events"),
        Command("continue", "[OPTIONS]", "continue the last answer where it ended, in its place", "asking:go_on"),
        Command("explain", "[OPTIONS]", "ask the model about the error of the cell that failed last", "asking:explain"),
        Command("history", "[NAME]", "list the answers and the conversations, or all turns of one", "kept:show"),
        Command("reset", "[NAME]", "forget a conversation", "kept:reset"),
        Command("usage", "", "show requests, tokens and cost by model", "kept:usage"),
        Command("save", "FILE [--force]", "write the answers and conversations to a file", "kept:save"),
        Command("load", "FILE", "add the answers and conversations of a file", "kept:load"),
        Command(
            "record", "FILE [--force] | off", "write every request and answer to a file from now on", "kept:record"
        ),
        Command(
            "replay", "FILE [--speed X] | off", "answer from a recording, with no key and no network", "kept:replay"
        ),
    )
}


def help_text() -> str:
    """All of them, a line each."""
    width = max(len(command.typed) for command in COMMANDS.values())
    rows = [f"  {command.typed or '(alone)':<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join(["%together COMMAND", "", *rows, "", "OPTIONS are some of those of %%together above.", ""])
