"""What the session cost: counted by the server, priced by its list, and otherwise unknown."""

from __future__ import annotations

import pytest

from tests.servers import ScriptedServer, answers, silent_after
from together_nb import complete, models, stream
from together_nb.completion import Usage
from together_nb.config import LOCAL_MODEL, settings
from together_nb.errors import TogetherError
from together_nb.spending import BudgetError, Ledger, ledger

PRICE = (1.0, 2.0)
USAGE = Usage(1_000_000, 500_000, 1_500_000)


def noted(*calls):
    book = Ledger()
    for model, usage, price, whole in calls:
        book.note(model, usage, price, whole=whole)
    return book


def test_calls_tokens_and_dollars_add_up_by_model():
    book = noted(("a", USAGE, PRICE, True), ("b", USAGE, (0.5, 0.5), True), ("a", USAGE, PRICE, True))
    assert [(row.model, row.calls, row.prompt_tokens, row.completion_tokens, row.cost) for row in book.rows] == [
        ("a", 2, 2_000_000, 1_000_000, 4.0), ("b", 1, 1_000_000, 500_000, 0.75),
    ]  # fmt: skip
    assert book.spent == 4.75
    assert book.complete
    assert book.total().calls == 3


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ([("a", USAGE, PRICE, True)], "$2.00"),
        ([("a", USAGE, PRICE, True), ("a", None, PRICE, False)], "at least $2.00"),
        ([("a", USAGE, PRICE, False)], "at least $2.00"),
        ([("a", None, PRICE, True)], "unknown"),
        ([("a", USAGE, None, True)], "unknown"),
        ([("a", USAGE, (0.0, 0.0), True)], "$0.00"),
    ],
)
def test_what_is_not_known_is_told_as_such(calls, told):
    assert noted(*calls).rows[0].cost_told == told


def test_each_call_of_whatever_door_is_noted_once_with_the_lists_price():
    with ScriptedServer(answers(["one", " two"])) as server:
        options = {"base_url": server.base_url, "model": "test/chat", "api": "chat"}
        models(base_url=server.base_url)
        answer = complete("Tell", **options)
        with stream("Tell", **options) as chunks:
            list(chunks)
    (row,) = ledger.rows
    assert (row.model, row.calls, row.prompt_tokens, row.completion_tokens) == ("test/chat", 2, 10, 4)
    assert row.cost == pytest.approx(2 * answer.cost)


def test_a_refused_call_costs_nothing_and_a_stopped_one_is_not_counted_to_the_end():
    from tests.servers import replies

    with ScriptedServer(replies(400, {"error": "no"})) as server, pytest.raises(TogetherError):
        complete("Tell", base_url=server.base_url, model="test/chat", api="chat")
    assert ledger.rows == []
    with ScriptedServer(silent_after(["part"])) as server:
        models(base_url=server.base_url)
        with stream("Tell", base_url=server.base_url, model="test/chat", api="chat") as chunks:
            next(chunks)
            chunks.cancel()
        answer = chunks.completion
    assert answer.cost_told == "cost unknown"
    assert "cost unknown" in answer.footer()
    (row,) = ledger.rows
    assert (row.calls, row.uncounted, row.cost_told) == (1, 1, "unknown")


def test_a_stopped_answers_count_so_far_is_a_lower_bound():
    def script(exchange):
        exchange.chunked().headers()
        exchange.event(exchange.payload("part", usage={"prompt_tokens": 1_000_000, "completion_tokens": 500_000}))
        exchange.await_close()

    with ScriptedServer(script) as server:
        models(base_url=server.base_url)
        with stream("Tell", base_url=server.base_url, model="test/chat", api="chat") as chunks:
            next(chunks)
            chunks.cancel()
    assert "at least $2.00" in chunks.completion.footer()
    assert ledger.rows[0].cost_told == "at least $2.00"


def test_a_spent_budget_refuses_the_next_call_and_sends_nothing():
    with ScriptedServer(answers(["one"])) as server:
        options = {"base_url": server.base_url, "model": "test/chat", "api": "chat"}
        settings.budget = 1e-6
        waiting = stream("Tell", **options)  # opened while there was money left
        complete("Tell", **options)
        assert server.lists == 1  # a budget has to be kept, so the price is asked for
        with pytest.raises(BudgetError) as refused:
            complete("Tell", **options)
        with pytest.raises(BudgetError):
            list(waiting)
        assert len(server.requests) == 1
        assert refused.value.message.startswith("The session has spent $")
        assert "%together usage" in refused.value.hint
        settings.budget = None
        complete("Tell", **options)


def test_a_budget_that_cannot_be_kept_is_told_in_each_footer():
    unpriced = [{"id": "own/model", "type": "chat"}]
    with ScriptedServer(answers(["one"]), models=unpriced) as server:
        options = {"base_url": server.base_url, "model": "own/model", "api": "chat"}
        assert "budget" not in complete("Tell", **options).footer()
        settings.budget = 1.0
        assert "no price is known: the budget does not count it" in complete("Tell", **options).footer()
        assert "budget" not in complete("Tell", model="local/ngram", max_tokens=2).footer()


def test_what_costs_nothing_may_be_asked_though_the_budget_is_spent():
    ledger.note("a", USAGE, PRICE, whole=True)
    settings.budget = 1.0
    assert complete("Once", model=LOCAL_MODEL, max_tokens=3).cost == 0.0
    assert "$" not in complete("Once", model=LOCAL_MODEL, max_tokens=3).footer()
