"""Commands that ask a model: go on, explain."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from together_nb import continuing, options
from together_nb import explain as explaining
from together_nb.errors import InputError
from together_nb.escape import fenced
from together_nb.formats import CODE
from together_nb.interrupts import put_off, told
from together_nb.magic import offered
from together_nb.views.notice import waits_shown

if TYPE_CHECKING:
    from together_nb.completion import Completion
    from together_nb.magic.cell import Cells
    from together_nb.options import Options

_GOING_ON = ("show", "out", "sampling")
_EXPLAINING = ("model", "api", "system", "show", "out", "dry_run", "sampling")


def go_on(cells: Cells, rest: str) -> None:
    """Go on from the last answer's very end; the cell shows the whole, which takes the part's place and its names."""
    given = _given(rest, "continue", _GOING_ON)
    before = continuing.last()
    with put_off(), waits_shown(cells.shell):
        opened = continuing.opened(before, **given.sampling)

    def keep(whole: Completion) -> None:
        cells.rebind(before, whole)
        if given.out is not None:
            cells.bind(whole, given.out)

    with told("stopped by you; what came is kept."), put_off() as came:
        whole = continuing.run(opened, before, cells.view(given, opened), keep)
        if given.show == CODE:
            offered.offer(cells.shell, whole.text)
        if came:
            opened.cancel()


def explain(cells: Cells, rest: str) -> None:
    """Ask what went wrong in the cell that failed last; what is sent is shown before it is sent."""
    given = replace(_given(rest, "explain", _EXPLAINING), raw=True)
    error = explaining.last_exception()
    prompt = explaining.prompt_about(error)
    with explaining.explaining(error):
        if not given.dry_run:
            folded = f"<details open><summary>What is sent</summary>\n\n{fenced(prompt)}\n\n</details>"
            cells.display(folded, f"What is sent:\n{prompt}\n")
        cells.ask(given, prompt)


def _given(rest: str, command: str, known: tuple[str, ...]) -> Options:
    """The options of a command, which are those of a cell but for some."""
    given = options.parse(rest)
    if given is None:
        raise InputError(f"`%together {command}` takes options of %%together.", "`%%together?` shows them.")
    for field in fields(given):
        if field.name not in known and getattr(given, field.name) != getattr(options.Options(), field.name):
            option = "--" + {"items": "for"}.get(field.name, field.name).replace("_", "-")
            told_known = ", ".join("--" + name.replace("_", "-") for name in known if name != "sampling")
            raise InputError(
                f"`%together {command}` has no {option}.", f"It takes {told_known} and the sampling parameters."
            )
    return given
