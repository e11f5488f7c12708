"""Requests that differ in a value or two, answered side by side."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.errors import InputError
from together_nb.render.formats import format_for
from together_nb.run.driver import run_side_by_side
from together_nb.run.resolve import open_stream
from together_nb.values.variations import check_key, combinations, values_from_list
from together_nb.views import side_by_side_view_for
from together_nb.views.frontend import running_shell
from together_nb.views.waits import print_waits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from together_nb.run.answers import Keeper
    from together_nb.values.completion import Completion


def compare(
    session: Keeper,
    prompt: str,
    *,
    model: str | list[str] | None,
    api: str | list[str],
    system: str | list[str] | None,
    messages: Iterable[dict[str, Any]] | None,
    show: str,
    at_once: int,
    **options: Any,
) -> list[Completion]:
    """Do as `Session.compare`."""
    if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
        raise InputError(f"at_once must be a whole number of at least 1, not {at_once!r}.", "Leave it out for four.")
    server = {name: options.pop(name) for name in ("base_url", "api_key", "default_headers", "timeout", "extra_body")}
    given: dict[str, Any] = {"model": model, "api": api, "system": system, **options}
    varied = {name: values_from_list(check_key(name), value) for name, value in given.items() if _is_list(name, value)}
    columns = combinations(varied)
    fixed = {name: value for name, value in given.items() if name not in varied}
    turns = None if messages is None else list(messages)
    format_for(show, chat=True)  # an invalid name is reported before anything is sent
    shell = running_shell()
    with interrupt_message("stopped by you; nothing was sent."), defer_interrupts(), ExitStack() as waits:
        if shell is not None:
            waits.enter_context(print_waits(shell))
        streams = [
            open_stream(session, prompt, messages=turns, **server, **fixed, **one.values) for one in columns.columns
        ]
    with defer_interrupts():  # as long as there are widgets
        view = side_by_side_view_for(shell, "none" if shell is None else show, columns.titles, columns.across)

        def keep_all(completions: list[Completion]) -> None:
            session.settle(completions)
            session.bind(completions)

        return run_side_by_side(streams, view, keep=session.keep, at_once=at_once, keep_all=keep_all)


def _is_list(name: str, value: Any) -> bool:
    """Whether it holds a value for each column."""
    if not isinstance(value, (list, tuple)):
        return False
    # A `stop` is a list itself.
    return name != "stop" or not value or not all(isinstance(text, str) for text in value)
