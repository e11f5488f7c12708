"""The one table of ``%together``'s commands: the help, Tab and the README's table come from it."""

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
        What it does, half a sentence.
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
        Command("", "", "where it stands: server, model, key or none, defaults", "account:status"),
        Command("login", "", "takes a key, unseen and unsaved", "account:login"),
        Command("logout", "", "forgets it", "account:logout"),
        Command("models", "[TEXT]", "the models that can be asked, and their prices", "account:models"),
        Command("panel", "", "sliders, a live answer, its tokens, its events, in widgets"),
        Command("continue", "[OPTIONS]", "goes on from the last answer's very end, in its place", "asking:go_on"),
        Command("explain", "[OPTIONS]", "asks what went wrong in the cell that failed last", "asking:explain"),
        Command("history", "[NAME]", "the answers so far and the conversations; of one all turns", "kept:show"),
        Command("reset", "[NAME]", "forgets a conversation", "kept:reset"),
        Command("usage", "", "what was asked for and what it cost, by model", "kept:usage"),
        Command("save", "FILE [--force]", "writes the answers and conversations to a file", "kept:save"),
        Command("load", "FILE", "adds those of a file", "kept:load"),
        Command(
            "record", "FILE [--force] | off", "takes down all that is asked and answered from now on", "kept:record"
        ),
        Command("replay", "FILE [--speed X] | off", "answers from a recording: no key, no network", "kept:replay"),
    )
}


def help_text() -> str:
    """All of them, a line each."""
    width = max(len(command.typed) for command in COMMANDS.values())
    rows = [f"  {command.typed or '(alone)':<{width}}  {command.help}" for command in COMMANDS.values()]
    return "\n".join(["%together COMMAND", "", *rows, "", "OPTIONS are some of those of %%together above.", ""])
