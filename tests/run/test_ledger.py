"""What the session cost: counted by the server, priced by its list, and otherwise unknown."""

import pytest

import together_nb
from tests.servers import ScriptedServer, answers, replies, silent_after
from together_nb.errors import BudgetError, TogetherError
from together_nb.run.ledger import Ledger
from together_nb.values.chunk import Usage
from together_nb.values.local_models import NGRAM

PRICE = (1.0, 2.0)
USAGE = Usage(1_000_000, 500_000, 1_500_000)


@pytest.fixture
def server():
    with ScriptedServer(answers(["one", " two"])) as server:
        yield server


def options(server):
    return {"base_url": server.base_url, "model": "test/chat", "api": "chat"}


def test_calls_tokens_and_dollars_add_up_by_model():
    book = Ledger()
    for model, price in (("a", PRICE), ("b", (0.5, 0.5)), ("a", PRICE)):
        book.note(model, USAGE, price, whole=True)
    assert [(row.model, row.calls, row.prompt_tokens, row.completion_tokens, row.cost) for row in book.rows] == [
        ("a", 2, 2_000_000, 1_000_000, 4.0), ("b", 1, 1_000_000, 500_000, 0.75),
    ]  # fmt: skip
    assert (book.spent, book.complete, book.total().calls) == (4.75, True, 3)


@pytest.mark.parametrize(
    ("calls", "cost"),
    [
        ([(USAGE, PRICE, True)], "$2.00"),
        ([(USAGE, PRICE, True), (None, PRICE, False)], "at least $2.00"),
        ([(USAGE, PRICE, False)], "at least $2.00"),
        ([(None, PRICE, True)], "unknown"),
        ([(USAGE, None, True)], "unknown"),
        ([(USAGE, (0.0, 0.0), True)], "$0.00"),
    ],
)
def test_what_is_not_known_is_told_as_such(calls, cost):
    book = Ledger()
    for usage, price, whole in calls:
        book.note("a", usage, price, whole=whole)
    assert book.rows[0].cost_told == cost
    assert book.complete is cost.startswith("$")


def test_each_call_of_whatever_door_is_noted_once_with_the_lists_price_but_no_refused_one(server):
    together_nb.models(base_url=server.base_url)
    answer = together_nb.complete("Tell", **options(server))
    list(together_nb.stream("Tell", **options(server)))
    server.script = replies(400, {"error": "no"})
    with pytest.raises(TogetherError):
        together_nb.complete("Tell", **options(server))
    (row,) = together_nb.ledger.rows
    assert (row.model, row.calls, row.prompt_tokens, row.completion_tokens) == ("test/chat", 2, 10, 4)
    assert row.cost == pytest.approx(2 * answer.cost)


def count_and_wait(exchange):
    exchange.chunked().headers()
    exchange.event(exchange.payload("part", usage={"prompt_tokens": 1_000_000, "completion_tokens": 500_000}))
    exchange.await_close()


@pytest.mark.parametrize(
    ("script", "footer", "cost"),
    [(silent_after(["part"]), "cost unknown", "unknown"), (count_and_wait, "at least $2.00", "at least $2.00")],
    ids=["uncounted", "counted so far"],
)
def test_a_stopped_call_is_not_counted_to_the_end(server, script, footer, cost):
    server.script = script
    together_nb.models(base_url=server.base_url)
    with together_nb.stream("Tell", **options(server)) as chunks:
        next(chunks)
        chunks.cancel()
    assert footer in chunks.completion.footer()
    (row,) = together_nb.ledger.rows
    assert (row.calls, row.uncounted, row.cost_told) == (1, 1, cost)


def test_a_spent_budget_refuses_the_next_call_and_sends_nothing_but_what_is_free_may_be_asked(server):
    together_nb.settings.budget = 1e-6
    waiting = together_nb.stream("Tell", **options(server))  # opened while there was money left
    together_nb.complete("Tell", **options(server))
    assert server.lists == 1  # a budget has to be kept, so the price is asked for
    with pytest.raises(BudgetError, match=r"^The session has spent \$") as refused:
        together_nb.complete("Tell", **options(server))
    assert "%together usage" in refused.value.hint
    with pytest.raises(BudgetError):
        list(waiting)
    assert len(server.requests) == 1
    free = together_nb.complete("Once", model=NGRAM, max_tokens=3)
    assert free.cost == 0.0
    assert "$" not in free.footer()
    together_nb.settings.budget = together_nb.ledger.spent + 1e-9
    together_nb.complete("Tell", **options(server))
    together_nb.settings.budget = together_nb.ledger.spent  # all of it
    with pytest.raises(BudgetError):
        together_nb.complete("Tell", **options(server))


def test_a_budget_that_cannot_be_kept_is_told_in_each_footer(server):
    server.models = [{"id": "test/chat", "type": "chat"}]
    assert "budget" not in together_nb.complete("Tell", **options(server)).footer()
    together_nb.settings.budget = 1.0
    assert "no price is known: the budget does not count it" in together_nb.complete("Tell", **options(server)).footer()
    assert "budget" not in together_nb.complete("Tell", model=NGRAM, max_tokens=2).footer()
