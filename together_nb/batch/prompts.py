"""Many prompts: `map_prompts` sends a bounded number at once, and returns the answers in order."""

from __future__ import annotations

import sys
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.base.wording import count
from together_nb.batch.items import is_conversation, items_of, names_of
from together_nb.batch.results import BatchResults
from together_nb.batch.scheduler import Scheduler, check_executor
from together_nb.batch.worker import Task
from together_nb.config.keys import CarriedKey, Hidden, Key, hide
from together_nb.config.settings import settings
from together_nb.errors import InputError, MissingKeyError, TogetherError
from together_nb.run import history
from together_nb.run.resolve import open_request, open_stream
from together_nb.run.template import Filler
from together_nb.values.completion import Completion
from together_nb.values.parameters import AUTO
from together_nb.views.progress import progress_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Executor
    from typing import Unpack

    from together_nb.batch.items import Items
    from together_nb.run.stream import CompletionStream
    from together_nb.values.keywords import Sampling
    from together_nb.values.request import CompletionRequest

__all__ = ["BatchResults", "map_prompts"]

MOST = 8  # requests at once, by default


def map_prompts(
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
        ``local/ngram`` without a key. A server with only one model needs none.
    api : str
        The dialect: ``chat``, ``completions``, ``inference``, or ``auto``, which goes by the model's type in
        ``GET /v1/models`` (completions for ``language`` and ``code``, chat for all others).
    system : str or None
        System prompt of a chat.
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
    names : mapping or None
        Further names for the template, with their values, filled in as a cell fills in variables.
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
    api_key = hide(api_key)
    _check(template, max_workers, executor)
    server: dict[str, Any] = {"base_url": base_url, "api_key": api_key, "timeout": timeout}
    chosen: dict[str, Any] = {
        "model": model,
        "api": api,
        "system": system,
        "schema": schema,
        "extra_body": extra_body,
        **sampling,
    }
    batch = _Batch(items_of(prompts), template, names or {}, server, chosen, max_workers, executor)
    results = BatchResults(batch.items, batch.run)
    if batch.items.rows:
        batch.run(results, range(len(results)), progress)
    else:
        _bind(results)
    return results


def _check(template: Any, max_workers: Any, executor: Any) -> None:
    if template is not None and not isinstance(template, str):
        raise InputError(
            f"template must be a text, not {type(template).__name__}.", 'One looks like "Where is {item}?".'
        )
    if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
        raise InputError(f"max_workers must be a whole number over 0, not {max_workers!r}.", f"The default is {MOST}.")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InputError(
            f"executor must be one of concurrent.futures', not {type(executor).__name__}.",
            "Of a Dask client it is client.get_executor(), of an ipyparallel view view.executor.",
        )


_NO_ITEM = object()


def filler_for(names: Mapping[str, Any], item: Any = _NO_ITEM) -> Filler:
    """Return what fills in the user's names and those of an item, according to the settings.

    Parameters
    ----------
    names
        The defined names.
    item
        The item, if there is one.
    """
    keys = settings.keys

    def is_secret(value: Any) -> bool:
        hidden_kind = isinstance(value, (Key, CarriedKey, Hidden))
        return hidden_kind or (isinstance(value, str) and any(key.spans(value) for key in keys))

    own = {} if item is _NO_ITEM else names_of(item)
    return Filler(names, own, limit=settings.fill_limit, is_secret=is_secret)


class _Batch:
    """The arguments of `map_prompts`, so that items can be run, and run again."""

    def __init__(
        self,
        items: Items,
        template: str | None,
        names: Mapping[str, Any],
        server: dict[str, Any],
        chosen: dict[str, Any],
        max_workers: int,
        executor: Executor | None,
    ) -> None:
        self.items = items
        self._template = template
        self._names = names
        self._asked = server
        self._chosen = chosen
        self._max_workers = max_workers
        self._executor = executor
        self._made: dict[int, tuple[CompletionRequest, tuple[str, ...]]] = {}

    def run(self, results: BatchResults, numbers: Sequence[int], progress: bool) -> None:
        """Run the items of those numbers, and put their results into `results`."""
        check_executor(self._executor)
        with interrupt_message("stopped by you; nothing was sent."):
            tasks, refused = self._tasks(numbers)
        for number, error in refused.items():
            results.put(number, error)
        for number in tasks:
            results.put_request(number, self._made[number][0])
        shown = progress_for(_shell(), len(numbers), wanted=progress)

        def land(number: int, result: Completion | TogetherError) -> None:
            results.put(number, result)
            part = result if isinstance(result, Completion) else result.completion
            if isinstance(part, Completion) and not part.came_to_nothing:
                history.history.append(part)

        drive = Scheduler(
            tasks, land, most=self._max_workers, max_retries=settings.max_retries, executor=self._executor,
            progress=shown,
        )  # fmt: skip
        drive.done = drive.failed = len(refused)
        began = monotonic()
        try:
            with defer_interrupts() as interrupts:
                try:
                    drive.run(interrupts)
                finally:
                    results.seconds += monotonic() - began
                    _bind(results)
                    shown.finish(drive.done, drive.failed)
        except KeyboardInterrupt as interrupt:
            _tell(interrupt, results)
            raise

    def _tasks(self, numbers: Sequence[int]) -> tuple[dict[int, Task], dict[int, InputError]]:
        """Return the tasks of those items, and the errors of those that cannot be sent.

        Raises
        ------
        InputError
            None of all items can be sent; states the most common reason.
        """
        tasks: dict[int, Task] = {}
        refused: dict[int, InputError] = {}
        openers: dict[bool, dict[str, Any]] = {}  # the model and API chosen for prompts (False) and for messages (True)
        for number in numbers:
            try:
                tasks[number] = Task.of(self._opened(number, openers))
            except MissingKeyError:
                raise
            except InputError as error:
                refused[number] = error
        if refused and not tasks and len(numbers) == len(self.items.rows):
            commonest = Counter(map(str, refused.values())).most_common(1)[0][0]
            raise next(error for error in refused.values() if str(error) == commonest)
        return tasks, refused

    def _opened(self, number: int, openers: dict[bool, dict[str, Any]]) -> CompletionStream:
        if number in self._made:
            request, filled = self._made[number]
            return open_request(request, filled=filled, **self._asked)
        item = self.items.rows[number]
        filler = filler_for(self._names, item)
        content, filled = self._content(item, filler)
        conversation = not isinstance(content, str)
        what: dict[str, Any] = {"messages": content} if conversation else {"prompt": content}
        # The first one's choice holds for all: the list of models is needed once, and all requests are alike.
        chosen = self._chosen | openers.get(conversation, {})
        if self._template is not None and isinstance(chosen["system"], str):
            chosen["system"], more = filler.fill(chosen["system"])
            filled = tuple(dict.fromkeys((*filled, *more)))
        stream = open_stream(**what, filled=filled, **self._asked, **chosen)
        openers[conversation] = {"model": stream.request.model, "api": stream.request.api}
        self._made[number] = (stream.request, filled)
        return stream

    def _content(self, item: Any, filler: Filler) -> tuple[Any, tuple[str, ...]]:
        """Return the prompt or the messages of an item, and the names filled in."""
        if self._template is not None:
            return filler.fill(self._template)
        if isinstance(item, str):
            return str(item), ()
        if is_conversation(item):
            return [dict(turn) for turn in item], ()
        raise InputError(
            f"An item that is neither a text nor a list of messages was given without a template: {type(item).__name__}.",
            'Give a template, into which it is filled: template="Where is {item}?".',
        )


def _shell() -> Any:
    """Return the running IPython shell, or None; does not import IPython."""
    module: Any = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


def _bind(results: BatchResults) -> None:
    """Assign the results to the user's variable."""
    shell = _shell()
    if shell is not None:
        shell.push({history.LAST: results}, interactive=False)


def _tell(interrupt: KeyboardInterrupt, results: BatchResults) -> None:
    """Make an interrupt say what is kept, and attach it."""
    where = f"`{history.LAST}`" if _shell() is not None else "the error's `results`"
    done = len(results) - len(results.failed)
    words = f"stopped by you; {done:,} of {count(len(results), 'answer')} came, and are kept in {where}."
    interrupt.args = (words,)
    interrupt.results = results  # type: ignore[attr-defined]
    interrupt._render_traceback_ = lambda: [f"KeyboardInterrupt: {words}"]  # type: ignore[attr-defined]
