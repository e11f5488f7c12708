"""What IPython calls: the two magics, their completion and their help. Other modules do the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from together_nb.config import settings as config
from together_nb.config.settings import configurable_traits, mirror

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.magic.notebook import Notebook
    from together_nb.session import Session


def _session() -> Session:
    """The session of the cells; imported here, since that takes a while."""
    from together_nb import session

    return session.default


@magics_class
class TogetherMagics(Magics):
    """Send a cell to a language model and watch the answer arrive.

    Its traits are those of `together_nb.settings`: ``%config TogetherMagics.temperature = 0.7``
    applies to every cell that does not override it.

    Parameters
    ----------
    shell : InteractiveShell
        The running IPython shell.
    open_panel : callable or None
        Opens the panel, for ``%together panel``.
    """

    def __init__(self, shell: Any, open_panel: Callable[[], object] | None = None) -> None:
        self.add_traits(**configurable_traits(config.settings))
        super().__init__(shell)
        self._shell = shell
        self._made: Notebook | None = None
        mirror(config.settings, self)
        self._open_panel = open_panel
        shell.set_hook("complete_command", self._complete_cell, str_key="%%together")
        shell.set_hook("complete_command", self._complete_line, str_key="%together")

    @property
    def _notebook(self) -> Notebook:
        """What runs cells. Imported here, like all that is heavy, so that loading the extension is fast."""
        if self._made is None:
            from together_nb.magic.notebook import Notebook

            self._made = Notebook(self._shell, _session(), self._open_panel)
        return self._made

    @no_var_expand
    @cell_magic("together")
    def run_cell(self, line: str, cell: str) -> None:
        """Send this cell to a language model; the answer streams below.

        Parameters
        ----------
        line : str
            What follows ``%%together``: the options that ``%%together?`` shows.
        cell : str
            What is below it: the prompt.

        Raises
        ------
        InputError
            The request is invalid; nothing was sent.
        TogetherError
            The request failed; `completion` is what arrived.
        KeyboardInterrupt
            Ctrl-C or the notebook's ■; what has arrived is kept.
        """
        from together_nb.base.interrupts import interrupt_message
        from together_nb.magic.run_cell import run

        with interrupt_message("stopped by you; nothing was sent."):
            run(self._notebook, line, cell)

    @no_var_expand
    @line_magic("together")
    def run_command(self, line: str) -> None:
        """Run a ``%together`` command; alone, show the status.

        Parameters
        ----------
        line : str
            What follows ``%together``: a command that ``%together?`` shows, and its arguments.

        Raises
        ------
        InputError
            There is no such command, or an argument is invalid.
        TogetherError
            The command failed.
        KeyboardInterrupt
            Ctrl-C or the notebook's ■.
        """
        from together_nb.base.interrupts import interrupt_message
        from together_nb.magic.commands import run
        from together_nb.views.waits import print_waits

        with interrupt_message("stopped by you."), print_waits(self._shell):
            run(self._notebook, line)

    def _complete_cell(self, _: Any, event: Any) -> list[str]:
        from together_nb.magic import completer

        return completer.options(event.line, event.symbol, _session)

    def _complete_line(self, _: Any, event: Any) -> list[str]:
        from together_nb.magic import completer

        return completer.words(event.line, event.symbol, _session)


def _help() -> str:
    from together_nb.magic.commands import help_text
    from together_nb.run import options

    return f"Send a cell to a language model; the answer streams below it.\n\n{options.help_text()}\n{help_text()}"


# What `%%together?` shows: IPython looks for `getdoc` first. Both share it, since Shift+Tab on
# `%%together` looks up `%together`.
TogetherMagics.run_cell.getdoc = _help
TogetherMagics.run_command.getdoc = _help
