"""Work with the answers, in a real kernel: each way of it, as a cell says it and as the cell is left."""

from __future__ import annotations

import pytest

from tests.kernels import WIDGET, Kernel
from tests.servers import ScriptedServer, answers, replies, silent_after

KEY = "key-0123456789-canary"
BROKEN = replies(500, {"error": "broken"})


class Session(Kernel):
    """A kernel whose cells are waited for."""

    def cell(self, code, **options):
        return self.run(code, **options).wait()

    def plain(self, code, **options):
        return self.cell(code, **options).display["data"]["text/plain"]

    def refusal(self, code):
        return "\n".join(self.cell(code).error["traceback"])

    def use(self, server):
        self.cell(f"settings.base_url, settings.model = {server.base_url!r}, 'test/chat'")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    one = Session(tmp_path_factory.mktemp("kernel"))
    one.cell("from together_nb import *")
    yield one
    one.stop()


@pytest.fixture
def kernel(running):
    running.cell(
        "settings.base_url = settings.model = settings.budget = None; settings.max_retries = 0\n"
        "history.clear(); conversations.clear(); ledger.clear(); settings.local_tokens_per_second = 0"
    )
    return running


@pytest.fixture
def another(tmp_path):
    one = Session(tmp_path)
    one.cell("from together_nb import *")
    yield one
    one.stop()


def count_and_echo(exchange):
    """Answers with the number of messages and the last of them."""
    messages = exchange.request.json()["messages"]
    answers([f"{len(messages)}:", messages[-1]["content"]])(exchange)


@pytest.fixture
def server(kernel):
    with ScriptedServer(count_and_echo) as server:
        kernel.use(server)
        yield server


def test_a_conversation_goes_on_and_a_cell_that_runs_again_replaces_its_turn_and_drops_the_later_ones(kernel, server):
    cells = [
        ('-c --system "Be brief."\none', "a", "2:one"),
        ("-c\ntwo", "b", "4:two"),
        ("--chat\nthree", "c", "6:three"),
        ("-c\ntwo, again", "b", "4:two, again"),
        ("-c other\none", "d", "1:one"),
    ]
    for code, cell, answer in cells:
        assert kernel.plain(f"%%together {code}", cell=cell).partition("\n")[0] == answer
    messages = server.requests[3].json()["messages"]
    assert [turn["role"] for turn in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == "2:one"
    assert kernel.value("[turn.prompt for turn in conversations['chat']]") == "['one', 'two, again']"
    assert kernel.value("len(history)") == "5"


def test_a_stopped_turn_is_marked_and_can_be_gone_on_from_or_run_again_and_of_a_failed_one_nothing_is_kept(
    kernel, server
):
    kernel.cell("%%together -c\none", cell="a")
    server.script = BROKEN
    assert kernel.cell("%%together -c\ntwo", cell="b").status == "error"
    assert kernel.value("[turn.prompt for turn in conversations['chat']]") == "['one']"
    server.script = silent_after(["half"])
    run = kernel.run("%%together -c\nthree", cell="c")
    run.until(lambda message: "half" in str(message["content"].get("data")))
    kernel.interrupt()
    run.wait()
    marks = "[turn.mark for turn in conversations['chat']]"
    assert kernel.value(marks) == "['', 'stopped by you']"
    server.script = answers([" and half"])
    assert kernel.cell("%together continue").status == "ok"
    assert server.requests[-1].json()["messages"][-1] == {"role": "assistant", "content": "half"}
    assert kernel.value("(history[-1].text, conversations['chat'][1].mark)") == "('half and half', '')"
    server.script = count_and_echo
    assert kernel.plain("%%together -c\ntwo", cell="c").startswith("3:two")
    assert kernel.value(marks) == "['', '']"


def test_reset_forgets_a_conversation_and_keeps_its_answers(kernel):
    kernel.cell("%%together -c lesson --max-tokens 3\nhello", cell="a")
    assert "lesson[0]" in kernel.plain("%together history")
    assert "hello" in kernel.plain("%together history lesson")
    assert kernel.cell("%together reset lesson").stdout.startswith("Forgotten: 1 turn.")
    assert kernel.refusal("%together reset lesson").startswith("InputError: There is no conversation called 'lesson'.")
    assert kernel.value("len(history)") == "1"


def test_continue_goes_on_from_the_very_end_in_place(kernel):
    ask = "%%together -c --temperature 0 --max-tokens {} -o {}\nAlan Turing was"
    kernel.cell(ask.format(12, "whole"), cell="w")
    kernel.cell("history.clear(); conversations.clear()")
    kernel.cell(ask.format(5, "part"), cell="a")
    data = kernel.cell("%together continue --max-tokens 7").display["data"]
    places = "len(history), history[0] is part, _together is part, conversations['chat'][0].completion is part"
    assert kernel.value(f"(part.text == whole.text, {places})") == "(True, 1, True, True, True)"
    assert data["text/plain"].startswith(kernel.text("part.text").strip()[:20])
    assert WIDGET not in data


def test_a_continuation_that_failed_can_be_asked_for_again_and_lists_get_the_whole(kernel, server):
    server.script = answers(["half"], finish="length")
    kernel.cell("%%together --compare temperature=0,1 -o both\nhello")
    server.script = BROKEN
    assert kernel.cell("%together continue").error["ename"] == "APIStatusError"
    server.script = answers([" and half"])
    assert kernel.cell("%together continue").status == "ok"
    assert kernel.refusal("%together continue").startswith("InputError: The last answer ended by itself")
    assert kernel.value("sorted(answer.text for answer in both)") == "['half', 'half and half']"


def test_compare_streams_all_combinations_and_leaves_one_table_and_a_list(kernel):
    line = "%%together -m local/ngram --compare temperature=0,1 --compare max_tokens=3,6 --seed 1 -o both"
    display = kernel.cell(f"{line}\nAlan Turing was", cell="x").display
    expected = "[(0.0, 3), (0.0, 6), (1.0, 3), (1.0, 6)]"
    assert kernel.value("[(c.request.sampling.temperature, c.usage.completion_tokens) for c in both]") == expected
    assert WIDGET not in display["data"]
    assert display["data"]["text/markdown"].count("<td") == 4
    made = display["metadata"]["together_nb"]["compared"]
    assert [one["parameters"]["max_tokens"] for one in made] == [3, 6, 3, 6]
    assert all(one["time"] and one["id"] and one["usage"] for one in made)


@pytest.mark.parametrize("watched", [True, False])
def test_show_tokens_asks_for_five_alternatives_and_leaves_html_and_what_made_it_and_no_widget(kernel, watched):
    run = kernel.cell("%%together --show tokens --max-tokens 8 --seed 1 -o shown\nAlan Turing was", watched=watched)
    display = run.display
    assert set(display["data"]) == {"text/html", "text/markdown", "text/plain"}
    assert "mean log-probability" in display["data"]["text/plain"]
    assert "perplexity" in display["data"]["text/html"]
    values = [one["content"]["data"].get("state", {}).get("value", "") for one in run.of("comm_open", "comm_msg")]
    assert bool(run.of("comm_open")) is watched
    assert any("tnb-token" in str(value) for value in values) is watched
    assert sum(WIDGET in one["content"]["data"] for one in run.of("display_data")) == watched
    closed = [one["content"]["comm_id"] for one in run.of("comm_close")]
    assert len(closed) == len(set(closed))
    assert kernel.value("(shown.request.sampling.logprobs, len(shown.tokens), len(shown.tokens[0].top))") == "(5, 8, 5)"
    assert display["metadata"]["together_nb"]["parameters"] == {"logprobs": 5, "max_tokens": 8, "seed": 1}
    assert '"logprobs": 2' in kernel.plain("%%together --show tokens --logprobs 2 --dry-run\nAlan Turing was")


def test_for_asks_once_for_each_item_and_leaves_a_table_and_no_widget(kernel, server):
    refuse = replies(400, {"error": "not this one"})
    server.script = lambda exchange: (refuse if b"Eve" in exchange.request.body else count_and_echo)(exchange)
    kernel.cell("rows = [{'who': 'Ada', 'n': 1}, {'who': 'Eve', 'n': 2}]; style = 'pirate'")
    run = kernel.cell("%%together --for rows --system 'A {style} of {n}' -o results\nTell about {who} ({n}).")
    assert run.status == "ok", run.reply
    assert kernel.value("(results.texts, results.failed)") == "(['2:Tell about Ada (1).', None], [1])"
    systems = sorted(request.json()["messages"][0]["content"] for request in server.requests)
    assert systems == ["A pirate of 1", "A pirate of 2"]
    assert not any(WIDGET in one["data"] for one in run.left)
    assert "Ada" in str(run.left)
    assert len([one for one in run.left if "together_nb" in one["metadata"]]) == 1
    kernel.cell("%%together --for \"('a', 'b')\" -o few\nSay {item}.")
    assert kernel.value("few.texts, _together is few") == "(['1:Say a.', '1:Say b.'], True)"


def test_an_expression_that_fails_is_empty_or_is_only_looked_at_sends_nothing_and_uses_nothing_up(kernel):
    refusal = kernel.refusal("%%together --for nowhere\n{item}")
    assert refusal.startswith("InputError: --for nowhere could not be worked out: NameError")
    for option in ("-o empty", "--dry-run"):
        run = kernel.cell(f"%%together --for '[]' {option}\n{{item}}")
        assert run.stdout == "--for [] has no items, so nothing was asked.\n"
    assert kernel.value("len(empty)") == "0"
    kernel.cell("once = iter('abc'); style = 'pirate'")
    assert "only once" in kernel.refusal("%%together --for once --dry-run\n{item}")
    assert kernel.value("list(once)") == "['a', 'b', 'c']"
    shown = kernel.plain("%%together --for \"'abcde'.split('x') * 5\" --system 'A {style} of {item}' --dry-run\n{item}")
    assert "nor are 2 more" in shown
    assert "A pirate of abcde" in shown


def test_a_schema_is_looked_up_sent_and_parsed_and_a_reply_that_does_not_fit_is_shown_with_the_reason(kernel, server):
    kernel.cell("import pydantic\n\n\nclass Person(pydantic.BaseModel):\n    name: str")
    kernel.cell("shape = {'type': 'object', 'required': ['name']}")
    server.script = answers(['{"name": "Ada"}'])
    plain = "{'name': 'Ada'}"
    for option, value in (("--schema Person", "Person(name='Ada')"), ("--schema shape", plain), ("--show json", plain)):
        run = kernel.cell(f"%%together {option} -o form\nWho?")
        assert run.display["data"]["text/markdown"].startswith("```json\n{")
        assert kernel.value("form.parsed") == value
    schema = server.requests[1].json()["response_format"]["json_schema"]
    assert schema == {"name": "shape", "schema": {"type": "object", "required": ["name"]}}
    server.script = answers(['{"nom": "Ada"}'])
    shown = kernel.plain("%%together --schema shape -o form\nWho?")
    assert "It does not fit the schema: 'name' is a required property." in shown
    assert '"nom"' in shown
    assert kernel.value("(form.parsed, form.unparsed[:15])") == "(None, 'It does not fit')"
    refusal = "InputError: There is no variable called Persn.\nDid you mean Person?"
    assert kernel.refusal("%%together --schema Persn\nWho?") == refusal
    # `open` is Python's, and no form of anybody's
    assert "\nRun the cell that makes it" in kernel.refusal("%%together --schema opem\nWho?")


def test_show_code_offers_the_fenced_code_as_a_new_cell_once(kernel, server):
    server.script = answers(["Here:\n\n```python\nprint(6 * 7)\n```\n"])
    offer = {"source": "set_next_input", "text": "print(6 * 7)", "replace": False}
    for option, cell, payload in [("--show code", "k", [offer]), ("--show code", "k", []), ("", "l", [])]:
        run = kernel.cell(f"%%together {option}\ncode, please", cell=cell)
        assert run.reply["content"]["payload"] == payload


def test_usage_tells_calls_tokens_and_dollars_by_model_and_a_budget_refuses(kernel, server):
    server.script = answers(["one", " two"])
    assert "$9.0e-06" in kernel.plain("%%together\nhello")
    kernel.cell("%%together -m test/base\nhello")
    kernel.cell("%%together -m test/unknown --api chat\nhello")
    chat, base, unknown, total = (line.split() for line in kernel.plain("%together usage").splitlines()[1:5])
    assert chat == ["test/chat", "1", "5", "2", "$9.0e-06"]
    assert base[:4] == ["test/base", "1", "5", "2"]
    assert (unknown[:4], unknown[-1]) == (["test/unknown", "1", "5", "2"], "unknown")
    assert total[:6] == ["all", "3", "15", "6", "at", "least"]
    kernel.cell("%config TogetherMagics.budget = 1e-6")
    assert kernel.refusal("%%together\nhello").startswith("BudgetError: The session has spent at least $")
    assert len(server.requests) == 3


def test_what_the_budget_refuses_in_a_comparison_is_no_answer_and_says_why(kernel, server):
    kernel.cell("settings.budget = 1e-6")
    kernel.cell("%%together --compare seed=1,2,3,4,5,6 -o several\nhello")
    assert len(server.requests) < 6
    expected = f"({len(server.requests)}, 'not sent: the budget is spent', '')"
    assert kernel.value("(len(history), several[-1].error, several[-1].cost_told)") == expected


def test_explain_shows_what_it_sends_before_it_sends_it_and_is_about_the_cell_when_a_request_failed(kernel, server):
    kernel.cell("def f(x):\n    return 1 / x\n\n\nf(0)")
    assert "return 1 / x" in kernel.plain("%together explain --dry-run")
    assert server.requests == []
    server.script = BROKEN
    assert kernel.cell("%together explain").error["ename"] == "APIStatusError"
    server.script = answers(["You divided by zero."])
    run = kernel.cell("%together explain -o why")
    sent = server.requests[-1].json()["messages"][0]["content"]
    assert sent in run.of("display_data")[0]["content"]["data"]["text/plain"]
    assert "ZeroDivisionError: division by zero" in sent
    assert kernel.value("why.text") == "'You divided by zero.'"


def test_answers_are_saved_and_recorded_without_the_key_and_loaded_and_replayed_by_another_kernel(
    kernel, server, another, tmp_path
):
    saved, tape = tmp_path / "history.jsonl", tmp_path / "lesson.jsonl"
    ask = "%%together --temperature 0.5 -o answer\nhello"
    kernel.cell(f"settings.api_key = {KEY!r}\n%together record {tape}")
    live = kernel.plain(ask)
    kernel.cell("%together record off")
    kernel.cell(f"%%together\nmy key is {KEY}")
    kernel.cell("%%together -c lesson\none", cell="a")
    assert kernel.cell(f"%together save {saved}").stdout.endswith("3 answers, 1 conversation. The key is not in it.\n")
    assert kernel.refusal(f"%together save {saved}").partition("\n")[0].endswith("exists already.")
    kernel.cell("settings.api_key = None")
    assert KEY not in saved.read_text() + tape.read_text()

    another.use(server)
    assert another.cell(f"%together load {saved}").stdout == "Added: 3 answers, 1 conversation.\n"
    assert another.value("[answer.text for answer in history][-1]") == "'1:one'"
    assert another.plain("%%together -c lesson\ntwo", cell="z").startswith("3:two")

    another.cell("settings.base_url = settings.model = None; ledger.clear()")
    server.stop()
    assert another.cell(f"%together replay {tape} --speed 0").status == "ok"
    replayed = another.cell(ask).display
    assert another.value("answer.text") == "'1:hello'"
    assert live.startswith("1:hello\n\n[test/chat · 2 tokens")
    assert "a replay of 20" in replayed["data"]["text/plain"]
    assert replayed["metadata"]["together_nb"]["model"] == "test/chat"
    missing = another.cell("%%together\nsomething else").error
    assert missing["ename"] == "NotRecordedError"
    assert "replay off" in "\n".join(missing["traceback"])
    assert another.value("ledger.rows") == "[]"  # a replay costs nothing
