"""The session's calls and what they cost: the server's counts, and the price list's dollars.

Nothing is guessed. A call that the server did not count is reported as such, and incomplete sums say
"at least".
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from together_nb.base.fork import reset_after_fork
from together_nb.base.wording import dollars
from together_nb.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.values.chunk import Usage


@dataclass(frozen=True)
class Spent:
    """The calls of one model.

    Parameters
    ----------
    model : str
        Its id; "" in a sum over models.
    calls : int
        Answers that have begun.
    uncounted : int
        Those of them that the server did not count, or not to the end.
    prompt_tokens : int
        Tokens in, of the counted calls.
    completion_tokens : int
        Tokens out, of the counted calls.
    cost : float or None
        US dollars of the counted calls, by the prices in ``GET /v1/models``; None if there is no price.

    Attributes
    ----------
    cost_told : str
        The cost in words, in US dollars: ``$0.12``, ``at least $0.12``, ``unknown``.
    """

    model: str = ""
    calls: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = 0.0

    def plus(self, usage: Usage | None, price: tuple[float, float] | None, *, whole: bool) -> Spent:
        """Return the sum with one more call.

        Parameters
        ----------
        usage : Usage or None
            Tokens, as the server counted them.
        price : tuple of (float, float) or None
            US dollars per million tokens (in, out).
        whole : bool
            Whether the answer is whole, so that the count covers all of it.

        Returns
        -------
        Spent
            The sum; this object is unchanged.
        """
        counted = (0, 0) if usage is None else (usage.prompt_tokens, usage.completion_tokens)
        cost = None
        if self.cost is not None and price is not None:
            cost = self.cost + (counted[0] * price[0] + counted[1] * price[1]) / 1e6
        return replace(
            self,
            calls=self.calls + 1,
            uncounted=self.uncounted + (usage is None or not whole),
            prompt_tokens=self.prompt_tokens + counted[0],
            completion_tokens=self.completion_tokens + counted[1],
            cost=cost,
        )

    @property
    def cost_told(self) -> str:
        """The cost in words, in US dollars: ``$0.12``, ``at least $0.12``, ``unknown``."""
        if self.cost is None or (self.uncounted == self.calls and not self.completion_tokens and self.calls):
            return "unknown"
        return f"at least {dollars(self.cost)}" if self.uncounted and self.cost else dollars(self.cost)


class Ledger:
    """Every call of the session, by model. Any thread may record one.

    Parameters
    ----------
    budget : callable
        Returns the US dollars that may be spent, or None for no limit.

    Attributes
    ----------
    rows : list of Spent
        A row for each model, in the order of the first calls.
    spent : float
        US dollars known to have been spent: a lower bound if `complete` is False.
    complete : bool
        Whether all calls have been counted and have a price.

    Examples
    --------
    >>> from together_nb import complete, ledger
    >>> answer = complete("Alan Turing was", max_tokens=5)
    >>> [(row.model, row.calls, row.prompt_tokens, row.completion_tokens, row.cost) for row in ledger.rows]
    [('local/ngram', 1, 3, 5, 0.0)]
    >>> ledger.spent, ledger.complete
    (0.0, True)
    """

    def __init__(self, budget: Callable[[], float | None] = lambda: None) -> None:
        self._budget = budget
        self._rows: dict[str, Spent] = {}
        self.forked()
        reset_after_fork(self)

    def forked(self) -> None:
        """Reset in a forked child: a thread that held the lock is gone."""
        self._lock = threading.RLock()  # the garbage collector may end a stream, and so call `note`, within `note`

    def check(self, price: tuple[float, float] | None) -> None:
        """Refuse to begin a call once the budget is spent. A model that costs nothing may still be used.

        Parameters
        ----------
        price : tuple of (float, float) or None
            US dollars per million tokens (in, out) of the model.

        Raises
        ------
        BudgetError
            The budget is spent.
        """
        budget = self._budget()
        if budget is None or (price is not None and not any(price)):
            return
        spent = self.spent
        if spent >= budget:
            least = "" if self.complete else "at least "
            raise BudgetError(
                f"The session has spent {least}{dollars(spent)} of its budget of {dollars(budget)}.",
                "`%together usage` shows for what; `%config TogetherMagics.budget = …` (US dollars) raises it, "
                "None lifts it.",
            )

    def note(self, model: str, usage: Usage | None, price: tuple[float, float] | None, *, whole: bool) -> None:
        """Record one call.

        Parameters
        ----------
        model : str
            Id of the model.
        usage : Usage or None
            Tokens, as the server counted them.
        price : tuple of (float, float) or None
            US dollars per million tokens (in, out).
        whole : bool
            Whether the answer is whole, so that the count covers all of it.
        """
        with self._lock:
            self._rows[model] = self._rows.get(model, Spent(model)).plus(usage, price, whole=whole)

    @property
    def rows(self) -> list[Spent]:
        """A row for each model, in the order of the first calls."""
        with self._lock:
            return list(self._rows.values())

    @property
    def spent(self) -> float:
        """US dollars known to have been spent: a lower bound if `complete` is False."""
        return sum(row.cost or 0.0 for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether all calls have been counted and have a price."""
        return all(row.cost is not None and not row.uncounted for row in self.rows)

    def total(self) -> Spent:
        """Return the sum of all models.

        Returns
        -------
        Spent
            The sum; its cost is the known part, in US dollars.
        """
        rows = self.rows
        return Spent(
            "",
            sum(row.calls for row in rows),
            sum(row.uncounted for row in rows),
            sum(row.prompt_tokens for row in rows),
            sum(row.completion_tokens for row in rows),
            self.spent,
        )

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._rows.clear()
