"""Requests that differ in a value or two, answered side by side."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.config.keys import hide
from together_nb.errors import InputError
from together_nb.render.formats import format_for
from together_nb.run.parallel import AT_ONCE, run_side_by_side
from together_nb.run.resolve import open_stream
from together_nb.values.parameters import AUTO
from together_nb.values.variations import check_key, combinations, values_from_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Unpack

    from together_nb.values.completion import Completion
    from together_nb.values.keywords import SamplingLists


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
    extra_body: Mapping[str, Any] | None = None,
    show: str = AUTO,
    at_once: int = AT_ONCE,
    **sampling: Unpack[SamplingLists],
) -> list[Completion]:
    """Compare answers to one prompt, side by side: whatever is given as a list differs between them.

    In IPython they are drawn as they stream; elsewhere nothing is. They are also added to `history`.

    Several lists give all combinations, 64 at most; the first list changes slowest.

    Parameters
    ----------
    prompt : str
        The text to continue, or the user's turn of a chat; sent unchanged.
    model : str or list of str or None
        Model id, as `models` lists it. None takes `settings.model`, ``TOGETHER_MODEL``, or the default, which is
        ``local/ngram`` without a key. A server with only one model needs none.
    api : str or list of str
        The dialect: ``chat``, ``completions``, ``inference``, or ``auto``, which goes by the model's type in
        ``GET /v1/models`` (completions for ``language`` and ``code``, chat for all others).
    system : str or list of str or None
        System prompt of a chat.
    messages : iterable of dict or None
        A whole conversation instead of `prompt`, oldest turn first, each ``{"role": "user", "content": "Hello"}``
        with the role ``system``, ``user`` or ``assistant``.
    base_url : str or None
        A server other than that of the settings, with or without ``/v1``; https, or http to this machine.
    api_key : str or None
        A key other than that of the settings. It is never shown.
    timeout : float or None
        Seconds of silence allowed before the answer begins and in its middle; None takes
        `settings.timeout` and `settings.silence_timeout`.
    extra_body : dict or None
        Further fields of the request, by name, that the server knows and `together_nb` does not. A name that the
        request already has is refused.
    show : str
        How they are drawn: ``auto``, ``markdown``, ``text``, ``code``, ``json`` or ``none``.
    at_once : int
        How many requests are under way at once.
    **sampling
        Sampling parameters. Those not given are taken from `settings`; None unsets one, which is then not sent.

        max_tokens : int or None
            The most tokens to generate.
            A whole number of at least 1.
        temperature : float or None
            How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is wilder.
            A number of at least 0.
        top_p : float or None
            Choose among the likeliest tokens that together have this probability.
            A number from 0 to 1.
        top_k : int or None
            Choose among this many likeliest tokens.
            A whole number.
        min_p : float or None
            Drop tokens less likely than this share of the likeliest one's probability.
            A number from 0 to 1.
        repetition_penalty : float or None
            Over 1 makes tokens that already occurred less likely.
            A number over 0.
        presence_penalty : float or None
            Over 0 makes tokens that the answer already used less likely, however often.
            A number.
        frequency_penalty : float or None
            Over 0 makes tokens less likely the more often the answer used them.
            A number.
        stop : list of str or None
            End the answer before this text; may be given several times.
            A text or a list of texts.
        seed : int or None
            The same seed and request give the same answer, as far as the server can.
            A whole number.
        logprobs : int or None
            Return each token's log-probability and this many alternatives.
            A whole number from 0 to 20.
        n : int or None
            How many answers to generate.
            A whole number from 1 to 128.
        echo : bool or None
            Return the prompt too, in front of the answer.
            True or False.
        logit_bias : dict of str to float or None
            Add to the logit of single tokens: a JSON object of token id to bias.
            A JSON object.
        reasoning_effort : str or None
            How long a reasoning model may think.
            One of low, medium, high. For the chat API alone.

    Returns
    -------
    list of Completion
        In the order of the values. A failed one is partial, and its `error` says so.

    Raises
    ------
    InputError
        At once: something cannot be sent, there is nothing to compare, or too much. Nothing was sent.
    TogetherError
        All have failed: the first one's error.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; what has arrived is in `history`.

    Examples
    --------
    >>> from together_nb import compare
    >>> cold, warm = compare("Once upon a time", temperature=[0, 1], max_tokens=12)
    >>> cold.request.sampling.temperature, warm.request.sampling.temperature
    (0.0, 1.0)
    """
    api_key = hide(api_key)
    from IPython import get_ipython

    from together_nb.views import side_by_side_view_for
    from together_nb.views.waits import print_waits

    if isinstance(at_once, bool) or not isinstance(at_once, int) or at_once < 1:
        raise InputError(f"at_once must be a whole number of at least 1, not {at_once!r}.", "Leave it out for four.")
    given: dict[str, Any] = {"model": model, "api": api, "system": system, **sampling}
    varied = {name: values_from_list(check_key(name), value) for name, value in given.items() if _is_list(name, value)}
    columns = combinations(varied)
    fixed = {name: value for name, value in given.items() if name not in varied}
    turns = None if messages is None else list(messages)
    format_for(show, chat=True)  # an invalid name is reported before anything is sent
    shell = get_ipython()
    with interrupt_message("stopped by you; nothing was sent."), defer_interrupts(), ExitStack() as waits:
        if shell is not None:
            waits.enter_context(print_waits(shell))
        streams = [
            open_stream(
                prompt,
                messages=turns,
                base_url=base_url,
                api_key=api_key,
                timeout=timeout,
                extra_body=extra_body,
                **fixed,
                **one.values,
            )
            for one in columns.columns
        ]
    with defer_interrupts():  # as long as there are widgets
        view = side_by_side_view_for(shell, "none" if shell is None else show, columns.titles, columns.across)
        return run_side_by_side(streams, view, at_once=at_once)


def _is_list(name: str, value: Any) -> bool:
    """Whether it holds a value for each column."""
    if not isinstance(value, (list, tuple)):
        return False
    # A `stop` is a list itself.
    return name != "stop" or not value or not all(isinstance(text, str) for text in value)
