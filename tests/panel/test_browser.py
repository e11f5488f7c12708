"""The panel in real front ends, in a real browser, clicked as a person would."""

from __future__ import annotations

import json
from threading import Event

import pytest

from tests.kernels import WIDGET
from tests.lab import Voila, picture, write_notebook
from tests.servers import ScriptedServer, answers, silent_after

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LOST = "The panel of together_nb stood here. Run this cell again to have it back."
PATIENCE = 30_000  # milliseconds; only a hang takes that long


class PanelPage:
    """The panel on a page."""

    def __init__(self, page):
        self.page = page
        self.root = page.locator(".together-nb-panel")
        self.root.wait_for(timeout=2 * PATIENCE)
        self.root.get_by_role("button", name="Generate").wait_for()

    def click(self, name):
        self.root.get_by_role("button", name=name).first.click(timeout=PATIENCE)

    def tab(self, name):
        self.root.get_by_role("tab", name=name).click()

    def field(self, name):
        return self.root.get_by_label(name, exact=True).first

    def type(self, name, text):
        self.field(name).fill(text)
        self.page.keyboard.press("Tab")

    def until(self, true, arg):
        """Until an expression of `root`, the element, and of `arg` is true."""
        script = f"arg => {{ const root = document.querySelector('.together-nb-panel'); return root && ({true}) }}"
        self.page.wait_for_function(script, arg=arg, timeout=PATIENCE)

    def wait(self, state):
        self.until("root.querySelector('[role=status]')?.innerText === arg", state)

    def shows(self, text):
        self.until("root.innerText.includes(arg)", text)

    def answers(self, text):
        """Until that is the answer: the page draws Markdown in its own time, and may say "Done" before it has."""
        self.until("root.querySelector('.tnb-end')?.innerText.trim() === arg", text)


def run(notebook, *numbers):
    """Run some cells, each to its end."""
    for number in numbers:
        notebook.run(number)
        notebook.wait_run(number)


@pytest.fixture
def open_panel(open_notebook):
    """Open a panel in a notebook; further cells come after it."""

    def start(*cells, code="from together_nb import Panel\nPanel(prompt='Tell')", **options):
        notebook = open_notebook(code, *cells, **options)
        if options.get("module", "jupyterlab") == "jupyterlab":
            notebook.page.keyboard.press("Control+b")  # the side bar takes half of a narrow page
        run(notebook, 0, 1)
        return notebook, PanelPage(notebook.page)

    return start


class Held:
    """A server's script that sends each piece when it is told to."""

    def __init__(self, *pieces):
        self.pieces = pieces
        self.go = [Event() for _ in (*pieces, "the end")]

    def __call__(self, exchange):
        exchange.chunked()
        for piece, go in zip(self.pieces, self.go, strict=False):
            exchange.pause(go)
            self.send(exchange, piece)
        exchange.pause(self.go[-1])
        answers([])(exchange)

    def send(self, exchange, piece):
        exchange.text_events([piece])


def overflowing(page):
    """Elements of the panel whose content is wider than they are, and that do not scroll."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.together-nb-panel *')].filter(e =>
            e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1 && !['INPUT', 'SELECT'].includes(e.tagName)
            && !e.closest('.tnb-token, .noUi-base, .noUi-handle, .tnb-columns-scroll, .lm-TabBar, .widget-slider')
            && getComputedStyle(e).overflowX !== 'visible' && getComputedStyle(e).overflowX !== 'auto')
            .map(e => e.className + ': ' + e.innerText.slice(0, 60))"""
    )


@pytest.fixture
def anywhere(open_panel, browser, tmp_path):
    """A panel in any front end: the page of it."""
    servers = []

    def start(front_end, server, *, width, dark):
        if front_end != "voila":
            theme = "JupyterLab Dark" if dark else "JupyterLab Light"
            return open_panel(server=server, width=width, theme=theme, module=front_end)[1]
        write_notebook(tmp_path / "app.ipynb", "from together_nb import Panel\nPanel(prompt='Tell')")
        environment = {"TOGETHER_BASE_URL": server.base_url, "TOGETHER_MODEL": "test/chat"}
        servers.append(Voila(tmp_path, "app.ipynb", theme="dark" if dark else "light", environment=environment))
        page = browser.new_page(viewport={"width": width, "height": 1000})
        page.goto(servers[-1].url, timeout=4 * PATIENCE)
        return PanelPage(page)

    yield start
    for one in servers:
        one.stop()


@pytest.mark.parametrize(
    ("front_end", "width", "dark"), [("jupyterlab", 600, True), ("notebook", 1400, False), ("voila", 600, False)]
)
def test_an_answer_streams_in_every_front_end(anywhere, front_end, width, dark):
    held = Held("**First**", " second", " third.")
    with ScriptedServer(held) as server:
        panel = anywhere(front_end, server, width=width, dark=dark)
        panel.wait("Ready")
        panel.click("Generate")
        panel.wait("Waiting for the first token")
        height = panel.root.bounding_box()["height"]
        held.go[0].set()
        panel.shows("First")
        panel.wait("Answering")
        assert panel.root.locator(".tnb-end strong").inner_text() == "First"
        held.go[1].set()
        panel.shows("second")
        picture(panel.page, f"panel-{front_end}-{width}-streaming")
        held.go[2].set()
        held.go[3].set()
        panel.wait("Done")
        panel.answers("First second third.")
        assert panel.root.bounding_box()["height"] == height
        assert overflowing(panel.page) == []
        picture(panel.page, f"panel-{front_end}-{width}-after")
        below = panel.page.get_by_text("test/chat · ")
        if front_end == "voila":
            assert below.count() == 0
        else:
            below.wait_for()


def test_other_cells_and_sliders_work_while_it_streams(open_panel):
    held = Held("First", " second")
    with ScriptedServer(held) as server:
        notebook, panel = open_panel("from together_nb import settings\nsettings.temperature", server=server)
        panel.click("Generate")
        held.go[0].set()
        panel.shows("First")
        handle = panel.root.locator(".tnb-parameter", has_text="temperature").locator(".noUi-handle")
        handle.focus()
        for value in ("0.0", "0.05", "0.1", "0.15"):  # the kernel's answer to a step would undo the next one
            notebook.page.keyboard.press("ArrowRight")
            panel.until("[...root.querySelectorAll('.tnb-parameter input')].some(e => e.value === arg)", value)
        run(notebook, 2)
        notebook.output(2).locator(".jp-OutputArea-output").get_by_text("0.15", exact=True).wait_for()
        panel.wait("Answering")
        held.go[1].set()
        held.go[2].set()
        panel.wait("Done")
        assert "temperature" not in server.requests[0].json()
        server.arrived.clear()
        panel.click("Generate")
        assert server.arrived.wait(20)  # it says Done until then
        panel.wait("Done")
        assert server.requests[1].json()["temperature"] == 0.15


def test_stop_keeps_what_came_continue_goes_on_from_there_and_running_the_cell_again_ends_what_streams(open_panel):
    with ScriptedServer(silent_after(["First"])) as server:
        notebook, panel = open_panel(server=server)
        panel.click("Generate")
        panel.shows("First")
        panel.click("Stop")
        assert server.closed.wait(20)
        panel.wait("Stopped")
        panel.answers("First")
        server.script = answers([" and", " more."])
        panel.click("Continue")
        panel.wait("Done")
        panel.answers("First and more.")
        assert server.requests[1].json()["messages"][-1] == {"role": "assistant", "content": "First"}
        saved = notebook.save()["cells"][1]["outputs"]
        assert "".join(saved[-1]["data"]["text/markdown"]).startswith("First and more.")
        server.script = silent_after(["Another"])
        server.closed.clear()
        panel.click("Generate")
        panel.shows("Another")
        notebook.run(1)
        assert server.closed.wait(20)
        panel.wait("Ready")
        assert panel.root.count() == 1


LESSON = "from together_nb import Panel\nPanel(prompt='Once upon a time', max_tokens=40, logprobs=5, seed=1)"


@pytest.mark.parametrize(("width", "theme"), [(600, "Dark"), (1400, "Light")])
def test_every_tab_has_its_content_and_nothing_is_clipped(open_panel, width, theme):
    _, panel = open_panel(code=LESSON, width=width, theme=f"JupyterLab {theme}")
    name = f"{theme.lower()}-{width}"
    for tab in ("Tokens", "Compare", "Events", "Request", "History"):
        panel.tab(tab)
        panel.root.locator(".tnb-page:visible").wait_for()
        picture(panel.page, f"tab-{tab.lower()}-{name}-empty")
    panel.tab("Answer")
    panel.click("Generate")
    panel.wait("Cut at its limit")
    seen = {
        "Answer": ".tnb-end",
        "Tokens": ".tnb-token >> nth=5",
        "Compare": ".tnb-column >> nth=2",
        "Events": "text=[DONE]",
        "Request": "text=curl",
        "History": "text=history[0]",
    }
    heights = set()
    for tab, what in seen.items():
        panel.tab(tab)
        if tab == "Compare":
            panel.root.locator(".tnb-compare-head").get_by_role("button", name="Compare").click()
        panel.root.locator(what).first.wait_for()
        heights.add(panel.root.bounding_box()["height"])
        assert overflowing(panel.page) == []
        picture(panel.page, f"tab-{tab.lower()}-{name}")
    assert len(heights) == 1
    panel.click("More parameters")
    panel.field("logit_bias").scroll_into_view_if_needed()
    picture(panel.page, f"more-{name}")
    labels = panel.page.evaluate(
        """() => [...document.querySelectorAll('.tnb-parameter-head .widget-label')].map(e => {
            const range = document.createRange(); range.selectNodeContents(e);
            const field = e.parentElement.querySelector('input, select, textarea').getBoundingClientRect();
            const text = range.getBoundingClientRect();
            return text.right <= field.left + 1 || text.bottom <= field.top + 1 ? null : e.textContent })
            .filter(Boolean)"""
    )
    assert labels == []


def test_a_saved_notebook_shows_the_answer_and_one_sentence_in_the_place_of_the_panel(open_panel):
    with ScriptedServer(answers(["The", " answer."])) as server:
        notebook, panel = open_panel(server=server)
        panel.click("Generate")
        panel.wait("Done")
        notebook.page.get_by_text("test/chat · ").wait_for()
        outputs = notebook.save()["cells"][1]["outputs"]
        assert [set(output["data"]) for output in outputs] == [
            {"text/html", "text/plain"}, {WIDGET, "text/plain"}, {"text/markdown", "text/plain"},
        ]  # fmt: skip
        assert "".join(outputs[1]["data"]["text/plain"]) == LOST
        assert "".join(outputs[2]["data"]["text/markdown"]).startswith("The answer.")
        # A new kernel knows nothing of the panel.
        page = notebook.page
        page.get_by_role("menuitem", name="Kernel").click()
        page.get_by_text("Restart Kernel…", exact=True).click()
        page.locator(".jp-Dialog .jp-mod-accept").click()
        sentence = "e => getComputedStyle(e, '::before').content"
        gone = page.locator(".together-nb-panel.jupyter-widgets-disconnected")
        gone.wait_for(timeout=PATIENCE)
        assert gone.evaluate(sentence) == json.dumps(LOST)
        assert not panel.root.get_by_role("button").first.is_visible()
        page.reload()
        page.get_by_text("The answer.").wait_for(timeout=PATIENCE)
        place = page.locator(".jp-OutputArea-output.jupyter-widgets")
        place.wait_for(timeout=PATIENCE)
        assert place.evaluate(sentence) == json.dumps(LOST)
        assert place.evaluate("e => getComputedStyle(e).fontSize") == "0px"
        picture(page, "panel-without-kernel")


class HeldTokens(Held):
    """The same with log-probabilities."""

    def send(self, exchange, piece):
        payload = exchange.payload(piece)
        top = [{piece: -0.5, " or": -1.0}]
        payload["choices"][0]["logprobs"] = {"tokens": [piece], "token_logprobs": [-0.5], "top_logprobs": top}
        exchange.event(payload)


def test_a_token_tells_its_chances_under_the_pointer_and_under_the_focus_which_stays_while_others_come(open_panel):
    held = HeldTokens("First", " second", " third")
    with ScriptedServer(held) as server:
        _, panel = open_panel(server=server, code="from together_nb import Panel\nPanel(prompt='Tell', logprobs=1)")
        panel.tab("Tokens")
        panel.click("Generate")
        tokens = panel.root.locator(".tnb-token")
        held.go[0].set()
        tokens.first.wait_for()
        tokens.first.locator("> input").focus()
        for number in (1, 2):
            held.go[number].set()
            tokens.nth(number).wait_for()
            assert tokens.nth(number - 1).locator("> input").evaluate("e => e === document.activeElement")
            panel.page.keyboard.press("ArrowRight")
            tokens.nth(number).locator(".tnb-tip").wait_for()
            assert tokens.nth(number).locator("> input").evaluate("e => e === document.activeElement")
        assert panel.root.locator(".tnb-tip:visible").count() == 1
        held.go[3].set()
        panel.wait("Done")
        tip = tokens.first.locator(".tnb-tip")
        assert not tip.is_visible()
        tokens.first.locator("> input + span").hover()
        tip.wait_for()
        assert "%" in tip.inner_text()
        assert tip.locator("li").count() == 2
