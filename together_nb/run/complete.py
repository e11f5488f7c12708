"""`stream` and `complete`: one answer, in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from together_nb.base.cancellation import cancel_with_scope
from together_nb.base.interrupts import call_interruptibly, interrupt_message
from together_nb.config.keys import hide
from together_nb.errors import InputError
from together_nb.run.history import history
from together_nb.run.resolve import open_stream
from together_nb.values.parameters import AUTO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Unpack

    from together_nb.run.stream import CompletionStream
    from together_nb.values.completion import Completion
    from together_nb.values.conversation import Conversation
    from together_nb.values.keywords import Sampling


def stream(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    schema: Any = None,
    extra_body: Mapping[str, Any] | None = None,
    **sampling: Unpack[Sampling],
) -> CompletionStream:
    """Return an answer as it arrives: iterate over its chunks; leaving the ``with`` block ends it.

    Parameters
    ----------
    prompt : str
        The text to continue, or the user's turn of a chat; sent unchanged.
    model : str or None
        Model id, as `models` lists it. None takes `settings.model`, ``TOGETHER_MODEL``, or the default, which is
        ``local/ngram`` without a key. A server with only one model needs none.
    api : str
        The dialect: ``chat``, ``completions``, ``inference``, or ``auto``, which goes by the model's type in
        ``GET /v1/models`` (completions for ``language`` and ``code``, chat for all others).
    system : str or None
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
    schema : dict, type, str or None
        The form of the answer: a JSON Schema (a dict), a pydantic model, or ``"json"`` for any JSON object. Sent as
        ``response_format`` to the chat API; `Completion.parsed` is the parsed answer.
    extra_body : dict or None
        Further fields of the request, by name, that the server knows and `together_nb` does not. A name that the
        request already has is refused.
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
    CompletionStream
        An iterator of `Chunk`. Nothing is sent before the first one is requested. A failed request is retried up to
        `settings.max_retries` times, as long as nothing of an answer has arrived; each wait is logged as a warning.
        `CompletionStream.cancel` stops it from any thread; `CompletionStream.completion` is the answer so far.

    Raises
    ------
    InputError
        At once: something in the request cannot be sent, there is no key (`MissingKeyError`), or the budget is spent.
    TogetherError
        At once, if the server's list of models is needed and cannot be fetched; else while iterating. The error's
        `completion` is the partial.

    See Also
    --------
    complete : Waits for the whole answer.

    Examples
    --------
    >>> from together_nb import stream
    >>> with stream("Once upon a time", max_tokens=20, seed=1) as chunks:
    ...     text = "".join(chunk.text for chunk in chunks)
    >>> text == chunks.completion.text
    True
    >>> chunks.completion.usage.completion_tokens
    20
    """
    api_key = hide(api_key)
    return open_stream(
        prompt, model=model, api=api, system=system, messages=messages, base_url=base_url, api_key=api_key,
        timeout=timeout, schema=schema, extra_body=extra_body, **sampling,
    )  # fmt: skip


def complete(
    prompt: str = "",
    *,
    model: str | None = None,
    api: str = AUTO,
    system: str | None = None,
    messages: Iterable[dict[str, Any]] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | None = None,
    schema: Any = None,
    extra_body: Mapping[str, Any] | None = None,
    chat: str | Conversation | None = None,
    **sampling: Unpack[Sampling],
) -> Completion:
    """Return a whole answer. It is also added to `history`.

    Parameters
    ----------
    prompt : str
        The text to continue, or the user's turn of a chat; sent unchanged.
    model : str or None
        Model id, as `models` lists it. None takes `settings.model`, ``TOGETHER_MODEL``, or the default, which is
        ``local/ngram`` without a key. A server with only one model needs none.
    api : str
        The dialect: ``chat``, ``completions``, ``inference``, or ``auto``, which goes by the model's type in
        ``GET /v1/models`` (completions for ``language`` and ``code``, chat for all others).
    system : str or None
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
    schema : dict, type, str or None
        The form of the answer: a JSON Schema (a dict), a pydantic model, or ``"json"`` for any JSON object. Sent as
        ``response_format`` to the chat API; `Completion.parsed` is the parsed answer.
    extra_body : dict or None
        Further fields of the request, by name, that the server knows and `together_nb` does not. A name that the
        request already has is refused.
    chat : str or Conversation or None
        A conversation or its name, instead of `messages`: its turns are sent along, and the answer becomes its next
        turn. A new name begins a conversation in `conversations`.
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
    Completion
        The answer; a notebook displays it. A failed request is retried up to `settings.max_retries` times, as long
        as nothing of an answer has arrived.

    Raises
    ------
    InputError
        Something in the request cannot be sent, there is no key (`MissingKeyError`), or the budget is spent.
    TogetherError
        The request failed; the error's `completion` is the partial, which is in `history` too.
    KeyboardInterrupt
        Ctrl-C or the notebook's ■; the partial is in `history`.

    See Also
    --------
    stream : Returns the answer as it arrives.

    Examples
    --------
    >>> from together_nb import complete, history
    >>> answer = complete("Alan Turing was", max_tokens=12, temperature=0)
    >>> answer.model, answer.usage.completion_tokens, answer.truncated
    ('local/ngram', 12, True)
    >>> answer is history[-1]
    True
    >>> complete("Write of him.", chat="lesson", max_tokens=12).api
    'chat'
    """
    api_key = hide(api_key)
    options = {
        "model": model,
        "api": api,
        "base_url": base_url,
        "timeout": timeout,
        "schema": schema,
        "extra_body": extra_body,
        **sampling,
    }
    stream, keep_turn = _open(prompt, messages, system, chat, api_key, options)
    with interrupt_message("stopped by you; what came is kept."), stream:

        def read() -> None:
            cancel_with_scope(stream)
            for _ in stream:
                pass

        try:
            call_interruptibly(read)
        except BaseException:
            stream.cancel()
            raise
        finally:
            completion = stream.completion
            keep_turn(completion)
            history.append(completion)
    return completion


def _open(
    prompt: str,
    messages: Iterable[dict[str, Any]] | None,
    system: str | None,
    chat: str | Conversation | None,
    api_key: str | None,
    options: dict[str, Any],
) -> tuple[CompletionStream, Callable[[Completion], object]]:
    """Return a stream, and the function that keeps its answer as a turn of the conversation, if any."""
    if chat is None:
        return open_stream(prompt, messages=messages, system=system, api_key=api_key, **options), lambda _: None
    if messages is not None:
        raise InputError(
            "A conversation and messages were given.", "Leave the messages out: the conversation has them."
        )
    from together_nb.run.chats import next_turn

    return next_turn(chat, prompt, system=system, api_key=api_key, **options)
