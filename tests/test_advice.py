"""Hints that the request and the list of models make better."""

from __future__ import annotations

import pytest

from tests.servers import MODELS, ScriptedServer, replies
from together_nb import complete
from together_nb.errors import ContextLengthError, NotFoundError

pytestmark = pytest.mark.timeout(40)

NOT_SERVED = {"id": "test/chatty", "type": "chat", "pricing": {"input": 0, "output": 0}}
MEASURED = "The prompt is about 10,000 tokens (40,000 characters)"
LONG = [{"id": "test/chat", "type": "chat", "context_length": 8192}]
MESSAGES = [{"role": "user", "content": "x" * 4000}, {"role": "assistant", "content": None}]


@pytest.mark.parametrize(
    ("status", "kind", "models", "asked", "hint"),
    [
        (404, NotFoundError, [*MODELS, NOT_SERVED], {}, "Did you mean test/chat?"),
        (404, NotFoundError, MODELS, {"model": "zzzzzzzz"}, "`%together models`"),
        (404, NotFoundError, None, {}, "`%together models`"),  # a server without a list
        (
            403,
            ContextLengthError,
            LONG,
            {"prompt": "word " * 8000, "max_tokens": 512, "model": "test/chat"},
            f"{MEASURED} and max_tokens asks for 512 more; the context of test/chat is 8,192. Shorten",
        ),
        (
            413,
            ContextLengthError,
            LONG,
            {"system": "x" * 93},
            "The prompt is about 25 tokens (100 characters). Shorten",
        ),
        (403, ContextLengthError, None, {"prompt": "a"}, "The prompt is about 1 tokens (1 characters). Shorten"),
        (
            403,
            ContextLengthError,
            None,
            {"prompt": "", "messages": MESSAGES},
            "The prompt is about 1,000 tokens (4,000 characters). Shorten",
        ),
    ],
)
def test_the_nearest_models_and_the_length_of_a_prompt_are_told(status, kind, models, asked, hint):
    with ScriptedServer(replies(status, {"error": "too long"}), models=models) as server:
        with pytest.raises(kind) as caught:
            complete(**{"prompt": "Tell me", "model": "test/chatt", "api": "chat", **asked}, base_url=server.base_url)
        assert server.lists == 1
    assert caught.value.hint.startswith(hint)
