"""``%%together --for``: the cell's prompt, once for each item."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb import resolve, session
from together_nb.batch import map_prompts
from together_nb.errors import InputError, TogetherError
from together_nb.fill import fill
from together_nb.formats import AUTO, JSON
from together_nb.interrupts import put_off
from together_nb.items import items_of, names_of
from together_nb.views.notice import waits_shown

if TYPE_CHECKING:
    from together_nb.magic.cell import Cells
    from together_nb.options import Options

_NONE = "none"
_SHOWN_UNSENT = 3


def ask(cells: Cells, given: Options, prompt: str, asked: dict[str, Any]) -> None:
    """Ask for each item, and show a table of what came; the names hold it also where this is stopped."""
    if given.show not in (AUTO, JSON, _NONE):
        raise InputError(
            f"--show {given.show} and --for do not go together: what comes is shown as a table.",
            "Leave --show out; each answer is in `_together`.",
        )
    if not prompt.strip():
        raise InputError("The prompt is empty.", "Write it below the line, with {item} where each item is to stand.")
    items = _evaluated(cells.shell, str(given.items))
    names = cells.shell.user_ns
    if given.dry_run:
        with put_off(), waits_shown(cells.shell):
            cells.show_requests(
                _unsent(items, prompt, {**asked, "system": given.system}, names), more=len(items_of(items).rows)
            )
        return
    before = names.get(session.LAST)
    try:
        results = map_prompts(items, template=prompt, names=names, system=given.system, **asked)
    except BaseException:
        came = names.get(session.LAST)
        if came is not before:
            _show(cells, given, came)
        raise
    _show(cells, given, results)
    errors = [one for one in results if isinstance(one, TogetherError)]
    if errors and len(errors) == len(results):
        raise errors[0]


def _show(cells: Cells, given: Options, results: Any) -> None:
    cells.bind(results, given.out)
    if not len(results):
        print(f"--for {given.items} has no items, so nothing was asked.")  # noqa: T201
    elif given.show != _NONE:
        bundle = results.bundle()
        cells.display(bundle["text/markdown"], bundle["text/plain"], {"together_nb": results.metadata()})


def _evaluated(shell: Any, expression: str) -> Any:
    try:
        return shell.ev(expression)
    except Exception as error:
        raise InputError(
            f"--for {expression} could not be worked out: {type(error).__name__}: {error}.",
            'Give a variable or an expression in quotes: --for names, --for "range(3)".',
        ) from error


def _unsent(items: Any, prompt: str, asked: dict[str, Any], names: dict[str, Any]) -> list[Any]:
    opened = []
    for item in list(items_of(items).rows)[:_SHOWN_UNSENT]:
        text, filled = fill(prompt, {**names, **names_of(item)})
        opened.append(resolve.open_stream(text, filled=filled, **asked))
    return opened
