"""Answers side by side as they are drawn: on IOPub by a real kernel, in a terminal, where nobody watches."""

from __future__ import annotations

import re
import threading

import pytest

from tests.kernels import WIDGET, Kernel, sent_at
from tests.servers import ScriptedServer, answers, replies, silent_after
from tests.test_views import Shell
from together_nb import settings
from together_nb.comparison import run_side_by_side
from together_nb.completion import Choice, Completion, CompletionRequest, Token
from together_nb.errors import InputError, StreamError
from together_nb.resolve import open_stream
from together_nb.views import compare as views
from together_nb.views import side_by_side_view_for, table

WIDGETS = "len(getattr(__import__('ipywidgets').widgets.widget, '_instances', None) or __import__('ipywidgets').Widget.widgets)"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    one.run(
        "from together_nb.comparison import compare; import together_nb; together_nb.settings.max_retries = 0"
    ).wait()
    # What widgets share, a layout and a style, stays: made once, it is not counted.
    one.run(
        "from together_nb.views import shared; [shared.plain_layout(), shared.snug_layout(), shared.html_style()]"
    ).wait()
    yield one
    one.stop()


@pytest.fixture
def ask(kernel):
    """Start a cell in the kernel, pointed at a scripted server."""

    def start(server, code, **options):
        kernel.run(f"together_nb.settings.base_url = {server.base_url!r}; together_nb.history.clear()").wait()
        return kernel.run(code, **options)

    return start


def state_of(message):
    return message["content"].get("data", {}).get("state", {})


def drawn(message):
    """The Markdown that an output widget is given by a message."""
    return "".join(output["data"]["text/markdown"] for output in state_of(message).get("outputs") or ())


def seeded(exchange):
    answers([f"seed {exchange.request.json()['seed']}", " to the end"])(exchange)


CALL = "got = compare('hello', model='test/chat', api='chat', seed={}, at_once={})"


def test_a_cell_is_left_with_one_display_that_holds_all_and_no_widget(ask, kernel):
    before = kernel.value(WIDGETS)
    with ScriptedServer(seeded) as server:
        run = ask(server, CALL.format([3, 5], 4)).wait()
    assert run.status == "ok"
    assert len(run.of("display_data")) == len(run.of("update_display_data")) == 1
    assert WIDGET in run.of("display_data")[0]["content"]["data"]
    left = run.display
    assert set(left["data"]) == {"text/markdown", "text/plain"}
    markdown = left["data"]["text/markdown"]
    assert re.findall(r"<div align=\"left\">\n\n(seed \d to the end)\n\n<sub>test/chat · 2 tokens · ", markdown) == [
        "seed 3 to the end",
        "seed 5 to the end",
    ]
    assert left["data"]["text/plain"].startswith("seed = 3\n\nseed 3 to the end\n\n[test/chat · 2 tokens · ")
    assert "\n\n\nseed = 5\n\nseed 5 to the end\n\n[test/chat" in left["data"]["text/plain"]
    told = left["metadata"]["together_nb"]["compared"]
    assert [(one["title"], one["model"], one["parameters"], one["finish_reason"]) for one in told] == [
        (f"seed = {seed}", "test/chat", {"seed": seed}, "stop") for seed in (3, 5)
    ]
    assert kernel.value("[one.text for one in got]") == "['seed 3 to the end', 'seed 5 to the end']"
    assert kernel.value("sorted(one.text for one in together_nb.history) == [one.text for one in got]") == "True"
    assert kernel.value(WIDGETS) == before


def test_each_column_is_drawn_before_it_has_ended_and_a_queued_one_says_so(ask):
    go = threading.Event()

    def script(exchange):
        exchange.chunked().text_events([f"seed {exchange.request.json()['seed']}"])
        exchange.pause(go)
        exchange.event(exchange.payload(", on", finish="stop"))
        exchange.done()

    with ScriptedServer(script) as server:
        run = ask(server, CALL.format([1, 2, 3], 2))
        seen = set()

        def both(message):
            seen.add(drawn(message))
            return {"seed 1", "seed 2"} <= seen

        run.until(both)
        values = [state_of(one).get("value", "") for one in run.messages]
        assert values.count("Queued") == 3
        assert values.count("Waiting for the first token") == 2
        assert len(server.requests) == 2
        go.set()
        run.wait()
    assert run.status == "ok"
    assert run.display["data"]["text/plain"].count(", on") == 3


def test_a_wait_is_told_in_its_column(ask, kernel):
    busy = threading.Event()

    def script(exchange):
        if exchange.request.json()["seed"] == 1 and not busy.is_set():
            busy.set()
            exchange.reply(503, {})
        else:
            seeded(exchange)

    kernel.run("together_nb.settings.max_retries = 1").wait()
    with ScriptedServer(script) as server:
        run = ask(server, CALL.format([1, 2], 2)).wait()
    kernel.run("together_nb.settings.max_retries = 0").wait()
    waits = tuple(f"the server is overloaded; trying again {left}" for left in ("in 1 s", "now"))
    assert any(state_of(one).get("value", "").startswith(waits) for one in run.messages)
    assert run.of("stream") == []
    assert run.display["data"]["text/plain"].count("to the end") == 2


def test_a_failure_is_shown_in_its_column_and_the_cell_goes_on(ask):
    def script(exchange):
        if exchange.request.json()["seed"] == 2:
            exchange.reply(422, {"error": {"message": "<b>not 2</b>"}})
        else:
            seeded(exchange)

    with ScriptedServer(script) as server:
        run = ask(server, CALL.format([1, 2, 3], 4)).wait()
    assert run.status == "ok"
    markdown = run.display["data"]["text/markdown"]
    assert markdown.count("to the end") == 2
    assert "&#60;b&#62;not 2&#60;/b&#62;" in markdown
    assert "error from the server" in markdown
    assert "(HTTP 422). <b>not 2</b>" in run.display["data"]["text/plain"]
    assert [one["error"] for one in run.display["metadata"]["together_nb"]["compared"]] == [
        "",
        "error from the server",
        "",
    ]
    red = [
        value for one in run.messages if "tnb-failed" in (value := state_of(one).get("value", "")) and "HTTP" in value
    ]
    assert len(red) == 1
    assert "<b>not 2" not in red[0]


def test_where_all_fail_the_cell_fails_and_shows_them(ask, kernel):
    before = kernel.value(WIDGETS)
    with ScriptedServer(replies(422, {"error": {"message": "no"}})) as server:
        run = ask(server, CALL.format([1, 2], 4)).wait()
    assert run.error["ename"] == "APIStatusError"
    assert run.display["data"]["text/plain"].count("(HTTP 422). no") == 2
    assert kernel.value(WIDGETS) == before


def test_what_cannot_be_sent_is_told_before_anything_is_drawn(ask, kernel):
    before = kernel.value(WIDGETS)
    with ScriptedServer(seeded) as server:
        run = ask(server, "compare('hello', model='test/chat', api='chat', top_p=[0, 2])").wait()
    assert run.error["ename"] == "InputError"
    assert run.of("display_data", "comm_open", "stream") == []
    assert server.requests == []
    assert kernel.value(WIDGETS) == before


def test_the_stop_button_of_the_notebook_stops_all_and_keeps_what_came(ask, kernel):
    before = kernel.value(WIDGETS)
    with ScriptedServer(silent_after(["part"])) as server:
        run = ask(server, CALL.format([1, 2, 3], 2))
        for _ in range(2):
            run.until(lambda one: drawn(one) == "part")
        kernel.interrupt()
        run.wait()
        assert server.closed.wait(20)
    assert run.error["ename"] == "KeyboardInterrupt"
    assert run.error["traceback"] == ["KeyboardInterrupt: stopped by you; what came is kept."]
    plain = run.display["data"]["text/plain"]
    assert plain.count("\n\npart\n\n") == 2
    assert plain.count("stopped by you") == 3
    assert len(server.requests) == 2
    assert kernel.value("[one.text for one in together_nb.history]") == "['part', 'part']"
    assert kernel.value(WIDGETS) == before


def test_four_columns_at_500_tokens_a_second_stay_far_below_what_the_server_lets_through(ask, kernel):
    """Jupyter's server drops what is beyond 1,000 messages or 1 MB a second."""

    def script(exchange):
        exchange.chunked().headers()
        for _ in range(200):
            exchange.text_events(["The", " quick", " brown", " fox", "\n\n"])
            exchange.wait(0.01)
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    with ScriptedServer(script) as server:
        run = ask(server, CALL.format([1, 2, 3, 4], 4)).wait()
    assert run.status == "ok"
    assert run.display["data"]["text/plain"].count("The quick brown fox") == 4 * 200
    # By the messages' own clock, so that a busy machine changes nothing: it only sends fewer.
    times = sorted(sent_at(one).timestamp() for one in run.messages)
    most = max(sum(1 for other in times if start <= other < start + 1) for start in times)
    assert most < 250
    assert run.bytes < 4 * 1_000_000


def test_where_nobody_watches_there_is_one_display_at_the_end(ask):
    with ScriptedServer(seeded) as server:
        run = ask(server, CALL.format([1, 2], 2), watched=False).wait()
    assert run.of("comm_open", "update_display_data") == []
    assert len(run.of("display_data")) == 1
    assert run.display["data"]["text/markdown"].count("<td") == 2
    assert len(run.display["metadata"]["together_nb"]["compared"]) == 2


def test_show_none_draws_nothing(ask):
    with ScriptedServer(seeded) as server:
        run = ask(server, CALL.format([1, 2], 2).replace("seed=", "show='none', seed=")).wait()
    assert run.status == "ok"
    assert run.of("comm_open", "display_data", "stream") == []
    assert len(server.requests) == 2


def test_a_terminal_is_told_one_after_the_other_each_below_its_title(capsys):
    first = threading.Event()

    def script(exchange):
        if exchange.request.json()["seed"] == 1:
            exchange.pause(first)
        answers(["\x1b[31mred"])(exchange)

    with ScriptedServer(script) as server:
        settings.base_url = server.base_url
        opened = [open_stream("Hello", model="test/chat", api="chat", seed=seed) for seed in (1, 2)]
        view = side_by_side_view_for(None, "auto", ["seed = 1", "seed = 2"], 2)
        run_side_by_side(opened, view, keep=lambda _: first.set())
    out = re.sub(r"· [^\]]*]", "· …]", capsys.readouterr().out)
    assert out == "".join(f"── seed = {seed} ──\n\\x1b[31mred\n\n[test/chat · …]\n\n" for seed in (2, 1))


@pytest.mark.parametrize(
    ("shell", "show", "kind"),
    [
        (None, "auto", views.TerminalColumns),
        (Shell(), "text", views.LiveColumns),
        (Shell(allow_stdin=False), "auto", views.OnceColumns),
        (Shell(), "none", views.SilentColumns),
    ],
)
def test_the_view_fits_who_watches(shell, show, kind):
    view = side_by_side_view_for(shell, show, ["a", "b"], 2)
    assert type(view) is kind
    view.end()


def test_a_way_to_show_that_there_is_not_is_told():
    with pytest.raises(InputError, match="no way to show an answer called 'pretty'"):
        side_by_side_view_for(None, "pretty", ["a"], 1)


# What is saved


@pytest.mark.parametrize(
    ("number", "across", "rows"),
    [
        (1, 1, [1]), (3, 3, [3]), (4, 4, [4]), (5, 5, [3, 2]), (6, 6, [3, 3]), (7, 7, [4, 3]), (9, 9, [3, 3, 3]),
        (6, 3, [3, 3]), (4, 2, [2, 2]), (3, 1, [1, 1, 1]), (10, 5, [3, 2, 3, 2]),
    ],
)  # fmt: skip
def test_the_last_key_runs_across_and_no_row_is_wider_than_four(number, across, rows):
    found = table.in_rows(range(number), across)
    assert [len(one) for one in found] == rows
    assert [item for one in found for item in one] == list(range(number))


def ended(title, text, raised=None, **given):
    request = CompletionRequest("x", "m", "chat")
    return title, Completion(request, [Choice(0, text)], "m", chunks=1, **given), raised


def test_titles_and_failures_are_shown_to_the_letter():
    failed = ended("a | <b>", "x", StreamError("**bad**", "Do <i>that</i>."), error="failed")
    made = table.bundle([failed, ended("c\n# d", "y")], 2, "markdown")
    assert "<b>**" not in made["text/markdown"]
    assert "a &#124; &#60;b&#62;</div></th>" in made["text/markdown"]
    assert "c # d</div></th>" in made["text/markdown"]
    assert "<b>&#42;&#42;bad&#42;&#42; Do &#60;i&#62;that&#60;/i&#62;.</b>" in made["text/markdown"]
    assert made["text/plain"].startswith(
        "a | <b>\n\nx\n\n[m · 1 chunk · 0.0 s · failed]\n\n**bad** Do <i>that</i>.\n\n\nc"
    )


def test_an_answer_that_was_stopped_has_no_failure():
    stopped = ended("a", "x", StreamError("gone"), cancelled=True)
    assert "gone" not in table.bundle([stopped], 1, "markdown")["text/plain"]


def test_shaded_tokens_are_a_table_of_html_too():
    tokens = [Token("<b>", -0.5), Token(" x", -1.0)]
    answers = [ended("a<i>", "<b> x"), ended("c", "<b> x", StreamError("no <u>"), error="failed")]
    for _, completion, _ in answers:
        completion.choices[0].tokens = tokens
    made = table.bundle(answers, 2, "tokens")["text/html"]
    assert made.count('<div align="left">') == 2
    assert "a&lt;i&gt;</div></th>" in made
    assert "no &lt;u&gt;</b></td>" in made
    groups = set(re.findall(r'name="([^"]+)"', made))
    assert len(groups) == 2  # the arrow keys do not lead from one answer to the next
    assert "text/html" not in table.bundle(answers, 2, "text")
