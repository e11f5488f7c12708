"""Work with the answers, in a real kernel: each way of it, as a cell says it and as the cell is left."""

from __future__ import annotations

import json

import pytest

from tests.kernels import WIDGET, Kernel
from tests.servers import ScriptedServer, answers, replies, silent_after
from together_nb.config import LOCAL_MODEL

KEY = "key-0123456789-canary"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    one.folder = tmp_path_factory.mktemp("files")
    one.run("import together_nb\nfrom together_nb import *").wait()
    yield one
    one.stop()


@pytest.fixture
def kernel(running):
    running.run(
        "settings.base_url = settings.model = settings.budget = None; settings.max_retries = 0\n"
        "history.clear(); conversations.clear(); ledger.clear(); settings.local_tokens_per_second = 0"
    ).wait()
    return running


def asks(kernel, server):
    kernel.run(f"settings.base_url, settings.model = {server.base_url!r}, 'test/chat'").wait()


def echoes(exchange):
    """Answers with the number of messages and the last of them."""
    messages = exchange.request.json()["messages"]
    answers([f"{len(messages)}:", messages[-1]["content"]])(exchange)


def plain(run):
    return run.display["data"]["text/plain"]


# Conversations


def test_a_conversation_goes_on_and_a_cell_that_runs_again_replaces_its_turn_and_drops_the_later_ones(kernel):
    with ScriptedServer(echoes) as server:
        asks(kernel, server)
        first = kernel.run('%%together -c --system "Be brief."\none', cell="a").wait()
        second = kernel.run("%%together -c\ntwo", cell="b").wait()
        third = kernel.run("%%together --chat\nthree", cell="c").wait()
        again = kernel.run("%%together -c\ntwo, again", cell="b").wait()
        apart = kernel.run("%%together -c other\none", cell="d").wait()
    assert [plain(run).partition("\n")[0] for run in (first, second, third, again, apart)] == [
        "2:one", "4:two", "6:three", "4:two, again", "1:one",
    ]  # fmt: skip
    roles = [turn["role"] for turn in server.requests[3].json()["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert server.requests[3].json()["messages"][2]["content"] == "2:one"
    assert kernel.value("[turn.prompt for turn in conversations['chat']]") == "['one', 'two, again']"
    assert kernel.value("len(history)") == "5"


def test_a_failed_and_a_stopped_turn_are_marked_and_can_be_run_again(kernel):
    with ScriptedServer(echoes) as server:
        asks(kernel, server)
        kernel.run("%%together -c\none", cell="a").wait()
        server.script = replies(500, {"error": "broken"})
        assert kernel.run("%%together -c\ntwo", cell="b").wait().status == "error"
        told = plain(kernel.run("%together history").wait())
        assert "error from the server" in told
        server.script = silent_after(["half"])
        run = kernel.run("%%together -c\nthree", cell="c")
        run.until(lambda one: "half" in str(one["content"].get("data")))
        kernel.interrupt()
        run.wait()
        assert [kernel.value(f"conversations['chat'][{n}].mark") for n in (1, 2)] == [
            "'error from the server'", "'stopped by you'",
        ]  # fmt: skip
        server.script = echoes
        again = kernel.run("%%together -c\ntwo", cell="b").wait()
    assert plain(again).startswith("3:two")
    assert kernel.value("[turn.mark for turn in conversations['chat']]") == "['', '']"


def test_reset_forgets_a_conversation_and_keeps_its_answers(kernel):
    kernel.run("%%together -c lesson --max-tokens 3\nhello", cell="a").wait()
    assert "lesson[0]" in plain(kernel.run("%together history").wait())
    assert "hello" in plain(kernel.run("%together history lesson").wait())
    assert kernel.run("%together reset lesson").wait().stdout.startswith("Forgotten: 1 turn.")
    wrong = kernel.run("%together reset lesson").wait()
    assert wrong.error["traceback"][0] == "InputError: There is no conversation called 'lesson'."
    assert kernel.value("len(history)") == "1"


# Continue


@pytest.mark.parametrize("options", ["--api completions", "--api chat", "-c"])
def test_continue_goes_on_from_the_very_end_in_place(kernel, options):
    whole = kernel.run(
        f"%%together {options} --temperature 0 --max-tokens 12 -o whole\nAlan Turing was", cell="w"
    ).wait()
    assert whole.status == "ok"
    kernel.run("history.clear(); conversations.clear()").wait()
    kernel.run(f"%%together {options} --temperature 0 --max-tokens 5 -o part\nAlan Turing was", cell="a").wait()
    run = kernel.run("%together continue --max-tokens 7").wait()
    assert run.status == "ok"
    assert kernel.value("(part.text == whole.text, len(history), history[0] is part, _together is part)") == (
        "(True, 1, True, True)"
    )
    assert plain(run).startswith(kernel.value("part.text")[1:-1].strip()[:20]) or "Alan" not in plain(run)
    assert WIDGET not in run.display["data"]
    if options == "-c":
        assert kernel.value("conversations['chat'][0].completion is part") == "True"


@pytest.mark.parametrize("how", ["stopped", "lost"])
def test_a_stopped_and_a_lost_answer_go_on_too(kernel, how):
    with ScriptedServer(
        silent_after(["half"]) if how == "stopped" else answers(["half"], finish=None, done=False)
    ) as server:
        asks(kernel, server)
        run = kernel.run("%%together -o part\nhello")
        if how == "stopped":
            run.until(lambda one: "half" in str(one["content"].get("data")))
            kernel.interrupt()
        run.wait()
        server.script = answers([" and half"])
        again = kernel.run("%together continue").wait()
        assert server.requests[-1].json()["messages"][-1] == {"role": "assistant", "content": "half"}
    assert again.status == "ok"
    assert kernel.value("(part.text, part.ending, len(history))") == "('half and half', '', 1)"


def test_what_cannot_go_on_says_why(kernel):
    assert (
        kernel.run("%together continue").wait().error["traceback"][0]
        == "InputError: There is no answer yet to go on from."
    )
    with ScriptedServer(answers(["whole"])) as server:
        asks(kernel, server)
        kernel.run("%%together\nhello").wait()
    refused = kernel.run("%together continue").wait()
    assert refused.error["traceback"][0].startswith("InputError: The last answer ended by itself")


def test_after_a_request_that_came_to_nothing_an_older_answer_is_not_taken_for_it(kernel):
    with ScriptedServer(answers(["old"], finish="length")) as server:
        asks(kernel, server)
        kernel.run("%%together\nhello").wait()
        server.script = replies(500, {"error": "broken"})
        kernel.run("%%together\nagain").wait()
        refused = kernel.run("%together continue").wait()
        assert refused.error["traceback"][0].startswith("InputError: Nothing came of the last request")
        server.script = answers([" and new"])
        kernel.run("%%together\nagain").wait()
    assert kernel.value("[answer.text for answer in history]") == "['old', ' and new']"


def test_a_continuation_that_failed_can_be_asked_for_again_and_lists_get_the_whole(kernel):
    with ScriptedServer(answers(["half"], finish="length")) as server:
        asks(kernel, server)
        kernel.run("%%together --compare temperature=0,1 -o both\nhello").wait()
        server.script = replies(500, {"error": "broken"})
        assert kernel.run("%together continue").wait().error["ename"] == "APIStatusError"
        server.script = answers([" and half"])
        assert kernel.run("%together continue").wait().status == "ok"
    assert kernel.value("sorted(answer.text for answer in both)") == "['half', 'half and half']"


# Compare


def test_compare_streams_all_combinations_and_leaves_one_table_and_a_list(kernel):
    run = kernel.run(
        "%%together --compare temperature=0,1 --compare max_tokens=3,6 --seed 1 -o both\nAlan Turing was", cell="x"
    ).wait()
    assert run.status == "ok"
    assert kernel.value("[(c.request.sampling.temperature, c.usage.completion_tokens) for c in both]") == (
        "[(0.0, 3), (0.0, 6), (1.0, 3), (1.0, 6)]"
    )
    assert WIDGET not in run.display["data"]
    assert run.display["data"]["text/markdown"].count("<td") == 4
    made = run.display["metadata"]["together_nb"]["compared"]
    assert [one["parameters"]["max_tokens"] for one in made] == [3, 6, 3, 6]
    assert all(one["time"] and one["id"] and one["usage"] for one in made)


def test_a_column_that_fails_leaves_the_others(kernel):
    def script(exchange):
        if exchange.request.json()["model"] == "test/base":
            exchange.reply(500, {"error": "broken"})
        else:
            answers(["fine"])(exchange)

    with ScriptedServer(script) as server:
        asks(kernel, server)
        run = kernel.run("%%together --api chat --compare model=test/chat,test/base -o both\nhello").wait()
    assert run.status == "ok"
    assert kernel.value("[(c.text, c.error) for c in both]") == "[('fine', ''), ('', 'error from the server')]"


# Probabilities


def test_show_tokens_asks_for_five_alternatives_and_leaves_static_html(kernel):
    run = kernel.run("%%together --show tokens --max-tokens 8 --seed 1 -o told\nAlan Turing was").wait()
    data = run.display["data"]
    assert WIDGET not in data
    assert "mean log-probability" in data["text/plain"]
    assert "perplexity" in data["text/html"]
    assert kernel.value("(told.request.sampling.logprobs, len(told.tokens), len(told.tokens[0].top))") == "(5, 8, 5)"
    given = kernel.run("%%together --show tokens --logprobs 2 --max-tokens 3 --dry-run\nAlan Turing was").wait()
    assert '"logprobs": 2' in plain(given)


# Batches


def test_for_asks_once_for_each_item_and_leaves_a_table_and_no_widget(kernel):
    kernel.run("rows = [{'who': 'Ada', 'n': 1}, {'who': 'Alan', 'n': 2}]").wait()
    with ScriptedServer(echoes) as server:
        asks(kernel, server)
        run = kernel.run("%%together --for rows -o told\nTell about {who} ({n}).").wait()
        texts = kernel.run("%%together --for \"('a', 'b')\" -o few\nSay {item}.").wait()
    assert run.status == texts.status == "ok", run.reply
    assert kernel.value("told.texts") == "['1:Tell about Ada (1).', '1:Tell about Alan (2).']"
    assert kernel.value("few.texts") == "['1:Say a.', '1:Say b.']"
    assert kernel.value("_together is few") == "True"
    left = {}
    for one in run.of("display_data", "update_display_data"):
        left[one["content"].get("transient", {}).get("display_id", str(len(left)))] = one["content"]
    assert all(WIDGET not in one["data"] for one in left.values())
    assert "Ada" in str(left)
    made = [one["metadata"]["together_nb"] for one in left.values() if "together_nb" in one["metadata"]]
    assert len(made) == 1


def test_a_failed_item_is_its_error_and_runs_again_alone(kernel):
    def script(exchange):
        if exchange.request.json()["messages"][-1]["content"].endswith("b"):
            exchange.reply(400, {"error": "not this one"})
        else:
            echoes(exchange)

    with ScriptedServer(script) as server:
        asks(kernel, server)
        assert kernel.run("%%together --for \"['a', 'b', 'c']\" -o told\n{item}").wait().status == "ok"
        assert kernel.value("(told.texts, told.failed)") == "(['1:a', None, '1:c'], [1])"
        server.script = echoes
        asked = len(server.requests)
        kernel.run("_ = told.retry_failed(progress=False)").wait()
        assert len(server.requests) == asked + 1
    assert kernel.value("told.texts") == "['1:a', '1:b', '1:c']"


def test_an_expression_that_fails_says_so_and_sends_nothing(kernel):
    run = kernel.run("%%together --for nowhere\n{item}").wait()
    assert run.error["traceback"][0].startswith("InputError: --for nowhere could not be worked out: NameError")
    empty = kernel.run("%%together --for '[]' -o none_at_all\n{item}").wait()
    assert empty.stdout == "--for [] has no items, so nothing was asked.\n"
    assert kernel.value("len(none_at_all)") == "0"


def test_the_system_prompt_is_filled_in_for_each_item_and_for_each_column(kernel):
    with ScriptedServer(answers(["yes"])) as server:
        asks(kernel, server)
        kernel.run("style = 'pirate'").wait()
        kernel.run("%%together --for \"['a', 'b']\" --system 'A {style} of {item}'\n{item}").wait()
        kernel.run("%%together --compare 'system=A {style},none'\nhello").wait()
        systems = [request.json()["messages"][0]["content"] for request in server.requests]
        shown = plain(kernel.run("%%together --for \"['a']\" --system 'A {style} of {item}' --dry-run\n{item}").wait())
    assert sorted(systems) == ["A pirate", "A pirate of a", "A pirate of b", "none"]
    assert "A pirate of a" in shown


def test_a_dry_run_uses_nothing_up(kernel):
    kernel.run("once = iter('abc')").wait()
    refused = kernel.run("%%together --for once --dry-run\n{item}").wait()
    assert "only once" in refused.error["traceback"][0]
    assert kernel.value("list(once)") == "['a', 'b', 'c']"
    told = kernel.run('%%together --for "[]" --dry-run\n{item}').wait()
    assert told.stdout == "--for [] has no items, so nothing was asked.\n"
    assert "nor are 2 more" in plain(kernel.run("%%together --for \"'abcde'.split('x') * 5\" --dry-run\n{item}").wait())


# Structured answers


def test_a_schema_is_looked_up_sent_and_parsed(kernel):
    kernel.run(
        "from pydantic import BaseModel\n\n\nclass Person(BaseModel):\n    name: str\n    age: int\n\n\n"
        "person = {'type': 'object', 'properties': {'name': {'type': 'string'}}, 'required': ['name']}"
    ).wait()
    run = kernel.run("%%together --schema Person -o told --seed 3\nWho was Alan Turing?").wait()
    assert run.status == "ok"
    assert run.display["data"]["text/markdown"].startswith("```json\n{")
    assert kernel.value("type(told.parsed).__name__") == "'Person'"
    kernel.run("%%together --schema person -o told --seed 3\nWho was Alan Turing?").wait()
    assert kernel.value("sorted(told.parsed)") == "['name']"
    kernel.run("%%together --show json -o told --seed 3\nWho was Alan Turing?").wait()
    assert kernel.value("type(told.parsed).__name__") == "'dict'"
    wrong = kernel.run("%%together --schema Persn\nWho?").wait()
    assert wrong.error["traceback"] == ["InputError: There is no variable called Persn.", "Did you mean person?"]
    none = kernel.run("%%together --schema opem\nWho?").wait()  # `open` is Python's, and no form of anybody's
    assert none.error["traceback"][1].startswith("Run the cell that makes it")


def test_a_reply_that_does_not_fit_is_shown_with_the_reason(kernel):
    kernel.run("person = {'type': 'object', 'required': ['name']}").wait()
    with ScriptedServer(answers(['{"nom": "Ada"}'])) as server:
        asks(kernel, server)
        run = kernel.run("%%together --schema person -o told\nWho?").wait()
        sent = server.requests[0].json()["response_format"]
    assert sent["json_schema"] == {"name": "person", "schema": {"type": "object", "required": ["name"]}}
    assert "It does not fit the schema: 'name' is a required property." in plain(run)
    assert '"nom"' in plain(run)
    assert kernel.value("(told.parsed, told.unparsed[:15])") == "(None, 'It does not fit')"


def test_show_code_offers_the_fenced_code_as_a_new_cell_once(kernel):
    with ScriptedServer(answers(["Here:\n\n```python\nprint(6 * 7)\n```\n"])) as server:
        asks(kernel, server)
        first = kernel.run("%%together --show code\ncode, please", cell="k").wait()
        again = kernel.run("%%together --show code\ncode, please", cell="k").wait()
        other = kernel.run("%%together\ncode, please", cell="l").wait()
    offer = {"source": "set_next_input", "text": "print(6 * 7)", "replace": False}
    assert first.reply["content"]["payload"] == [offer]
    assert again.reply["content"]["payload"] == other.reply["content"]["payload"] == []


# Cost


def test_usage_tells_calls_tokens_and_dollars_by_model_and_a_budget_refuses(kernel):
    with ScriptedServer(answers(["one", " two"])) as server:
        asks(kernel, server)
        assert "$9.0e-06" in plain(kernel.run("%%together\nhello").wait())
        kernel.run("%%together -m test/base\nhello").wait()
        kernel.run("%%together -m local/unknown --api chat\nhello").wait()
        told = plain(kernel.run("%together usage").wait()).splitlines()
        kernel.run("%config TogetherMagics.budget = 1e-6").wait()
        refused = kernel.run("%%together\nhello").wait()
        assert len(server.requests) == 3
    assert [line.split()[:4] for line in told[1:5]] == [
        ["test/chat", "1", "5", "2"], ["test/base", "1", "5", "2"], ["local/unknown", "1", "5", "2"], ["all", "3", "15", "6"],
    ]  # fmt: skip
    assert told[1].endswith("$9.0e-06")
    assert told[3].endswith("unknown")
    assert "at least $" in told[4]
    assert refused.error["ename"] == "BudgetError"
    assert refused.error["traceback"][0].startswith("BudgetError: The session has spent at least $")


def test_what_the_budget_refuses_in_a_comparison_is_no_answer_and_says_why(kernel):
    with ScriptedServer(answers(["one"])) as server:
        asks(kernel, server)
        kernel.run("settings.budget = 1e-6").wait()
        kernel.run("%%together --compare seed=1,2,3,4,5,6 -o several\nhello").wait()
        assert len(server.requests) < 6
    assert kernel.value("(len(history), several[-1].error, several[-1].cost_told)") == (
        f"({len(server.requests)}, 'not sent: the budget is spent', '')"
    )


# Explain


def test_explain_shows_what_it_sends_before_it_sends_it(kernel):
    asked = []

    def script(exchange):
        asked.append(exchange.request.json()["messages"][0]["content"])
        answers(["You divided by zero."])(exchange)

    with ScriptedServer(script) as server:
        asks(kernel, server)
        kernel.run("def f(x):\n    return 1 / x\n\n\nf(0)").wait()
        only = kernel.run("%together explain --dry-run").wait()
        assert asked == []
        run = kernel.run("%together explain -o why").wait()
    shown, answered = run.of("display_data")[0]["content"]["data"], kernel.value("why.text")
    assert "return 1 / x" in plain(only)
    assert asked[0] in shown["text/plain"]
    assert "return 1 / x" in asked[0]
    assert "ZeroDivisionError: division by zero" in asked[0]
    assert "interactiveshell" not in asked[0]
    assert answered == "'You divided by zero.'"


def test_explain_is_still_about_the_cell_when_the_request_failed(kernel):
    with ScriptedServer(replies(500, {"error": "broken"})) as server:
        asks(kernel, server)
        kernel.run("{}['nothing']").wait()
        assert kernel.run("%together explain").wait().error["ename"] == "APIStatusError"
        server.script = answers(["A key is missing."])
        assert kernel.run("%together explain -o why").wait().status == "ok"
        assert "KeyError: 'nothing'" in server.requests[-1].json()["messages"][0]["content"]


# What outlives the kernel


@pytest.fixture
def another(tmp_path):
    one = Kernel(tmp_path)
    one.run("from together_nb import *").wait()
    yield one
    one.stop()


def test_answers_and_conversations_are_saved_without_the_key_and_loaded_by_another_kernel(kernel, another):
    path = kernel.folder / "history.jsonl"
    with ScriptedServer(echoes) as server:
        asks(kernel, server)
        kernel.run(f"settings.api_key = {KEY!r}").wait()
        kernel.run("%%together -c lesson\none", cell="a").wait()
        kernel.run(f"%%together\nmy key is {KEY}").wait()
        said = kernel.run(f"%together save {path}").wait().stdout
        refused = kernel.run(f"%together save {path}").wait()
        kernel.run("settings.api_key = None").wait()
        assert said.endswith("2 answers, 1 conversation. The key is not in it.\n")
        assert refused.error["traceback"][0].endswith("exists already.")
        assert KEY not in path.read_text()
        another.run(f"settings.base_url, settings.model = {server.base_url!r}, 'test/chat'").wait()
        assert another.run(f"%together load {path}").wait().stdout == "Added: 2 answers, 1 conversation.\n"
        assert another.value("[answer.text for answer in history][0]") == "'1:one'"
        went_on = another.run("%%together -c lesson\ntwo", cell="z").wait()
    assert plain(went_on).startswith("3:two")


def test_a_session_is_recorded_once_with_a_key_and_replayed_with_none_and_no_network(kernel, another):
    path = kernel.folder / "lesson.jsonl"
    cell = "%%together --temperature 0.5 -o told\nhello"
    with ScriptedServer(answers(["The", " answer", "."])) as server:
        asks(kernel, server)
        kernel.run(f"settings.api_key = {KEY!r}\n%together record {path}").wait()
        live = kernel.run(cell).wait()
        kernel.run("settings.api_key = None\n%together record off").wait()
    assert KEY not in path.read_text()
    assert another.run(f"%together replay {path} --speed 0").wait().status == "ok"
    replayed = another.run(cell).wait()
    assert replayed.status == "ok", replayed.reply
    assert another.value("told.text") == "'The answer.'"
    assert plain(live).startswith("The answer.\n\n[test/chat · 3 tokens")
    assert "a replay of 20" in plain(replayed)
    other = another.run("%%together\nsomething else").wait()
    assert other.error["ename"] == "NotRecordedError"
    assert "replay off" in "\n".join(other.error["traceback"])
    assert another.value("ledger.rows") == "[]"  # a replay costs nothing
    another.run("%together replay off").wait()


# Provenance


@pytest.mark.parametrize("watched", [True, False])
def test_each_output_says_what_made_it(kernel, watched):
    run = kernel.run("%%together --max-tokens 4 --seed 7\nAlan Turing was", watched=watched).wait()
    made = run.display["metadata"]["together_nb"]
    assert made["model"] == LOCAL_MODEL
    assert made["parameters"] == {"max_tokens": 4, "seed": 7}
    assert made["usage"]["completion_tokens"] == 4
    assert made["id"]
    assert made["time"].endswith("Z")
    assert made["time"][:2] == "20"
    json.dumps(made)
