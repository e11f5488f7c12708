"""Hints that the request and the list of models make better."""

import pytest

import together_nb
from tests.servers import MODELS, ScriptedServer, replies
from together_nb.errors import ContextLengthError, NotFoundError

NOT_SERVED = {"id": "test/chatty", "type": "chat", "pricing": {"input": 0, "output": 0}}
ABOUT = "The prompt is about"
BOTH = f"{ABOUT} 10,000 tokens (40,000 characters) and max_tokens asks for 512 more; the context of test/chat is 8,192."
LONG = [{"id": "test/chat", "type": "chat", "context_length": 8192}]
MESSAGES = [{"role": "user", "content": "x" * 4000}, {"role": "assistant", "content": None}]


@pytest.mark.parametrize(
    ("status", "models", "asked", "hint"),
    [
        (404, [*MODELS, NOT_SERVED], {}, "Did you mean test/chat?"),
        (404, MODELS, {"model": "zzzzzzzz"}, "`%together models`"),
        (404, None, {}, "`%together models`"),  # a server without a list
        (403, LONG, {"prompt": "word " * 8000, "max_tokens": 512, "model": "test/chat"}, BOTH),
        (413, LONG, {"system": "x" * 93}, f"{ABOUT} 25 tokens (100 characters). Shorten"),
        (403, None, {"prompt": "a"}, f"{ABOUT} 1 tokens (1 characters). Shorten"),
        (403, None, {"prompt": "", "messages": MESSAGES}, f"{ABOUT} 1,000 tokens (4,000 characters)."),
    ],
)
def test_the_nearest_models_and_the_length_of_a_prompt_are_told(status, models, asked, hint):
    with ScriptedServer(
        replies(status, {"error": "Not Found" if status == 404 else "too long"}), models=models
    ) as server:
        with pytest.raises(NotFoundError if status == 404 else ContextLengthError) as caught:
            together_nb.complete(
                **{"prompt": "Tell me", "model": "test/chatt", "api": "chat", **asked}, base_url=server.base_url
            )
        assert server.lists == (2 if models is None else 1)
    assert caught.value.hint.startswith(hint)
