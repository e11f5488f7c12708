"""The panel's tabs: tokens, columns side by side, raw lines, the request and the history."""

from __future__ import annotations

import html
import json
import re
import threading

import pytest
from ipywidgets import Dropdown, Text

import together_nb
from tests.declared import good
from tests.panel import test_panel as ui
from tests.servers import MODELS, PATIENCE, ScriptedServer, answers, replies, silent_after
from together_nb.values.parameters import PARAMETERS

pytestmark = pytest.mark.timeout(120)

KEY = "sk-secret-0123456789abcdef"


# Tokens


def token(exchange, text):
    """Send a token with its log-probability, and what else could have stood there."""
    payload = exchange.payload(text)
    top = [{"token": text, "logprob": -0.25}, {"token": " down", "logprob": -2.5}]
    row = {"token": text, "logprob": -0.25, "top_logprobs": top}
    payload["choices"][0]["logprobs"] = {"content": [row]}
    exchange.event(payload)


def tokens(panel):
    """The tokens that are drawn."""
    return [html.unescape(text) for text in re.findall("<span>(.*?)</span>", ui.markup(ui.page(panel, "Tokens")))]


def test_the_tokens_of_one_character_are_drawn_as_one_and_counted_each():
    def script(exchange):
        exchange.chunked()
        for text in ("", "", "\N{PARROT}", "!"):  # as vLLM sends a character of three tokens
            token(exchange, text)
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    with ScriptedServer(script) as server, ui.opened(server, api="chat", logprobs=2) as panel:
        ui.show(panel, "Tokens")
        ui.ask(panel)
        assert tokens(panel) == ["\N{PARROT}", "!"]
        assert "4 tokens" in ui.words(ui.page(panel, "Tokens"))


def test_tokens_and_answer_are_drawn_while_they_are_seen_and_caught_up_with():
    texts = ["Once", " upon", " <a>", " time", " there"]
    more = [threading.Event() for _ in texts]

    def script(exchange):
        exchange.chunked()
        for text, sent in zip(texts, more, strict=True):
            exchange.pause(sent)
            token(exchange, text)
        exchange.done()

    with ScriptedServer(script) as server, ui.opened(server, api="chat", logprobs=2) as panel:
        ui.click(panel, "Generate")
        more[0].set()
        ui.until(lambda: ui.answer_of(panel) == "Once")
        assert tokens(panel) == []
        ui.show(panel, "Tokens")
        assert tokens(panel) == ["Once"]
        more[1].set()
        ui.until(lambda: tokens(panel) == texts[:2])
        assert ui.answer_of(panel) == "Once"
        ui.show(panel, "Answer")
        assert ui.answer_of(panel) == "Once upon"
        more[2].set()
        ui.until(lambda: "a>" in ui.answer_of(panel) or "a&gt;" in ui.answer_of(panel))
        assert tokens(panel) == texts[:2]
        ui.show(panel, "Tokens")
        assert tokens(panel) == texts[:3]
        for sent in more:
            sent.set()
        ui.rest()
        assert tokens(panel) == texts
        assert re.search("5 tokens · .*perplexity 1.28 .*“␣down”", ui.words(ui.page(panel, "Tokens")), re.DOTALL)
        assert "there" not in ui.answer_of(panel)
        ui.show(panel, "Answer")
        assert ui.answer_of(panel).endswith(" time there")
        ui.click(panel, "Clear")
        assert tokens(panel) == []


def test_without_logprobs_the_tab_says_what_to_do_and_does_it():
    with ScriptedServer(answers(["Once"])) as server, ui.opened(server) as panel:
        ui.show(panel, "Tokens")
        asking = ui.button(panel, "Ask for 5 alternatives")
        assert "With logprobs set" in ui.words(ui.page(panel, "Tokens"))
        assert "tnb-hidden" not in asking._dom_classes
        asking.click()
        assert together_nb.settings.logprobs == 5
        assert "The next answer's tokens appear here" in ui.words(ui.page(panel, "Tokens"))
        assert "tnb-hidden" in asking._dom_classes


# Compare


def columns(panel):
    return ui.of_class(ui.page(panel, "Compare"), "tnb-column")


def titled(panel):
    """What each column holds, by its title."""
    return {ui.words(ui.of_class(column, "tnb-column-title")[0]): ui.answer(column) for column in columns(panel)}


def compare(panel, name, values):
    vary = ui.one(panel.widget, Dropdown, "vary")
    if vary.value != name:
        vary.value = name
    ui.one(panel.widget, Text, "over").value = values
    ui.click(panel, "Compare")


def test_columns_stream_at_once_one_for_each_value():
    arrived = threading.Barrier(3)

    def script(exchange):
        arrived.wait(PATIENCE)  # nobody is answered before all have asked
        answers([f"at {exchange.request.json().get('temperature')}"])(exchange)

    with ScriptedServer(script) as server, ui.opened(server, top_k=3) as panel:
        compare(panel, "temperature", "0, 0.5, unset, 0.5")
        ui.rest()
        assert titled(panel) == {
            "temperature = 0": "at 0.0",
            "temperature = 0.5": "at 0.5",
            "temperature = unset": "at None",
        }
        assert sorted(ui.kept()) == [("at 0.0", False), ("at 0.5", False), ("at None", False)]
        assert all("1 token" in ui.words(column) for column in columns(panel))
    bodies = [request.json() for request in server.requests]
    assert all(body["top_k"] == 3 and body["messages"][0]["content"] == "Tell me" for body in bodies)
    assert together_nb.settings.temperature is None


SUGGESTED = {
    "max_tokens": [1, 1024, 2048],
    "temperature": [0, 1, 2],
    "echo": [False, True],
    "reasoning_effort": ["high", "low", "medium"],
}


@pytest.mark.parametrize(
    "parameter", [one for one in PARAMETERS.values() if one.type is not dict], ids=lambda one: one.name
)
def test_any_parameter_can_be_compared_over_the_values_that_are_suggested_or_typed(parameter):
    with ScriptedServer(answers(["Once"])) as server, ui.opened(server, api=(*parameter.dialects, "chat")[0]) as panel:
        compared = ui.one(panel.widget, Dropdown, "vary"), ui.one(panel.widget, Text, "over")
        compared[0].value = "model"
        compared[0].value = parameter.name
        suggested = compared[1].value
        values = suggested or parameter.spell(good(parameter)[0])[0]
        compare(panel, parameter.name, values)
        ui.rest()
        sent = [request.json()[parameter.name] for request in server.requests]
    assert bool(suggested) == bool(parameter.slider or parameter.choices or parameter.type is bool)
    assert sorted(sent) == SUGGESTED.get(parameter.name, sorted(sent if suggested else [good(parameter)[0]]))
    assert len(sent) == len(values.split(", "))


def test_each_column_can_be_stopped_and_all_of_them():
    with ScriptedServer(silent_after(["Once"])) as server, ui.opened(server, api="chat") as panel:
        stop_all = ui.button(panel, "Stop all")
        assert stop_all.disabled
        compare(panel, "top_k", "1, 2, 3")
        assert not stop_all.disabled
        ui.until(lambda: list(titled(panel).values()) == ["Once"] * 3)
        ui.click(panel, "Stop top_k = 2")
        ui.until(lambda: ui.button(panel, "Stop top_k = 2").disabled)
        assert "stopped by you" in ui.words(columns(panel)[1])
        assert [ui.button(panel, f"Stop top_k = {value}").disabled for value in (1, 2, 3)] == [False, True, False]
        assert not stop_all.disabled
        stop_all.click()
        ui.rest()
        assert stop_all.disabled
        assert all("stopped by you" in ui.words(column) for column in columns(panel))
        assert (list(titled(panel).values()), ui.kept()) == (["Once"] * 3, [("Once", True)] * 3)


def test_all_columns_are_stopped_while_the_list_of_models_is_awaited():
    listed = threading.Event()
    models = ui.held_until(listed, replies(200, MODELS))
    with ScriptedServer(answers(["Once"]), models=models) as server, ui.opened(server) as panel:
        compare(panel, "top_k", "1, 2")
        ui.click(panel, "Stop all")
        listed.set()
        ui.rest()
        assert (server.requests, together_nb.history) == ([], [])
        assert ui.button(panel, "Stop all").disabled


def test_models_are_asked_each_in_its_dialect_and_one_that_fails_leaves_the_others():
    def script(exchange):
        model = exchange.request.json()["model"]
        (replies(422, {"error": {"message": "<b>not it</b>"}}) if model == "other" else answers([model]))(exchange)

    with ScriptedServer(script) as server, ui.opened(server) as panel:
        compare(panel, "model", "test/chat, other, test/base")
        ui.rest()
        assert {request.path for request in server.requests} == {"/v1/chat/completions", "/v1/completions"}
        assert titled(panel) == {"test/chat": "test/chat", "other": "", "test/base": "test/base"}
        first, failed, last = (ui.words(column) for column in columns(panel))
        assert "HTTP 422" in failed
        assert "<b>not it</b>" in failed
        assert "<b>not it" not in ui.markup(columns(panel)[1])
        assert "422" not in first + last
        assert sorted(ui.kept()) == [("test/base", False), ("test/chat", False)]
        together_nb.settings.reasoning_effort = "low"
        compare(panel, "model", "test/chat, test/base")
        ui.rest()
        assert titled(panel) == {"test/chat": "test/chat", "test/base": ""}
        assert "reasoning_effort cannot be sent" in ui.words(columns(panel)[1])
        assert together_nb.settings.model == "test/chat"


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("temperature", "0, hot", "not 'hot'"),
        ("temperature", " , ", "There is no value to compare."),
        ("seed", "1, 2, 3, 4, 5, 6, 7, 8, 9", "9 columns are more than fit"),
        ("seed", "1", "There is no prompt yet."),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line_and_nothing_is_asked(name, values, reason):
    prompt = "" if "prompt" in reason else "Tell me"
    with ScriptedServer(answers(["Once"])) as server, ui.opened(server, prompt=prompt) as panel:
        compare(panel, name, values)
        ui.rest()
        assert reason in ui.words(ui.page(panel, "Compare"))
        assert columns(panel) == server.requests == []
        panel.prompt.value = "Tell me"
        compare(panel, "seed", "1, 2, 3, 4, 5, 6, 7, 8")
        ui.rest()
        assert reason not in ui.words(ui.page(panel, "Compare"))
        assert len(titled(panel)) == 8


@pytest.mark.parametrize("how", ["Compare", "Clear", "close"])
def test_columns_that_stream_end_when_they_are_taken_away(how):
    with ScriptedServer(silent_after(["Once"])) as server, ui.opened(server, api="chat") as panel:
        compare(panel, "top_k", "1, 2")
        ui.until(lambda: list(titled(panel).values()) == ["Once"] * 2)
        if how == "close":
            panel.close()
        else:
            ui.one(panel.widget, Text, "over").value = ""
            ui.click(panel, how)
            assert columns(panel) == []
            assert ui.button(panel, "Stop all").disabled
        assert server.closed.wait(PATIENCE)
        ui.rest()
        assert ui.kept() == [("Once", True)] * 2


# Events


def lines(panel):
    """The lines that are drawn, each with its seconds."""
    rows = re.findall("<p><time>(.*?)</time><code>(.*?)</code></p>", ui.markup(ui.page(panel, "Events")))
    return [(float(seconds), html.unescape(re.sub("<.*?>", "", line)).strip("\xa0")) for seconds, line in rows]


def lines_sent(server):
    return [line for payload in server.sent for line in (f"data: {json.dumps(payload)}", "")] + ["data: [DONE]", ""]


def test_the_lines_are_shown_as_they_come_each_with_its_moment_and_without_the_key():
    more = threading.Event()
    together_nb.settings.api_key = KEY

    def script(exchange):
        exchange.chunked().send(f": <b>you</b> are {KEY}\n\nretry: 10\n".encode())
        exchange.text_events(["<i>Once</i>"])
        exchange.pause(more)
        answers([" upon"])(exchange)

    with ScriptedServer(script) as server, ui.opened(server) as panel:
        ui.show(panel, "Events")
        ui.click(panel, "Generate")
        ui.until(lambda: len(lines(panel)) == 5)
        more.set()
        ui.rest()
        moments, shown = zip(*lines(panel), strict=True)
        assert list(shown) == [": <b>you</b> are …", "", "retry: 10", *lines_sent(server)]
        assert list(moments) == sorted(moments)
        assert f"{len(shown)} lines; seconds since the request was sent." in ui.words(ui.page(panel, "Events"))
        assert KEY not in ui.markup(panel.widget)
        server.script = answers(["anew"])
        server.sent.clear()
        ui.ask(panel)
        assert [line for _, line in lines(panel)] == lines_sent(server)
        ui.click(panel, "Clear")
        assert lines(panel) == []


def test_the_last_300_lines_are_kept_and_as_many_shown_as_are_said_to_be_though_they_come_one_by_one():
    drawn = threading.Semaphore(0)

    def script(exchange):
        for number in range(175):
            exchange.text_events([f"number {number}"])
            if number % 5 == 0:
                assert drawn.acquire(timeout=PATIENCE)
        exchange.done()

    with ScriptedServer(script) as server, ui.no_widget_left(), ui.opened(server, api="chat") as panel:
        ui.show(panel, "Events")
        ui.click(panel, "Generate")
        for number in range(0, 175, 5):
            ui.until(lambda last=f"number {number}": any(last + '"' in line for _, line in lines(panel)))
            drawn.release()
        ui.rest()
        shown = [line for _, line in lines(panel)]
        assert shown == lines_sent(server)[-len(shown) :]
        assert 300 <= len(shown) <= 320
        assert f"352 lines, the last {len(shown)} shown; seconds" in ui.words(ui.page(panel, "Events"))
        ui.show(panel, "Answer")
        server.script = answers([f"number {number} " for number in range(200)])
        server.sent.clear()
        ui.ask(panel)
        assert lines(panel) == []
        ui.show(panel, "Events")
        assert [line for _, line in lines(panel)] == lines_sent(server)[-300:]
        assert "404 lines, the last 300 shown; seconds" in ui.words(ui.page(panel, "Events"))


# Request


def requested(panel):
    """The texts of the Request tab by their titles."""
    ui.rest()
    parts = re.findall("<h4>(.*?)</h4><pre[^>]*>(.*?)</pre>", ui.markup(ui.page(panel, "Request")), re.DOTALL)
    return {html.unescape(title): html.unescape(text) for title, text in parts}


def test_the_request_is_shown_as_it_would_be_sent_with_its_recipes_and_follows_what_is_set_and_typed():
    def body():
        return json.loads(next(iter(requested(panel).values())))

    with ScriptedServer(answers(["Once"])) as server, ui.opened(server, temperature=0.5) as panel:
        together_nb.settings.api_key = KEY
        panel.prompt.value = "<b>Tell</b>"
        assert requested(panel) == {}  # nobody sees it
        ui.show(panel, "Request")
        shown = requested(panel)
        url = f"POST {server.base_url}/v1/chat/completions"
        assert list(shown) == [url, "As a cell", "As Python", "With curl"]
        assert shown["As a cell"].startswith("%%together")
        assert "complete(" in shown["As Python"]
        assert "$TOGETHER_API_KEY" in shown["With curl"]
        assert "<b>Tell" not in ui.markup(ui.page(panel, "Request"))
        assert KEY not in ui.markup(panel.widget)
        assert server.requests == []
        ui.ask(panel)
        assert json.loads(shown[url]) == server.requests[0].json()
        ui.show(panel, "Request")
        ui.one(panel.widget, Text, "temperature").value = "0.25"
        assert body()["temperature"] == 0.25
        panel.prompt.value = "Another"
        assert body()["messages"] == [{"role": "user", "content": "Another"}]
        panel.system.value = "Be brief"
        assert body()["messages"][0] == {"role": "system", "content": "Be brief"}
        together_nb.settings.model = "test/other"
        assert body()["model"] == "test/other"
        panel.system.value = ""
        panel.api.value = "completions"
        assert body()["prompt"] == "Another"
        panel.system.value = "Be brief"
        assert requested(panel) == {}
        assert "Add --api chat." in ui.words(ui.page(panel, "Request"))
        panel.prompt.value = ""
        ui.rest()
        assert "There is no prompt yet." in ui.words(ui.page(panel, "Request"))


# History


def past(panel):
    """Number, prompt and answer of each row."""
    row = r"<b>history\[(\d+)\]</b>.*?<h4>Prompt</h4><pre>(.*?)</pre><h4>Answer</h4><pre>(.*?)</pre>"
    rows = re.findall(row, ui.markup(ui.page(panel, "History")), re.DOTALL)
    return [(int(number), html.unescape(prompt), html.unescape(text)) for number, prompt, text in rows]


def test_the_history_is_newest_first_of_the_panel_and_of_cells():
    with ScriptedServer(answers(["<b>Once</b>"])) as server, ui.opened(server, system="Be brief") as panel:
        ui.show(panel, "History")
        assert "The answers of this session are listed here." in ui.words(ui.page(panel, "History"))
        script, server.script = server.script, answers([])
        ui.ask(panel)
        assert past(panel) == [(0, "Tell me", "")]
        together_nb.history.clear()
        server.script = script
        ui.ask(panel)
        assert past(panel) == [(0, "Tell me", "<b>Once</b>")]
        ui.show(panel, "Answer")
        together_nb.complete("From a <cell>")
        ui.show(panel, "History")
        assert past(panel) == [(1, "From a <cell>", "<b>Once</b>"), (0, "Tell me", "<b>Once</b>")]
        compare(panel, "top_k", "1")
        ui.rest()
        assert [number for number, _, _ in past(panel)] == [2, 1, 0]
        assert "<b>Once" not in ui.markup(ui.page(panel, "History"))
        ui.show(panel, "Answer")
        together_nb.history.extend(together_nb.history * 10)
        ui.show(panel, "History")
        assert [number for number, _, _ in past(panel)] == list(range(32, 2, -1))
        assert "3 earlier in together_nb.history" in ui.words(ui.page(panel, "History"))
