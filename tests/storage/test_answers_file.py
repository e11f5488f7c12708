"""A history in a file, and back."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

import together_nb
from together_nb import Choice, Completion, CompletionRequest, Conversation, Token, Turn
from together_nb.errors import InputError
from together_nb.values import shared_messages
from together_nb.values.from_json import UnfitError, plain
from together_nb.values.local_models import NGRAM

REQUEST = {"api": "chat", "model": "m", "prompt": "Hi", "sampling": {}}
TOKEN = {"text": "a", "logprob": -0.5, "id": 3, "top": [["a", -0.5]]}
CHOICE = {"index": 0, "text": "a", "reasoning": "", "finish_reason": "stop", "tokens": [TOKEN]}
ANSWER = {"request": REQUEST, "choices": [CHOICE], "timings": {"first_token": None, "total": 1.0}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
HEAD = '{"together_nb": "history", "version": 2}\n'
NAN, INFINITE = float("nan"), float("inf")
DEEP = json.loads("[" * 150 + "]" * 150)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.jsonl"


def ask(*prompts, **options):
    for prompt in prompts or ("Alan Turing was",):
        together_nb.complete(prompt, model=NGRAM, max_tokens=4, temperature=0, **options)


def forget():
    """Empty the session; gives what was in it."""
    before = list(together_nb.history), dict(together_nb.conversations)
    together_nb.history.clear()
    together_nb.conversations.clear()
    return before


def write(path, *rows):
    path.write_text(HEAD + "".join(json.dumps(row) + "\n" for row in rows))


def row(answer):
    return {"answer": answer, "history": True}


def with_at(value, place, other):
    """`value` with something else at a place like ``choices.0.text``."""
    first, _, rest = place.partition(".")
    copy = list(value) if isinstance(value, list) else dict(value)
    key = int(first) if isinstance(value, list) else first
    copy[key] = with_at(copy[key], rest, other) if rest else other
    return copy


def test_answers_and_conversations_come_back_as_they_were_and_go_on(path):
    ask(logprobs=1)
    tokens = together_nb.history[0].choices[0].tokens
    tokens[0] = replace(tokens[0], logprob=-INFINITE, top=(("a", -INFINITE),))  # some servers send it
    ask("Hello", "And then", chat="lesson")
    assert together_nb.save(path) == (3, 1)
    with pytest.raises(InputError, match="exists already") as refused:
        together_nb.save(path)
    assert "--force" in refused.value.hint
    before = forget()
    assert together_nb.load(path) == (3, 1)
    assert (together_nb.history, together_nb.conversations) == before
    whole = together_nb.continue_from(max_tokens=3)
    assert together_nb.history[2] is together_nb.conversations["lesson"][1].completion is whole


def test_an_answer_in_no_history_comes_back_with_each_conversation_that_has_it(path):
    ask("Hello", "And then", chat="lesson")
    for name, turns in (
        ("branch", together_nb.conversations["lesson"].turns[:1]),
        ("other", together_nb.conversations["lesson"].turns[1:]),
    ):
        together_nb.conversations[name] = Conversation(name, turns)
    together_nb.history.clear()
    assert together_nb.save(path) == (0, 3)
    before = forget()
    assert together_nb.load(path) == (0, 3)
    assert (together_nb.history, together_nb.conversations) == before


def test_what_is_loaded_is_added_and_a_conversation_whose_name_is_taken_gets_another(path):
    ask(chat="lesson")
    together_nb.save(path)
    together_nb.load(path)
    assert {name: talk.name for name, talk in together_nb.conversations.items()} == {
        "lesson": "lesson",
        "lesson-2": "lesson-2",
    }
    forget()
    together_nb.conversations["lesson"] = Conversation("lesson")  # begun, and empty: its name is free
    together_nb.load(path)
    assert list(together_nb.conversations) == ["lesson"]


def test_a_file_of_the_first_version_in_which_each_answer_has_all_messages_is_read(path):
    ask("Hello.", "And then?", "And then?", chat="talk")
    together_nb.save(path)
    whole = [json.dumps(row(answer.to_dict())) for answer in together_nb.history]
    _, *rows, talk = path.read_text().splitlines()
    assert [mine == other for mine, other in zip(rows, whole, strict=True)] == [True, False, False]
    path.write_text("\n".join(['{"together_nb": "history", "version": 1}', *whole, talk]))
    before = forget()
    assert together_nb.load(path) == (3, 1)
    assert (together_nb.history, together_nb.conversations) == before


@pytest.mark.parametrize(
    ("place", "values"),
    [
        *((name, [3, None]) for name in ("model", "id", "error", "note", "created", "request.model", "request.prompt")),
        *((f"choices.0.{name}", [3, None]) for name in ("text", "reasoning", "tokens.0.text")),
        *((name, [None, [], 3]) for name in ("request", "request.sampling", "timings")),
        ("request.api", [None, 3, []]),
        ("request.system", [3, []]),
        ("request.sampling", [{"top_p": 2}, {"temprature": 1}, {"logit_bias": {"1": 10**4000}}]),
        ("request.messages", [{}, 3, [3], [[]], [{"content": NAN}], [{"content": DEEP}], [{"a": 10**4000}]]),
        ("request.schema", [3, {"name": 3, "definition": None}, {"name": "a", "definition": []}, {"name": "a"}]),
        ("request.schema", [{"name": "a", "definition": None, "model": 3}, {"name": "a", "definition": {"type": 3}}]),
        ("request.after", [0, 7, "a"]),
        ("choices", [[], None, {}, [3]]),
        ("choices.0.index", [None, 1.5, "0", True]),
        ("choices.0.finish_reason", [3, [], {}]),
        ("choices.0.tokens", [None, {}, "ab", [3]]),
        ("choices.0.tokens.0.logprob", ["a", True, NAN, [], 10**4000]),
        ("choices.0.tokens.0.id", ["a", 1.5, True, 10**30]),
        ("choices.0.tokens.0.top", [None, {}, [3], [["a"]], [["a", "b"]], [[3, 1]], [["a", NAN]], [["a", 10**400]]]),
        ("usage", [3, [], {}, {**USAGE, "total_tokens": -1}, {**USAGE, "prompt_tokens": 1.5}, {**USAGE, "more": 1}]),
        ("usage", [{**USAGE, "cached_tokens": True}, {**USAGE, "completion_tokens": 10**30}]),
        ("timings", [{"total": 1}, {"first_token": -1, "total": 1}, {"first_token": 1, "total": INFINITE}]),
        ("timings.total", ["1", None, NAN, 1e300, True, -0.1]),
        ("chunks", ["1", -1, 1.5, True, None, 10**4000]),
        ("cancelled", [0, "no", None]),
        ("price", [3, [], [1], [1, 2, 3], ["a", "b"], [NAN, 1], [None, 1], [True, 1], [INFINITE, 1], [10**400, 1]]),
        ("filled", [3, "ab", [3], {}]),
        ("extra", [3]),
    ],
)
def test_each_value_of_a_history_is_checked_when_it_is_loaded_and_named(path, place, values):
    base = {"usage": USAGE, **ANSWER}
    named = re.escape(re.sub(r"\.(\d+)", r"[\1]", place.replace("after", "messages")))
    for value in values:
        write(path, row(ANSWER), row(with_at(base, place, value)))
        with pytest.raises(InputError, match=rf"^Line 3 of .* holds no history of together_nb: .*{named}"):
            together_nb.load(path)
    write(path, row(ANSWER), {"conversation": "x", "turns": [{"prompt": "", "answer": 1}]})
    with pytest.raises(InputError, match=r"^Line 3 of .*turns\[0\]\.answer is the number of no answer"):
        together_nb.load(path)
    assert forget() == ([], {})


def test_a_value_is_nested_at_most_100_levels_deep():
    deepest = json.loads("[" * 100 + "1" + "]" * 100)
    assert plain(deepest) == deepest
    with pytest.raises(UnfitError, match="100 levels"):
        plain([deepest])


@pytest.mark.parametrize(
    ("head", "words"),
    [('"recording", "version": 1', "is a recording, not a history"), ('"history", "version": 7', "later")],
)
def test_a_file_of_another_kind_or_of_a_later_version_is_none(path, head, words):
    path.write_text(f'{{"together_nb": {head}}}')
    with pytest.raises(InputError, match=words):
        together_nb.load(path)


def test_what_is_in_order_is_loaded_and_can_be_shown(path):
    said = with_at(ANSWER, "choices.0.text", "a\ud800b \ud83d\ude00")  # half a character does not come in
    write(path, row({**said, "usage": USAGE, "price": [1, 2.5], "filled": ["a"]}))
    together_nb.load(path)
    (answer,) = together_nb.history
    assert (answer.price, answer.usage.total_tokens, answer.tokens[0].top) == ((1.0, 2.5), 3, (("a", -0.5),))
    assert answer.text.encode() == "a\ufffdb \U0001f600".encode()
    assert all((repr(answer), answer.bundle("tokens")["text/plain"], answer.metadata()))


def test_a_broken_line_costs_itself_and_what_goes_on_from_it(path, caplog):
    ask("Hello.", "And then?", "And now?", chat="talk")
    ask("Alone")
    ask("Another", "More", chat="other")
    together_nb.save(path)
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:50]  # the second turn of the first conversation
    path.write_text("\n".join([*lines, lines[-1][:60]]))
    answers, talks = forget()
    assert together_nb.load(path) == (4, 2)
    assert together_nb.history == [answers[0], *answers[3:]]
    assert together_nb.conversations == {"talk": talks["talk"][:1], "other": talks["other"]}
    assert "Line 3 is broken" in caplog.text
    assert "last line was cut" in caplog.text
    assert "1 answer, 2 turns" in caplog.text


def test_a_chain_of_answers_does_not_grow_without_bound(path, monkeypatch):
    """Each message stands once in the file, and in memory once for each answer that was asked with it."""
    monkeypatch.setattr(shared_messages, "MOST_MESSAGES", 5_000)
    first = with_at(ANSWER, "request.messages", [{"role": "user", "content": "Hi"}])
    rows = [row(first), *(row(with_at(first, "request.after", number)) for number in range(89))]
    write(path, *rows)
    assert together_nb.load(path) == (90, 0)
    assert len(together_nb.history[-1].request.messages) == 90
    write(path, *rows, *[rows[-1]] * 30)
    with pytest.raises(InputError, match="messages are too many"):
        together_nb.load(path)
    assert len(together_nb.history) == 90


def test_conversations_of_one_name_are_told_apart_in_one_go(path, session):
    write(path, row(ANSWER), *[{"conversation": "a", "turns": [{"prompt": "", "answer": 0}]}] * 3_000)
    looked = []

    class Counted(dict):
        def __contains__(self, name):
            looked.append(name)
            return super().__contains__(name)

    session.conversations = Counted()
    session.load(path)
    assert len(session.conversations) == 3_000
    assert len(looked) < 10_000


# Strict JSON, and earlier versions


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("value", [-INFINITE, INFINITE, NAN])
def test_an_infinite_logarithm_is_written_as_a_text_read_back_and_fails_no_save(path, session, value):
    token = Token("a", value, 3, (("a", value), ("b", -1.0)))
    answer = Completion(CompletionRequest("Hi", "m", "chat"), [Choice(0, "a", tokens=[token])])
    session.history.append(answer)
    session.conversations["talk"] = talk = Conversation("talk", [Turn("Hi", answer)])
    session.save(path)
    talk.save(path.with_name("talk"))
    for file in (path, path.with_name("talk")):
        for line in file.read_text().splitlines():
            json.loads(line, parse_constant=no_constant)
    session.history.clear()
    assert session.load(path) == (1, 1)
    for found in (session.history[0], Conversation.load(path.with_name("talk"))[0].completion):
        assert repr(found.tokens) == repr([token])  # NaN is not equal to itself


def test_a_file_of_an_earlier_version_has_it_as_a_bare_word(path):
    write(path, row(with_at(ANSWER, "choices.0.tokens.0.logprob", -INFINITE)))
    assert "-Infinity" in path.read_text()
    assert together_nb.load(path) == (1, 0)
    assert together_nb.history[0].tokens[0].logprob == -INFINITE


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("turns", [1, 100])
def test_a_conversation_of_an_earlier_version_is_one_document(path, indent, turns):
    turn = {"prompt": "Hi", "completion": ANSWER, "system": "s"}
    document = {"conversation": "talk", "version": 3, "turns": [turn] * turns}
    path.write_text(json.dumps(document, indent=indent))
    talk = Conversation.load(path)
    assert (talk.name, talk.system, talk[0].answer, talk[0].completion.server) == ("talk", "s", "a", "")


def test_a_file_of_one_kind_is_not_read_as_the_other_and_says_which_it_is(path, session):
    Conversation("talk").save(path)
    with pytest.raises(InputError, match="is a conversation, not a history"):
        session.load(path)
    session.save(path, force=True)
    with pytest.raises(InputError, match="is a history, not a conversation"):
        Conversation.load(path)
