"""The results of a batch: a sequence of answers and errors, in the order of the items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

from together_nb.base.wording import count, shorten, timestamp
from together_nb.batch.items import ITEM, fields_of, shown
from together_nb.errors import InputError, NotRunError, TogetherError
from together_nb.render.remarks import remarks
from together_nb.render.tables import table
from together_nb.run.ledger import Spent
from together_nb.values.completion import Completion

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from together_nb.batch.items import Items
    from together_nb.values.chunk import Usage
    from together_nb.values.request import CompletionRequest

_ROWS = 20  # of the table
_WIDE_ITEM = 40  # characters
_WIDE_ANSWER = 90
_IDS = 1000  # in the metadata, which a front end must load whole
_COLUMNS = (
    "prompt", "text", "finish_reason", "error", "model", "prompt_tokens", "completion_tokens", "cost", "seconds",
)  # fmt: skip


class BatchResults(Sequence["Completion | TogetherError"]):
    """The results of a batch: a sequence with, for each item, its `Completion` or the `TogetherError` it failed with.

    `map_prompts` returns one. The n-th result is that of the n-th item; a slice is a list.

    Parameters
    ----------
    items : Items
        The items of the batch.
    run_again : callable
        Runs the items of the given numbers and puts their results here, with or without a bar.

    Attributes
    ----------
    items : tuple
        The items, in order.
    seconds : float
        Seconds that all runs took together.
    completions : list of Completion
        The completions that ended well, in the order of the items.
    failed : list of int
        Numbers, from 0, of the items that failed, were stopped, or were not run.
    texts : list of str or None
        The texts of the answers, in the order of the items; None for one that failed.
    usage : Usage or None
        The tokens that were counted, a lower bound if `uncounted` is not 0; None if none were.
    uncounted : int
        How many answers, whole or partial, the server did not count, or not to the end.
    cost : float or None
        US dollars, a lower bound if `uncounted` is not 0; None if unknown.

    Examples
    --------
    >>> from together_nb import map_prompts
    >>> results = map_prompts(["Ada Lovelace was", "Alan Turing was"], max_tokens=8, seed=1, progress=False)
    >>> results[0].text == results.texts[0], results.usage.completion_tokens, results.cost
    (True, 16, 0.0)
    >>> results.retry_failed() is results
    True
    """

    def __init__(self, items: Items, run_again: Callable[[BatchResults, Sequence[int], bool], None]) -> None:
        self.items = items.rows
        self.seconds = 0.0
        self._index = items.index
        self._run_again: Callable[[BatchResults, Sequence[int], bool], None] | None = run_again
        self._requests: list[CompletionRequest | None] = [None] * len(items.rows)
        self._results: list[Completion | TogetherError] = [NotRunError() for _ in items.rows]
        self._created = timestamp()

    def put(self, number: int, result: Completion | TogetherError) -> None:
        """Store the result of an item.

        Parameters
        ----------
        number : int
            Which item, from 0.
        result : Completion or TogetherError
            Its answer, or the error that it failed with.
        """
        self._results[number] = result

    def put_request(self, number: int, request: CompletionRequest) -> None:
        """Store the request of an item.

        Parameters
        ----------
        number : int
            Which item, from 0.
        request : CompletionRequest
            The request.
        """
        self._requests[number] = request

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, number: int) -> Completion | TogetherError: ...

    @overload
    def __getitem__(self, number: slice) -> list[Completion | TogetherError]: ...

    def __getitem__(self, number: int | slice) -> Completion | TogetherError | list[Completion | TogetherError]:
        return self._results[number]

    @property
    def completions(self) -> list[Completion]:
        """The completions that ended well, in the order of the items."""
        return [one for one in self._results if _is_whole(one)]  # type: ignore[misc]

    @property
    def failed(self) -> list[int]:
        """Numbers, from 0, of the items that failed, were stopped, or were not run."""
        return [number for number, one in enumerate(self._results) if not _is_whole(one)]

    @property
    def texts(self) -> list[str | None]:
        """The texts of the answers, in the order of the items; None for one that failed."""
        return [_text(one) for one in self._results]

    @property
    def usage(self) -> Usage | None:
        """The tokens that were counted, a lower bound if `uncounted` is not 0; None if none were."""
        total: Usage | None = None
        for part in self._parts():
            if part.usage is not None:
                total = part.usage if total is None else total.plus(part.usage)
        return total

    @property
    def uncounted(self) -> int:
        """How many answers, whole or partial, the server did not count, or not to the end."""
        return self._spent().uncounted

    @property
    def cost(self) -> float | None:
        """US dollars, a lower bound if `uncounted` is not 0; None if unknown."""
        spent = self._spent()
        return None if spent.calls and spent.cost_told == "unknown" else spent.cost

    def retry_failed(self, *, progress: bool = True) -> Self:
        """Run the items of `failed` again, and only those; replace their results.

        Parameters
        ----------
        progress : bool
            Whether to show a bar.

        Returns
        -------
        BatchResults
            This one.

        Raises
        ------
        InputError
            The results were pickled, which leaves out the key and the server.
        KeyboardInterrupt
            Ctrl-C or the notebook's ■; what is done is kept.
        """
        if self._run_again is None:
            raise InputError(
                "Results that were pickled cannot be run again.",
                "Give the items of `failed` to map_prompts: [results.items[number] for number in results.failed].",
            )
        if failed := self.failed:
            self._run_again(self, failed, progress)
        return self

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each item.

        Returns
        -------
        pandas.DataFrame
            The item's fields (``item`` if it has none) and ``prompt``, ``text``, ``finish_reason``, ``error``,
            ``model``, ``prompt_tokens``, ``completion_tokens`` (as the server counted them), ``cost`` (US dollars)
            and ``seconds``; a field with one of these names becomes ``item_…``. The index is that of the
            DataFrame that the items came from.

        Raises
        ------
        InputError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise InputError(
                "to_frame() needs pandas, which is not installed.", "Install it with `%pip install pandas`."
            ) from None
        rows = [self._row(number) for number in range(len(self))]
        names = dict.fromkeys(name for row in rows for name in row if name not in _COLUMNS)
        frame = pd.DataFrame(rows, columns=[*names, *_COLUMNS], index=self._index)
        counts = ["prompt_tokens", "completion_tokens"]
        return frame.astype(dict.fromkeys(counts, "Int64") | dict.fromkeys(["cost", "seconds"], "float64"))

    def _row(self, number: int) -> dict[str, Any]:
        item, request, result = self.items[number], self._requests[number], self._results[number]
        fields = {str(name): value for name, value in (fields_of(item) or {ITEM: item}).items()}
        row = {(f"item_{name}" if name in _COLUMNS else name): value for name, value in fields.items()}
        part = _part(result)
        usage = None if part is None else part.usage
        prompt = None if request is None else shown(request.messages) if request.messages else request.prompt
        return row | {
            "prompt": prompt,
            "text": _text(result),
            "finish_reason": None if part is None else part.finish_reason,
            "error": _wrong(result) or None,
            "model": None if part is None else part.model or part.request.model,
            "prompt_tokens": None if usage is None else usage.prompt_tokens,
            "completion_tokens": None if usage is None else usage.completion_tokens,
            "cost": None if part is None else part.cost,
            "seconds": None if part is None else part.timings.total,
        }

    def metadata(self) -> dict[str, Any]:
        """Return how they were made, for an output's metadata: no prompt, no key.

        Returns
        -------
        dict
            ``model``, ``api``, ``parameters``, ``items`` and ``failed`` (how many), ``ids`` (of the first 1,000
            answers), ``usage`` (tokens), ``uncounted``, ``cost`` (US dollars), ``seconds`` and ``time``.
        """
        parts, usage = self._parts(), self.usage
        request = next((one for one in self._requests if one is not None), None)
        counted = ("prompt_tokens", "completion_tokens", "total_tokens")
        return {
            "model": next((part.model for part in parts if part.model), "" if request is None else request.model),
            "api": "" if request is None else request.api,
            "parameters": {} if request is None else request.sampling.to_dict(),
            "items": len(self),
            "failed": len(self.failed),
            "ids": [part.id for part in parts if part.id][:_IDS],
            "usage": None if usage is None else {name: getattr(usage, name) for name in counted},
            "uncounted": self.uncounted,
            "cost": self.cost,
            "seconds": self.seconds,
            "time": self._created,
        }

    def footer(self) -> str:
        """Return one line of plain text: answers · failed · not run · tokens · cost · seconds.

        Returns
        -------
        str
            The line; a cost is in US dollars.
        """
        spent, usage = self._spent(), self.usage
        not_run = sum(isinstance(one, NotRunError) for one in self._results)
        failed = len(self.failed) - not_run
        least = "at least " if spent.uncounted else ""
        priced = any(part.price is not None for part in self._parts())
        cost = "cost unknown" if self.cost is None else spent.cost_told
        parts = [
            count(len(self.completions), "answer"),
            f"{failed:,} failed" if failed else "",
            f"{not_run:,} not run" if not_run else "",
            least + count(usage.completion_tokens, "token") if usage is not None else "",
            cost if priced else "",
            f"{self.seconds:.1f} s",
            "retry_failed() runs the rest again" if failed or not_run else "",
        ]
        return " · ".join(filter(None, parts))

    def bundle(self) -> dict[str, str]:
        """Return what a notebook saves of them: a table of the first 20 items, and a line below.

        Returns
        -------
        dict of str to str
            ``text/markdown`` and ``text/plain``.
        """
        rows = [
            (str(number), shorten(shown(item), _WIDE_ITEM), _cell(result))
            for number, (item, result) in enumerate(zip(self.items[:_ROWS], self._results, strict=False))
        ]
        if len(self) > _ROWS:
            rows.append(("…", f"{len(self) - _ROWS:,} more", ""))
        markdown, plain = table(">no. | item | answer", rows, self.footer())
        return {"text/markdown": markdown, "text/plain": plain}

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return self.bundle(), {"together_nb": self.metadata()}

    def __repr__(self) -> str:
        return f"<BatchResults: {self.footer()}>"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_run_again": None}

    def _parts(self) -> list[Completion]:
        """Return the answers, and the partials of those that failed."""
        parts = map(_part, self._results)
        return [part for part in parts if part is not None and not part.came_to_nothing]

    def _spent(self) -> Spent:
        spent = Spent()
        for part in self._parts():
            spent = spent.plus(part.usage, part.price, whole=not part.cut_short)
        return spent


def _is_whole(result: Completion | TogetherError) -> bool:
    return isinstance(result, Completion) and not result.cut_short


def _text(result: Completion | TogetherError) -> str | None:
    return result.text if isinstance(result, Completion) and not result.cut_short else None


def _part(result: Completion | TogetherError) -> Completion | None:
    part = result if isinstance(result, Completion) else result.completion
    return part if isinstance(part, Completion) else None


def _wrong(result: Completion | TogetherError) -> str:
    """Return in words why a result is not a whole answer; "" if it is."""
    if isinstance(result, Completion):
        return result.ending if result.cut_short else ""
    return "not run" if isinstance(result, NotRunError) else f"{type(result).__name__}: {result.message}"


def _cell(result: Completion | TogetherError) -> str:
    """Return the result of an item in a line."""
    wrong = _wrong(result)
    if isinstance(result, Completion):
        said = filter(None, (result.text, *remarks(result.choices[0])))
        text = shorten(" ".join(said), _WIDE_ANSWER)
        return f"{text} ({wrong})" if wrong else text
    return f"✗ {shorten(wrong, _WIDE_ANSWER)}"
