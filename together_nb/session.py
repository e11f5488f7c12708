"""A session: its settings, its answers, what they cost, and the ways to ask."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from together_nb.base.interrupts import interrupt_message
from together_nb.base.wording import count
from together_nb.batch import comparison
from together_nb.batch import prompts as batch
from together_nb.batch.prompts import MOST
from together_nb.config import settings as config
from together_nb.config.addresses import DEFAULT_BASE_URL, server_root
from together_nb.config.keys import Key, hide
from together_nb.config.settings import Settings
from together_nb.errors import InputError
from together_nb.run import continuation, driver, resolve
from together_nb.run.answers import LAST, Answers, add_loaded, last_answer
from together_nb.run.continuation import open_continuation
from together_nb.run.driver import AT_ONCE
from together_nb.run.ledger import Ledger
from together_nb.run.turns import open_turn
from together_nb.storage import answers_file, files
from together_nb.storage.player import Replay
from together_nb.storage.recorder import Recorder
from together_nb.values.parameters import AUTO
from together_nb.views.frontend import running_shell
from together_nb.wire.endpoint import Client
from together_nb.wire.transport import Network

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Executor
    from pathlib import Path
    from typing import Unpack

    from together_nb.batch.results import BatchResults
    from together_nb.storage.entry import Recording
    from together_nb.values.completion import Completion
    from together_nb.values.conversation import Conversation
    from together_nb.values.keywords import Sampling, SamplingLists
    from together_nb.values.model_list import Model
    from together_nb.wire.stream import CompletionStream
    from together_nb.wire.transport import Transport


class Session(Answers):
    """Everything that one user of a model has: settings and keys, answers, conversations, costs, a recording.

    The functions of `together_nb` are those of one session, which cells and the panel use too. Others can stand beside
    it, each with a key, a server, a history and a budget of its own.

    Parameters
    ----------
    api_key : str or None
        A key for the server; None takes the environment's, if it is for this server. It is never shown.
    default_headers : dict or None
        Further HTTP headers for the server, by name. Their values are never shown.
    base_url : str or None
        The server, with or without ``/v1``; None takes the environment's, or Together.
    model : str or None
        Model id; None takes ``TOGETHER_MODEL``, or the default.
    budget : float or None
        US dollars that may be spent before requests are refused.
    settings : Settings or None
        The settings to use; None makes new ones. Further defaults are set there: ``session.settings.temperature = 0``.
    transport : Transport or None
        What carries the requests; None takes the network.

    Attributes
    ----------
    settings : Settings
        The defaults, and the keys.
    history : list of Completion
        Every answer, oldest first; partial if it was stopped or failed.
    conversations : dict of str to Conversation
        The conversations by name.
    ledger : Ledger
        Requests, tokens and cost by model.
    unanswered : Completion or None
        The last request if nothing came of it.
    transport : Transport
        What carries the requests now: the network, or a recording that is made or played back.

    Raises
    ------
    InputError
        The key or the base URL is invalid.
    TraitError
        The model or the budget is of the wrong type.

    Examples
    --------
    >>> from together_nb import Session, history
    >>> other = Session(model="local/ngram", budget=0.5)
    >>> answer = other.complete("Alan Turing was", max_tokens=5)
    >>> len(other.history), len(history), other.ledger.total().calls
    (1, 0, 1)
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        default_headers: Mapping[str, str] | None = None,
        base_url: str | None = None,
        model: str | None = None,
        budget: float | None = None,
        settings: Settings | None = None,
        transport: Transport | None = None,
    ) -> None:
        super().__init__()
        api_key, default_headers = hide(api_key), hide(default_headers)
        self.settings = Settings() if settings is None else settings
        for name, value in {"base_url": base_url, "model": model, "budget": budget}.items():
            if value is not None:
                setattr(self.settings, name, value)
        if api_key is not None:
            key = Key(api_key, "Session(api_key=…)")
            self.settings.set_key(key, server_root(self.settings.chosen_base_url or DEFAULT_BASE_URL))
        if default_headers is not None:
            self.settings.default_headers = default_headers
        self.ledger = Ledger(lambda: self.settings.budget)
        self._transport = transport or Network()
        self.client = Client(self._transport)
        self._recording: Recorder | Replay | None = None

    @property
    def transport(self) -> Transport:
        """What carries the requests now: the network, or a recording that is made or played back."""
        return self.client.transport

    def __repr__(self) -> str:
        return f"<Session {self.settings.chosen_base_url or DEFAULT_BASE_URL}: {count(len(self.history), 'answer')}>"

    def __reduce__(self) -> Any:
        if self is default:  # so that its functions can be sent to another process, which has one of its own
            return _default, ()
        raise TypeError("A session is not pickled: it holds keys.")

    def bind(self, answer: object) -> None:
        """Bind the user's ``_together`` to the last answer, in IPython; a session beside the usual one binds nothing.

        Parameters
        ----------
        answer : Completion or list of Completion or BatchResults
            The answer, or the answers of one call.
        """
        shell = running_shell()
        if shell is not None and self is default:
            shell.push({LAST: answer}, interactive=False)

    def stream(
        self,
        prompt: str = "",
        *,
        model: str | None = None,
        api: str = AUTO,
        system: str | None = None,
        messages: Iterable[dict[str, Any]] | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers: Mapping[str, str] | None = None,
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
            one on this machine without a key. A server with only one model needs none.
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
        default_headers : dict or None
            Further HTTP headers, by name, for this request's server. They are added to `settings.default_headers` and
            replace those of the same name; ``Authorization`` replaces the key. Their values are never shown.
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
                The most tokens to generate. A whole number of at least 1.
            temperature : float or None
                How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
                wilder. A number of at least 0.
            top_p : float or None
                Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
            top_k : int or None
                Choose among this many likeliest tokens. A whole number.
            min_p : float or None
                Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
            repetition_penalty : float or None
                Over 1 makes tokens that already occurred less likely. A number over 0.
            presence_penalty : float or None
                Over 0 makes tokens that the answer already used less likely, however often. A number.
            frequency_penalty : float or None
                Over 0 makes tokens less likely the more often the answer used them. A number.
            stop : list of str or None
                End the answer before this text; may be given several times. A text or a list of texts.
            seed : int or None
                The same seed and request give the same answer, as far as the server can. A whole number.
            logprobs : int or None
                Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
            n : int or None
                How many answers to generate. A whole number from 1 to 128.
            echo : bool or None
                Return the prompt too, in front of the answer. True or False.
            logit_bias : dict of str to float or None
                Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
            reasoning_effort : str or None
                How long a reasoning model may think. One of low, medium, high. For the chat API alone.

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
        api_key, default_headers = hide(api_key), hide(default_headers)
        return resolve.open_stream(
            self, prompt, model=model, api=api, system=system, messages=messages, base_url=base_url, api_key=api_key,
            default_headers=default_headers, timeout=timeout, schema=schema, extra_body=extra_body, **sampling,
        )  # fmt: skip

    def complete(
        self,
        prompt: str = "",
        *,
        model: str | None = None,
        api: str = AUTO,
        system: str | None = None,
        messages: Iterable[dict[str, Any]] | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers: Mapping[str, str] | None = None,
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
            one on this machine without a key. A server with only one model needs none.
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
        default_headers : dict or None
            Further HTTP headers, by name, for this request's server. They are added to `settings.default_headers` and
            replace those of the same name; ``Authorization`` replaces the key. Their values are never shown.
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
                The most tokens to generate. A whole number of at least 1.
            temperature : float or None
                How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
                wilder. A number of at least 0.
            top_p : float or None
                Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
            top_k : int or None
                Choose among this many likeliest tokens. A whole number.
            min_p : float or None
                Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
            repetition_penalty : float or None
                Over 1 makes tokens that already occurred less likely. A number over 0.
            presence_penalty : float or None
                Over 0 makes tokens that the answer already used less likely, however often. A number.
            frequency_penalty : float or None
                Over 0 makes tokens less likely the more often the answer used them. A number.
            stop : list of str or None
                End the answer before this text; may be given several times. A text or a list of texts.
            seed : int or None
                The same seed and request give the same answer, as far as the server can. A whole number.
            logprobs : int or None
                Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
            n : int or None
                How many answers to generate. A whole number from 1 to 128.
            echo : bool or None
                Return the prompt too, in front of the answer. True or False.
            logit_bias : dict of str to float or None
                Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
            reasoning_effort : str or None
                How long a reasoning model may think. One of low, medium, high. For the chat API alone.

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
        api_key, default_headers = hide(api_key), hide(default_headers)
        with interrupt_message("stopped by you; nothing was sent."):
            stream, turn = open_turn(
                self,
                prompt, chat=chat, model=model, api=api, system=system, messages=messages, base_url=base_url,
                api_key=api_key, default_headers=default_headers, timeout=timeout, schema=schema, extra_body=extra_body,
                **sampling,
            )  # fmt: skip

        def keep(completion: Completion) -> None:
            self.keep(completion, turn=turn, bind=self.bind)

        return driver.run(stream, None, keep)

    def compare(
        self,
        prompt: str = "",
        *,
        model: str | list[str] | None = None,
        api: str | list[str] = AUTO,
        system: str | list[str] | None = None,
        messages: Iterable[dict[str, Any]] | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers: Mapping[str, str] | None = None,
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
            one on this machine without a key. A server with only one model needs none.
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
        default_headers : dict or None
            Further HTTP headers, by name, for this request's server. They are added to `settings.default_headers` and
            replace those of the same name; ``Authorization`` replaces the key. Their values are never shown.
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
                The most tokens to generate. A whole number of at least 1.
            temperature : float or None
                How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
                wilder. A number of at least 0.
            top_p : float or None
                Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
            top_k : int or None
                Choose among this many likeliest tokens. A whole number.
            min_p : float or None
                Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
            repetition_penalty : float or None
                Over 1 makes tokens that already occurred less likely. A number over 0.
            presence_penalty : float or None
                Over 0 makes tokens that the answer already used less likely, however often. A number.
            frequency_penalty : float or None
                Over 0 makes tokens less likely the more often the answer used them. A number.
            stop : list of str or None
                End the answer before this text; may be given several times. A text or a list of texts.
            seed : int or None
                The same seed and request give the same answer, as far as the server can. A whole number.
            logprobs : int or None
                Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
            n : int or None
                How many answers to generate. A whole number from 1 to 128.
            echo : bool or None
                Return the prompt too, in front of the answer. True or False.
            logit_bias : dict of str to float or None
                Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
            reasoning_effort : str or None
                How long a reasoning model may think. One of low, medium, high. For the chat API alone.

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
        api_key, default_headers = hide(api_key), hide(default_headers)
        return comparison.compare(
            self, prompt, model=model, api=api, system=system, messages=messages, base_url=base_url, api_key=api_key,
            default_headers=default_headers, timeout=timeout, extra_body=extra_body, show=show, at_once=at_once,
            **sampling,
        )  # fmt: skip

    def map_prompts(
        self,
        prompts: Iterable[Any],
        *,
        template: str | None = None,
        max_workers: int = MOST,
        executor: Executor | None = None,
        progress: bool = True,
        model: str | None = None,
        api: str = AUTO,
        system: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        schema: Any = None,
        extra_body: Mapping[str, Any] | None = None,
        names: Mapping[str, Any] | None = None,
        **sampling: Unpack[Sampling],
    ) -> BatchResults:
        """Answer many prompts, a bounded number at once.

        Parameters
        ----------
        prompts : iterable
            The items: texts, lists of messages, and with a `template` also dicts, tuples, the rows of a
            DataFrame, or any other objects.
        template : str or None
            The prompt, in which ``{item}`` and a dict's keys, a named tuple's fields or a row's columns are filled in,
            as in `system`, in code too; up to `settings.fill_limit` characters. Without one, each item is the prompt
            itself, or its messages.
        max_workers : int
            The most requests at once. When the server refuses one as too many (HTTP 429), all wait as
            long as it asks, and fewer are sent at once afterwards.
        executor : Executor or None
            Runs the requests: any executor of `concurrent.futures`. Those of Dask, ipyparallel and Ray
            run them on other machines, which need together_nb; the key is sent along, masked but not
            encrypted. None takes threads of this process.
        progress : bool
            Whether to show a bar.
        model : str or None
            Model id, as `models` lists it. None takes `settings.model`, ``TOGETHER_MODEL``, or the default, which is
            one on this machine without a key. A server with only one model needs none.
        api : str
            The dialect: ``chat``, ``completions``, ``inference``, or ``auto``, which goes by the model's type in
            ``GET /v1/models`` (completions for ``language`` and ``code``, chat for all others).
        system : str or None
            System prompt of a chat.
        base_url : str or None
            A server other than that of the settings, with or without ``/v1``; https, or http to this machine.
        api_key : str or None
            A key other than that of the settings. It is never shown.
        default_headers : dict or None
            Further HTTP headers, by name, for this request's server. They are added to `settings.default_headers` and
            replace those of the same name; ``Authorization`` replaces the key. Their values are never shown.
        timeout : float or None
            Seconds of silence allowed before the answer begins and in its middle; None takes
            `settings.timeout` and `settings.silence_timeout`.
        schema : dict, type, str or None
            The form of the answer: a JSON Schema (a dict), a pydantic model, or ``"json"`` for any JSON object. Sent as
            ``response_format`` to the chat API; `Completion.parsed` is the parsed answer.
        extra_body : dict or None
            Further fields of the request, by name, that the server knows and `together_nb` does not. A name that the
            request already has is refused.
        names : mapping or None
            Further names for the template, with their values, filled in as a cell fills in variables.
        **sampling
            Sampling parameters. Those not given are taken from `settings`; None unsets one, which is then not sent.

            max_tokens : int or None
                The most tokens to generate. A whole number of at least 1.
            temperature : float or None
                How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
                wilder. A number of at least 0.
            top_p : float or None
                Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
            top_k : int or None
                Choose among this many likeliest tokens. A whole number.
            min_p : float or None
                Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
            repetition_penalty : float or None
                Over 1 makes tokens that already occurred less likely. A number over 0.
            presence_penalty : float or None
                Over 0 makes tokens that the answer already used less likely, however often. A number.
            frequency_penalty : float or None
                Over 0 makes tokens less likely the more often the answer used them. A number.
            stop : list of str or None
                End the answer before this text; may be given several times. A text or a list of texts.
            seed : int or None
                The same seed and request give the same answer, as far as the server can. A whole number.
            logprobs : int or None
                Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
            n : int or None
                How many answers to generate. A whole number from 1 to 128.
            echo : bool or None
                Return the prompt too, in front of the answer. True or False.
            logit_bias : dict of str to float or None
                Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
            reasoning_effort : str or None
                How long a reasoning model may think. One of low, medium, high. For the chat API alone.

        Returns
        -------
        BatchResults
            For each item its `Completion` or the error that it failed with, in the order of the items;
            `BatchResults.retry_failed` runs the failed ones again. In IPython ``_together`` holds it,
            even if this is stopped.

        Raises
        ------
        InputError
            At once: nothing in `prompts` can be sent, for a reason common to all (no key, no such API)
            or to most.
        TogetherError
            At once: the server's list of models is needed and cannot be fetched.
        KeyboardInterrupt
            Ctrl-C or the notebook's ■; what is done is kept, also in the error's ``results``.

        Examples
        --------
        >>> from together_nb import map_prompts
        >>> results = map_prompts(["Ada Lovelace", "Alan Turing"], template="{item} was", max_tokens=8, seed=1, progress=False)
        >>> len(results), results.failed
        (2, [])
        >>> [answer.request.prompt for answer in results]
        ['Ada Lovelace was', 'Alan Turing was']
        >>> results.to_frame()["completion_tokens"].tolist()
        [8, 8]
        """
        api_key, default_headers = hide(api_key), hide(default_headers)
        return batch.map_prompts(
            self, prompts, template=template, max_workers=max_workers, executor=executor, progress=progress, model=model, api=api,
            system=system, base_url=base_url, api_key=api_key, default_headers=default_headers, timeout=timeout,
            schema=schema, extra_body=extra_body, names=names, **sampling,
        )  # fmt: skip

    def continue_from(
        self,
        completion: Completion | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers: Mapping[str, str] | None = None,
        **sampling: Unpack[Sampling],
    ) -> Completion:
        """Continue an answer from its very end; the whole replaces it in the history and in its conversation.

        The rest is requested from the server that the answer came from. For an answer that was loaded from a file it is
        requested from the server in use, since the file may name any.

        Parameters
        ----------
        completion : Completion or None
            An answer that was cut off at its limit, stopped or lost; None takes the last of the history.
        base_url : str or None
            A server other than these, with or without ``/v1``; https, or http to this machine.
        api_key : str or None
            A key other than that of the settings. It is never shown.
        default_headers : dict or None
            Further HTTP headers, by name, for this request's server. They are added to `settings.default_headers` and
            replace those of the same name; ``Authorization`` replaces the key. Their values are never shown.
        **sampling
            Sampling parameters that differ from those of the first part; None unsets one.

            max_tokens : int or None
                The most tokens to generate. A whole number of at least 1.
            temperature : float or None
                How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
                wilder. A number of at least 0.
            top_p : float or None
                Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
            top_k : int or None
                Choose among this many likeliest tokens. A whole number.
            min_p : float or None
                Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
            repetition_penalty : float or None
                Over 1 makes tokens that already occurred less likely. A number over 0.
            presence_penalty : float or None
                Over 0 makes tokens that the answer already used less likely, however often. A number.
            frequency_penalty : float or None
                Over 0 makes tokens less likely the more often the answer used them. A number.
            stop : list of str or None
                End the answer before this text; may be given several times. A text or a list of texts.
            seed : int or None
                The same seed and request give the same answer, as far as the server can. A whole number.
            logprobs : int or None
                Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
            n : int or None
                How many answers to generate. A whole number from 1 to 128.
            echo : bool or None
                Return the prompt too, in front of the answer. True or False.
            logit_bias : dict of str to float or None
                Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
            reasoning_effort : str or None
                How long a reasoning model may think. One of low, medium, high. For the chat API alone.

        Returns
        -------
        Completion
            Both parts as one answer.

        Raises
        ------
        InputError
            The answer cannot be continued: it ended by itself, there is none, or there are several.
        TogetherError
            The request failed; the first part is kept, with what arrived after it.
        KeyboardInterrupt
            Ctrl-C or the notebook's ■; what has arrived is kept, as part of the whole.

        Examples
        --------
        >>> from together_nb import complete, continue_from
        >>> part = complete("Once upon a time", max_tokens=5, seed=1)
        >>> whole = continue_from(part, max_tokens=5)
        >>> whole.text.startswith(part.text), len(whole.text) > len(part.text)
        (True, True)
        """
        api_key, default_headers = hide(api_key), hide(default_headers)
        before = last_answer(self) if completion is None else completion
        stream = open_continuation(
            self, before, base_url=base_url, api_key=api_key, default_headers=default_headers, **sampling
        )

        def keep(after: Completion) -> Completion | None:
            return self.keep(after, before=before, bind=self.bind)

        return continuation.run(stream, before, None, keep)

    def models(
        self,
        text: str = "",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers: Mapping[str, str] | None = None,
        fresh: bool = False,
        max_retries: int | None = None,
    ) -> list[Model]:
        """Return the models of the server in use.

        Parameters
        ----------
        text : str
            Only those whose id or name contains it, regardless of case.
        base_url : str or None
            A server other than that of the settings, with or without ``/v1``.
        api_key : str or None
            A key other than that of the settings. It is never shown.
        default_headers : dict or None
            Further HTTP headers, by name, for this request's server. They are added to `settings.default_headers` and
            replace those of the same name; ``Authorization`` replaces the key. Their values are never shown.
        fresh : bool
            Fetch the list again; otherwise it is fetched once a session.
        max_retries : int or None
            How often to retry when it fails; None takes that of the settings.

        Returns
        -------
        list of Model
            Models of every type from ``GET /v1/models``, in the server's order; `Model.writes_text` marks those that take
            a prompt. Without a key, the embedded engine's only one.

        Raises
        ------
        InputError
            The base URL or the key is invalid.
        TogetherError
            The list could not be fetched.

        Examples
        --------
        >>> from together_nb import models
        >>> [model.id for model in models()]
        ['local/ngram']
        >>> models("llama")
        []
        """
        api_key, default_headers = hide(api_key), hide(default_headers)
        return resolve.models(
            self, text, base_url=base_url, api_key=api_key, default_headers=default_headers, fresh=fresh,
            max_retries=max_retries,
        )  # fmt: skip

    def save(self, path: str | Path, *, force: bool = False) -> tuple[int, int]:
        """Write the history and the conversations to a file.

        Parameters
        ----------
        path : str or Path
            The file, which must not exist; it is JSON Lines, and the key is not in it.
        force : bool
            Replace an existing file.

        Returns
        -------
        tuple of (int, int)
            How many answers and how many conversations are in it.

        Raises
        ------
        InputError
            The file exists, or cannot be written.

        Examples
        --------
        >>> from together_nb import complete, history, load, save
        >>> answer = complete("Alan Turing was", max_tokens=5)
        >>> save("lesson.jsonl")
        (1, 0)
        >>> history.clear()
        >>> load("lesson.jsonl")
        (1, 0)
        >>> history[0] == answer
        True
        """
        return answers_file.save(path, self.history, list(self.conversations.values()), force=force)

    def load(self, path: str | Path) -> tuple[int, int]:
        """Add what `save` wrote to the history and the conversations of this session.

        A conversation whose name is taken gets another one.

        Parameters
        ----------
        path : str or Path
            The file.

        Returns
        -------
        tuple of (int, int)
            How many answers and how many conversations were in it.

        Raises
        ------
        InputError
            There is no such file, or it holds something else. Nothing is added.

        Examples
        --------
        >>> from together_nb import load, save
        >>> save("lesson.jsonl")
        (0, 0)
        >>> load("lesson.jsonl")
        (0, 0)
        """
        file = files.checked_path(path, "%together load lesson.jsonl")
        found = answers_file.Saved(file)
        counts = found.counts
        add_loaded(self, found.history, found.talks)
        if found.left_out:
            logging.getLogger("together_nb").warning("Of %s not all could be read. %s", file, found.left_out)
        return counts

    def record(self, path: str | Path, *, force: bool = False) -> Recorder:
        """Record each exchange with a server from now on: the request and each byte of the reply, with its time.

        `stop` or ``%together record off`` ends it, and so does the end of a ``with`` block. No key is in the file.

        Parameters
        ----------
        path : str or Path
            The file, which must not exist.
        force : bool
            Replace it if it does.

        Returns
        -------
        Recorder
            The recording, a context manager; its `str` says what is recorded.

        Raises
        ------
        InputError
            The file exists or cannot be created, or a replay is on.

        See Also
        --------
        replay : Answers from the file.

        Examples
        --------
        >>> from together_nb import complete, record
        >>> with record("lesson.jsonl") as recording:
        ...     answer = complete("Alan Turing was", max_tokens=5)
        >>> str(recording).startswith("The recording has ended")
        True
        """
        file = _absolute(path, "record")
        before = self._recording
        if isinstance(before, Replay):
            raise InputError(
                f"{before.path} is played back; nothing new is to be recorded.", "End that with `%together replay off`."
            )
        model, _ = resolve.defaults(self)
        recorder = Recorder(file, model, self._transport, self._end, force=force)
        if before is not None and before.path == file:
            before.replaced = True
        self._use(recorder)
        return recorder

    def replay(self, path: str | Path, *, speed: float = 1.0) -> Replay:
        """Answer each request from a recording from now on, without a key or a network.

        `stop` or ``%together replay off`` ends it, and so does the end of a ``with`` block.

        Parameters
        ----------
        path : str or Path
            A file that `record` made.
        speed : float
            Speed factor: 1 is the original pace, 2 is twice as fast, 0 does not wait.

        Returns
        -------
        Replay
            The replay, a context manager; its `str` says what is played back.

        Raises
        ------
        InputError
            The file is not a recording, the speed is invalid, or a recording is on.

        See Also
        --------
        record : Writes the file.

        Examples
        --------
        >>> from together_nb import complete, record, replay
        >>> with record("lesson.jsonl"):
        ...     answer = complete("Alan Turing was", max_tokens=5)
        >>> with replay("lesson.jsonl", speed=0):
        ...     complete("Alan Turing was", max_tokens=5).text == answer.text
        True
        """
        if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 0 <= speed < math.inf:
            raise InputError(
                f"speed must be a number of 0 or more, not {speed!r}.", "1 is the pace of then, 0 has no waits."
            )
        file = _absolute(path, "replay")
        before = self._recording
        if isinstance(before, Recorder):
            raise InputError(
                f"What is asked is being recorded in {before.path}.", "End that with `%together record off`."
            )
        played = Replay(file, speed, self._end)
        self._use(played)
        return played

    def stop(self) -> str | None:
        """End the current recording or replay. An answer in progress is still recorded, or replayed to its end.

        Returns
        -------
        str or None
            What has ended, in words; None if nothing was on.
        """
        ended = self._recording
        if ended is None:
            return None
        self._end(ended)
        return str(ended)

    def _use(self, recording: Recorder | Replay) -> None:
        """Have a recording carry the requests from now on. The one before ends, unless this is within its block."""
        before = self._recording
        if before is not None and before.entered:
            recording.outer = before
        elif before is not None:
            recording.outer = before.outer
            before.on = False
            recording.replaces = str(before)
        self._carry(recording)

    def _end(self, recording: Recording) -> None:
        """End a recording, and go on with that of the block around it."""
        recording.on = False
        current: Any = self._recording
        while current is not None and not current.on:
            current = current.outer
        self._carry(current)

    def _carry(self, recording: Recorder | Replay | None) -> None:
        self._recording = recording
        self.client.transport = self._transport if recording is None else recording


def _absolute(path: str | Path, command: str) -> Path:
    named = files.checked_path(path, f"%together {command} lesson.jsonl")
    try:
        return named.absolute()
    except OSError:
        raise InputError("The folder that Python runs in is gone.", "Go to another one with `%cd`.") from None


def _default() -> Session:
    return default


default = Session(settings=config.settings)
"""The session of the functions of `together_nb`, of cells and of panels."""
