"""A real JupyterLab in a real browser: one journey in the default tests, single sights in the slow ones.

With ``TOGETHER_NB_SCREENSHOTS=FOLDER`` pictures of what a person sees are left there.
"""

from __future__ import annotations

from threading import Event

import pytest

from tests.hostile import POKE, SCRIPTS, WATCH
from tests.kernels import WIDGET
from tests.lab import picture
from tests.panel.test_browser import PanelPage, run
from tests.panel.test_panel import held_until, in_turn
from tests.servers import ScriptedServer, answers, silent_after

pytestmark = pytest.mark.browser

MARKDOWN = "# Title\n\nSome **bold** text.\n\n```python\nprint('hello')\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n"
MARKDOWN += "A sentence that is long enough to be wrapped at least once. " * 20


def running(notebook, cell):
    return "[*]" in notebook.cell(cell).locator(".jp-InputPrompt").inner_text()


def test_a_journey_open_run_stream_interrupt_panel_save(open_notebook):
    with ScriptedServer(silent_after(["The **part**", " that came"])) as server:
        notebook = open_notebook(
            "%%together -o part\nhello", "print(part.text)", "%together panel", "1 + 1", server=server
        )
        page = notebook.page
        run(notebook, 0)
        notebook.run(1)
        notebook.output(1).locator("strong").get_by_text("part").wait_for()
        assert running(notebook, 1)
        picture(page, "journey-streaming")
        page.locator("[data-command='notebook:interrupt-kernel'], [title*='Interrupt']").first.click()
        assert server.closed.wait(20)
        notebook.wait_run(1)
        notebook.output(1).locator("sub").get_by_text("stopped by you").wait_for()
        server.script = answers(["A **whole** answer."])
        run(notebook, 2, 3)
        panel = PanelPage(page)
        panel.type("prompt", "Tell me more")
        panel.click("Generate")
        panel.wait("Done")
        panel.answers("A whole answer.")
        picture(page, "journey-panel")
        document = notebook.save()
    assert "widgets" not in document["metadata"]
    _, stopped, printed, shown, _ = (cell["outputs"] for cell in document["cells"])
    answer, error = stopped
    assert set(answer["data"]) == {"text/markdown", "text/plain"}
    assert error["ename"] == "KeyboardInterrupt"
    assert printed[0]["text"] == ["The **part** that came\n"]
    assert WIDGET in shown[1]["data"]
    assert "".join(shown[-1]["data"]["text/markdown"]).startswith("A **whole** answer.")
    assert server.requests[-1].json()["messages"][-1]["content"] == "Tell me more"


@pytest.mark.slow
def test_markdown_is_drawn_while_it_streams_looks_the_same_after_and_is_not_clipped_at_600_pixels(open_notebook):
    seen = Event()
    with ScriptedServer(held_until(seen, answers([]), before=[MARKDOWN])) as server:
        notebook = open_notebook("%%together\nhello", server=server, width=600)
        run(notebook, 0)
        notebook.run(1)
        output = notebook.output(1)
        output.locator("table").wait_for()
        before = [output.locator(tag).first.bounding_box() for tag in ("h1", "strong", "pre", "table")]
        picture(notebook.page, "markdown-streaming")
        seen.set()
        notebook.wait_run(1)
        output.locator("sub").wait_for()
        after = [output.locator(tag).first.bounding_box() for tag in ("h1", "strong", "pre", "table")]
        picture(notebook.page, "markdown-after")
        widths = notebook.page.evaluate(
            "() => [...document.querySelectorAll('.jp-RenderedMarkdown')].map(e => [e.scrollWidth, e.clientWidth])"
        )
    assert widths
    assert all(scroll <= client for scroll, client in widths)
    for one, other in zip(before, after, strict=True):
        assert abs(one["x"] - other["x"]) <= 2
        assert abs(one["y"] - other["y"]) <= 12


@pytest.mark.slow
def test_no_script_in_an_answer_runs_while_it_streams(open_notebook):
    seen = Event()
    text = "\n\n".join((*SCRIPTS.values(), "All of it has come."))
    with ScriptedServer(held_until(seen, answers([]), before=[text])) as server:
        cells = [f"%%together --show {show}\nhello" for show in ("markdown", "text", "code")]
        notebook = open_notebook(*cells, server=server)
        notebook.page.evaluate(WATCH)
        run(notebook, 0)
        for number in (1, 2, 3):
            seen.clear()
            notebook.run(number)
            notebook.output(number).get_by_text("All of it has come.").last.wait_for()
            assert running(notebook, number)
            assert notebook.page.evaluate(POKE, ".jp-OutputArea-output") == []
            assert notebook.page.evaluate("window.__pwned") == []
            seen.set()
            notebook.wait_run(number)


@pytest.mark.slow
def test_the_footer_is_no_part_of_what_the_answer_leaves_open(open_notebook):
    code = "1. a\n   ```python\n   print(1)"
    cuts = [code, f"{code}\n    ```\n", "```\nx", "- b\n\n    ```\n    y", "$$\nx"]
    with ScriptedServer(in_turn(*(answers([cut], finish="length") for cut in cuts))) as server:
        numbers = range(1, len(cuts) + 1)
        notebook = open_notebook(*(f"%%together\n{number}" for number in numbers), server=server)
        run(notebook, 0, *numbers)
        for number in numbers:
            footer = notebook.output(number).locator("sub")
            footer.wait_for()
            assert footer.inner_text().startswith("test/chat · ")
