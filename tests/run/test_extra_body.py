"""`extra_body` and ``--extra``: what a server has and we do not know is sent, shown, kept and recorded."""

import json

import pytest

import together_nb
from tests.magic.test_magics import ipython
from tests.servers import USAGE, ScriptedServer, answers
from together_nb import Completion
from together_nb.errors import InputError
from together_nb.panel.call_as_code import as_cell, as_python
from together_nb.run.options import parse

EXTRA = {"top_a": 0.2, "grammar": {"root": ["a", None, True]}}


@pytest.fixture
def server():
    with ScriptedServer(answers(["Yes"], finish="length")) as one:
        together_nb.settings.base_url, together_nb.settings.model = one.base_url, "test/chat"
        yield one


@pytest.mark.parametrize("api", ["chat", "completions", "inference"])
def test_it_is_sent_in_each_dialect_kept_with_the_answer_and_sent_again_by_what_continues_it(server, api):
    answer = together_nb.complete("Hi", api=api, extra_body=EXTRA, temperature=0)
    together_nb.continue_from(answer)
    for sent in (request.json() for request in server.requests):
        assert {name: sent[name] for name in EXTRA} == EXTRA
        assert sent["temperature"] == 0
    assert answer.request.extra_body == EXTRA
    assert Completion.from_dict(json.loads(json.dumps(answer.to_dict()))) == answer


def test_a_parameter_given_to_what_continues_it_takes_the_place_of_one_in_it(server):
    answer = together_nb.complete("Hi", api="chat", extra_body={"max_tokens": 5, "top_a": 1})
    together_nb.continue_from(answer, max_tokens=10)
    assert [(one.json()["max_tokens"], one.json()["top_a"]) for one in server.requests] == [(5, 1), (10, 1)]


def test_the_key_in_it_is_not_shown_by_dry_run(server, capsys):
    together_nb.settings.api_key = key = "tgp_v1_Qm7xZw3KpL9vRt2yHs8dJf4gBn6cVa1eUo5iXz0T"
    with ipython() as shell:
        shell.run_cell(f"""%%together --api chat --dry-run --extra '{{"auth": "{key}"}}'\nHi""").raise_error()
        assert key not in capsys.readouterr().out


def test_the_dict_that_to_dict_gives_is_its_own(server):
    request = together_nb.complete("Hi", api="chat", extra_body={"top_a": [1]}).request
    request.to_dict()["extra_body"]["top_a"].append(2)
    assert request.extra_body == {"top_a": [1]}


def test_comparisons_batches_and_streams_send_it_too(server):
    together_nb.compare("Hi", api="chat", temperature=[0, 1], extra_body=EXTRA)
    together_nb.map_prompts(["a", "b"], api="chat", extra_body=EXTRA, progress=False)
    with together_nb.stream("Hi", api="chat", extra_body=EXTRA) as chunks:
        list(chunks)
    assert [request.json()["top_a"] for request in server.requests] == [0.2] * 5


def test_what_is_given_can_be_changed_afterwards(server):
    given = {"top_a": [1]}
    chunks = together_nb.stream("Hi", api="chat", extra_body=given)
    given["top_a"].append(2)
    list(chunks)
    assert server.requests[0].json()["top_a"] == [1]


@pytest.mark.parametrize("name", ["model", "messages", "stream", "temperature", "max_tokens"])
def test_a_name_that_the_request_has_already_is_refused(server, name):
    with pytest.raises(InputError, match=name):
        together_nb.complete("Hi", api="chat", temperature=0, max_tokens=5, extra_body={name: 1})
    assert server.requests == []


def test_a_parameter_that_is_not_set_may_be_sent_so(server):
    together_nb.complete("Hi", api="chat", extra_body={"temperature": "auto"})
    assert server.requests[0].json()["temperature"] == "auto"


@pytest.mark.parametrize(
    "extra",
    [
        [1],
        "top_a",
        {1: 2},
        {"a": float("nan")},
        {"a": 10**400},
        {"a": json.loads("[" * 200 + "]" * 200)},
        {"a": object()},
        {"a": b""},
        5,
    ],
)
def test_what_json_cannot_carry_is_refused(server, extra):
    with pytest.raises(InputError, match="extra_body"):
        together_nb.complete("Hi", api="chat", extra_body=extra)
    assert server.requests == []
    assert together_nb.history == []


def test_an_empty_one_is_none(server):
    together_nb.complete("Hi", api="chat", extra_body={})
    assert set(server.requests[0].json()) == {"model", "messages", "stream", *USAGE}


def test_a_cell_sends_it_and_dry_run_shows_it(server, capsys):
    with ipython() as shell:
        line = """--api chat --extra '{"top_a": 0.2}'"""
        shell.run_cell(f"%%together {line} --dry-run\nHi").raise_error()
        assert '"top_a": 0.2' in capsys.readouterr().out
        assert server.requests == []
        shell.run_cell(f"%%together {line}\nHi").raise_error()
        shell.run_cell("%together continue").raise_error()
    assert [request.json()["top_a"] for request in server.requests] == [0.2, 0.2]


@pytest.mark.parametrize("text", ["top_a", "[1]", "{", "5", '{"a": NaN}', "[" * 100_000, ""])
def test_the_option_takes_a_json_object(text):
    with pytest.raises(InputError, match="JSON"):
        parse(f"--extra '{text}'")


def test_the_same_call_as_a_cell_and_as_python_has_it(server):
    opened = together_nb.stream("Hi", api="chat", extra_body=EXTRA)
    line = as_cell(opened, together_nb.settings.sampling).split("\n")[0].removeprefix("%%together ")
    assert parse(line).extra == EXTRA
    names = {}
    exec(as_python(opened, together_nb.settings.sampling).replace("print(answer.text)", ""), names)
    assert server.requests[0].json() == opened.payload


def test_a_recording_has_it_and_a_request_with_another_one_is_not_in_it(server, tmp_path):
    together_nb.record(tmp_path / "lesson.jsonl")
    together_nb.complete("Hi", api="chat", extra_body=EXTRA)
    together_nb.stop()
    together_nb.replay(tmp_path / "lesson.jsonl", speed=0)
    assert together_nb.complete("Hi", api="chat", extra_body=EXTRA).text == "Yes"
    with pytest.raises(InputError, match="not in lesson"):
        together_nb.complete("Hi", api="chat", extra_body={"top_a": 0.3})
    together_nb.stop()
