"""Runs one cell of ``%%together``: one prompt, one for each item, or several requests side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.magic import for_each
from together_nb.magic.notebook import format_name
from together_nb.run import options
from together_nb.run.driver import run_side_by_side
from together_nb.run.turns import open_turn
from together_nb.views.waits import show_waits

if TYPE_CHECKING:
    from together_nb.magic.notebook import Notebook
    from together_nb.run.options import Options
    from together_nb.values.completion import Completion


def run(notebook: Notebook, line: str, cell: str) -> None:
    """Run a cell as its line says; the answer streams below.

    Parameters
    ----------
    notebook
        What draws and keeps the answers.
    line, cell
        As IPython passes them to a cell magic.
    """
    notebook.end_earlier_run()
    given = options.parse(line)
    if given is None:
        print(options.help_text())  # noqa: T201
        return
    prompt = notebook.body_as_typed(cell)
    if given.items is not None:
        for_each.ask(notebook, given, prompt)
    elif given.compare:
        _compare(notebook, given, prompt)
    else:
        notebook.ask(given, prompt)


def _compare(notebook: Notebook, given: Options, prompt: str) -> None:
    """Send one prompt in several variations, and draw the answers side by side."""
    from together_nb.values import variations
    from together_nb.views import side_by_side_view_for

    columns = variations.parse(given.compare)
    filler, keywords = notebook.filler(given), {"system": given.system, **notebook.keywords(given)}
    with defer_interrupts(), show_waits(notebook.shell):
        streams = [
            open_turn(notebook.session, prompt, filler=filler, **{**keywords, **one.values})[0]
            for one in columns.columns
        ]
    if given.dry_run:
        notebook.show_requests(streams, [filler] * len(streams))
        return

    def keep_all(completions: list[Completion]) -> None:
        notebook.session.settle(completions)
        notebook.bind(completions, given.out)

    with interrupt_message("stopped by you."), defer_interrupts():
        view = side_by_side_view_for(notebook.shell, format_name(given), columns.titles, columns.across)
        run_side_by_side(streams, view, keep=notebook.session.keep, keep_all=keep_all)
