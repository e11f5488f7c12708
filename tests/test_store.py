"""A history in a file, and back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from together_nb import Conversation, complete, continue_from, conversations, history, load, save, store, thinning
from together_nb.config import LOCAL_MODEL, settings
from together_nb.errors import InputError

KEY = "key-0123456789-canary"


def asked(prompt="Alan Turing was", **options):
    return complete(prompt, model=LOCAL_MODEL, max_tokens=4, temperature=0, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.jsonl"


def emptied():
    history.clear()
    conversations.clear()


def test_answers_and_conversations_come_back_as_they_were(path):
    asked()
    asked(chat="lesson")
    asked("And then", chat="lesson")
    before, talk = list(history), conversations["lesson"]
    assert save(path) == (3, 1)
    emptied()
    assert load(path) == (3, 1)
    assert history == before
    assert conversations["lesson"] == talk


def test_a_turn_that_came_back_goes_on_in_place_in_both(path):
    asked(chat="lesson")
    save(path)
    emptied()
    load(path)
    whole = continue_from(max_tokens=3)
    assert history == [whole]
    assert conversations["lesson"][0].completion is whole


def test_a_turn_whose_answer_is_in_no_history_is_kept_with_its_conversation(path):
    asked(chat="lesson")
    history.clear()
    assert save(path) == (0, 1)
    emptied()
    assert load(path) == (0, 1)
    assert history == []
    assert conversations["lesson"][0].prompt == "Alan Turing was"


def test_an_answer_that_stands_in_two_conversations_comes_back_in_both(path):
    asked(chat="lesson")
    asked("And then", chat="lesson")
    conversations["branch"] = Conversation("branch", conversations["lesson"].turns[:1])
    conversations["other"] = Conversation("other", conversations["lesson"].turns[1:])
    before = dict(conversations)
    history.clear()
    save(path)
    emptied()
    load(path)
    assert conversations == before


def test_what_is_loaded_is_added_and_a_conversation_whose_name_is_taken_gets_another(path):
    asked(chat="lesson")
    save(path)
    load(path)
    assert len(history) == 2
    assert set(conversations) == {"lesson", "lesson-2"}
    assert conversations["lesson-2"].name == "lesson-2"


def test_a_file_of_the_first_version_in_which_each_answer_has_all_messages_is_read(path):
    for prompt in ("Hello.", "And then?", "And then?"):
        asked(prompt, chat="talk")
    save(path)
    whole = [json.dumps({"answer": answer.to_dict(), "history": True}) for answer in history]
    _, *rows, talk = path.read_text().splitlines()
    assert rows[0] == whole[0]
    assert rows[1:] != whole[1:]
    path.write_text("\n".join(['{"together_nb": "history", "version": 1}', *whole, talk]))
    kept, talks = list(history), dict(conversations)
    history.clear()
    conversations.clear()
    assert load(path) == (3, 1)
    assert (history, conversations) == (kept, talks)


def test_the_key_is_not_in_the_file_though_it_was_typed_into_a_prompt(path):
    settings.api_key = KEY
    complete(f"{KEY} is my key", model=LOCAL_MODEL, max_tokens=3, chat=KEY)
    save(path)
    assert "is my key" in path.read_text()
    assert KEY not in path.read_text()


def test_a_file_that_is_there_is_replaced_only_where_that_is_said(path):
    path.write_text("mine")
    with pytest.raises(InputError, match="exists already") as refused:
        save(path)
    assert "--force" in refused.value.hint
    assert path.read_text() == "mine"
    save(path, force=True)
    assert json.loads(path.read_text())["together_nb"] == "history"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no history"),
        ("{}", "holds no history"),
        ("nonsense", "holds no history"),
        ('{"together_nb": "recording", "version": 1}', "is a recording, not a history"),
        ('{"together_nb": "history", "version": 99}', "is of a later version"),
        ('{"together_nb": "history", "version": 1}\n{"answer": {}, "history": true}', "holds no history"),
        (
            '{"together_nb": "history", "version": 1}\n{"conversation": "x", "turns": [{"answer": 3}]}',
            "holds no history",
        ),
    ],
)
def test_a_file_of_something_else_adds_nothing_and_says_why(path, content, message):
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load(path)
    assert history == []
    assert conversations == {}


def test_a_file_that_cannot_be_read_or_written_says_why(path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load(path)
    with pytest.raises(InputError, match="cannot be written: No such file"):
        save(path.parent / "none" / "x.jsonl")
    with pytest.raises(InputError, match="name is missing"):
        save(" ")


REQUEST = {"api": "chat", "model": "m", "prompt": "Hi", "sampling": {}}
TOKEN = {"text": "a", "logprob": -0.5, "id": 3, "top": [["a", -0.5]]}
CHOICE = {"index": 0, "text": "a", "reasoning": "", "finish_reason": "stop", "tokens": [TOKEN]}
ANSWER = {"request": REQUEST, "choices": [CHOICE], "timings": {"first_token": None, "total": 1.0}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
HEAD = '{"together_nb": "history", "version": 2}\n'


def write(path, *rows, tail=""):
    path.write_text(HEAD + "".join(json.dumps(row) + "\n" for row in rows) + tail)


def with_at(value, place, other):
    """`value` with something else at a place like ``choices.0.text``."""
    first, _, rest = place.partition(".")
    copy = list(value) if isinstance(value, list) else dict(value)
    key = int(first) if isinstance(value, list) else first
    copy[key] = with_at(copy[key], rest, other) if rest else other
    return copy


NAN, INFINITE = float("nan"), float("inf")
DEEP = json.loads("[" * 150 + "]" * 150)


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("request", [None, [], 3]),
        ("request.api", [None, 3, []]),
        ("request.model", [None, {}]),
        ("request.prompt", [3, [], None]),
        ("request.system", [3, []]),
        ("request.sampling", [None, [], {"top_p": 2}, {"temprature": 1}, {"logit_bias": {"1": 10**4000}}]),
        ("request.messages", [{}, 3, [3], [[]], [{"content": NAN}], [{"content": DEEP}], [{"a": 10**4000}]]),
        ("request.schema", [3, {"name": 3, "definition": None}, {"name": "a", "definition": []}, {"name": "a"}]),
        ("request.schema", [{"name": "a", "definition": None, "model": 3}, {"name": "a", "definition": {"type": 3}}]),
        ("request.after", [0, 7, "a"]),
        ("choices", [[], None, {}, [3]]),
        ("choices.0.index", [None, 1.5, "0", True]),
        ("choices.0.text", [3, None, []]),
        ("choices.0.reasoning", [3, None]),
        ("choices.0.finish_reason", [3, [], {}]),
        ("choices.0.tokens", [None, {}, "ab", [3]]),
        ("choices.0.tokens.0.text", [3, None]),
        ("choices.0.tokens.0.logprob", ["a", True, NAN, [], 10**4000]),
        ("choices.0.tokens.0.id", ["a", 1.5, True, 10**30]),
        ("choices.0.tokens.0.top", [None, {}, [3], [["a"]], [["a", "b"]], [[3, 1]], [["a", NAN]], [["a", 10**400]]]),
        ("model", [3, None]),
        ("id", [3, None]),
        ("usage", [3, [], {}, {**USAGE, "total_tokens": -1}, {**USAGE, "prompt_tokens": 1.5}, {**USAGE, "more": 1}]),
        ("usage", [{**USAGE, "cached_tokens": True}, {**USAGE, "completion_tokens": 10**30}]),
        ("timings", [None, [], {"total": 1}, {"first_token": -1, "total": 1}, {"first_token": 1, "total": INFINITE}]),
        ("timings.total", ["1", None, NAN, 1e300, True, -0.1]),
        ("chunks", ["1", -1, 1.5, True, None, 10**4000]),
        ("cancelled", [0, "no", None]),
        ("error", [3, None]),
        ("price", [3, [], [1], [1, 2, 3], ["a", "b"], [NAN, 1], [None, 1], [True, 1], [INFINITE, 1], [10**400, 1]]),
        ("note", [3, None]),
        ("filled", [3, "ab", [3], {}]),
        ("created", [3, None, []]),
        ("extra", [3]),
    ],
)
def test_each_value_of_a_history_is_checked_when_it_is_loaded_and_named(path, place, values):
    base = {"usage": USAGE, **ANSWER}
    named = re.escape(re.sub(r"\.(\d+)", r"[\1]", place.replace("after", "messages")))
    for value in values:
        write(path, {"answer": ANSWER, "history": True}, {"answer": with_at(base, place, value), "history": True})
        with pytest.raises(InputError, match=rf"^Line 3 of .* holds no history of together_nb: .*{named}"):
            load(path)
    assert history == []


def test_what_is_in_order_is_loaded_and_can_be_shown(path):
    write(path, {"answer": {**ANSWER, "usage": USAGE, "price": [1, 2.5], "filled": ["a"]}, "history": True})
    load(path)
    (answer,) = history
    assert (answer.price, answer.usage.total_tokens, answer.tokens[0].top) == ((1.0, 2.5), 3, (("a", -0.5),))
    assert repr(answer)
    assert answer.bundle("tokens")["text/plain"]
    assert answer.metadata()


def test_half_a_character_does_not_come_in(path):
    write(path, {"answer": with_at(ANSWER, "choices.0.text", "a\ud800b \ud83d\ude00"), "history": True})
    load(path)
    assert history[0].text.encode() == "a\ufffdb \U0001f600".encode()


@pytest.mark.parametrize("kind", ["infinite", "NaN-free"])
def test_log_probabilities_that_servers_send_come_back(path, kind):
    asked(logprobs=1)
    if kind == "infinite":
        token = history[0].choices[0].tokens[0]
        history[0].choices[0].tokens[0] = replace(token, logprob=-INFINITE, top=(("a", -INFINITE),))
    before = list(history)
    save(path)
    emptied()
    load(path)
    assert history == before


def test_a_last_line_that_was_cut_is_left_out_and_told(path, caplog):
    asked()
    asked("Once")
    save(path)
    path.write_text(path.read_text()[:-60])
    emptied()
    assert load(path) == (1, 0)
    assert "last line was cut" in caplog.text


def test_a_broken_line_costs_itself_and_what_goes_on_from_it(path, caplog):
    for prompt in ("Hello.", "And then?", "And now?"):
        asked(prompt, chat="talk")
    asked("Alone")
    asked("Another", chat="other")
    asked("More", chat="other")
    before, talks = list(history), dict(conversations)
    save(path)
    lines = path.read_text().splitlines()
    lines[2] = lines[2][:50]  # the second turn of the first conversation
    path.write_text("\n".join(lines))
    emptied()
    assert load(path) == (4, 2)
    assert history == [before[0], *before[3:]]
    assert conversations["other"] == talks["other"]
    assert conversations["talk"].turns == talks["talk"].turns[:1]
    assert "Line 3 is broken" in caplog.text
    assert "1 answer, 2 turns" in caplog.text


def test_a_chain_of_answers_does_not_grow_without_bound(path, monkeypatch):
    """Each message stands once in the file, and in memory once for each answer that was asked with it."""
    monkeypatch.setattr(thinning, "MOST_MESSAGES", 5_000)
    said = [{"role": "user", "content": "Hi"}]
    first = with_at(ANSWER, "request.messages", said)
    rows = [
        {"answer": with_at(first, "request.after", number - 1) if number else first, "history": True}
        for number in range(90)
    ]
    write(path, *rows)
    assert load(path) == (90, 0)
    assert len(history[-1].request.messages) == 90
    history.clear()
    write(path, *rows, *[rows[-1]] * 30)
    with pytest.raises(InputError, match="messages are too many"):
        load(path)
    assert history == []


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
def test_a_crafted_file_of_4_mb_takes_no_memory_worth_speaking_of(path):
    said = '"messages":[{"role":"user","content":"x"}]'
    request = '{"api":"chat","model":"m","sampling":{},%s}'
    row = (
        '{"answer":{"request":%s,"choices":[{"tokens":[]}],"timings":{"first_token":null,"total":1}},"history":true}\n'
    )
    chain = [row % (request % f'{said},"after":{number}') for number in range(18_000)]
    many = row % (request % ('"messages":[{"a":[' + "[]," * 1_200_000 + "1]}]"))
    code = (
        "import sys; from together_nb import load\n"
        "try: load(sys.argv[1])\n"
        "except ValueError: pass\n"
        # Its own peak: `ru_maxrss` counts that of the process it was forked from.
        "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)"
    )
    for content in ("".join([row % (request % said), *chain]), many):
        path.write_text(HEAD + content)
        ended = subprocess.run(
            [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True, timeout=200
        )
        assert int(ended.stdout) < 400


def test_conversations_of_one_name_are_told_apart_in_one_go(path, monkeypatch):
    turn = {"prompt": "", "answer": 0}
    write(path, {"answer": ANSWER, "history": True}, *[{"conversation": "a", "turns": [turn]}] * 3_000)
    looked = []

    class Counted(dict):
        def __contains__(self, name):
            looked.append(name)
            return super().__contains__(name)

    monkeypatch.setattr(store, "conversations", Counted())
    load(path)
    assert len(store.conversations) == 3_000
    assert len(looked) < 10_000
