"""Streams of other servers, from public reports: what a user gets of each, in each way to ask.

The address of a report stands beside its row; rows without one are of the same kind as the row above them.
"""

from __future__ import annotations

import json

import pytest

import together_nb
from tests.reports import DONE, Report, delta, event, outcomes
from together_nb.errors import (
    APIResponseError,
    APITimeoutError,
    ConnectionLostError,
    ContextLengthError,
    StreamError,
    TogetherError,
)
from together_nb.wire import attempts

pytestmark = pytest.mark.timeout(60)

FOR_EVER = 3600.0  # seconds that a server keeps the connection: the client ends it
STOP = delta(finish="stop")
USAGE = {"prompt_tokens": 23, "completion_tokens": 19, "total_tokens": 42}
PING = ": ping\n\n"
FRAMINGS = ("close", "chunked", "http10")
JSON = {"content_type": "application/json"}
COMMENTS = (PING, 0.05) * 1000  # 50 s, unless the client goes


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """The end is awaited as in life, but not for as long."""
    monkeypatch.setattr(attempts, "_END_SECONDS", 0.4)


def one_way(framing):
    """All ways to ask for one framing, which take time, and one way for the others."""
    return ("stream", "complete", "%%together") if framing == "close" else ("complete",)


# Failures inside a 200 stream

FAILURES = {
    "an SSE field": (
        "https://github.com/coddy-project/coddy-agent/pull/106",
        'error: {"code":400,"message":"no such thing","type":"invalid_request_error"}\n\n',
    ),
    "an SSE field of words": ("", "error: no such thing\n\n"),
    "an SSE field in lines without a blank one": ("", 'error: {"message":"no such thing"}\n'),
    "a named event with details": (
        "https://github.com/foundation-model-stack/fms-guardrails-orchestrator/pull/436",
        event({"code": 400, "details": "no such thing"}, "error"),
    ),
    "a named event with a code of words": (
        "https://github.com/holon-run/holon/pull/2424",
        event({"request_id": "r", "code": "InvalidParameter", "message": "no such thing"}, "error"),
    ),
    "a named event of words": ("", "event: error\ndata: no such thing\n\n"),
    "a named event around an error": ("", event({"type": "error", "error": {"message": "no such thing"}}, "error")),
    "a named event with a message": ("", event({"message": "no such thing"}, "error")),
    "a bare JSON line": (
        "https://github.com/googleapis/js-genai/issues/1973",
        '{"error":{"message":"no such thing","code":"prohibited_content"}}\n\n',
    ),
    "a bare JSON line, pretty": ("", json.dumps({"error": {"message": "no such thing"}}, indent=2) + "\n\n"),
    "a bare JSON line at the end": ("", '{"error":{"message":"no such thing"}}'),
    "FastChat": (
        "https://github.com/lm-sys/FastChat/issues/3367",
        event({"text": "no such thing", "error_code": 50001}),
    ),
    "FastChat, line under line": (
        "https://github.com/kubeagi/arcadia/pull/674",
        delta(role="assistant").rstrip() + "\n" + event({"text": "no such thing", "error_code": 50001}),
    ),
    "MiniMax": (
        "https://github.com/infiniflow/ragflow/pull/17292",
        event({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no such thing"}}),
    ),
    "DashScope": ("", event({"code": "InvalidParameter", "message": "no such thing", "request_id": "r"})),
    "vLLM's first form": ("", event({"object": "error", "message": "no such thing", "code": 40303})),
    "a status": ("", event({"status": 500, "message": "no such thing"})),
    "FastAPI": ("", event({"detail": "no such thing"})),
    "a flag": ("", event({"success": False, "msg": "no such thing"})),
    "an error beside a message": ("", event({"error": True, "message": "no such thing"})),
    "OpenAI": ("", event({"error": {"message": "no such thing", "type": "server_error", "code": None}})),
    "OpenAI, a text": ("", event({"error": "no such thing"})),
    "an error of a choice": (
        "",
        event({"choices": [{"index": 0, "delta": {}, "error": {"message": "no such thing"}}]}),
    ),
}


@pytest.mark.parametrize("end", [DONE, ""], ids=["DONE", "no end"])
@pytest.mark.parametrize("before", ["", delta("Hel")], ids=["first", "in mid-answer"])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_an_error_in_the_servers_words_and_what_came_is_kept_and_nothing_is_sent_again(
    name, before, end, session
):
    session.settings.max_retries = 2
    source, data = FAILURES[name]
    if end and not data.endswith("\n\n"):
        data += "\n\n"
    for outcome in outcomes(Report(name, source, (before + data + end,))):
        assert type(outcome.error) is StreamError, outcome.way
        assert outcome.error.message.endswith("an error: no such thing.")
        assert outcome.text == ("Hel" if before else "")
        assert ("kept" in outcome.error.hint) == bool(before)
        assert outcome.requests == 1


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("hold", [(), (FOR_EVER,)], ids=["ended", "held open"])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no such thing"}},
        {"code": 400, "message": "no such thing"},
        {"text": "no such thing", "error_code": 50001},
        {"choices": None, "base_resp": {"status_code": 1008, "status_msg": "no such thing"}},
        [{"error": {"code": 400, "message": "no such thing"}}],
    ],
)
def test_so_is_a_reply_of_200_with_such_json(body, hold, framing):
    report = Report("JSON", "", (json.dumps(body, indent=1), *hold), headers=JSON, framing=framing)
    for outcome in outcomes(report, ("stream", "%%together")):
        assert type(outcome.error) is StreamError
        assert outcome.error.message.endswith("an error: no such thing.")
        assert "kept" not in outcome.error.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"error_code": 0},
        {"error": None},
        {"error": ""},
        {"error": {}},
        {"error": {"code": 0, "message": ""}},
        {"error": {"code": None, "message": None}},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"code": 0, "message": "ok"},
        {"code": 200, "msg": "success"},
        {"status_code": 0},
        {"code": None},
    ],
)
def test_a_code_of_nothing_is_no_failure(fields):
    chunk = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]} | fields
    report = Report("no failure", "", (event(chunk) + event({"choices": []} | fields) + event(fields) + STOP + DONE,))
    for outcome in outcomes(report):
        assert (outcome.error, outcome.text, outcome.finish_reason) == (None, "Hi", "stop")


@pytest.mark.parametrize("payload", [{"message": "still at work"}, {"status": "queued", "message": "2 before you"}])
def test_a_message_without_the_mark_of_an_error_is_none(payload):
    for outcome in outcomes(Report("news", "", (event(payload) + delta("Hi") + STOP + DONE,)), ("complete",)):
        assert (outcome.error, outcome.text) == (None, "Hi")


# Time-outs and the end

ENDS = {
    "heartbeats after the finish reason": (
        "https://github.com/maximhq/bifrost/issues/6784",
        (delta("Hi"), STOP, *COMMENTS),
    ),
    "held after the terminator": (
        "https://github.com/openai/openai-node/pull/2317",
        (delta("Hi"), STOP, DONE, FOR_EVER),
    ),
    "comments after the terminator": ("", (delta("Hi"), STOP, DONE, *COMMENTS)),
    "silence after the finish reason": ("", (delta("Hi"), STOP, FOR_EVER)),
    "empty events after the finish reason": ("", (delta("Hi"), STOP, *((event({}), 0.05) * 1000))),
    "the usage, and silence": ("", (delta("Hi"), STOP, event({"choices": [], "usage": USAGE}), FOR_EVER)),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ENDS)
def test_an_answer_is_over_after_its_end_whatever_else_comes(name, framing):
    source, parts = ENDS[name]
    for outcome in outcomes(Report(name, source, parts, framing=framing), one_way(framing)):
        assert (outcome.error, outcome.text, outcome.finish_reason) == (None, "Hi", "stop")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_finish_reason_on_each_chunk_ends_nothing_early(framing, monkeypatch):
    """https://github.com/open-webui/open-webui/issues/16377."""
    monkeypatch.setattr(attempts, "_END_SECONDS", 1.0)
    parts = tuple(part for text in "abcdef" for part in (delta(text, finish="stop"), 0.25))
    for outcome in outcomes(Report("early reasons", "", (*parts, FOR_EVER), framing=framing), one_way(framing)):
        assert (outcome.error, outcome.text, outcome.finish_reason) == (None, "abcdef", "stop")


def test_with_such_reasons_a_connection_that_breaks_is_a_loss(session):
    def script(exchange):
        exchange.chunked().send((delta("a", finish="stop") + delta("b", finish="stop")).encode())
        exchange.cut(reset=True)

    from tests.servers import ScriptedServer

    with ScriptedServer(script) as server, pytest.raises(ConnectionLostError) as caught:
        together_nb.complete("Hi", api="chat", model="m", base_url=server.base_url)
    assert caught.value.completion.text == "ab"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_silence_in_mid_answer_is_limited(framing, session):
    """https://github.com/MiniMax-AI/MiniMax-M2/issues/109."""
    session.settings.silence_timeout = 0.3
    for outcome in outcomes(Report("silence", "", (delta("Hi"), FOR_EVER), framing=framing)):
        assert (type(outcome.error), outcome.text) == (ConnectionLostError, "Hi")
        assert "was silent for 0.3 s in mid-answer" in outcome.error.message


@pytest.mark.parametrize("framing", FRAMINGS)
def test_comments_in_mid_answer_are_life(framing, session):
    session.settings.silence_timeout = 1.0
    rest = (*((PING, 0.1) * 14), delta("!"), STOP, DONE)  # 1.4 s without a word
    for outcome in outcomes(Report("slow", "", (delta("Hi"), *rest), framing=framing), ("complete",)):
        assert (outcome.error, outcome.text) == (None, "Hi!")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_but_no_longer_than_the_timeout(framing, session):
    """https://github.com/anomalyco/opencode/issues/43519."""
    session.settings.silence_timeout = session.settings.timeout = 0.8
    for outcome in outcomes(Report("comments", "", (delta("Hi"), *COMMENTS), framing=framing), one_way(framing)):
        assert (type(outcome.error), outcome.text) == (ConnectionLostError, "Hi")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_before_the_first_token_comments_are_life(framing, session):
    """https://github.com/youssofal/MTPLX/issues/358."""
    session.settings.timeout = 1.0
    late = (*((PING, 0.1) * 14), delta("Hi"), STOP, DONE)  # after 1.4 s
    for outcome in outcomes(Report("late", "", late, framing=framing), ("complete",)):
        assert (outcome.error, outcome.text) == (None, "Hi")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_but_no_longer_than_three_times_the_timeout(framing, session):
    session.settings.timeout = 0.5
    for parts in ((PING, FOR_EVER), COMMENTS):
        for outcome in outcomes(Report("never", "", parts, framing=framing), one_way(framing)):
            assert (type(outcome.error), outcome.text) == (APITimeoutError, "")


# A whole message after its parts

WHOLE = {"role": "assistant", "content": "Hello world", "reasoning_content": "Hm", "refusal": None}


@pytest.mark.parametrize(
    "beside", [{}, {"delta": {}}, {"delta": None}, {"delta": {"role": "assistant", "content": ""}}]
)
@pytest.mark.parametrize(
    "message", [WHOLE, {**WHOLE, "content": "Hello world "}, {"content": "<think>Hm</think>\nHello world"}]
)
def test_a_whole_message_after_its_parts_is_not_added_again_and_what_is_new_in_it_is_read(message, beside):
    """https://github.com/ENTERPILOT/GoModel/pull/1068."""
    choice = {"index": 0, "message": message, "finish_reason": "stop"} | beside
    last = event({"object": "chat.completion", "choices": [choice], "usage": USAGE})
    parts = delta(reasoning_content="Hm") + delta("Hello") + delta(" world")
    for outcome in outcomes(Report("whole", "", (parts + last + DONE,))):
        assert (outcome.error, outcome.text.rstrip(), outcome.reasoning) == (None, "Hello world", "Hm")
        assert (outcome.finish_reason, outcome.usage.completion_tokens) == ("stop", 19)


def test_a_message_that_grows_beside_its_parts_is_not_read(session):
    """Perplexity: https://github.com/open-webui/open-webui/issues/9927."""
    texts = ["Hel", "Hello", "Hello world"]
    parts = [
        event(
            {"choices": [{"index": 0, "delta": {"content": new}, "message": {"content": text}, "finish_reason": None}]}
        )
        for new, text in zip(["Hel", "lo", " world"], texts, strict=True)
    ]
    for outcome in outcomes(Report("grows", "", ("".join(parts) + STOP + DONE,))):
        assert outcome.text == "Hello world"


def test_what_parts_left_out_of_a_whole_message_is_added():
    whole = {"choices": [{"index": 0, "message": {"content": "Hello world"}, "finish_reason": "stop"}]}
    for outcome in outcomes(Report("more", "", (delta("Hello") + event(whole) + DONE,)), ("stream",)):
        assert outcome.text == "Hello world"
    report = Report("no parts", "", (delta(role="assistant", content="") + event(whole) + DONE,))
    for outcome in outcomes(report, ("stream",)):
        assert outcome.text == "Hello world"


# What would be lost


def test_a_refusal_is_kept_shown_and_marked():
    """https://github.com/langchain-ai/langchain/issues/39746."""
    parts = delta(role="assistant", content=None, refusal="") + delta(refusal="I can't") + delta(refusal=" do that.")
    for outcome in outcomes(Report("refusal", "", (parts + STOP + DONE,))):
        assert (outcome.error, outcome.text, outcome.refusal) == (None, "", "I can't do that.")
        assert outcome.completion.ending == "the model refused"
        assert "Refusal: I can't do that." in outcome.completion.bundle()["text/plain"]
        if outcome.way == "%%together":
            assert "Refusal: I can't do that.\n" in outcome.shown
            assert "the model refused" in outcome.shown


THINKING = {
    "reasoning": ("", delta(reasoning="We")),
    "reasoning_content": ("", delta(reasoning_content="We")),
    "reasoning_content, an object": ("", delta(reasoning_content={"text": "We"})),
    "reasoning_text": ("", delta(reasoning_text="We")),
    "reasoning_details": (
        "https://github.com/Significant-Gravitas/AutoGPT/pull/12870",
        delta("", reasoning_details=[{"type": "reasoning.text", "text": "We", "index": 0}]),
    ),
    "reasoning_details, a summary": ("", delta("", reasoning_details=[{"type": "reasoning.summary", "summary": "We"}])),
    "reasoning beside its details": ("", delta("", reasoning="We", reasoning_details=[{"text": "We"}])),
    "encrypted details": (
        "",
        delta("", reasoning="We", reasoning_details=[{"type": "reasoning.encrypted", "data": "x"}]),
    ),
    "Mistral's parts": (
        "https://github.com/BerriAI/litellm/issues/16272",
        event({"choices": [{"index": 0, "delta": {"content": [{"type": "thinking", "thinking": [{"text": "We"}]}]}}]}),
    ),
    "a part of text": (
        "",
        event({"choices": [{"index": 0, "delta": {"content": [{"type": "thinking", "thinking": "We"}]}}]}),
    ),
    "thinking": ("", delta(thinking="We")),
    "a tag": ("https://github.com/deepseek-ai/DeepSeek-R1/issues/381", delta("<think>We</think>\n\n")),
}


@pytest.mark.parametrize("name", THINKING)
def test_thinking_is_read_from_any_shape(name):
    source, thinking = THINKING[name]
    parts = event({"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": "o"}]}}]}) + delta("k")
    for outcome in outcomes(Report(name, source, (thinking + parts + STOP + DONE,))):
        assert (outcome.error, outcome.text, outcome.reasoning) == (None, "ok", "We")


def test_an_emojis_halves_are_joined_for_each_choice():
    """https://github.com/elizaOS/eliza/issues/30904."""
    halves = [
        (0, "Hi \ud83d"),
        (1, "\ud83d"),
        (0, "\ude00!"),
        (1, "\ude80"),
        (1, "\ud83d"),  # the other half never comes
    ]
    parts = (
        "".join(delta(text, index) for index, text in halves) + delta(reasoning="\ud83d") + delta(reasoning="\ude00")
    )
    ends = delta(index=0, finish="stop") + delta(index=1, finish="stop")
    report = Report("halves", "", (parts + ends + DONE,), options={"n": 2})
    for outcome in outcomes(report, ("stream", "complete")):
        assert [choice.text for choice in outcome.choices] == ["Hi 😀!", "🚀\ufffd"]
        assert outcome.reasoning == "😀"


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("newline", ["", "\n", "\r\n"])
def test_the_last_event_needs_no_blank_line(newline, framing):
    """https://github.com/anomalyco/opencode/issues/40454."""
    choice = {"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}
    last = "data: " + json.dumps({"choices": [choice], "usage": USAGE}) + newline
    for outcome in outcomes(Report("no blank line", "", (delta("Hi"), last), framing=framing)):
        assert (outcome.error, outcome.text, outcome.finish_reason) == (None, "Hi!", "stop")
        assert outcome.usage.completion_tokens == 19


def test_the_last_event_counts_only_if_its_json_is_whole_and_the_body_ended_in_good_order():
    last = "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "!"}, "finish_reason": "stop"}]})
    for outcome in outcomes(Report("cut", "", (delta("Hi"), last[:-3])), ("complete",)):
        assert (type(outcome.error), outcome.text) == (ConnectionLostError, "Hi")

    def script(exchange):
        exchange.chunked().send((delta("Hi") + last).encode())
        exchange.cut()

    from tests.servers import ScriptedServer

    with ScriptedServer(script) as server, pytest.raises(ConnectionLostError) as caught:
        together_nb.complete("Hi", api="chat", model="m", base_url=server.base_url)
    assert caught.value.completion.text == "Hi"


def call(number, identifier=None, name=None, arguments=None):
    return {"index": number, "id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


CALLS = {
    "OpenAI": (
        "",
        delta(role="assistant", content=None, tool_calls=[call(0, "a", "get_weather", "")])
        + delta(tool_calls=[call(0, None, None, '{"city":')])
        + delta(tool_calls=[call(0, None, None, '"Oslo"}'), call(1, "b", "get_time", '{"city":"Rome"}')]),
    ),
    "all numbered 0": (
        "https://github.com/su-kaka/gcli2api/pull/406",
        delta(tool_calls=[call(0, "a", "get_weather", '{"city":"Oslo"}')])
        + delta(tool_calls=[call(0, "b", "get_time", '{"city":"Rome"}')]),
    ),
    "the id and the name in each piece": (
        "",
        delta(tool_calls=[call(0, "a", "get_weather", '{"city":')])
        + delta(tool_calls=[call(0, "a", "get_weather", '"Oslo"}')])
        + delta(tool_calls=[call(1, "b", "get_time", {"city": "Rome"})]).replace('"city": ', '"city":'),
    ),
    "a whole message": (
        "",
        event(
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "content": None,
                            "tool_calls": [
                                call(0, "a", "get_weather", '{"city":"Oslo"}'),
                                call(1, "b", "get_time", '{"city":"Rome"}'),
                            ],
                        },
                    }
                ]
            }
        ),
    ),
}


@pytest.mark.parametrize("end", [delta(finish="tool_calls") + DONE, DONE], ids=["a reason", "no reason"])
@pytest.mark.parametrize("name", CALLS)
def test_tool_calls_are_kept_and_shown_in_a_line_each(name, end):
    source, parts = CALLS[name]
    for outcome in outcomes(Report(name, source, (parts + end,))):
        assert (outcome.error, outcome.text) == (None, "")
        found = [(one["id"], one["function"]["name"], one["function"]["arguments"]) for one in outcome.tool_calls]
        *_, (_, _, second) = found
        assert found == [("a", "get_weather", '{"city":"Oslo"}'), ("b", "get_time", second)]
        assert json.loads(second) == {"city": "Rome"}
        lines = outcome.completion.bundle()["text/plain"].split("\n")
        assert 'Tool call: get_weather({"city":"Oslo"})' in lines
        if outcome.way == "%%together":
            assert 'Tool call: get_weather({"city":"Oslo"})\n' in outcome.shown


def test_a_call_of_a_function_in_its_first_form_is_a_tool_call():
    first = {"name": "f", "arguments": "{"}
    parts = delta(function_call=first) + delta(function_call={"arguments": "}"}) + delta(finish="function_call")
    for outcome in outcomes(Report("function_call", "", (parts + DONE,)), ("complete",)):
        assert [one["function"] for one in outcome.tool_calls] == [{"name": "f", "arguments": "{}"}]


def test_what_is_kept_beside_the_text_is_saved_and_read_again():
    parts = delta(refusal="No.") + delta(tool_calls=[call(0, "a", "f", "{}")]) + STOP + DONE
    for outcome in outcomes(Report("beside", "", (parts,)), ("complete",)):
        again = together_nb.Completion.from_dict(json.loads(json.dumps(outcome.completion.to_dict())))
        assert (again.refusal, again.tool_calls) == (outcome.refusal, outcome.tool_calls)
        assert again == outcome.completion


# <think>

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TAGGED = {
    "whole": ("<think>Let me see {x}.</think>\n\n", '{"a": 1}'),
    "split": ("<", "thi", "nk", ">Let me see", " {x}.", "\n<", "/think", ">", "\n", "\n", '{"a"', ": 1}"),
    "letter by letter": tuple('<think>Let me see {x}.</think>\n{"a": 1}'),
    "after white space": ("\n", " <think>\n", 'Let me see {x}.\n</think>{"a": 1}'),
}


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("name", TAGGED)
def test_a_think_block_at_the_start_is_thinking(name, api):
    """https://github.com/deepseek-ai/DeepSeek-R1/issues/381."""
    parts = [
        event({"choices": [{"index": 0, "text": one}]}) if api == "completions" else delta(one) for one in TAGGED[name]
    ]
    options = {"api": api} | ({"schema": SCHEMA} if api == "chat" else {})
    for outcome in outcomes(Report(name, "", ("".join(parts) + STOP + DONE,), options=options)):
        assert (outcome.error, outcome.text, outcome.reasoning) == (None, '{"a": 1}', "Let me see {x}.")
        assert outcome.parsed == ({"a": 1} if api == "chat" else None)
        assert "think>" not in outcome.shown


@pytest.mark.parametrize(
    ("text", "answer", "thinking"),
    [
        ("<think>Let me see", "", "Let me see"),  # https://github.com/bytedance/deer-flow/pull/3218
        ("<think>a < b </thi", "", "a < b </thi"),
        ("<think>\n\n</think>\n\nHi", "Hi", ""),  # Qwen, told not to think
        ("<think></think>Hi", "Hi", ""),
        ("<thin", "<thin", ""),
        ("<thinner> is a tag", "<thinner> is a tag", ""),
        ("The tag <think>x</think> is", "The tag <think>x</think> is", ""),
        ("<think>a</think>The tag <think>x</think>", "The tag <think>x</think>", "a"),
        ("`<think>` is a tag", "`<think>` is a tag", ""),
        ("Hm.</think> Hi", "Hm.</think> Hi", ""),
        (" \n", " \n", ""),
        ("  Hi", "  Hi", ""),
    ],
)
def test_other_texts_with_the_tag_are_left_alone_and_nothing_is_lost(text, answer, thinking):
    for pieces in ([text], list(text)):
        parts = "".join(map(delta, pieces))
        for outcome in outcomes(Report("tag", "", (parts + STOP + DONE,)), ("stream",)):
            assert (outcome.error, outcome.text, outcome.reasoning) == (None, answer, thinking)


def test_the_thinking_is_not_sent_along(session):
    """Nor is it part of what a conversation shows."""
    from tests.servers import ScriptedServer

    report = Report("tag", "", (delta("<think>Hm</think>Hi") + STOP + DONE,))
    with ScriptedServer(report.script) as server:
        talk = together_nb.Conversation()
        for _ in range(2):
            together_nb.complete("Hello", chat=talk, base_url=server.base_url, model="m")
        messages = server.requests[-1].json()["messages"]
    assert [one["content"] for one in messages] == ["Hello", "Hi", "Hello"]


def test_an_echoed_prompt_is_not_taken_for_thinking():
    parts = event({"choices": [{"index": 0, "text": "<think>"}]}) + event({"choices": [{"index": 0, "text": "Hm"}]})
    report = Report("echo", "", (parts + STOP + DONE,), options={"api": "completions", "echo": True})
    for outcome in outcomes(report, ("complete",)):
        assert (outcome.text, outcome.reasoning) == ("<think>Hm", "")


def test_tokens_are_those_of_the_text():
    def token(text):
        rows = {"content": [{"token": text, "logprob": -1.0, "top_logprobs": []}]}
        return event({"choices": [{"index": 0, "delta": {"content": text}, "logprobs": rows}]})

    tagged = "".join(map(token, ["<", "think", ">", "Hm", "</think>", "\n\n", "Hi", "!"]))
    for texts, want in ((tagged, ["Hi", "!"]), ("".join(map(token, ["\n", "<", "b", ">"])), ["\n", "<", "b", ">"])):
        report = Report("tokens", "", (texts + STOP + DONE,), options={"logprobs": 0})
        for outcome in outcomes(report, ("stream", "complete")):
            assert [one.text for one in outcome.tokens] == want
            assert outcome.text == "".join(want)


# Events that are none of the answer

NOISE = {
    "a named ping": (
        "https://github.com/lanqian528/chat2api/pull/25",
        "event: ping\ndata: 2024-04-27 01:35:43.686476\n\n",
    ),
    "a named ping of JSON": ("", event({"type": "ping", "code": 200, "message": "alive"}, "ping")),
    "a named event of words": ("", "event: info\ndata: queued\n\n"),
    "a comment as data": ("https://github.com/mnfst/llm-gateway/issues/2053", "data: : OPENROUTER PROCESSING\n\n"),
    "data of nothing": (
        "https://github.com/openai/openai-python/issues/3833",
        "data:\n\ndata: \n\nretry: 1000\n\nid: 7\n\n",
    ),
    "null": ("", "data: null\n\n"),
    "an empty object": ("", "data: {}\n\n"),
    "an empty text": ("", 'data: ""\n\n'),
    "a ping as data": ("", "data: ping\n\ndata: [heartbeat]\n\ndata: keep-alive\n\n"),
    "data in data": ("", "data: " + delta("")),
    "an empty error": ("", "error:\n\nerror: null\n\n"),
}


@pytest.mark.parametrize("name", NOISE)
def test_an_event_that_is_none_of_the_answer_is_skipped(name):
    source, noise = NOISE[name]
    parts = (noise, delta("H"), noise * 2, delta("i"), noise, STOP, noise, DONE)
    for outcome in outcomes(Report(name, source, parts)):
        assert (outcome.error, outcome.text, outcome.finish_reason) == (None, "Hi", "stop")


@pytest.mark.parametrize(
    "end", ["data: DONE\n\n", 'data: "[DONE]"\n\n', "data: [done]\n\n", "data: DONE", "data: data: [DONE]\n\n"]
)
def test_the_terminator_has_other_spellings(end):
    """https://github.com/googleapis/java-genai/issues/1084."""
    for outcome in outcomes(Report("DONE", "", (delta("Hi") + STOP, end))):
        assert (outcome.error, outcome.text, outcome.finish_reason) == (None, "Hi", "stop")


@pytest.mark.parametrize("control", ["\x1b", "\x00", "\x07", "\x0b", "\x1c", "\t", "\x7f", "\u2028", "\n", "\r\n"])
def test_control_characters_in_a_string_are_read_as_they_are(control):
    """https://github.com/earendil-works/pi/pull/4446."""
    raw = delta("b!c").replace("!", control)
    for outcome in outcomes(Report("control", "", (delta("a") + raw + delta("d") + STOP + DONE,))):
        assert (outcome.error, outcome.text) == (None, f"ab{control}cd".replace("\r\n", "\n"))


@pytest.mark.parametrize(
    "garbage",
    ["data: oops\n\n", 'data: {"choices": [{\n\n', "data: [1, 2]\n\n", "data: 7\n\n", 'data: {"choices": 5}\n\n'],
)
def test_garbage_in_mid_answer_still_ends_it_with_what_came(garbage):
    for outcome in outcomes(Report("garbage", "", (delta("Hi") + garbage + delta("!") + STOP + DONE,))):
        assert (type(outcome.error), outcome.text) == (StreamError, "Hi")
        assert "kept" in outcome.error.hint
    for outcome in outcomes(Report("garbage", "", (garbage + delta("!") + STOP + DONE,)), ("complete",)):
        assert (type(outcome.error), outcome.text) == (StreamError, "")
        assert "kept" not in str(outcome.error)


# Replies that are no streams


def test_json_lines_are_named_and_do_not_run_on():
    """Ollama's own API, at another address than the one for streams of events."""
    line = json.dumps({"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False}) + "\n"
    for outcome in outcomes(
        Report("JSON lines", "", (line, 0.01, line, FOR_EVER), headers={"content_type": "application/x-ndjson"})
    ):
        assert type(outcome.error) is APIResponseError
        assert "JSON lines" in outcome.error.message
        assert "kept" not in str(outcome.error)


def test_a_line_of_json_before_a_stream_is_no_reply_of_its_own():
    parts = '{"status": "queued"}\n\n' + delta("Hi") + STOP + DONE
    for outcome in outcomes(Report("a line first", "", (parts,))):
        assert (outcome.error, outcome.text) == (None, "Hi")


def test_a_stream_that_ends_without_a_word_keeps_nothing():
    for parts in ((DONE,), (PING,), ("data: {",), (delta(role="assistant"),)):
        for outcome in outcomes(Report("nothing", "", parts), ("complete",)):
            assert "kept" not in str(outcome.error)


@pytest.mark.parametrize("before", ["", delta("Hel")], ids=["first", "in mid-answer"])
@pytest.mark.parametrize(
    "told",
    [
        'error: {"code":500,"message":"Context size has been exceeded.","type":"server_error"}\n\n',
        event({"error": {"message": "Too much.", "code": "context_length_exceeded"}}),
        event({"text": "This model's maximum context length is 4096 tokens.", "error_code": 40303}),
    ],
    ids=["llama.cpp", "OpenAI", "FastChat"],
)
def test_a_context_that_is_full_is_one_in_a_stream_too(told, before):
    for outcome in outcomes(Report("overflow", "", (before + told + DONE,))):
        assert isinstance(outcome.error, StreamError)
        assert isinstance(outcome.error, ContextLengthError)
        assert "Shorten the prompt" in outcome.error.hint
        assert outcome.text == ("Hel" if before else "")


# What sceptics tried


def test_the_rest_of_a_text_may_begin_with_the_tag(session):
    from tests.servers import ScriptedServer

    parts = iter([delta("The tag is ", finish="length"), delta("<think> and ends with </think>.") + STOP])
    for api in ("chat", "completions"):
        parts = iter(["The tag is ", "<think> and ends with </think>."])

        def script(exchange, parts=parts, api=api):
            text = next(parts)
            choice = {"index": 0, "finish_reason": "length" if text.startswith("The") else "stop"}
            choice |= {"delta": {"content": text}} if api == "chat" else {"text": text}
            exchange.chunked().send((event({"choices": [choice]}) + DONE).encode())

        with ScriptedServer(script) as server:
            first = together_nb.complete("Hi", api=api, base_url=server.base_url, model="m")
            whole = together_nb.continue_from(first)
        assert (whole.text, whole.reasoning) == ("The tag is <think> and ends with </think>.", "")


NAMED = {"index": 0, "function": {"name": "f", "arguments": '{"a": 1}'}}
TWO_CALLS = {
    "neither number nor id": [[{"function": {"name": "f", "arguments": "{}"}}, {"function": {"name": "g", "arguments": "{}"}}]],
    "numbered 0, no id": [[{"index": 0, "function": {"name": "f", "arguments": "{}"}}], [{"index": 0, "function": {"name": "g", "arguments": "{}"}}]],
    "the same function twice": [[{"index": 0, "function": {"name": "f", "arguments": "{}"}}], [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]],
    "ids in turn": [
        [{"id": "a", "function": {"name": "f", "arguments": "{"}}],
        [{"id": "b", "function": {"name": "g", "arguments": "{"}}],
        [{"id": "a", "function": {"arguments": "}"}}],
        [{"id": "b", "function": {"arguments": "}"}}],
    ],
    "a name that grows": [
        [{"index": 0, "id": "a", "function": {"name": "f_"}}, {"index": 1, "id": "b", "function": {"name": "g"}}],
        [{"index": 0, "function": {"name": "f_1", "arguments": {}}}, {"index": 1, "function": {"arguments": {}}}],
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", TWO_CALLS)
def test_two_calls_are_two_however_they_are_numbered(name):
    parts = "".join(delta(tool_calls=calls) for calls in TWO_CALLS[name]) + delta(finish="tool_calls") + DONE
    whole = event({"choices": [{"index": 0, "message": {"tool_calls": [call(0, "a", "f", "{}")]}}]})
    for after in ("", whole):
        for outcome in outcomes(Report(name, "", (parts.replace(DONE, after + DONE),)), ("complete",)):
            assert len(outcome.tool_calls) == 2
            assert {one["function"]["arguments"] for one in outcome.tool_calls} == {"{}"}
            assert outcome.tool_calls[0]["function"]["name"] in ("f", "f_1")


@pytest.mark.parametrize("line", ['{"error":{"message":"no such thing"}}\n', 'error: {"message":"no such thing"}\n'])
def test_an_error_that_lacks_its_blank_line_is_told_when_the_wait_ends(line, session):
    session.settings.silence_timeout = 0.3
    for outcome in outcomes(Report("held", "", (delta("Hel") + line, FOR_EVER)), ("complete",)):
        assert (type(outcome.error), outcome.text) == (StreamError, "Hel")
        assert outcome.error.message.endswith("an error: no such thing.")


@pytest.mark.parametrize("before", ["", delta("Hel")], ids=["first", "in mid-answer"])
@pytest.mark.parametrize(
    "told",
    [
        '[{"error": {"code": 400, "message": "no such thing"}}]\n\n',
        'data: [{"error": {"code": 400, "message": "no such thing"}}]\n\n',
        event({"choices": [], "error_message": "no such thing"}),
        event({"errno": 5, "errmsg": "no such thing"}),
        event({"ret_code": 1001, "err_msg": "no such thing"}),
        event({"err": {"message": "no such thing"}}),
        event({"header": {"code": 10013, "message": "no such thing"}}),
        event({"message": "no such thing"}, "exception"),
        event({"output": {"error": "no such thing"}}),
        event({"type": "status_error", "message": "no such thing"}),
    ],
)
def test_so_are_failures_of_other_servers(told, before):
    for outcome in outcomes(Report("failure", "", (before + told + DONE,)), ("complete",)):
        assert type(outcome.error) is StreamError
        assert outcome.error.message.endswith("an error: no such thing.")
        assert outcome.text == ("Hel" if before else "")


def test_a_failure_beside_a_piece_of_the_answer_keeps_the_piece():
    body = {"choices": [{"index": 0, "message": {"content": "Hel"}}], "error": {"message": "no such thing"}}
    for parts in ((event(body) + DONE,), (json.dumps(body),)):
        for outcome in outcomes(Report("beside", "", parts), ("complete",)):
            assert (type(outcome.error), outcome.text) == (StreamError, "Hel")


@pytest.mark.parametrize(
    "news",
    [
        event({"code": 202, "message": "Accepted, queued"}),
        event({"status_code": 201, "message": "created"}),
        event({"type": "warning", "code": "deprecated_model", "message": "soon"}),
        event({"code": "QUEUED", "message": "position 3"}, "status"),
    ],
)
def test_news_are_no_failure(news):
    for outcome in outcomes(Report("news", "", (news + delta("Hi") + news + STOP + DONE,)), ("complete",)):
        assert (outcome.error, outcome.text) == (None, "Hi")


@pytest.mark.parametrize("words", ["Internal Server Error", "upstream connect error\n\n"])
def test_words_that_are_no_event_are_shown(words):
    for outcome in outcomes(Report("words", "", (words,), headers={"content_type": "text/plain"}), ("complete",)):
        assert type(outcome.error) is APIResponseError
        assert words.strip() in outcome.error.message


@pytest.mark.parametrize(
    "content", ["log:\nerror: boom\nend", "log:\nevent: error\nend", "a\ndata: b", "a\n{b", "a\r\nb"]
)
def test_lines_of_a_text_are_no_fields(content):
    raw = delta("b!c").replace("!", content)
    for outcome in outcomes(Report("lines", "", (raw + STOP + DONE,)), ("complete",)):
        assert (outcome.error, outcome.text) == (None, f"b{content}c".replace("\r\n", "\n"))


@pytest.mark.parametrize(
    ("parts", "whole", "text", "reasoning"),
    [
        (["<"], "<b>", "<b>", ""),
        (["\n"], "\nHello", "\nHello", ""),
        (["x\ud83d"], "x😀", "x😀", ""),
        (["<think>Hm"], "<think>Hm</think>Hello", "Hello", "Hm"),
        (["<think>Hm</think>\n"], "Hello", "Hello", "Hm"),
    ],
)
def test_a_whole_message_meets_what_was_held_back(parts, whole, text, reasoning):
    last = event({"choices": [{"index": 0, "message": {"content": whole}, "finish_reason": "stop"}]})
    for outcome in outcomes(Report("held", "", ("".join(map(delta, parts)) + last + DONE,)), ("stream",)):
        assert (outcome.error, outcome.text, outcome.reasoning) == (None, text, reasoning)


@pytest.mark.parametrize(
    ("contents", "text"),
    [(["Hello", "Hello"], "Hello"), (["Hel", "Hello", "Hello you"], "Hello you"), (["Hel", "lo"], "Hello")],
)
def test_messages_without_parts_are_read_once_each(contents, text):
    parts = [event({"choices": [{"index": 0, "message": {"content": one}}]}) for one in contents]
    for outcome in outcomes(Report("messages", "", ("".join(parts) + STOP + DONE,)), ("stream",)):
        assert outcome.text == text


@pytest.mark.parametrize(
    "rest", [(0.6, delta("Hi")), ("id: 1\n" + delta("Hi"),), ("da", 0.05, "ta: " + delta("Hi")[6:])]
)
def test_a_line_of_json_first_is_waited_out(rest):
    parts = ('{"status": "queued"}\n\n', *rest, STOP + DONE)
    for outcome in outcomes(Report("first", "", parts), ("complete",)):
        assert (outcome.error, outcome.text) == (None, "Hi")


def test_json_that_breaks_off_is_no_web_page():
    def script(exchange):
        exchange.headers(content_length=500, content_type="application/json").send(b'{"choices": [')
        exchange.cut()

    from tests.servers import ScriptedServer

    with ScriptedServer(script) as server, pytest.raises(TogetherError) as caught:
        together_nb.complete("Hi", api="chat", model="m", base_url=server.base_url)
    assert "web page" not in str(caught.value)


def test_a_role_and_then_silence_is_no_lost_answer(session):
    session.settings.timeout = 0.4
    for outcome in outcomes(Report("role", "", (delta(role="assistant"), FOR_EVER)), ("complete",)):
        assert type(outcome.error) is APITimeoutError


def test_a_loss_says_once_what_is_kept():
    for outcome in outcomes(Report("loss", "", (delta("Hel"),)), ("complete",)):
        assert str(outcome.error).count("kept") == 1


def test_a_refusal_after_a_text_stands_apart_and_is_sent_along():
    parts = delta("Hi") + delta(refusal="No.") + STOP + DONE
    for outcome in outcomes(Report("after", "", (parts,)), ("%%together",)):
        assert "Hi\n\nRefusal: No.\n" in outcome.shown


def test_thinking_that_ends_first_is_no_end(monkeypatch):
    monkeypatch.setattr(attempts, "_END_SECONDS", 1.0)
    parts = (delta(reasoning_content="Hm", finish="stop"), 1.3, delta("Hi"), delta("!", finish="stop"), DONE)
    for outcome in outcomes(Report("early", "", parts), ("complete",)):
        assert (outcome.text, outcome.reasoning) == ("Hi!", "Hm")
