"""Hints that the request and the list of models make better."""

from __future__ import annotations

import pytest

from tests.servers import MODELS, ScriptedServer, replies
from together_nb import complete
from together_nb.errors import ContextLengthError, NotFoundError

pytestmark = pytest.mark.timeout(40)


def hint(server, model="test/chatt", kind=NotFoundError, **asked):
    with pytest.raises(kind) as caught:
        complete(**{"prompt": "Tell me", **asked}, base_url=server.base_url, model=model, api="chat")
    return caught.value.hint


def test_an_unknown_model_is_answered_with_the_nearest_that_can_be_called():
    rows = [*MODELS, {"id": "test/chatty", "type": "chat", "pricing": {"input": 0, "output": 0}}]
    with ScriptedServer(replies(404, {"error": "no model"}), models=rows) as server:
        assert hint(server) == "Did you mean test/chat?"
        assert server.lists == 1


def test_an_unknown_model_near_none_is_answered_with_the_way_to_the_list():
    with ScriptedServer(replies(404, {"error": "no model"})) as server:
        assert "%together models" in hint(server, "zzzzzzzz")


def test_an_unknown_model_of_a_server_without_a_list_is_still_a_404():
    with ScriptedServer(replies(404, {"error": "no model"}), models=None) as server:
        assert "%together models" in hint(server)


LONG = [{"id": "test/chat", "type": "chat", "context_length": 8192}]


@pytest.mark.parametrize("status", [403, 413])
def test_a_prompt_that_is_too_long_is_measured(status):
    with ScriptedServer(replies(status, {"error": "too long"}), models=LONG) as server:
        words = hint(server, "test/chat", ContextLengthError, prompt="word " * 8000, max_tokens=512)
    assert words.startswith(
        "The prompt is about 10,000 tokens (40,000 characters) and max_tokens asks for 512 more; "
        "the context of test/chat is 8,192. Shorten the prompt"
    )


def test_a_conversation_is_measured_whole_and_nothing_is_told_that_is_not_known():
    messages = [{"role": "user", "content": "x" * 4000}, {"role": "assistant", "content": None}]
    with ScriptedServer(replies(403, {"error": "too long"}), models=None) as server:
        words = hint(server, "m", ContextLengthError, prompt="", messages=messages)
    assert words.startswith("The prompt is about 1,000 tokens (4,000 characters). Shorten")
