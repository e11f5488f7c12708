"""Everything that one does, with a real model: SmolLM2 on llama.cpp's own server, and as the model of this machine."""

from __future__ import annotations

import math
import os
import threading

import jsonschema
import pytest

import together_nb
from tests.llama import ALPHABET, CONTEXT, COUNT, SAME_WAY, STORY, LlamaServer, model_file
from tests.servers import eventually
from together_nb.errors import ConnectionLostError, ContextLengthError
from together_nb.local.server import running_server
from together_nb.values.local_models import SMOLLM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
APIS = ["chat", "completions"]
CERTAIN = {"chat": ALPHABET, "completions": COUNT}
SHORT = {"type": "string", "maxLength": 40}
TURING = {
    "type": "object",
    "properties": {
        "name": SHORT,
        "born": {"type": "object", "properties": {"year": {"type": "integer"}, "place": SHORT}},
        "fields": {
            "type": "array",
            "items": {"enum": ["logic", "painting", "computing"]},
            "minItems": 1,
            "maxItems": 3,
        },
    },
    "required": ["name", "born", "fields"],
}
ON_AND_ON = {"ignore_eos": True}  # so that an answer has the length that was asked for
ENDLESS = {"max_tokens": 3000, "extra_body": ON_AND_ON}
IN_THE_KERNEL = "import together_nb"


@pytest.fixture(scope="module")
def running():
    server = LlamaServer()
    yield server
    server.kill()


class OwnModel:
    """The model of this machine, behind the session's own server."""

    model = SMOLLM
    family = "local"

    @property
    def base_url(self):
        return running_server().base_url

    @property
    def at_work(self):
        return running_server().llama._running


@pytest.fixture
def llama(running, session):
    session.settings.base_url, session.settings.model = running.base_url, running.model
    return running


@pytest.fixture(params=["llama.cpp", "local"])
def server(request, session, monkeypatch):
    """Both of them, in turn."""
    if request.param == "llama.cpp":
        return request.getfixturevalue("llama")
    monkeypatch.setenv("TOGETHER_NB_MODELS", str(model_file().parent))
    session.settings.model = SMOLLM
    return OwnModel()


@pytest.mark.parametrize("api", APIS)
def test_an_answer_streams_token_by_token_and_is_counted(server, session, api):
    answer = together_nb.stream(COUNT, api=api, max_tokens=24, seed=1)
    pieces = [chunk.text for chunk in answer if chunk.text]
    whole = answer.completion
    assert len(pieces) > 1
    assert "".join(pieces) == whole.text
    assert len(pieces) <= whole.usage.completion_tokens <= 24  # a character may take several tokens
    assert whole.usage.prompt_tokens > 8
    assert whole.finish_reason in {"stop", "length"}
    assert session.client.families[server.base_url].family.name == server.family
    (row,) = session.ledger.rows
    assert (row.calls, row.uncounted, row.completion_tokens) == (1, 0, whole.usage.completion_tokens)
    assert row.cost == (0 if server.model == SMOLLM else None)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("alternatives", [0, 1, 20])
def test_log_probabilities_are_those_of_the_tokens_of_the_text(server, api, alternatives):
    prompt = COUNT if api == "completions" else STORY
    answer = together_nb.complete(prompt, api=api, max_tokens=8, logprobs=alternatives, temperature=0)
    assert len(answer.tokens) == 8
    assert "".join(token.text for token in answer.tokens) == answer.text
    for token in answer.tokens:
        assert token.id is not None
        assert token.logprob <= 0
        # llama.cpp gives none without one alternative
        assert len(token.top) == (alternatives if server.model == SMOLLM else max(alternatives, 1))
        assert token.logprob == pytest.approx(max([token.logprob, *(one for _, one in token.top)]))  # at temperature 0
        assert sum(math.exp(logprob) for _, logprob in token.top) <= 1.001


@pytest.mark.parametrize("api", APIS)
def test_several_answers_are_kept_apart_and_all_of_their_tokens_are_counted(server, api):
    one = together_nb.complete(COUNT, api=api, max_tokens=6, extra_body=ON_AND_ON)
    several = together_nb.complete(COUNT, api=api, max_tokens=6, n=3, extra_body=ON_AND_ON)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert all(choice.text and choice.finish_reason == "length" for choice in several.choices)
    assert (one.usage.completion_tokens, several.usage.completion_tokens) == (6, 18)
    assert one.usage.prompt_tokens == several.usage.prompt_tokens


@pytest.mark.parametrize("api", APIS)
def test_stop_seed_and_penalties_take_effect(server, api):
    def ask(prompt=STORY, **options):
        return together_nb.complete(prompt, api=api, **{"max_tokens": 16, **options})

    plain = ask(CERTAIN[api], temperature=0, max_tokens=12).text
    word = plain.split()[1]
    stopped = ask(CERTAIN[api], stop=[word], temperature=0, max_tokens=12)
    assert (stopped.text, stopped.finish_reason) == (plain[: plain.index(word)], "stop")
    options = {"temperature": 1, "extra_body": ON_AND_ON | SAME_WAY}
    _, first, again, other = (ask(seed=seed, **options).text for seed in (7, 7, 7, 8))
    assert first == again != other
    plain, penalized = (ask(COUNT, temperature=0, max_tokens=60, repetition_penalty=value) for value in (1.0, 2.0))
    assert plain.text != penalized.text
    assert ("sent as `repeat_penalty`" in penalized.footer()) == (server.model != SMOLLM)


def test_an_answer_fits_a_schema(server):
    answer = together_nb.complete("Who was Alan Turing?", schema=TURING, max_tokens=300, temperature=0)
    jsonschema.validate(answer.parsed, TURING)


def test_a_conversation_is_remembered(server, session):
    for prompt in ("My name is Zanzibar. Say hello.", "Repeat my name."):
        together_nb.complete(prompt, chat="talk", system="You are a helpful assistant.", temperature=0, max_tokens=3)
    talk = session.conversations["talk"]
    assert len(talk) == 2
    assert "Zanzibar" in talk[1].completion.text


@pytest.mark.parametrize("api", APIS)
def test_an_answer_is_continued_where_it_ended(server, api):
    whole, part = (together_nb.complete(CERTAIN[api], api=api, temperature=0, max_tokens=most) for most in (12, 6))
    joined = together_nb.continue_from(part)
    assert whole.text.startswith(part.text)
    assert joined.text == whole.text
    assert joined.usage.completion_tokens == 12
    assert "a new turn" not in joined.footer()


def test_a_comparison_has_its_columns(server):
    answers = together_nb.compare(COUNT, temperature=[0, 1.5], seed=[1, 2], show="none", max_tokens=12)
    assert len(answers) == 4
    assert answers[2].text != answers[3].text
    assert all(answer.usage.completion_tokens > 0 for answer in answers)


@pytest.mark.timeout(900)  # 300 answers, on a machine that may be busy
def test_batches_of_twenty_lose_nothing(llama, session):
    for number in range(15):
        prompts = [f"Name a thing of the colour number {number} {item}." for item in range(20)]
        results = together_nb.map_prompts(prompts, max_tokens=8, progress=False)
        assert results.failed == []
        assert all(0 < one.usage.completion_tokens <= 8 for one in results)
        assert (len(results.completions), results.uncounted) == (20, 0)
    assert session.ledger.rows[0].calls == 300


def test_a_cancelled_answer_is_kept_and_the_server_stops(server):
    answer = together_nb.stream(COUNT, api="completions", **ENDLESS)
    for chunk in answer:
        if chunk.text:
            assert server.at_work == 1
            answer.cancel()
    assert answer.completion.ending == "stopped by you"
    assert answer.completion.text
    eventually(lambda: not server.at_work)
    if server.model != SMOLLM:
        decoded = [slot["next_token"][0]["n_decoded"] for slot in server.slots() if slot.get("next_token")]
        assert max(decoded, default=0) < ENDLESS["max_tokens"] / 2


@pytest.mark.parametrize("api", APIS)
def test_a_prompt_that_is_too_long_is_refused_with_the_lengths(server, session, api):
    session.settings.max_retries = 4
    with pytest.raises(ContextLengthError) as caught:
        together_nb.complete("word " * 6000, api=api, max_tokens=5)
    assert f"{CONTEXT:,}" in caught.value.hint
    assert session.history == []


def test_the_only_model_needs_no_name_and_is_listed_with_its_context(llama, session):
    session.settings.model = None
    assert together_nb.complete(COUNT, max_tokens=2).model == llama.model  # the only one
    (row,) = together_nb.models()
    assert (row.id, row.context_length) == (llama.model, CONTEXT)


def test_a_batch_of_fifty_on_this_machine_is_recorded_and_replayed(session, monkeypatch, tmp_path):
    monkeypatch.setenv("TOGETHER_NB_MODELS", str(model_file().parent))
    prompts = [f"Name a thing of the colour number {number}." for number in range(50)]
    options = {"max_tokens": 6, "seed": 1, "progress": False}
    with together_nb.record(tmp_path / "fifty.jsonl"):
        answers = together_nb.map_prompts(prompts, **options)
    assert answers.failed == []
    assert {one.model for one in answers} == {SMOLLM}
    running_server().llama.unload()
    monkeypatch.setenv("TOGETHER_NB_MODELS", os.devnull)  # a machine without the model
    with together_nb.replay(tmp_path / "fifty.jsonl"):
        again = together_nb.map_prompts(prompts, **options)
    assert [one.text for one in again] == [one.text for one in answers]


def test_an_answer_whose_server_is_killed_is_kept_and_continued_once_it_is_back(session):
    server = LlamaServer()
    try:
        session.settings.base_url, session.settings.model = server.base_url, server.model
        answer = together_nb.stream(COUNT, api="completions", temperature=0, **ENDLESS)
        assert any(chunk.text for chunk in answer)  # it has begun
        server.kill()
        with pytest.raises(ConnectionLostError) as caught:
            list(answer)
        part = caught.value.completion
        assert part.text
        assert part.error == "connection lost"
        session.settings.max_retries = 10
        back = threading.Thread(target=server.start)
        back.start()  # while the rest is requested, and nothing answers
        whole = together_nb.continue_from(part, max_tokens=10)
        back.join()
        assert whole.text.startswith(part.text)
        assert len(whole.text) > len(part.text)
    finally:
        server.kill()


def test_in_a_notebook_a_cell_streams_is_stopped_and_goes_on(llama, kernel):
    kernel.run(f"settings = together_nb.settings; settings.base_url = {llama.base_url!r}").wait()
    line = """%%together --api completions --max-tokens 3000 --extra '{"ignore_eos": true}' -o story"""
    run = kernel.run(f"{line}\nOnce upon a time")
    run.until(lambda message: "chunk" in str(message["content"]))
    kernel.interrupt()
    run.wait()
    assert run.error["ename"] == "KeyboardInterrupt"
    eventually(lambda: not llama.at_work)
    before = kernel.text("story.text")
    assert kernel.run("%together continue --max-tokens 8").wait().status == "ok"
    whole = kernel.text("story.text")
    assert whole.startswith(before)
    assert len(whole) > len(before)
    status = kernel.run("%together").wait()
    assert "llama.cpp, by the header `Server`" in status.stdout
