"""`%%together` in a real kernel: what is said on IOPub, when, and how much of it."""

from __future__ import annotations

import ast
import threading

import pytest

from tests.kernels import WIDGET, sent_at
from tests.panel.test_panel import held_until
from tests.servers import ScriptedServer, answers, replies

WORDS = ("The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".\n\n")


IN_THE_KERNEL = """import threading, together_nb
from ipywidgets.widgets import widget
together_nb.settings.model = 'test/chat'"""


@pytest.fixture
def ask(kernel):
    """Point the kernel at a scripted server and start a cell."""

    def start(server, cell="%%together\nhello", **options):
        kernel.run(f"together_nb.settings.base_url = {server.base_url!r}").wait()
        return kernel.run(cell, **options)

    return start


def text_of(message):
    outputs = message["content"].get("data", {}).get("state", {}).get("outputs") or ()
    return "".join(output["data"].get("text/markdown", "") for output in outputs)


def test_run_all_stops_at_an_interrupted_cell(ask, kernel):
    queued_too = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["part"])
        exchange.pause(queued_too)
        exchange.text_events([" and more"])
        exchange.await_close()

    with ScriptedServer(script) as server:
        first = ask(server, all=True)
        first.until(lambda one: text_of(one) == "part")
        queued = kernel.run("print('must not run')", all=True)
        # A signal is faster than a message: what has not reached the kernel when it is interrupted runs.
        queued_too.set()
        first.until(lambda one: text_of(one) == "part and more")
        kernel.interrupt()
        first.wait()
        queued.reply = kernel.client.get_shell_msg(timeout=60)
    assert queued.status == "aborted"


def test_what_has_arrived_is_on_screen_before_more_is_sent(ask):
    shown = [threading.Event(), threading.Event()]
    rest = held_until(shown[1], answers([]), before=[" second", " third"])
    with ScriptedServer(held_until(shown[0], rest, before=["first"])) as server:
        run = ask(server)
        for text, event in zip(("first", "first second third"), shown, strict=True):
            run.until(lambda one, text=text: text_of(one) == text)
            event.set()
        run.wait()
    assert run.status == "ok"
    assert run.display["data"]["text/plain"].startswith("first second third\n\n[test/chat · ")


def test_the_cell_is_left_with_plain_markdown_its_footer_and_what_made_it(ask):
    with ScriptedServer(answers(["# Title", "\n\nand *text*"])) as server:
        run = ask(server, "%%together --temperature 0\nhello").wait()
        code = ask(server, "%%together --show code\nhello").wait()
    first = run.of("display_data")[0]["content"]
    assert set(first["data"]) == {WIDGET, "text/plain"}
    assert set(run.display["data"]) == {"text/markdown", "text/plain"}
    assert run.display["data"]["text/markdown"].startswith("# Title\n\nand *text*\n\n<sub>test/chat · 2 tokens · ")
    assert code.display["data"]["text/markdown"].startswith("```\n# Title\n\nand *text*\n```\n\n<sub>")
    made = run.display["metadata"]["together_nb"]
    assert made["model"] == "test/chat"
    assert made["parameters"] == {"temperature": 0.0}
    assert made["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert "hello" not in str(made)


def test_a_long_answer_is_painted_whole_in_pieces_at_most_20_times_a_second_and_all_its_widgets_are_closed(ask, kernel):
    def script(exchange):
        exchange.chunked().headers()
        for _ in range(250):
            exchange.text_events(WORDS)
            exchange.wait(0.01)
        answers([])(exchange)

    with ScriptedServer(answers(["Once"])) as server:
        ask(server).wait()  # the first answer of a kernel opens the layouts and styles that all of them share
    with ScriptedServer(script) as server:
        run = ask(server).wait()
    paints = {}
    for one in run.of("comm_open", "comm_msg"):
        if text_of(one):
            paints.setdefault(one["content"]["comm_id"], []).append(text_of(one))
    # A piece that is sealed is never sent again.
    assert "\n\n".join(texts[-1].strip() for texts in paints.values()) == ("".join(WORDS) * 250).strip()
    assert len(paints) > 3
    assert max(len(text) for texts in paints.values() for text in texts) < 6000
    times = [when for when, _ in run.repaints()]
    assert 10 < len(times) <= 20 * (times[-1] - times[0]).total_seconds() + 3
    kernel.run("[one.join() for one in threading.enumerate() if one.name == 'together_nb closing']").wait()
    opened = {one["content"]["comm_id"] for one in run.of("comm_open")}
    left = ast.literal_eval(kernel.value("sorted(getattr(widget, '_instances', None) or widget.Widget.widgets)"))
    assert len(opened) > 8
    assert opened.isdisjoint(left)


@pytest.mark.parametrize("cell", ["%%together\nhello", "%%together --show text\nhello"])
def test_10000_tokens_at_once_are_fewer_than_200_messages_and_2_megabytes(ask, cell):
    with ScriptedServer(answers(WORDS * 1000)) as server:
        run = ask(server, cell).wait()
    assert run.display["data"]["text/plain"].count("fox") == 1000
    seconds = (sent_at(run.messages[-1]) - sent_at(run.messages[0])).total_seconds()
    assert len(run.messages) < max(200, 60 * seconds)  # a slow machine repaints for longer
    assert run.bytes < 2_000_000


@pytest.mark.parametrize(
    ("script", "words", "plain"),
    [
        (answers(["half"], finish=None, done=False), "ConnectionLostError: ", "half\n\n[test/chat · 1 chunk · "),
        (replies(400, {"error": {"message": "Internal"}}), "APIStatusError: ", "[test/chat · "),
    ],
    ids=["in the middle", "before anything came"],
)
def test_an_error_shows_two_lines_and_what_had_come_stays(ask, script, words, plain):
    with ScriptedServer(script) as server:
        run = ask(server).wait()
    first, _ = run.error["traceback"]
    assert run.status == "error"
    assert first.startswith(words)
    assert run.error["ename"] == words.rstrip(": ")
    assert WIDGET not in run.display["data"]
    assert run.display["data"]["text/plain"].startswith(plain)
    assert len(server.requests) == 1


def test_thinking_is_folded_away_and_several_answers_stand_apart(ask, kernel):
    deltas = [
        (0, {"reasoning": "Let me <think>."}),
        (0, {"content": "a"}),
        (1, {"content": "x"}),
        (0, {"content": "b"}),
    ]

    def script(exchange):
        exchange.chunked().headers()
        for index, delta in deltas:
            exchange.event({"choices": [{"index": index, "delta": delta}]})
        for index in (0, 1):
            exchange.event(exchange.payload("", index=index, finish="stop"))
        exchange.done()

    with ScriptedServer(script) as server:
        run = ask(server, "%%together --n 2 -o answer\nhello").wait()
    assert run.display["data"]["text/markdown"].startswith(
        "**Answer 1**\n\n<details><summary>Thinking</summary>\n\nLet me &#60;think&#62;.\n\n</details>\n\nab\n\n"
        "**Answer 2**\n\nx\n\n<sub>"
    )
    assert kernel.value("(answer.text, answer.reasoning)") == "('ab', 'Let me <think>.')"


@pytest.mark.parametrize(
    "body",
    ["A story\n\n", ">>> 1 + 1\n2\n>>> ", "In [1]: x\n   ...: y", "a\n   \n\tb\n", "%%time\n!ls\n%matplotlib\n?"],
)  # fmt: skip
def test_the_prompt_is_the_cell_to_the_letter(ask, body):
    with ScriptedServer(answers(["x"])) as server:
        ask(server, "%%together\n" + body).wait()
    assert server.requests[0].json()["messages"][0]["content"] == body


def test_login_asks_unseen_and_the_key_is_on_no_message(ask, kernel):
    key = "key-0123456789-secret"
    with ScriptedServer(answers(["x"])) as server:
        login = ask(server, "%together login")
        question = kernel.answer_stdin(key)
        login.wait()
        cells = ("%%together --dry-run\nhello", "together_nb.settings, together_nb.settings.api_key, %who_ls")
        runs = [login, *(ask(server, cell).wait() for cell in cells)]
    assert question["password"] is True
    assert login.stdout.startswith("The key works")
    assert server.list_requests[0].headers["authorization"] == f"Bearer {key}"
    assert all(key not in str(run.messages) for run in runs)
    assert key not in kernel.value("In")
    kernel.run("%together logout").wait()
    assert kernel.value("together_nb.settings.api_key is None") == "True"


def test_tab_and_help_work_through_the_kernel(kernel):
    line = "%%together --temp"
    kernel.client.complete(line, len(line))
    reply = kernel.client.get_shell_msg(timeout=60)["content"]
    start, end = reply["cursor_start"], reply["cursor_end"]
    assert "%%together --temperature" in [line[:start] + match + line[end:] for match in reply["matches"]]
    kernel.client.inspect("%%together", 10)
    shown = kernel.client.get_shell_msg(timeout=60)["content"]["data"]["text/plain"]
    assert "--temperature" in shown
    assert "--dry-run" in shown
