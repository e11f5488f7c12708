"""Whatever the key is, what is written can be read again, and the key is not in it."""

from __future__ import annotations

import functools
import json
from operator import attrgetter

import pytest

import together_nb
from tests.servers import ScriptedServer, answers
from together_nb import Conversation
from together_nb.config.keys import Key
from together_nb.errors import TogetherError
from together_nb.storage.redact import without_key, without_keys

REAL = "tgp_v1_Zq7xWd9vKf3Lm5tRt8Yb2nNc6Hj4k"
# What local servers are given, and the names and values of our files and of the protocol.
HARMLESS = r"""
EMPTY test x 1 true {" chat content sk-no-key-required lm-studio data data: messages assistant completion_tokens
together_nb recording finish_reason total_tokens application/json text/event-stream chat.completion.chunk
/v1/chat/completions response_format system_fingerprint Content-Type additionalProperties prompt_tokens completions
history POST 12345678 1234567812345678 1712345678 logprobs conversation definition reasoning_effort ":{"content":"
"}}]} [DONE] },{ nabcdefg u0061bcde \u0061\u0062 two-local-words-here local/ngram json_schema json_object top_logprobs
token_logprobs null,null,null,null
"""
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "description": "A name"}},
    "required": ["name"],
    "additionalProperties": False,
}
PROMPT = 'Tell me of messages, 12345678 and "nabcdefg"\n\nabcdefg: the assistant\'s content'


def conversation(name):
    """Four answers, one of them in a conversation; each without what it says."""
    common = {"max_tokens": 5, "temperature": 0.5}
    together_nb.complete(PROMPT, chat=name, api="chat")
    together_nb.complete(PROMPT, api="chat", **common)
    together_nb.complete(PROMPT, api="completions", logprobs=2, logit_bias={"12345678": 1}, **common)
    together_nb.complete("as JSON", api="chat", schema=SCHEMA, reasoning_effort="low", **common)
    return shapes()


def shapes():
    facts = attrgetter("finish_reason", "usage", "chunks", "api", "error")
    return [(*facts(one), len(one.tokens), sorted(one.request.to_dict())) for one in together_nb.history]


@pytest.mark.parametrize("key", HARMLESS.split())
def test_a_recording_and_a_history_can_be_read_whatever_the_key_is(tmp_path, key):
    together_nb.settings.api_key = key
    with ScriptedServer(answers(['{"name": ', '"a 12345678 \\nabcdefg"', "}"])) as server:
        together_nb.settings.base_url, together_nb.settings.model = server.base_url, "test/chat"
        together_nb.record(tmp_path / "lesson.jsonl")
        live = conversation("talk")
        together_nb.stop()
    talk = together_nb.conversations["talk"]
    together_nb.save(tmp_path / "history.jsonl")
    talk.save(tmp_path / "talk.json")
    together_nb.history.clear()
    together_nb.conversations.clear()
    assert together_nb.load(tmp_path / "history.jsonl") == (4, 1)
    assert shapes() == live
    assert len(Conversation.load(tmp_path / "talk.json")) == 1
    together_nb.history.clear()
    together_nb.replay(tmp_path / "lesson.jsonl", speed=0)
    assert conversation("again") == live


@pytest.mark.parametrize(
    "key", [REAL, 'quo"ted\\and/slashed-0123456789', "12345678", "nabcdefgh", '"}}]}\\n"', "data:data:data:data:1"]
)
def test_nothing_of_a_real_key_is_in_any_file_and_the_replies_stay_whole(tmp_path, key):
    spelled = json.dumps(key)[1:-1]
    texts = [f"It is {key}. ", f"Or\n{key}", "\nabcdefgx ", *(f" {key} "), f'{{"a": "{spelled}"}}', " end"]

    def script(exchange):
        exchange.chunked()
        for text in texts:
            payload = json.dumps(exchange.payload(text)).replace("/", "\\/")
            exchange.send(f"event: message\nid: {text[:2].strip()!r}\ndata: {payload}\n\n".encode())
        answers([])(exchange)

    together_nb.settings.api_key = key
    with ScriptedServer(script) as server:
        together_nb.settings.base_url, together_nb.settings.model = server.base_url, "test/chat"
        together_nb.record(tmp_path / "lesson.jsonl")
        live = together_nb.complete(f"My key: {key}", api="chat", chat=key, system=f"{key} {spelled}")
        together_nb.stop()
    assert live.text == "".join(texts)
    together_nb.save(tmp_path / "history.jsonl")
    together_nb.conversations[key].save(tmp_path / "talk.json")
    for file in tmp_path.iterdir():
        written = file.read_text()
        assert not any(form in written for form in (key, spelled, json.dumps(spelled)[1:-1])), file.name
    together_nb.replay(tmp_path / "lesson.jsonl", speed=0)
    again = together_nb.complete(f"My key: {key}", api="chat", system=f"{key} {spelled}")
    assert again.text.startswith("It is …. Or\n…\nabcdefgx ")
    assert again.text.endswith(" end")
    assert (again.finish_reason, again.error) == ("stop", "")


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_tokens_that_spell_the_key_are_in_no_file(tmp_path, api):
    texts = [REAL[start : start + 4] for start in range(0, len(REAL), 4)]

    def script(exchange):
        exchange.chunked()
        for text in ("It is ", *texts, "."):
            payload = exchange.payload(text)
            payload["choices"][0]["logprobs"] = {
                "tokens": [text], "token_logprobs": [-0.1], "top_logprobs": [{text: -0.1}],
                "content": [{"token": text, "logprob": -0.1, "bytes": list(text.encode()), "top_logprobs": []}],
            }  # fmt: skip
            exchange.event(payload)
        answers([])(exchange)

    with ScriptedServer(script) as server:
        together_nb.settings.base_url, together_nb.settings.api_key = server.base_url, REAL
        together_nb.record(tmp_path / "a.jsonl")
        answer = together_nb.complete("Tell", model="test/chat", api=api, logprobs=1)
        together_nb.stop()
        together_nb.save(tmp_path / "b.jsonl")
    assert answer.tokens
    for name in "ab":
        written = (tmp_path / f"{name}.jsonl").read_text().replace("\\", "")
        assert not any(f'"{text}"' in written for text in texts)
    together_nb.replay(tmp_path / "a.jsonl", speed=0)
    assert together_nb.complete("Tell", model="test/chat", api=api, logprobs=1).text.startswith("It is ")
    together_nb.stop()
    together_nb.history.clear()
    assert together_nb.load(tmp_path / "b.jsonl") == (1, 0)


def test_names_that_a_user_makes_lose_the_key_and_none_is_lost():
    together_nb.settings.api_key = REAL
    value = {"content": {REAL: 1, REAL[:20]: 2, "role": REAL}, "role": "assistant", "path": f"/home/{REAL}"}
    found = without_keys(value)
    assert REAL[:8] not in json.dumps(found)
    assert sorted(found["content"].values(), key=str) == [1, 2, "…"]
    assert (found["role"], found["path"]) == ("assistant", "/home/…")


def test_a_key_that_stands_over_several_events_goes_whatever_stands_beside_it():
    events = [
        f'data: {{"choices":[{{"index":{index},"delta":{{"content":{json.dumps(part)}}}}}]}}\n\n'
        for at in range(0, len(REAL), 3)
        for index, part in ((0, REAL[at : at + 3]), (1, "word "))
    ]
    found = without_key([(float(at), text) for at, text in enumerate(events)], Key(REAL, "a test"))
    texts = ["", ""]
    for _, line in found:
        (choice,) = json.loads(line.removeprefix("data: "))["choices"]
        texts[choice["index"]] += choice["delta"]["content"]
    assert texts == ["…", "word " * 12]
    assert len(found) == len(events)


NUMBERS = 'event: 1234567\ndata: {"created": 1234567812345678, "a": "1234567812345678"}\n\ndata: [DONE]\n\n'
CUT = 'data: {"choices": [{"text": "'


@pytest.mark.parametrize(
    ("key", "pieces", "end"),
    [
        ("EMPTY", ['data: {"text": "A: Bearer"}\n\n', 'data: {"text": " EMPTY\\n"}\n\n'], '" …\\n"}\n\n'),
        ("1234567812345678", [NUMBERS], NUMBERS.replace('"1234567812345678"', '"…"')),
        (REAL, [CUT + REAL[:30]], f"{CUT}…"),
    ],
    ids=["Bearer in another event", "numbers and the frame stay", "a line that was cut"],
)
def test_a_reply_in_pieces_loses_the_key_and_nothing_else(key, pieces, end):
    found = without_key([(float(at), text) for at, text in enumerate(pieces)], Key(key, "a test"))
    assert "".join(text for _, text in found).endswith(end)
    assert found[0][0] == 0.0


def test_a_recording_of_values_that_no_file_holds_costs_no_answer(tmp_path, caplog):
    said = {"role": "user", "content": "Hi", "extra": functools.reduce(lambda deep, _: [deep], range(300), [])}
    with ScriptedServer(answers(["Yes"])) as server:
        together_nb.record(tmp_path / "lesson.jsonl")
        assert together_nb.complete(messages=[said], api="chat", model="m", base_url=server.base_url).text == "Yes"
        together_nb.stop()
    assert "lacks an answer" in caplog.text
    with pytest.raises(TogetherError, match="holds no exchange"):
        together_nb.replay(tmp_path / "lesson.jsonl")
