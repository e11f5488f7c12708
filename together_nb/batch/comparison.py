"""Requests that differ in a value or two, answered side by side."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from together_nb.base.interrupts import put_off, told
from together_nb.config.keys import hidden
from together_nb.errors import InputError
from together_nb.render.formats import format_for
from together_nb.run import complete
from together_nb.run.resolve import open_stream
from together_nb.values.documented import documented
from together_nb.values.parameters import AUTO
from together_nb.values.variations import combined, known, listed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from together_nb.values.completion import Completion
from together_nb.run.columns import AT_ONCE, run_side_by_side


@documented(complete.stream)
def compare(
    prompt: str = "",
    *,
    model: str | list[str] | None = None,
    api: str | list[str] = AUTO,
    system: str | list[str] | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    show: str = AUTO,
    at_once: int = AT_ONCE,
    **sampling: Any,
) -> list[Completion]:
    """Answers to one prompt, side by side: whatever is given as a list differs between them.

    In IPython they are drawn as they stream, and elsewhere nothing is. They are also added to `history`.

    Of several lists, all combinations are asked for, 64 at most, the first list changing slowest.

    Parameters
    ----------
    prompt
        As for `stream`.
    model : str or list of str or None
        As for `stream`.
    api : str or list of str
        As for `stream`.
    system : str or list of str or None
        As for `stream`.
    messages, base_url, api_key, timeout
        As for `stream`.
    show : str
        How they are drawn: ``auto``, ``markdown``, ``text``, ``code``, ``json`` or ``none``.
    at_once : int
        How many requests are under way at once.
    **sampling
        As for `stream`.

        Of each of these, `logit_bias` left aside, a list of values may be given (of `stop` a list of lists).

    Returns
    -------
    list of Completion
        In the order of the values. One that failed is there as far as it came, and its `error` says so.

    Raises
    ------
    InputError
        At once: something cannot be sent, there is nothing to compare, or too much. Nothing was sent.
    TogetherError
        None has succeeded: the first one's error.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what came is in `history`.

    Examples
    --------
    >>> from together_nb import compare
    >>> cold, warm = compare("Once upon a time", temperature=[0, 1], max_tokens=12)
    >>> cold.request.sampling.temperature, warm.request.sampling.temperature
    (0.0, 1.0)
    """
    api_key = hidden(api_key)
    from IPython import get_ipython

    from together_nb.views import side_by_side_view_for
    from together_nb.views.waits import waits_written

    if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
        raise InputError(f"at_once must be a whole number of at least 1, not {at_once!r}.", "Leave it out for four.")
    given = {"model": model, "api": api, "system": system, **sampling}
    varied = {name: listed(known(name), value) for name, value in given.items() if _is_list(name, value)}
    columns = combined(varied)
    fixed = {name: value for name, value in given.items() if name not in varied}
    turns = None if messages is None else list(messages)
    format_for(show, chat=True)  # a name that is none is told before anything is asked
    shell = get_ipython()
    with told("stopped by you; nothing was sent."), put_off(), ExitStack() as waits:
        if shell is not None:
            waits.enter_context(waits_written(shell))
        opened = [
            open_stream(
                prompt, messages=turns, base_url=base_url, api_key=api_key, timeout=timeout, **fixed, **one.values
            )
            for one in columns.columns
        ]
    with put_off():  # from before there are widgets until there are none
        view = side_by_side_view_for(shell, "none" if shell is None else show, columns.titles, columns.across)
        return run_side_by_side(opened, view, at_once=at_once)


def _is_list(name: str, value: Any) -> bool:
    """Whether it holds a value for each column."""
    if not isinstance(value, (list, tuple)):
        return False
    # A stop is a list itself.
    return name != "stop" or not value or not all(isinstance(text, str) for text in value)
