"""Conversations by name, from Python."""

from __future__ import annotations

import pytest

from tests.servers import ScriptedServer, answers, replies
from together_nb import Conversation, complete, conversations, history
from together_nb.chats import reset
from together_nb.errors import APIStatusError, InputError


@pytest.fixture
def server():
    with ScriptedServer(answers(["answer"])) as one:
        yield one


def say(server, prompt, chat="lesson", **options):
    return complete(prompt, base_url=server.base_url, model="test/chat", chat=chat, **options)


def sent(server):
    return [turn["content"] for turn in server.requests[-1].json()["messages"]]


def test_each_turn_is_sent_with_those_before_it_and_the_system_prompt_holds_on(server):
    say(server, "one", system="Be brief.")
    say(server, "two")
    assert sent(server) == ["Be brief.", "one", "answer", "two"]
    say(server, "apart", chat="other")
    assert sent(server) == ["apart"]
    assert {name: len(talk) for name, talk in conversations.items()} == {"lesson": 2, "other": 1}


def test_a_conversation_of_ones_own_can_be_cut_and_gone_on_with(server):
    mine = Conversation("mine")
    for prompt in ("one", "two", "three"):
        say(server, prompt, chat=mine)
    branch = mine[:1]
    say(server, "other", chat=branch)
    assert sent(server) == ["one", "answer", "other"]
    assert len(mine) == 3
    assert conversations == {}
    assert len(history) == 4


def test_a_turn_that_failed_is_marked_and_not_sent_along(server):
    say(server, "one")
    server.script = replies(500, {"error": "broken"})
    with pytest.raises(APIStatusError):
        say(server, "two")
    assert conversations["lesson"][1].mark == "error from the server"
    server.script = answers(["answer"])
    say(server, "three")
    assert sent(server) == ["one", "answer", "three"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "The prompt is empty."),
        ({"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, "A conversation and messages were given."),
        ({"prompt": "x", "chat": 3}, "chat must be a conversation's name, not int."),
        (
            {"prompt": "x", "api": "completions"},
            "The completions API takes one prompt: no system prompt and no messages.",
        ),
    ],
)
def test_what_cannot_be_a_turn_says_why_and_is_none(server, options, message):
    with pytest.raises(InputError) as refused:
        complete(**{"chat": "lesson", "base_url": server.base_url, "model": "test/chat", **options})
    assert refused.value.message == message
    assert refused.value.hint
    assert server.requests == []
    assert not conversations.get("lesson")


def test_a_name_that_is_none_gets_the_nearest(server):
    say(server, "one")
    with pytest.raises(InputError, match=r"Did you mean lesson\?"):
        reset("leson")
    assert reset("lesson") == 1
    with pytest.raises(InputError, match="--chat` begins one"):
        reset("lesson")
