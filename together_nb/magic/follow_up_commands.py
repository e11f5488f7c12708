"""Commands that call a model: continue, explain."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from together_nb.base.fences import fenced
from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.magic import exceptions
from together_nb.render.formats import CODE

if TYPE_CHECKING:
    from together_nb.magic.notebook import Notebook
    from together_nb.run.options import Options
    from together_nb.values.completion import Completion


def continue_answer(notebook: Notebook, given: Options) -> None:
    """Continue the last answer from its end; the cell shows the whole, which replaces the partial under its names."""
    from together_nb.run import continuation
    from together_nb.run.answers import last_answer
    from together_nb.views.waits import show_waits

    session = notebook.session
    before = last_answer(session)
    with defer_interrupts(), show_waits(notebook.shell):
        stream = continuation.open_continuation(session, before, **given.sampling)

    def bind(whole: Completion) -> None:
        notebook.rebind(before, whole)
        if given.out is not None:
            notebook.bind(whole, given.out)

    def keep(after: Completion) -> Completion | None:
        return session.keep(after, before=before, bind=bind)

    with interrupt_message("stopped by you."), defer_interrupts() as interrupts:
        whole = continuation.run(stream, before, notebook.view(given, stream), keep)
        if given.show == CODE:
            notebook.next_cell.offer(whole.text)
        if interrupts:
            stream.cancel()


def explain(notebook: Notebook, given: Options) -> None:
    """Ask what went wrong in the last failed cell; the prompt is shown before it is sent."""
    given = replace(given, raw=True)
    error = exceptions.last_exception()
    prompt = exceptions.prompt_about(error)
    with exceptions.remember(error):
        if not given.dry_run:
            folded = f"<details open><summary>What is sent</summary>\n\n{fenced(prompt)}\n\n</details>"
            notebook.display(folded, f"What is sent:\n{prompt}\n")
        notebook.ask(given, prompt)
