"""Many prompts: `map_prompts` sends a bounded number at once, and returns the answers in order."""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

from together_nb.base.interrupts import defer_interrupts, interrupt_message
from together_nb.base.wording import count
from together_nb.batch.items import is_conversation, items_of, names_of
from together_nb.batch.results import BatchResults
from together_nb.batch.scheduler import Scheduler, check_executor
from together_nb.batch.worker import Task
from together_nb.config.keys import Headers, secret_test
from together_nb.errors import InputError, MissingKeyError
from together_nb.run.answers import LAST
from together_nb.run.resolve import endpoint_for, open_request, open_stream
from together_nb.run.template import Filler
from together_nb.run.turns import open_turn
from together_nb.values.completion import Completion
from together_nb.views.frontend import running_shell
from together_nb.views.progress import progress_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Executor

    from together_nb.batch.items import Items
    from together_nb.run.answers import Keeper
    from together_nb.values.request import CompletionRequest
    from together_nb.wire.stream import CompletionStream

MOST = 8  # requests at once, by default


def map_prompts(
    session: Keeper,
    prompts: Iterable[Any],
    *,
    template: str | None,
    max_workers: int,
    executor: Executor | None,
    progress: bool,
    base_url: str | None,
    api_key: str | None,
    default_headers: Mapping[str, str] | None,
    timeout: float | None,
    names: Mapping[str, Any] | None,
    **options: Any,
) -> BatchResults:
    """Do as `Session.map_prompts`."""
    _check(template, max_workers, executor)
    headers = Headers(default_headers)  # once: items may be run again
    server = {"base_url": base_url, "api_key": api_key, "default_headers": headers, "timeout": timeout}
    batch = _Batch(session, items_of(prompts), template, names or {}, server, options, max_workers, executor)
    results = BatchResults(batch.items, batch.run)
    if batch.items.rows:
        batch.run(results, range(len(results)), progress)
    else:
        session.bind(results)
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


class _Batch:
    """The arguments of `map_prompts`, so that items can be run, and run again."""

    def __init__(
        self,
        session: Keeper,
        items: Items,
        template: str | None,
        names: Mapping[str, Any],
        server: dict[str, Any],
        chosen: dict[str, Any],
        max_workers: int,
        executor: Executor | None,
    ) -> None:
        self.items = items
        self._session = session
        self._template = template
        self._names = names
        self._asked = server
        self._chosen = chosen
        self._max_workers = max_workers
        self._executor = executor
        self._made: dict[int, tuple[CompletionRequest, tuple[str, ...]]] = {}

    def run(self, results: BatchResults, numbers: Sequence[int], progress: bool) -> None:
        """Run the items of those numbers, and put their results into `results`."""
        check_executor(self._session, self._executor)
        with interrupt_message("stopped by you; nothing was sent."):
            tasks, refused = self._tasks(numbers)
        for number, error in refused.items():
            results.put(number, error)
        for number in tasks:
            results.put_request(number, self._made[number][0])
        shown = progress_for(running_shell(), len(numbers), wanted=progress)

        drive = Scheduler(
            self._session, tasks, results.put, most=self._max_workers, executor=self._executor, progress=shown
        )
        drive.done = drive.failed = len(refused)
        began = monotonic()
        try:
            with defer_interrupts(drive.cancel) as interrupts:
                try:
                    drive.run(interrupts)
                finally:
                    results.seconds += monotonic() - began
                    self._session.settle([one for one in results if isinstance(one, Completion)])
                    self._session.bind(results)
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
        pace = self._session.settings.local_tokens_per_second or None
        openers: dict[bool, dict[str, Any]] = {}  # the model and API chosen for prompts (False) and for messages (True)
        for number in numbers:
            try:
                tasks[number] = Task.of(self._opened(number, openers), pace)
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
            endpoint = endpoint_for(self._session, **self._asked)
            return open_request(self._session, request, endpoint, filled=filled, named=bool(self._asked["base_url"]))
        item = self.items.rows[number]
        conversation = self._template is None and is_conversation(item)
        # The first one's choice holds for all: the list of models is needed once, and all requests are alike.
        chosen = self._asked | self._chosen | openers.get(conversation, {})
        if self._template is not None:
            filler = Filler(
                self._names, names_of(item), limit=self._session.settings.fill_limit, is_secret=secret_test()
            )
            stream, _ = open_turn(self._session, self._template, filler=filler, **chosen)
        elif conversation:
            stream = open_stream(self._session, messages=[dict(turn) for turn in item], **chosen)
        elif isinstance(item, str):
            stream = open_stream(self._session, str(item), **chosen)
        else:
            raise InputError(
                "An item that is neither a text nor a list of messages was given without a template: "
                f"{type(item).__name__}.",
                'Give a template, into which it is filled: template="Where is {item}?".',
            )
        stream.tell_notes()
        openers[conversation] = {"model": stream.request.model, "api": stream.request.api}
        self._made[number] = (stream.request, stream.completion.filled)
        return stream


def _tell(interrupt: KeyboardInterrupt, results: BatchResults) -> None:
    """Make an interrupt say what is kept, and attach it."""
    where = f"`{LAST}`" if running_shell() is not None else "the error's `results`"
    done = len(results) - len(results.failed)
    words = f"stopped by you; {done:,} of {count(len(results), 'answer')} came, and are kept in {where}."
    interrupt.args = (words,)
    interrupt.results = results  # type: ignore[attr-defined]
    interrupt._render_traceback_ = lambda: [f"KeyboardInterrupt: {words}"]  # type: ignore[attr-defined]
