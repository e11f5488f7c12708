"""``%%together --for``: the cell's prompt, once for each item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from together_nb.base.interrupts import defer_interrupts
from together_nb.batch.items import items_of, names_of
from together_nb.errors import InputError, TogetherError
from together_nb.magic.notebook import SHOWN_UNSENT
from together_nb.render.formats import JSON
from together_nb.run.answers import LAST
from together_nb.run.turns import open_turn
from together_nb.values.parameters import AUTO
from together_nb.views.waits import show_waits

if TYPE_CHECKING:
    from together_nb.magic.notebook import Notebook
    from together_nb.run.options import Options

_NONE = "none"
_NO_ITEMS = "--for {} has no items, so nothing was asked."


def ask(notebook: Notebook, given: Options, prompt: str) -> None:
    """Send the prompt for each item and show a table; the results are bound even if stopped."""
    if given.show not in (AUTO, JSON, _NONE):
        raise InputError(
            f"--show {given.show} and --for do not go together: what comes is shown as a table.",
            "Leave --show out; each answer is in `_together`.",
        )
    if not prompt.strip():
        raise InputError("The prompt is empty.", "Write it below the line, with {item} where each item is to stand.")
    keywords = notebook.keywords(given)
    items = _evaluated(notebook.shell, str(given.items))
    names = notebook.shell.user_ns
    if given.dry_run:
        _show_unsent(notebook, given, prompt, items, keywords)
        return
    before = names.get(LAST)
    try:
        results = notebook.session.map_prompts(items, template=prompt, names=names, system=given.system, **keywords)
    except BaseException:
        partial = names.get(LAST)
        if partial is not before:
            _show(notebook, given, partial)
        raise
    _show(notebook, given, results)
    errors = [one for one in results if isinstance(one, TogetherError)]
    if errors and len(errors) == len(results):
        raise errors[0]


def _show(notebook: Notebook, given: Options, results: Any) -> None:
    notebook.bind(results, given.out)
    if not len(results):
        print(_NO_ITEMS.format(given.items))  # noqa: T201
    elif given.show != _NONE:
        bundle = results.bundle()
        notebook.display(bundle["text/markdown"], bundle["text/plain"], {"together_nb": results.metadata()})


def _evaluated(shell: Any, expression: str) -> Any:
    try:
        return shell.ev(expression)
    except Exception as error:
        raise InputError(
            f"--for {expression} could not be worked out: {type(error).__name__}: {error}.",
            'Give a variable or an expression in quotes: --for names, --for "range(3)".',
        ) from error


def _show_unsent(notebook: Notebook, given: Options, prompt: str, items: Any, keywords: dict[str, Any]) -> None:
    """Show the first requests that would be sent."""
    if isinstance(items, Iterator):
        raise InputError(
            f"--for {given.items} can be gone through only once, which --dry-run would use up.",
            "Make a list of it first: list(…).",
        )
    rows = items_of(items).rows
    if not rows:
        print(_NO_ITEMS.format(given.items))  # noqa: T201
        return
    fillers = [notebook.filler(given, names_of(item)) for item in rows[:SHOWN_UNSENT]]
    with defer_interrupts(), show_waits(notebook.shell):
        streams = [
            open_turn(notebook.session, prompt, filler=filler, system=given.system, **keywords)[0] for filler in fillers
        ]
    notebook.show_requests(streams, fillers, more=len(rows))
