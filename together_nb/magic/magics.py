"""What IPython calls: the two magics, their completion and their help. What they do has rooms of its own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from together_nb.config import configurable_traits, mirror, settings
from together_nb.errors import InputError, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.magic.cell import Cells


@magics_class
class TogetherMagics(Magics):
    """Send a cell to a language model and watch the answer arrive.

    Its traits are those of `together_nb.settings`: ``%config TogetherMagics.temperature = 0.7``
    holds for every cell that does not say otherwise.

    Parameters
    ----------
    shell : InteractiveShell
        The running IPython.
    commands : dict or None
        What other doors add to ``%together``, by name: each is called with what stands after its name.
    """

    def __init__(self, shell: Any, commands: dict[str, Callable[[str], None]] | None = None) -> None:
        self.add_traits(**configurable_traits(settings))
        super().__init__(shell)
        self._shell = shell
        self._made: Cells | None = None
        mirror(settings, self)
        self._commands = commands or {}
        shell.set_hook("complete_command", self._complete_cell, str_key="%%together")
        shell.set_hook("complete_command", self._complete_line, str_key="%together")

    @property
    def _cells(self) -> Cells:
        """What runs cells. Imported here, as all that is heavy: loading the extension must not wait for it."""
        if self._made is None:
            from together_nb.magic.cell import Cells

            self._made = Cells(self._shell)
        return self._made

    @no_var_expand
    @cell_magic("together")
    def run_cell(self, line: str, cell: str) -> None:
        """Send this cell to a language model; the answer streams below.

        Parameters
        ----------
        line : str
            What stands behind ``%%together``: the options that ``%%together?`` shows.
        cell : str
            What stands below it: the prompt.

        Raises
        ------
        InputError
            Something cannot be sent. Nothing was.
        TogetherError
            What went wrong; its `completion` is what came.
        KeyboardInterrupt
            Ctrl-C or the notebook's ■; what came is kept.
        """
        from together_nb.interrupts import told

        with told("stopped by you; nothing was sent."):
            self._cells.run(line, cell)

    @no_var_expand
    @line_magic("together")
    def run_command(self, line: str) -> None:
        """``%together`` COMMAND; alone: where it stands.

        Parameters
        ----------
        line : str
            What stands behind ``%together``: a command that ``%together?`` shows, and what it takes.

        Raises
        ------
        InputError
            There is no such command, or it cannot take what follows.
        TogetherError
            What went wrong.
        KeyboardInterrupt
            Ctrl-C or the notebook's ■.
        """
        from together_nb.interrupts import told
        from together_nb.views.notice import waits_written

        with told("stopped by you."), waits_written(self._shell):
            self._command(line)

    def _command(self, line: str) -> None:
        from together_nb.magic.commands import COMMANDS

        name, _, rest = line.strip().partition(" ")
        known = COMMANDS.get(name)
        if known is None:
            names = [one for one in COMMANDS if one]
            hint = suggestion(name, names) or f"There are: {', '.join(names)}."
            raise InputError(f"There is no command `%together {name}`.", hint)
        if name in self._commands:
            self._commands[name](rest.strip())
            return
        module, _, function = known.where.partition(":")
        getattr(import_module(f"together_nb.magic.{module}"), function)(self._cells, rest.strip())

    def _complete_cell(self, _: Any, event: Any) -> list[str]:
        from together_nb import completer

        return completer.options(event.line, event.symbol)

    def _complete_line(self, _: Any, event: Any) -> list[str]:
        from together_nb import completer
        from together_nb.magic.commands import COMMANDS

        return completer.words(event.line, event.symbol, [name for name in COMMANDS if name])


def _help() -> str:
    from together_nb import options
    from together_nb.magic.commands import help_text

    return f"Send a cell to a language model; the answer streams below it.\n\n{options.help_text()}\n{help_text()}"


# What `%%together?` shows: IPython asks an object for its documentation by this name first. It is
# the same for both, since Shift+Tab on `%%together` looks up `%together`.
TogetherMagics.run_cell.getdoc = _help
TogetherMagics.run_command.getdoc = _help
