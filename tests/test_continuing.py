"""Going on from the last answer in Python: what is kept where."""

from __future__ import annotations

import pytest

from tests.servers import ScriptedServer, answers, replies
from together_nb import complete, continue_from, conversations, history
from together_nb.config import LOCAL_MODEL
from together_nb.errors import APIStatusError, InputError


def cut(**options):
    return complete("Alan Turing was", model=LOCAL_MODEL, temperature=0, max_tokens=5, **options)


def test_the_whole_is_what_one_longer_answer_would_have_been_and_takes_its_place():
    whole = complete("Alan Turing was", model=LOCAL_MODEL, temperature=0, max_tokens=9)
    history.clear()
    first, other = cut(), complete("Once", model=LOCAL_MODEL, max_tokens=2)
    went_on = continue_from(first, max_tokens=4)
    assert went_on.text == whole.text
    assert history == [went_on, other]


def test_the_last_one_is_gone_on_from_where_none_is_named_and_may_be_again():
    cut()
    continue_from(max_tokens=2)
    continue_from(max_tokens=2)
    assert len(history) == 1
    assert history[0].usage.completion_tokens == 9


def test_a_turn_of_a_conversation_goes_on_in_it():
    cut(chat="lesson")
    whole = continue_from(max_tokens=3)
    assert conversations["lesson"][0].completion is whole


def test_a_request_that_fails_keeps_the_first_part():
    with ScriptedServer(answers(["half"], finish="length")) as server:
        first = complete("Tell", base_url=server.base_url, model="test/chat", api="chat")
        server.script = replies(500, {"error": "broken"})
        from together_nb.config import settings

        settings.base_url = server.base_url
        with pytest.raises(APIStatusError):
            continue_from()
    assert history == [first]


def test_what_cannot_go_on_says_why_and_asks_nobody():
    with pytest.raises(InputError, match="no answer yet"):
        continue_from()
    with ScriptedServer(answers(["whole"])) as server:
        complete("Tell", base_url=server.base_url, model="test/chat", api="chat")
    with pytest.raises(InputError, match="ended by itself"):
        continue_from()
    several = complete("Once", model=LOCAL_MODEL, max_tokens=2, n=2)
    with pytest.raises(InputError, match="several answers"):
        continue_from(several)
