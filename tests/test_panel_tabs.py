"""The panel's tabs: tokens, columns side by side, raw lines, the request and the history."""

from __future__ import annotations

import html
import json
import re
import threading

import pytest
from ipywidgets import Button, Dropdown, Text

from tests.servers import MODELS, PATIENCE, ScriptedServer, answers, replies, silent_after
from tests.test_panel import (
    answer,
    button,
    click,
    held_until,
    markup,
    no_widget_left,
    one,
    opened,
    page,
    rest,
    show,
    titles,
    until,
    words,
)
from together_nb import complete, history, settings
from together_nb.panel.parts import within
from together_nb.panel.status import State

pytestmark = pytest.mark.timeout(120)

KEY = "sk-secret-0123456789abcdef"


def test_the_tabs_stand_in_the_order_of_use():
    with ScriptedServer(answers([])) as server, opened(server) as panel:
        assert titles(panel) == ["Answer", "Tokens", "Compare", "Events", "Request", "History"]


# Tokens


def with_tokens(exchange, text, *others):
    """Send a token with its log-probability, and what else could have stood there."""
    payload = exchange.payload(text)
    top = [{"token": token, "logprob": -2.5} for token in others]
    row = {"token": text, "logprob": -0.25, "top_logprobs": [{"token": text, "logprob": -0.25}, *top]}
    payload["choices"][0]["logprobs"] = {"content": [row]}
    exchange.event(payload)


def tokens(panel):
    """The tokens that are drawn."""
    return [html.unescape(text) for text in re.findall("<span>(.*?)</span>", markup(page(panel, "Tokens")))]


def test_tokens_are_drawn_while_they_are_seen_and_caught_up_with():
    more = [threading.Event() for _ in range(3)]

    def script(exchange):
        exchange.chunked()
        for number, text in enumerate(["Once", " upon", " <a>", " time"]):
            if number:
                exchange.pause(more[number - 1])
            with_tokens(exchange, text, " down")
        exchange.done()

    with ScriptedServer(script) as server, opened(server, api="chat", logprobs=2) as panel:
        click(panel, "Generate")
        until(lambda: "Once" in answer(page(panel, "Answer")))
        assert tokens(panel) == []
        show(panel, "Tokens")
        assert tokens(panel) == ["Once"]
        more[0].set()
        until(lambda: tokens(panel) == ["Once", " upon"])
        show(panel, "Answer")
        assert "upon" in answer(page(panel, "Answer"))
        more[1].set()
        until(lambda: "&lt;a" in answer(page(panel, "Answer")) or "<a" in answer(page(panel, "Answer")))
        assert tokens(panel) == ["Once", " upon"]
        show(panel, "Tokens")
        assert tokens(panel) == ["Once", " upon", " <a>"]
        more[2].set()
        rest()
        assert tokens(panel) == ["Once", " upon", " <a>", " time"]
        told = words(page(panel, "Tokens"))
        assert "4 tokens · mean log-probability \N{MINUS SIGN}0.25 · perplexity 1.28" in told
        assert "“␣down”" in told
        assert "8.2 %" in told
        click(panel, "Clear")
        assert tokens(panel) == []


def test_the_answer_that_is_not_seen_is_caught_up_with():
    more = threading.Event()

    def script(exchange):
        with_tokens(exchange, "Once")
        exchange.pause(more)
        with_tokens(exchange, " upon")
        exchange.done()

    with ScriptedServer(script) as server, opened(server, api="chat") as panel:
        show(panel, "Tokens")
        click(panel, "Generate")
        until(lambda: tokens(panel) == ["Once"])
        assert answer(page(panel, "Answer")) == ""
        show(panel, "Answer")
        assert answer(page(panel, "Answer")) == "Once"
        show(panel, "Tokens")
        more.set()
        rest()
        assert answer(page(panel, "Answer")) == "Once"
        show(panel, "Answer")
        assert answer(page(panel, "Answer")) == "Once upon"


def test_without_logprobs_the_tab_says_what_to_do_and_does_it():
    with ScriptedServer(answers(["Once"])) as server, opened(server) as panel:
        show(panel, "Tokens")
        asking = button(panel, "Ask for 5 alternatives")
        assert "With logprobs set" in words(page(panel, "Tokens"))
        assert "tnb-hidden" not in asking._dom_classes
        asking.click()
        assert settings.logprobs == 5
        assert "The next answer's tokens appear here" in words(page(panel, "Tokens"))
        assert "tnb-hidden" in asking._dom_classes


# Compare


def columns(panel):
    return [widget for widget in within(page(panel, "Compare")) if "tnb-column" in widget._dom_classes]


def titled(panel):
    """What each column holds, by its title."""
    found = {}
    for column in columns(panel):
        (title,) = [widget for widget in within(column) if "tnb-column-title" in widget._dom_classes]
        found[words(title)] = answer(column)
    return found


def compare(panel, name, values):
    vary = one(panel.widget, Dropdown, "vary")
    if vary.value != name:
        vary.value = name
    one(panel.widget, Text, "over").value = values
    click(panel, "Compare")


def test_columns_stream_at_once_one_for_each_value():
    arrived = threading.Barrier(3)

    def script(exchange):
        arrived.wait(PATIENCE)  # nobody is answered before all have asked
        answers([f"at {exchange.request.json().get('temperature')}"])(exchange)

    with ScriptedServer(script) as server, opened(server, top_k=3) as panel:
        show(panel, "Compare")
        compare(panel, "temperature", "0, 0.5, unset, 0.5")
        rest()
        assert titled(panel) == {
            "temperature = 0": "at 0.0",
            "temperature = 0.5": "at 0.5",
            "temperature = unset": "at None",
        }
        assert sorted(kept.text for kept in history) == ["at 0.0", "at 0.5", "at None"]
        assert all("1 token" in words(column) for column in columns(panel))
    bodies = [request.json() for request in server.requests]
    assert all(body["top_k"] == 3 and body["messages"][0]["content"] == "Tell me" for body in bodies)
    assert settings.temperature is None


def test_several_models_are_asked_at_once_each_in_its_dialect():
    arrived = threading.Barrier(2)

    def script(exchange):
        arrived.wait(PATIENCE)
        answers([exchange.request.json()["model"]])(exchange)

    with ScriptedServer(script) as server, opened(server) as panel:
        compare(panel, "model", "test/chat, test/base")
        rest()
        assert titled(panel) == {"test/chat": "test/chat", "test/base": "test/base"}
        assert settings.model == "test/chat"
    assert {request.path for request in server.requests} == {"/v1/chat/completions", "/v1/completions"}


@pytest.mark.parametrize("name", ["stop", "seed", "echo", "max_tokens", "reasoning_effort"])
def test_any_parameter_can_be_compared_and_values_are_suggested_where_there_are_some(name):
    typed = {"stop": ".", "seed": "1, 2"}
    with ScriptedServer(answers(["Once"])) as server, opened(server, api="chat") as panel:
        one(panel.widget, Dropdown, "vary").value = name
        suggested = one(panel.widget, Text, "over").value
        assert (suggested == "") == (name in typed)
        compare(panel, name, typed.get(name, suggested))
        rest()
        sent = [request.json()[name] for request in server.requests]
    assert {
        "stop": [["."]],
        "seed": [1, 2],
        "echo": [False, True],
        "max_tokens": [1, 1024, 2048],
        "reasoning_effort": ["high", "low", "medium"],
    }[name] == sorted(sent)


def test_each_column_can_be_stopped_and_all_of_them():
    with ScriptedServer(silent_after(["Once"])) as server, opened(server, api="chat") as panel:
        stop_all = button(panel, "Stop all")
        assert stop_all.disabled
        compare(panel, "top_k", "1, 2, 3")
        assert not stop_all.disabled
        until(lambda: list(titled(panel).values()) == ["Once"] * 3)
        button(panel, "Stop top_k = 2").click()
        until(lambda: button(panel, "Stop top_k = 2").disabled)
        assert "stopped by you" in words(columns(panel)[1])
        assert [button(panel, f"Stop top_k = {value}").disabled for value in (1, 2, 3)] == [False, True, False]
        assert not stop_all.disabled
        stop_all.click()
        rest()
        assert stop_all.disabled
        assert all("stopped by you" in words(column) for column in columns(panel))
        assert list(titled(panel).values()) == ["Once"] * 3
        assert [(kept.text, kept.cancelled) for kept in history] == [("Once", True)] * 3


def test_all_columns_are_stopped_while_the_list_of_models_is_awaited():
    told = threading.Event()
    models = held_until(told, replies(200, MODELS))
    with ScriptedServer(answers(["Once"]), models=models) as server, opened(server) as panel:
        compare(panel, "top_k", "1, 2")
        click(panel, "Stop all")
        told.set()
        rest()
        assert (server.requests, history) == ([], [])
        assert button(panel, "Stop all").disabled


def test_a_column_that_fails_leaves_the_others():
    def script(exchange):
        if exchange.request.json()["temperature"] == 1:
            exchange.reply(422, {"error": {"message": "<b>not 1</b>"}})
        else:
            answers(["Once"])(exchange)

    with ScriptedServer(script) as server, opened(server, api="chat") as panel:
        compare(panel, "temperature", "0, 1, 2")
        rest()
        assert list(titled(panel).values()) == ["Once", "", "Once"]
        first, failed, last = (words(column) for column in columns(panel))
        assert "The server did not accept a parameter (HTTP 422). <b>not 1</b>" in failed
        assert "<b>not 1" not in markup(columns(panel)[1])
        assert "422" not in first + last
        assert [kept.text for kept in history] == ["Once", "Once"]


def test_a_column_that_cannot_be_asked_for_leaves_the_others():
    with ScriptedServer(answers(["Once"])) as server, opened(server, reasoning_effort="low") as panel:
        compare(panel, "model", "test/chat, test/base")
        rest()
        assert titled(panel) == {"test/chat": "Once", "test/base": ""}
        assert "reasoning_effort cannot be sent to the completions API." in words(columns(panel)[1])


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("temperature", "0, hot", "temperature must be a number of at least 0, not 'hot'."),
        ("temperature", "0, -1", "temperature must be a number of at least 0, not -1."),
        ("temperature", " , ", "There is no value to compare."),
        ("model", "", "There is no value to compare."),
        ("seed", "1, 2, 3, 4, 5, 6, 7, 8, 9", "9 columns are more than fit side by side."),
    ],
)
def test_values_that_do_not_fit_are_told_in_a_line_and_nothing_is_asked(name, values, told):
    with ScriptedServer(answers(["Once"])) as server, opened(server) as panel:
        compare(panel, name, values)
        rest()
        assert told in words(page(panel, "Compare"))
        assert columns(panel) == []
        compare(panel, "temperature", "0")
        rest()
        assert told not in words(page(panel, "Compare"))
        assert titled(panel) == {"temperature = 0": "Once"}
    assert len(server.requests) == 1


def test_comparing_without_a_prompt_is_told_in_a_line():
    with ScriptedServer(answers(["Once"])) as server, opened(server, prompt="") as panel:
        compare(panel, "temperature", "0")
        assert "There is no prompt yet." in words(page(panel, "Compare"))
    assert server.requests == []


@pytest.mark.parametrize("how", ["Compare", "Clear", "close"])
def test_columns_that_stream_end_when_they_are_taken_away(how):
    with ScriptedServer(silent_after(["Once"])) as server, opened(server, api="chat") as panel:
        compare(panel, "top_k", "1, 2")
        until(lambda: list(titled(panel).values()) == ["Once"] * 2)
        if how == "close":
            panel.close()
        else:
            one(panel.widget, Text, "over").value = ""
            one(panel.widget, Button, how).click()
            assert columns(panel) == []
            assert button(panel, "Stop all").disabled
        assert server.closed.wait(PATIENCE)
        rest()
        assert [(kept.text, kept.cancelled) for kept in history] == [("Once", True)] * 2


# Events


def lines(panel):
    """The lines that are drawn, each with its seconds."""
    rows = re.findall("<p><time>(.*?)</time><code>(.*?)</code></p>", markup(page(panel, "Events")))
    return [(float(seconds), html.unescape(re.sub("<.*?>", "", line)).strip("\xa0")) for seconds, line in rows]


def test_the_lines_are_shown_as_they_came_each_with_its_moment():
    more = threading.Event()

    def script(exchange):
        exchange.chunked().send(b": <b>a comment</b>\n\nretry: 10\n")
        exchange.text_events(["<i>Once</i>"])
        exchange.pause(more)
        answers([" upon"])(exchange)

    with ScriptedServer(script) as server, opened(server, api="chat") as panel:
        show(panel, "Events")
        click(panel, "Generate")
        until(lambda: len(lines(panel)) == 5)
        more.set()
        rest()
        shown = lines(panel)
        events = [line for payload in server.sent for line in (f"data: {json.dumps(payload)}", "")]
        assert [text for _, text in shown] == [
            ": <b>a comment</b>",
            "",
            "retry: 10",
            *events,
            "data: [DONE]",
            "",
        ]
        moments = [seconds for seconds, _ in shown]
        assert moments == sorted(moments)
        assert f"{len(shown)} lines; seconds since the request was sent." in words(page(panel, "Events"))


def test_the_last_300_lines_are_kept_and_all_are_counted():
    texts = [f"number {number} " for number in range(200)]
    with ScriptedServer(answers(texts)) as server, opened(server, api="chat") as panel:
        click(panel, "Generate")
        rest()
        assert lines(panel) == []
        show(panel, "Events")
        events = [line for payload in server.sent for line in (f"data: {json.dumps(payload)}", "")]
        assert [text for _, text in lines(panel)] == [*events, "data: [DONE]", ""][-300:]
        assert "404 lines, the last 300 shown; seconds" in words(page(panel, "Events"))


def test_as_many_lines_are_shown_as_are_said_to_be_though_they_came_one_by_one():
    drawn = threading.Semaphore(0)

    def script(exchange):
        for number in range(175):
            exchange.text_events([f"number {number}"])
            if number % 5 == 0:
                assert drawn.acquire(timeout=PATIENCE)
        exchange.done()

    with ScriptedServer(script) as server, no_widget_left(server), opened(server, api="chat") as panel:
        show(panel, "Events")
        click(panel, "Generate")
        for number in range(0, 175, 5):
            until(lambda last=f"number {number}": any(last + '"' in text for _, text in lines(panel)))
            drawn.release()
        rest()
        shown = [text for _, text in lines(panel)]
        assert shown[-2:] == ["data: [DONE]", ""]
        assert 300 <= len(shown) <= 320
        assert f"352 lines, the last {len(shown)} shown; seconds" in words(page(panel, "Events"))


def test_a_key_that_the_server_repeats_is_blanked_in_the_lines():
    settings.api_key = KEY

    def script(exchange):
        exchange.chunked().send(f": you are {KEY}\n\n".encode())
        answers(["Once"])(exchange)

    with ScriptedServer(script) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        show(panel, "Events")
        assert ": you are …" in [text for _, text in lines(panel)]
        assert KEY not in markup(panel.widget)


def test_another_answer_begins_the_lines_anew():
    with ScriptedServer(answers(["Once"])) as server, opened(server) as panel:
        show(panel, "Events")
        for _ in range(2):
            click(panel, "Generate")
            rest()
            assert [text for _, text in lines(panel)].count("data: [DONE]") == 1
        click(panel, "Clear")
        assert lines(panel) == []


# Request


def requested(panel):
    """The texts of the Request tab by their titles."""
    parts = re.findall("<h4>(.*?)</h4><pre[^>]*>(.*?)</pre>", markup(page(panel, "Request")), re.DOTALL)
    return {html.unescape(title): html.unescape(text) for title, text in parts}


def test_the_request_is_shown_as_it_would_be_sent_with_its_recipes():
    with ScriptedServer(answers(["Once"])) as server, opened(server, temperature=0.5, prompt="<b>Tell</b>") as panel:
        settings.api_key = KEY
        show(panel, "Request")
        rest()
        shown = requested(panel)
        url = f"POST {server.base_url}/v1/chat/completions"
        assert list(shown) == [url, "As a cell", "As Python", "With curl"]
        assert shown["As a cell"].startswith("%%together")
        assert "complete(" in shown["As Python"]
        assert "$TOGETHER_API_KEY" in shown["With curl"]
        assert "<b>Tell" not in markup(page(panel, "Request"))
        assert KEY not in markup(panel.widget)
        assert server.requests == []
        click(panel, "Generate")
        rest()
        assert json.loads(shown[url]) == server.requests[0].json()


def test_the_request_follows_what_is_set_and_typed():
    with ScriptedServer(answers(["Once"])) as server, opened(server) as panel:
        show(panel, "Request")
        rest()

        def body():
            rest()
            (payload, *_) = requested(panel).values()
            return json.loads(payload)

        assert body() == {"model": "test/chat", "messages": [{"role": "user", "content": "Tell me"}], "stream": True}
        one(panel.widget, Text, "temperature").value = "0.25"
        assert body()["temperature"] == 0.25
        panel.prompt.value = "Another"
        assert body()["messages"] == [{"role": "user", "content": "Another"}]
        panel.system.value = "Be brief"
        assert body()["messages"][0] == {"role": "system", "content": "Be brief"}
        settings.model = "test/other"
        assert body()["model"] == "test/other"
        panel.system.value = ""
        panel.api.value = "completions"
        assert body()["prompt"] == "Another"
        panel.system.value = "Be brief"
        rest()
        assert "Add --api chat." in words(page(panel, "Request"))
        assert requested(panel) == {}
        panel.prompt.value = ""
        rest()
        assert "There is no prompt yet." in words(page(panel, "Request"))


def test_the_request_is_not_worked_out_while_nobody_sees_it():
    with ScriptedServer(answers(["Once"])) as server, opened(server) as panel:
        panel.prompt.value = "Another"
        rest()
        assert requested(panel) == {}
        show(panel, "Request")
        rest()
        assert "Another" in requested(panel)["As a cell"]


# History


def past(panel):
    """Number, prompt and answer of each row."""
    rows = re.findall(
        r"<b>history\[(\d+)\]</b>.*?<h4>Prompt</h4><pre>(.*?)</pre><h4>Answer</h4><pre>(.*?)</pre>",
        markup(page(panel, "History")),
        re.DOTALL,
    )
    return [(int(number), html.unescape(prompt), html.unescape(text)) for number, prompt, text in rows]


def test_the_history_is_newest_first_of_the_panel_and_of_cells():
    with ScriptedServer(answers(["<b>Once</b>"])) as server, opened(server, system="Be brief") as panel:
        show(panel, "History")
        assert "The answers of this session are listed here." in words(page(panel, "History"))
        click(panel, "Generate")
        rest()
        assert past(panel) == [(0, "Tell me", "<b>Once</b>")]
        show(panel, "Answer")
        complete("From a <cell>")
        show(panel, "History")
        assert past(panel) == [(1, "From a <cell>", "<b>Once</b>"), (0, "Tell me", "<b>Once</b>")]
        compare(panel, "top_k", "1")
        rest()
        assert [number for number, _, _ in past(panel)] == [2, 1, 0]
        assert "<b>Once" not in markup(page(panel, "History"))


def test_the_history_shows_the_last_30_and_how_many_more_there_are():
    with ScriptedServer(answers(["Once"])) as server, opened(server) as panel:
        click(panel, "Generate")
        rest()
        history.extend(history * 32)
        show(panel, "History")
        assert [number for number, _, _ in past(panel)] == list(range(32, 2, -1))
        assert "3 earlier in together_nb.history" in words(page(panel, "History"))


@pytest.mark.parametrize("how", ["an answer without a text", "Clear", "Generate"])
def test_whatever_is_kept_is_listed_at_once(how):
    texts = [] if how == "an answer without a text" else ["Once"]
    script = answers(texts) if not texts else silent_after(texts)
    with ScriptedServer(script) as server, opened(server, api="chat") as panel:
        click(panel, "Generate")
        if texts:
            until(lambda: answer(page(panel, "Answer")) == "Once")
        show(panel, "History")
        if how == "Clear":
            click(panel, "Clear")
        elif how == "Generate":
            streams = [thread for thread in threading.enumerate() if thread.name == "together_nb run"]
            panel.generate()
            for thread in streams:
                thread.join(PATIENCE)
        if how != "Generate":
            rest()
        assert [kept.text for kept in history] == ["".join(texts)]
        assert [text for _, _, text in past(panel)] == ["".join(texts)]


def test_one_part_that_goes_on_is_one_row():
    def script(exchange):
        answers(["Once"], finish="length" if len(exchange.server.requests) == 1 else "stop")(exchange)

    with ScriptedServer(script) as server, opened(server) as panel:
        show(panel, "History")
        click(panel, "Generate")
        rest()
        assert panel.state is State.CUT
        click(panel, "Continue")
        rest()
        assert past(panel) == [(0, "Tell me", "OnceOnce")]
