"""A history in a file, and back."""

from __future__ import annotations

import json

import pytest

from together_nb import Conversation, complete, continue_from, conversations, history, load, save
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
