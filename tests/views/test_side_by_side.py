"""Answers side by side as they are drawn: on IOPub by a real kernel, in a terminal, where nobody watches."""

from __future__ import annotations

import re
import threading

import pytest

import together_nb
from tests.kernels import WIDGET, Kernel, sent_at
from tests.servers import ScriptedServer, answers, replies, silent_after
from tests.whole.test_kernel import text_of
from together_nb.errors import StreamError
from together_nb.run.driver import REPAINTS_IN_ALL, run_side_by_side
from together_nb.values.chunk import Choice, Token
from together_nb.values.completion import Completion
from together_nb.values.request import CompletionRequest
from together_nb.views import side_by_side_table, side_by_side_view_for

START = """
import threading, ipywidgets, together_nb
from together_nb import compare
from together_nb.views import layouts
together_nb.settings.max_retries = 0
layouts.plain_layout(), layouts.snug_layout(), layouts.html_style()  # these stay; made once, they are not counted

def widgets():
    for thread in threading.enumerate():
        if thread.name == "together_nb closing":
            thread.join()
    return len(getattr(ipywidgets.widgets.widget, "_instances", None) or ipywidgets.Widget.widgets)
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    one.run(START).wait()
    yield one
    one.stop()


@pytest.fixture
def run(kernel):
    """Start a comparison of seeds in the kernel, with a scripted server; no widget may be left."""
    before = kernel.value("widgets()")

    def start(server, seeds=(1, 2), at_once=4, given="", **options):
        kernel.run(f"together_nb.settings.base_url = {server.base_url!r}; together_nb.history.clear()").wait()
        values = f"model='test/chat', api='chat', seed={list(seeds)}, at_once={at_once}"
        return kernel.run(f"got = compare('hello', {values}, {given})", **options)

    yield start
    assert kernel.value("widgets()") == before


def words_of(message):
    """What an HTML widget is given by a message."""
    return message["content"].get("data", {}).get("state", {}).get("value", "")


def seeded(exchange):
    answers([f"seed {exchange.request.json()['seed']}", " to the end"])(exchange)


def test_a_cell_is_left_with_one_display_that_holds_all_answers(run, kernel):
    with ScriptedServer(seeded) as server:
        cell = run(server, [3, 5]).wait()
    assert cell.status == "ok"
    assert len(cell.of("display_data")) == len(cell.of("update_display_data")) == 1
    assert WIDGET in cell.of("display_data")[0]["content"]["data"]
    data = cell.display["data"]
    assert set(data) == {"text/markdown", "text/plain"}
    texts = ["seed 3 to the end", "seed 5 to the end"]
    pattern = r"<div align=\"left\">\n\n(seed \d to the end)\n\n<sub>test/chat · 2 tokens · "
    assert re.findall(pattern, data["text/markdown"]) == texts
    assert data["text/plain"].startswith("seed = 3\n\nseed 3 to the end\n\n[test/chat · 2 tokens · ")
    assert "\n\n\nseed = 5\n\nseed 5 to the end\n\n[test/chat" in data["text/plain"]
    made = cell.display["metadata"]["together_nb"]["compared"]
    assert [(one["title"], one["model"], one["parameters"], one["finish_reason"]) for one in made] == [
        (f"seed = {seed}", "test/chat", {"seed": seed}, "stop") for seed in (3, 5)
    ]
    assert kernel.value("[one.text for one in got]") == str(texts)
    assert kernel.value("sorted(one.text for one in together_nb.history)") == str(texts)


def test_a_wait_and_a_failure_are_shown_in_their_columns_and_the_cell_goes_on(run, kernel):
    scripts = {1: [replies(503, {}), seeded], 2: [replies(422, {"error": {"message": "<b>not 2</b>"}})], 3: [seeded]}
    with ScriptedServer(lambda exchange: scripts[exchange.request.json()["seed"]].pop(0)(exchange)) as server:
        kernel.run("together_nb.settings.max_retries = 1").wait()
        cell = run(server, [1, 2, 3]).wait()
        kernel.run("together_nb.settings.max_retries = 0").wait()
    assert cell.status == "ok"
    assert any("overloaded; trying again" in words_of(one) for one in cell.messages)
    markdown = cell.display["data"]["text/markdown"]
    assert markdown.count("to the end") == 2
    assert "&#60;b&#62;not 2&#60;/b&#62;" in markdown
    assert "(HTTP 422). <b>not 2</b>" in cell.display["data"]["text/plain"]
    errors = [one["error"] for one in cell.display["metadata"]["together_nb"]["compared"]]
    assert errors == ["", "error from the server", ""]
    (red,) = {words for one in cell.messages if "HTTP 422" in (words := words_of(one))}
    assert 'class="tnb-failed"' in red
    assert "<b>not 2" not in red
    assert cell.of("stream") == []


def test_where_all_fail_the_cell_fails_and_shows_them_and_where_nothing_can_be_sent_it_draws_nothing(run):
    with ScriptedServer(replies(422, {"error": {"message": "no"}})) as server:
        cell = run(server).wait()
        unfit = run(server, given="top_p=[0, 2]").wait()
        assert len(server.requests) == 2
    assert cell.error["ename"] == "APIStatusError"
    assert cell.display["data"]["text/plain"].count("(HTTP 422). no") == 2
    assert unfit.error["ename"] == "InputError"
    assert unfit.of("display_data", "comm_open", "stream") == []


def test_columns_are_drawn_as_they_stream_and_the_stop_button_stops_all_and_keeps_what_came(run, kernel):
    with ScriptedServer(silent_after(["part"])) as server:
        cell = run(server, [1, 2, 3], at_once=2)
        for _ in range(2):
            cell.until(lambda one: text_of(one) == "part")
        states = [words_of(one) for one in cell.messages]
        assert (states.count("Queued"), states.count("Waiting for the first token")) == (3, 2)
        kernel.interrupt()
        cell.wait()
        assert server.closed.wait(20)
    assert cell.error["traceback"] == ["KeyboardInterrupt: stopped by you; what came is kept."]
    plain = cell.display["data"]["text/plain"]
    assert plain.count("\n\npart\n\n") == 2
    assert plain.count("stopped by you") == 3
    assert len(server.requests) == 2
    assert kernel.value("[one.text for one in together_nb.history]") == "['part', 'part']"


def test_four_columns_at_500_tokens_a_second_stay_far_below_what_the_server_lets_through(run):
    """Jupyter's server drops what is beyond 1,000 messages or 1 MB a second."""

    def script(exchange):
        exchange.chunked().headers()
        for _ in range(100):
            exchange.text_events(["The", " quick", " brown", " fox", "\n\n"])
            exchange.wait(0.01)
        answers([])(exchange)

    with ScriptedServer(script) as server:
        cell = run(server, [1, 2, 3, 4]).wait()
    assert cell.display["data"]["text/plain"].count("The quick brown fox") == 4 * 100
    # By the messages' own clock, so that a busy machine changes nothing: it only sends fewer.
    times = [sent_at(one).timestamp() for one in cell.messages]
    assert max(sum(start <= other < start + 1 for other in times) for start in times) < 250
    assert len(cell.repaints()) < REPAINTS_IN_ALL * (max(times) - min(times)) + 16
    assert cell.bytes < 2 * 1_000_000


def test_where_nobody_watches_there_is_one_display_at_the_end_and_with_show_none_nothing(run):
    with ScriptedServer(seeded) as server:
        cell = run(server, watched=False).wait()
        silent = run(server, given="show='none'").wait()
    assert len(cell.of("comm_open", "update_display_data", "display_data")) == 1
    assert cell.display["data"]["text/markdown"].count("<td") == 2
    assert len(cell.display["metadata"]["together_nb"]["compared"]) == 2
    assert silent.status == "ok"
    assert silent.of("comm_open", "display_data", "stream") == []
    assert len(server.requests) == 4


def test_in_a_terminal_one_is_written_after_the_other_each_below_its_title(capsys):
    first = threading.Event()

    def script(exchange):
        if exchange.request.json()["seed"] == 1:
            exchange.pause(first)
        answers(["\x1b[31mred"])(exchange)

    with ScriptedServer(script) as server:
        together_nb.settings.base_url = server.base_url
        opened = [together_nb.stream("Hello", model="test/chat", api="chat", seed=seed) for seed in (1, 2)]
        view = side_by_side_view_for(None, "auto", ["seed = 1", "seed = 2"], 2)
        run_side_by_side(opened, view, keep=lambda _: first.set())
    out = re.sub(r"· [^\]]*]", "· …]", capsys.readouterr().out)
    assert out == "".join(f"── seed = {seed} ──\n\\x1b[31mred\n\n[test/chat · …]\n\n" for seed in (2, 1))


# What is saved


@pytest.mark.parametrize(
    ("number", "across", "rows"),
    [
        (1, 1, [1]), (3, 3, [3]), (4, 4, [4]), (5, 5, [3, 2]), (6, 6, [3, 3]), (7, 7, [4, 3]), (9, 9, [3, 3, 3]),
        (6, 3, [3, 3]), (4, 2, [2, 2]), (3, 1, [1, 1, 1]), (10, 5, [3, 2, 3, 2]),
    ],
)  # fmt: skip
def test_the_last_key_runs_across_and_no_row_is_wider_than_four(number, across, rows):
    found = side_by_side_table.in_rows(range(number), across)
    assert [len(one) for one in found] == rows
    assert [item for one in found for item in one] == list(range(number))


def ended(title, text, raised=None, **given):
    choice = Choice(0, text, tokens=[Token("<b>", -0.5), Token(" x", -1.0)])
    return title, Completion(CompletionRequest("x", "m", "chat"), [choice], "m", chunks=1, **given), raised


def test_titles_and_failures_are_shown_to_the_letter():
    failed = ended("a | <b>", "x", StreamError("**bad**", "Do <i>that</i>."), error="failed")
    made = side_by_side_table.bundle(
        [failed, ended("c\n# d", "y"), ended("e", "z", StreamError("gone"), cancelled=True)], 2, "text"
    )
    assert "a &#124; &#60;b&#62;</div></th>" in made["text/markdown"]
    assert "c # d</div></th>" in made["text/markdown"]
    assert "<b>&#42;&#42;bad&#42;&#42; Do &#60;i&#62;that&#60;/i&#62;.</b>" in made["text/markdown"]
    assert made["text/plain"].startswith(
        "a | <b>\n\nx\n\n[m · 1 chunk · 0.0 s · failed]\n\n**bad** Do <i>that</i>.\n\n\nc"
    )
    assert "gone" not in made["text/plain"]  # it was stopped, and did not fail
    assert "text/html" not in made


def test_shaded_tokens_are_a_table_of_html_too():
    both = [ended("a<i>", "<b> x"), ended("c", "<b> x", StreamError("no <u>"), error="failed")]
    made = side_by_side_table.bundle(both, 2, "tokens")["text/html"]
    assert made.count('<div align="left">') == 2
    assert "a&lt;i&gt;</div></th>" in made
    assert "no &lt;u&gt;</b></td>" in made
    assert len(set(re.findall(r'name="([^"]+)"', made))) == 2  # the arrow keys do not lead from one answer to the next
