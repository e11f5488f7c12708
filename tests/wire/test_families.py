"""Families of servers: how each is recognised, what it is sent, and what is told of it."""

from __future__ import annotations

import json
import logging
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

import together_nb
from tests.declared import good
from tests.magic.test_magics import ipython
from tests.servers import PATIENCE, USAGE, ScriptedServer, answers, replies
from tests.strict import FIRST, OPENAI_LIST, VLLM_LIST, WORDS, openai, vllm
from together_nb.config.addresses import TOGETHER_HOSTS
from together_nb.errors import APIStatusError, ConnectionLostError, InputError, StreamError
from together_nb.values.chunk import Chunk, Token, Usage
from together_nb.values.families import FAMILIES, UNKNOWN, recognise_host, recognise_refusal, recognise_reply
from together_nb.values.likelihood import whole_characters
from together_nb.values.parameters import PARAMETERS
from together_nb.views.shaded_tokens import GrowingTokens

CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
PAIR = {"logprobs": True, "top_logprobs": 2}
PART = [{"role": "user", "content": "Count"}, {"role": "assistant", "content": "One, two, three, "}]
LLAMA_LIST = {"data": [{"id": "test/chat", "owned_by": "llamacpp", "meta": {"n_ctx": 4096}}]}
STRICT = {"openai": (openai, OPENAI_LIST), "vllm": (vllm, VLLM_LIST)}


def strict(family):
    script, listed = STRICT[family]
    return ScriptedServer(script, models=replies(200, listed))


def ask(server, prompt="Tell", **options):
    return together_nb.complete(prompt, **{"base_url": server.base_url, "model": "test/chat", "api": "chat", **options})


def sent(server):
    return [request.json() for request in server.requests]


def family_of(server, session):
    return session.client.families.get(server.base_url, UNKNOWN).family.name


# How one is recognised


@pytest.mark.parametrize(
    ("headers", "owners", "name"),
    [
        ({"Server": "llama.cpp"}, (), "llama.cpp"),
        ({"Server": "together_nb Python/3.11"}, (), "local"),
        ({"X-Litellm-Version": "1.108.7", "Server": "uvicorn"}, (), "litellm"),
        ({"Server": "uvicorn"}, {"vllm"}, "vllm"),
        ({}, {"llamacpp"}, "llama.cpp"),
        ({}, {"me"}, "llama-cpp-python"),
        ({}, {"library"}, "ollama"),
        ({"Server": "uvicorn"}, (), None),
        ({}, {"openai"}, None),
        ({}, {"vllm", "openai"}, None),  # a gateway in front of several
        ({}, (), None),
    ],
)
def test_a_reply_tells_the_family_by_its_headers_or_by_its_list(headers, owners, name):
    found = recognise_reply(headers, owners)
    assert (found and found.family.name) == name


def test_a_host_and_a_refusal_tell_the_family_too():
    assert {recognise_host(host).family.name for host in TOGETHER_HOSTS} == {"together"}
    assert recognise_host("api.openai.com").family.name == "openai"
    assert recognise_host("localhost") is None
    assert recognise_refusal("Unrecognized request argument supplied: top_k").family.name == "openai"
    assert recognise_refusal("Unexpected fields in the request: {'top_k'}").family.name == "transformers"
    assert recognise_refusal("no") is None


def test_what_families_say_of_parameters_is_of_parameters():
    for family in FAMILIES.values():
        named = {name.rpartition(".")[2] for name in family.ignores | family.refuses | set(family.names)}
        assert named <= {*PARAMETERS, "schema"}
        assert not family.ignores & family.refuses


@pytest.mark.parametrize(
    ("options", "lists"),
    [
        ({}, 0),
        ({"temperature": 0, "top_p": 0.5, "max_tokens": 3, "seed": 1, "stop": ["x"]}, 0),
        ({"logprobs": 2}, 1),
        ({"repetition_penalty": 1.1}, 1),
        ({"messages": PART}, 1),
        ({"api": "completions", "echo": True}, 1),
        ({"api": "inference", "echo": True, "logprobs": 2}, 0),
    ],
)
def test_the_list_is_requested_for_it_only_where_families_differ_and_once(session, options, lists):
    with ScriptedServer(answers(["a"]), models=replies(200, LLAMA_LIST)) as server:
        for _ in range(2):
            ask(server, "" if "messages" in options else "Tell", **options)
        assert server.lists == lists
        assert family_of(server, session) == ("llama.cpp" if lists else "openai-like")


def test_the_header_of_an_answer_tells_it_and_the_next_request_is_spelled_so(session):
    def script(exchange):
        exchange.chunked().headers(200, server="llama.cpp")
        exchange.text_events(["a"])
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    with ScriptedServer(script, models=None) as server:
        ask(server)
        assert family_of(server, session) == "llama.cpp"
        ask(server, repetition_penalty=1.5)
        assert server.lists == 0
    assert sent(server)[1]["repeat_penalty"] == 1.5
    assert "repetition_penalty" not in sent(server)[1]


@pytest.mark.parametrize("value", ["vllm", " VLLM ", "llama.cpp"])
def test_the_user_sets_the_family(session, value):
    session.settings.server_family = value
    with ScriptedServer(answers(["a"]), models=replies(200, LLAMA_LIST)) as server:
        ask(server, repetition_penalty=1.5, logprobs=2)
        assert server.lists == 0
    name = "repeat_penalty" if value == "llama.cpp" else "repetition_penalty"
    assert sent(server)[0][name] == 1.5
    session.settings.server_family = "auto"
    assert session.settings.server_family is None


def test_a_family_that_there_is_not_is_refused_with_the_nearest(session):
    with pytest.raises(InputError, match="no family of servers called 'vlm'") as caught:
        session.settings.server_family = "vlm"
    assert "vllm" in caught.value.hint


# What it is sent


def test_together_and_its_first_api_and_our_own_engine_are_sent_what_was_set_and_no_more():
    body = {"model": "m", "messages": PART, "logprobs": 2, "stream": True}
    for name in ("together", "local"):
        assert FAMILIES[name].spell(body, "chat") == body
    for family in FAMILIES.values():
        assert family.spell(body, "inference") == body


@pytest.mark.parametrize("name", FAMILIES)
def test_no_value_is_lost_or_changed_by_a_spelling(name):
    for parameter in PARAMETERS.values():
        for value in good(parameter):
            for api in ("chat", "completions"):
                body = FAMILIES[name].spell({parameter.name: value}, api)
                theirs = FAMILIES[name].names.get(parameter.name, parameter.name)
                if parameter.name == "logprobs":
                    theirs = "top_logprobs" if body["logprobs"] is True else "logprobs"
                    value = max(value, FAMILIES[name].least_logprobs)  # noqa: PLW2901
                assert body[theirs] == value


def test_what_the_user_sends_beside_is_not_replaced():
    mine = {"stream_options": {"include_usage": False}, "top_logprobs": 1, "logprobs": 5, "repeat_penalty": 2.0}
    body = FAMILIES["llama.cpp"].spell({**mine, "repetition_penalty": 1.5}, "chat")
    assert body == {**mine, "repetition_penalty": 1.5, "logprobs": True}
    assert FAMILIES["vllm"].spell({"messages": PART, "add_generation_prompt": True}, "chat")["add_generation_prompt"]


# The strict servers


@pytest.mark.parametrize("family", STRICT)
@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_strict_server_takes_what_it_is_sent_and_counts_and_tells_probabilities(family, api, session):
    with strict(family) as server:
        answer = ask(server, api=api, logprobs=2, max_tokens=3, temperature=0, stop="x", seed=1, n=2)
        assert [choice.text for choice in answer.choices] == ["One, two"] * 2
        assert answer.usage == Usage(5, 6, 11)
        assert [(token.text, token.logprob, len(token.top)) for token in answer.tokens] == [
            ("One", -0.5, 2), (",", -0.5, 2), (" two", -0.5, 2),
        ]  # fmt: skip
        assert len(server.requests) == 1
    row = session.ledger.rows[0]
    assert (row.calls, row.uncounted, row.prompt_tokens, row.completion_tokens, row.cost) == (1, 0, 5, 6, None)


@pytest.mark.parametrize("family", STRICT)
def test_a_strict_server_answers_a_conversation_a_schema_a_comparison_and_a_batch(family):
    with strict(family) as server:
        options = {"base_url": server.base_url, "model": "test/chat"}
        for turn in range(2):
            together_nb.complete("Go on", chat="talk", **options)
            assert len(together_nb.conversations["talk"]) == turn + 1
        together_nb.complete("Tell", schema={"type": "object", "properties": {}}, **options)
        assert len(together_nb.compare("Tell", temperature=[0, 1], show="none", **options)) == 2
        results = together_nb.map_prompts(["a", "b", "c"], progress=False, **options)
        assert (results.failed, results.usage, results.uncounted) == ([], Usage(15, 15, 30), 0)


@pytest.mark.parametrize(("family", "words", "note"), [("vllm", WORDS, False), ("openai", FIRST, True)])
def test_a_turn_is_continued_where_that_can_be_had_and_else_the_footer_says_that_one_was_begun(family, words, note):
    with strict(family) as server:
        first = ask(server, max_tokens=3)
        whole = together_nb.continue_from(first)
        assert whole.text == first.text + "".join(words[:3])
        assert ("a new turn was begun" in whole.footer()) == note
        assert ("a new turn was begun" in ask(server, "", messages=PART).footer()) == note
        assert "a new turn" not in first.footer()
    assert (sent(server)[1].items() >= CONTINUE.items()) == (not note)


def test_what_a_strict_server_refuses_is_told_once_it_is_known(session, caplog):
    with strict("openai") as server:
        with pytest.raises(APIStatusError, match="Unrecognized request argument supplied: top_k"):
            ask(server, top_k=3)
        assert family_of(server, session) == "openai"
        assert caplog.records == []
        with pytest.raises(APIStatusError):
            ask(server, top_k=3)
        assert [record.getMessage() for record in caplog.records] == [f"{server.base_url}: this server refuses `top_k`"]
        assert len(server.requests) == 2


# Refusals


def refuses(*fields, status=400, detail=False):
    """Refuses each of these fields, and else answers."""

    def script(exchange):
        body = exchange.request.json()
        named = [name for name in fields if name in body]
        if not named:
            answers(["Once"])(exchange)
        elif detail:  # FastAPI's
            rows = [
                {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not permitted"}
                for name in named
            ]
            replies(status, {"detail": rows})(exchange)
        else:
            replies(status, {"error": {"message": f"{named[0]} is not supported", "param": named[0]}})(exchange)

    return script


@pytest.mark.parametrize("script", [refuses("stream_options"), refuses("stream_options", status=422, detail=True)])
def test_a_server_that_refuses_the_request_for_a_count_is_asked_without_once_and_then_not_again(script, session):
    session.settings.max_retries = 4
    with ScriptedServer(script) as server:
        for _ in range(3):
            assert ask(server).text == "Once"
    assert ["stream_options" in body for body in sent(server)] == [True, False, False, False]
    assert session.ledger.rows[0].calls == 3


def test_so_is_each_server_by_itself_and_in_a_batch_and_a_comparison():
    with ScriptedServer(refuses("stream_options")) as server, ScriptedServer(answers(["a"])) as other:
        results = together_nb.map_prompts(
            ["a"] * 9, base_url=server.base_url, model="test/chat", max_workers=1, progress=False
        )
        assert results.failed == []
        assert sum("stream_options" in body for body in sent(server)) == 1
        together_nb.compare("a", temperature=[0, 1], show="none", base_url=server.base_url, model="test/chat")
        assert sum("stream_options" in body for body in sent(server)) == 1
        ask(other)
        assert sent(other)[0].items() >= USAGE.items()


def test_requests_that_are_refused_together_are_all_sent_again():
    together = threading.Barrier(4)

    def script(exchange):
        if "stream_options" in exchange.request.json():
            together.wait(PATIENCE)
            replies(400, {"error": {"message": "no stream_options"}})(exchange)
        else:
            answers(["Once"])(exchange)

    with ScriptedServer(script) as server:
        options = {"base_url": server.base_url, "model": "test/chat", "progress": False}
        results = together_nb.map_prompts(["a", "b", "c", "d"], max_workers=4, **options)
        assert (results.failed, len(server.requests)) == ([], 8)


def test_what_a_server_refused_in_another_process_is_known_here():
    with ScriptedServer(refuses("stream_options")) as server, ProcessPoolExecutor(1, get_context("spawn")) as pool:
        options = {"base_url": server.base_url, "model": "test/chat", "progress": False, "max_workers": 1}
        for _ in range(2):
            assert together_nb.map_prompts(["a", "b", "c"], executor=pool, **options).failed == []
        assert sum("stream_options" in body for body in sent(server)) == 1


def test_what_is_refused_for_one_model_is_sent_for_another(session):
    def script(exchange):
        body = exchange.request.json()
        if body["model"] == "a" and "continue_final_message" in body:
            replies(400, {"error": {"message": "continue_final_message: unknown"}})(exchange)
        else:
            answers(["Once"])(exchange)

    session.settings.server_family = "litellm"
    with ScriptedServer(script) as server:
        told = ["a new turn" in ask(server, "", messages=PART, model=model).footer() for model in "aba"]
    assert told == [True, False, True]
    assert ["continue_final_message" in body for body in sent(server)] == [True, False, True, False]


@pytest.mark.parametrize("family", ["auto", "together"])
def test_a_replay_of_a_recording_with_a_refusal_gives_its_answers(session, tmp_path, family):
    with ScriptedServer(refuses("stream_options")) as server:
        with together_nb.record(tmp_path / "tape.jsonl"):
            for prompt in "ab":
                ask(server, prompt)
        session.settings.server_family = family
        with together_nb.replay(tmp_path / "tape.jsonl", speed=0):
            assert [ask(server, prompt).text for prompt in "baab"] == ["Once"] * 4


def test_fields_that_are_refused_one_after_the_other_are_left_out_one_after_the_other(session):
    session.settings.server_family = "vllm"
    with ScriptedServer(refuses("stream_options", "continue_final_message")) as server:
        answer = ask(server, "", messages=PART)
    assert (answer.text, len(server.requests)) == ("Once", 3)
    assert sent(server)[-1] == {"model": "test/chat", "messages": PART, "stream": True}
    assert "a new turn was begun" in answer.footer()


@pytest.mark.parametrize("refused", ["logprobs", "top_logprobs"])
def test_the_integer_is_tried_where_openais_shape_of_log_probabilities_is_refused(refused):
    def script(exchange):
        if exchange.request.json()["logprobs"] is True:
            replies(422, {"detail": [{"loc": ["body", refused], "msg": "wrong"}]})(exchange)
        else:
            answers(["Once"])(exchange)

    with ScriptedServer(script) as server:
        for _ in range(2):
            assert ask(server, logprobs=2).text == "Once"
    assert [body["logprobs"] for body in sent(server)] == [True, 2, 2]


@pytest.mark.parametrize(
    "message", ["stream_options: no", "Requested logprobs of 20 are more than 5", "max_tokens is too large"]
)
def test_a_refusal_that_another_spelling_does_not_mend_is_shown_as_it_was_and_nothing_is_learned(session, message):
    with ScriptedServer(replies(400, {"error": {"message": message}})) as server:
        for _ in range(2):
            with pytest.raises(APIStatusError, match=message.partition(":")[0]):
                ask(server, logprobs=20)
    assert session.client.refused == {}
    assert len(server.requests) == (2 if message.startswith("max") else 4)


def test_what_the_user_set_is_never_left_out():
    with ScriptedServer(refuses("top_k", "temperature")) as server, pytest.raises(APIStatusError, match="top_k"):
        ask(server, top_k=3, temperature=0)
    assert len(server.requests) == 1
    extra = {"stream_options": {"include_usage": True}}
    with ScriptedServer(refuses("stream_options")) as server, pytest.raises(APIStatusError, match="stream_options"):
        ask(server, extra_body=extra)
    assert len(server.requests) == 1


# Counts


def streams(*payloads):
    def script(exchange):
        exchange.chunked()
        for payload in payloads:
            exchange.event(payload)
        exchange.done()

    return script


def said(text, **more):
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **more}]}


END = said("", finish_reason="stop")
COUNT = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
ZERO = dict.fromkeys(COUNT, 0)


@pytest.mark.parametrize(
    ("payloads", "usage"),
    [
        ([said("a"), END, {"choices": [], "usage": COUNT}], Usage(5, 2, 7)),
        ([said("a"), END | {"x_groq": {"usage": COUNT}}], Usage(5, 2, 7)),
        ([said("a"), said("", finish_reason="stop", usage=COUNT)], Usage(5, 2, 7)),
        ([said("a") | {"usage": ZERO}, END | {"usage": ZERO}], None),
        ([said("a") | {"usage": ZERO}, END | {"usage": COUNT}], Usage(5, 2, 7)),
        ([said("a") | {"usage": COUNT}, END | {"usage": ZERO}], Usage(5, 2, 7)),
        ([END | {"usage": {**COUNT, "completion_tokens": 0}}], Usage(5, 0, 7)),
        ([said("a"), END], None),
        ([said("a"), END | {"x_groq": None, "usage": None}], None),
        ([said("a"), END | {"x_groq": {"id": "x"}}], None),
        ([said("a"), END | {"usage": ZERO, "x_groq": {"usage": COUNT}}], Usage(5, 2, 7)),
    ],
)
def test_usage_is_read_wherever_it_stands_and_none_beside_a_text_is_unknown(payloads, usage, session):
    with ScriptedServer(streams(*payloads)) as server:
        answer = ask(server)
    assert answer.usage == usage
    row = session.ledger.rows[0]
    assert (row.completion_tokens, row.uncounted) == (0 if usage is None else usage.completion_tokens, usage is None)


@pytest.mark.parametrize(("server_family", "counted"), [("llama.cpp", Usage(5, 5, 10)), ("vllm", Usage(5, 3, 8))])
def test_where_each_of_several_answers_has_a_count_they_are_added(session, server_family, counted):
    session.settings.server_family = server_family
    two = {"index": 1, "delta": {"content": "b"}, "finish_reason": "stop"}
    more = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    payloads = (
        said("a", finish_reason="stop"),
        {"choices": [two]},
        {"choices": [], "usage": COUNT},
        {"choices": [], "usage": more},
    )
    with ScriptedServer(streams(*payloads)) as server:
        assert ask(server, n=2).usage == counted


# Log-probabilities


def test_tokens_without_text_count_and_those_of_one_character_are_shown_as_one():
    parrot = "🦜".encode()
    row = {"logprob": -1.0, "top_logprobs": []}
    vllm_rows = [
        {**row, "token": "", "bytes": []},
        {**row, "token": "", "bytes": []},
        {**row, "token": "🦜", "bytes": list(parrot)},
    ]
    openai_rows = [
        {**row, "token": "\\xf0\\x9f", "bytes": list(parrot[:2])},
        {**row, "token": "\\xa6", "bytes": list(parrot[2:3])},
        {**row, "token": "\\x9c!", "bytes": [*parrot[3:], 33]},
    ]
    for rows, text in ((vllm_rows, "🦜"), (openai_rows, "🦜!")):
        payloads = [said("" if number < 2 else text, logprobs={"content": [one]}) for number, one in enumerate(rows)]
        with ScriptedServer(streams(*payloads, END)) as server:
            answer = ask(server, logprobs=1)
        assert (answer.text, len(answer.tokens), answer.mean_logprob) == (text, 3, -1.0)
        assert whole_characters(answer.tokens) == [Token(text, -3.0)]
        assert together_nb.Completion.from_dict(json.loads(json.dumps(answer.to_dict()))) == answer
        html = answer.bundle("tokens")["text/html"]
        assert html.count('type="radio"') == 1
        assert "3 tokens" in html


def test_only_the_tokens_of_one_character_are_put_together():
    likely = (("Yes", -0.2), ("No", -2.0))
    apart = [
        Token("a", -1.0),
        Token("", -2.0),
        Token("Yes", -0.2, 7, likely),
        Token("", -1.0, bytes=(156,)),
        Token("b", -1.0),
    ]
    assert whole_characters(apart) == apart
    assert whole_characters([Token("", None), Token("é", -1.0), Token("", -2.0)]) == [Token("é", None), Token("", -2.0)]
    assert whole_characters([]) == []


def test_while_a_text_streams_the_tokens_of_one_character_are_one_too():
    growing = GrowingTokens()
    for text in ("", "\N{PARROT}", "!"):
        growing.add([Chunk(text, tokens=(Token(text, -1.0),))])
    markup = "".join(part.value for part in growing.widgets() if hasattr(part, "value"))
    assert markup.count('type="radio"') == 2


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "Hm"},
        {"content": "", "reasoning_content": ""},
        {"content": "", "reasoning": None, "reasoning_content": ""},
        {},
        {"content": None, "tool_calls": [{"index": 0}]},
        {"content": "", "tool_calls": [{"index": 0}]},
    ],
)
def test_tokens_of_the_thinking_and_of_tool_calls_are_none_of_the_answer(delta):
    rows = {"logprobs": {"content": [{"token": "</think>", "logprob": -5.0}]}}
    before = {"choices": [{"index": 0, "delta": delta, **rows}]}
    answered = said("Yes", logprobs={"content": [{"token": "Yes", "logprob": -0.25}]})
    with ScriptedServer(streams(before, answered, END)) as server:
        assert ask(server, logprobs=0).tokens == [Token("Yes", -0.25)]


# An end without a reason


def test_an_end_without_a_word_is_a_failure(session):
    with ScriptedServer(
        streams(said("", finish_reason=""), {"choices": [], "usage": {**COUNT, "completion_tokens": 0}})
    ) as server:
        with pytest.raises(StreamError, match="The server ended the answer without a word") as caught:
            ask(server)
        assert caught.value.completion.came_to_nothing
        assert (session.history, len(server.requests)) == ([], 1)
        results = together_nb.map_prompts(["a", "b"], base_url=server.base_url, model="test/chat", progress=False)
        assert results.failed == [0, 1]
        server.script = answers(["Once"])
        assert results.retry_failed().texts == ["Once", "Once"]


def test_thinking_is_no_word_and_is_kept(session):
    with ScriptedServer(streams({"choices": [{"index": 0, "delta": {"reasoning": "Hm"}}]})) as server:
        with pytest.raises(StreamError, match="without a word") as caught:
            ask(server)
        assert caught.value.completion.reasoning == session.history[0].reasoning == "Hm"
        results = together_nb.map_prompts(["a"], base_url=server.base_url, model="test/chat", progress=False)
        assert results.failed == [0]


@pytest.mark.parametrize("api", ["chat", "completions", "inference"])
def test_a_column_without_a_word_fails_beside_one_that_has_some(api):
    def script(exchange):
        word = exchange.request.json()["temperature"]
        streams(*[exchange.payload("Once", finish="stop")] * bool(word))(exchange)

    with ScriptedServer(script) as server:
        options = {"base_url": server.base_url, "model": "test/chat", "api": api, "show": "none"}
        silent, other = together_nb.compare("Tell", temperature=[0, 1], **options)
    assert (silent.text, silent.error, other.text, other.error) == ("", "error from the server", "Once", "")


def test_an_end_without_a_reason_is_kept_marked_and_can_be_continued(session):
    with ScriptedServer(streams(said("Once"))) as server:
        answer = ask(server, chat="talk")
        assert (answer.text, answer.ending) == ("Once", "the server gave no reason for the end")
        assert "the server gave no reason for the end: %together continue" in answer.footer(way_on=True)
        assert (session.history, len(session.conversations["talk"])) == ([answer], 1)
        results = together_nb.map_prompts(["a"], base_url=server.base_url, model="test/chat", progress=False)
        assert (results.failed, results[0].ending) == ([], "the server gave no reason for the end")
        server.script = answers([" upon"])
        whole = together_nb.continue_from(answer)
    assert (whole.text, whole.ending, session.history[0]) == ("Once upon", "", whole)
    assert together_nb.Completion.from_dict(json.loads(json.dumps(answer.to_dict()))) == answer


TWO = {"choices": [{"index": 1, "delta": {"content": "b"}}]}


@pytest.mark.parametrize(
    "payloads", [[said("a"), END], [said("a"), END, said("", finish_reason="")], [END], [said("a"), TWO, END]]
)
def test_an_end_with_a_reason_is_not_marked(payloads):
    with ScriptedServer(streams(*payloads)) as server:
        assert ask(server).ending == ""


@pytest.mark.parametrize("ignored", [True, False])
def test_where_n_is_ignored_one_answer_is_whole_without_a_terminator_and_elsewhere_it_may_be_a_part(session, ignored):
    def script(exchange):
        exchange.chunked()
        for payload in (said("a"), END):
            exchange.event(payload)

    session.settings.server_family = "transformers" if ignored else "vllm"
    with ScriptedServer(script) as server:
        if ignored:
            assert ask(server, n=3).text == "a"
        else:
            with pytest.raises(ConnectionLostError):
                ask(server, n=3)


# What is told


def test_a_parameter_without_effect_is_told_before_it_is_sent_and_in_the_footer(session, caplog):
    session.settings.server_family = "llama.cpp"
    notes = ["llama.cpp has no `repetition_penalty`; sent as `repeat_penalty`", "this server ignores `echo`"]
    with ScriptedServer(answers(["a"])) as server:
        answer = together_nb.stream(
            "Tell", base_url=server.base_url, model="m", api="chat", repetition_penalty=2, echo=True
        )
        assert answer.notes == tuple(notes)
        assert (server.requests, caplog.records) == ([], [])
        for _ in answer:
            assert [one.getMessage() for one in caplog.records] == [f"{server.base_url}: {note}" for note in notes]
        assert " · ".join(notes) in answer.completion.footer()
        ask(server, echo=True)
        together_nb.map_prompts(["a", "b"], base_url=server.base_url, model="m", progress=False, echo=True)
        assert len(caplog.records) == 2  # once in a session
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_note_is_of_what_is_really_sent(session):
    def notes(**options):
        return together_nb.stream(**{"base_url": "http://localhost:9", "model": "m", "api": "chat", **options}).notes

    session.settings.server_family = "llama.cpp"
    assert notes(prompt="a", echo=True) == ("this server ignores `echo`",)
    assert notes(messages=PART, echo=True) == ()
    assert notes(prompt="a", extra_body={"repetition_penalty": 1.5}) == (
        "llama.cpp has no `repetition_penalty`; sent as `repeat_penalty`",
    )
    assert notes(prompt="a", repetition_penalty=1.5, extra_body={"repeat_penalty": 1.1}) == (
        "this server ignores `repetition_penalty`",
    )


def test_a_user_who_sends_what_continues_a_turn_is_not_told_that_one_was_begun():
    with ScriptedServer(vllm, models=None) as server:
        assert "a new turn" not in ask(server, "", messages=PART, extra_body=CONTINUE).footer()
        assert "a new turn" in ask(server, "", messages=PART).footer()


def test_another_server_at_the_same_place_is_recognised_anew(session):
    def llama(exchange):
        exchange.chunked().headers(200, server="llama.cpp")
        exchange.event(exchange.payload("a", finish="stop"))
        exchange.done()

    with ScriptedServer(llama, models=replies(200, LLAMA_LIST)) as server:
        ask(server, repetition_penalty=2)
        server.script, server.models = vllm, replies(200, VLLM_LIST)
        ask(server)
        ask(server, repetition_penalty=2)
        assert family_of(server, session) == "vllm"
        server.script = llama
        ask(server)
        assert family_of(server, session) == "llama.cpp"
    assert ["repeat_penalty" in body for body in sent(server)] == [True, False, False, False]


def test_the_status_and_a_dry_run_say_which_family_it_is_and_why(session, capsys):
    with ScriptedServer(answers(["a"]), models=replies(200, LLAMA_LIST)) as server, ipython() as shell:
        session.settings.base_url, session.settings.model = server.base_url, "test/chat"
        shell.run_cell("%together").raise_error()
        assert "openai-like, not recognised yet" in capsys.readouterr().out
        together_nb.models()
        for cell in ("%together", "%%together --dry-run\nTell"):
            shell.run_cell(cell).raise_error()
            assert "family: " in (out := capsys.readouterr().out)
            assert "llama.cpp, by its list of models" in out
        shell.run_cell("%config TogetherMagics.server_family = 'vllm'").raise_error()
        shell.run_cell("%%together --dry-run --echo true\nTell").raise_error()
        out = capsys.readouterr().out
        assert "vllm, as set by server_family" in out
        assert "this server ignores `echo`" in out
