"""A real JupyterLab in a real browser: one journey in the default tests, the quickstart and single sights in the slow ones.

With ``TOGETHER_NB_SCREENSHOTS=FOLDER`` pictures of what a person sees are left there.
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event

import pytest

from tests.kernels import WIDGET
from tests.lab import picture
from tests.servers import ScriptedServer, answers, silent_after
from tests.test_panel_browser import PanelPage

pytestmark = pytest.mark.browser

QUICKSTART = Path(__file__).parents[1] / "notebooks" / "quickstart.ipynb"
MARKDOWN = "# Title\n\nSome **bold** text.\n\n```python\nprint('hello')\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n"


def grows(notebook, cell, longer_than):
    """Wait until the output of a running cell holds more characters; return how many."""
    script = """([cell, least]) => { const out = document.querySelectorAll('.jp-Notebook .jp-Cell')[cell]
        .querySelector('.jp-Cell-outputWrapper'); const length = out ? out.innerText.length : 0;
        return length > least ? length : null; }"""
    return notebook.page.wait_for_function(script, arg=[cell, longer_than], timeout=30_000).json_value()


def running(notebook, cell):
    return "[*]" in notebook.cell(cell).locator(".jp-InputPrompt").inner_text()


def saved_outputs(document):
    return [output for cell in document["cells"] if cell["cell_type"] == "code" for output in cell["outputs"]]


def test_a_journey_open_run_stream_interrupt_panel_save(open_notebook):
    with ScriptedServer(silent_after(["The **part**", " that came"])) as server:
        notebook = open_notebook(
            "%%together -o part\nhello", "print(part.text)", "%together panel", "1 + 1", server=server
        )
        page = notebook.page
        notebook.run(0)
        notebook.wait_run(0)
        notebook.run(1)
        notebook.output(1).locator("strong").get_by_text("part").wait_for()
        assert running(notebook, 1)
        picture(page, "journey-streaming")
        page.locator("[data-command='notebook:interrupt-kernel'], [title*='Interrupt']").first.click()
        assert server.closed.wait(20)
        notebook.wait_run(1)
        notebook.output(1).locator("sub").get_by_text("stopped by you").wait_for()
        server.script = answers(["A **whole** answer."])
        for number in (2, 3):
            notebook.run(number)
            notebook.wait_run(number)
        panel = PanelPage(page)
        panel.type("prompt", "Tell me more")
        panel.click("Generate")
        panel.wait("Done")
        panel.answers("A whole answer.")
        picture(page, "journey-panel")
        document = notebook.save()
    _, stopped, printed, shown, _ = (cell["outputs"] for cell in document["cells"])
    answer, error = stopped
    assert set(answer["data"]) == {"text/markdown", "text/plain"}
    assert error["ename"] == "KeyboardInterrupt"
    assert printed[0]["text"] == ["The **part** that came\n"]
    assert WIDGET in shown[1]["data"]
    assert "".join(shown[-1]["data"]["text/markdown"]).startswith("A **whole** answer.")
    assert server.requests[-1].json()["messages"][-1]["content"] == "Tell me more"


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["JupyterLab Dark"])
def test_the_quickstart_streams_and_is_saved_as_plain_markdown(open_notebook, tmp_path, theme):
    # Slower than it is for a person, so that a busy machine's browser sees it stream too.
    profile = tmp_path / ".ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text("c = get_config()\nc.TogetherMagics.local_tokens_per_second = 8\n")
    notebook = open_notebook(notebook=QUICKSTART, theme=theme, own_lab=True)
    tag = theme.split()[-1].lower()
    codes = [
        number for number, cell in enumerate(json.loads(QUICKSTART.read_text())["cells"]) if cell["cell_type"] == "code"
    ]
    first, story, *rest = codes
    notebook.run(first)
    notebook.wait_run(first)
    notebook.run(story)
    length = grows(notebook, story, 80)
    assert running(notebook, story)
    picture(notebook.page, f"quickstart-streaming-{tag}")
    assert grows(notebook, story, length + 40) > length
    notebook.wait_run(story)
    for number in rest:
        notebook.run(number)
        notebook.wait_run(number)
    picture(notebook.page, f"quickstart-after-{tag}")
    outputs = saved_outputs(notebook.save())
    assert not [output for output in outputs if output["output_type"] == "error"]
    told = [output for output in outputs if "together_nb" in output.get("metadata", {})]
    assert len(told) == 2
    for output in told:
        assert set(output["data"]) == {"text/markdown", "text/plain"}
        assert "local/ngram" in "".join(output["data"]["text/markdown"])
    assert "widgets" not in json.loads(notebook.path.read_text())["metadata"]


@pytest.mark.slow
def test_markdown_is_drawn_while_it_streams_and_looks_the_same_after(open_notebook):
    seen = Event()

    def script(exchange):
        exchange.chunked().text_events([MARKDOWN])
        exchange.pause(seen)
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    with ScriptedServer(script) as server:
        notebook = open_notebook("%%together\nhello", server=server, width=700)
        notebook.run(0)
        notebook.wait_run(0)
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
    for one, other in zip(before, after, strict=True):
        assert abs(one["x"] - other["x"]) <= 2
        assert abs(one["y"] - other["y"]) <= 12


@pytest.mark.slow
def test_no_text_is_clipped_at_600_pixels(open_notebook):
    with ScriptedServer(answers(["A sentence that is long enough to be wrapped at least once. "] * 20)) as server:
        notebook = open_notebook("%%together\nhello", server=server, width=600)
        notebook.run(0)
        notebook.wait_run(0)
        notebook.run(1)
        notebook.wait_run(1)
        notebook.output(1).locator("sub").wait_for()
        picture(notebook.page, "narrow")
        widths = notebook.page.evaluate(
            "() => [...document.querySelectorAll('.jp-RenderedMarkdown')].map(e => [e.scrollWidth, e.clientWidth])"
        )
    assert widths
    assert all(scroll <= client for scroll, client in widths)


ATTACKS = """<img src=x onerror="window.attacked=1">

<script>window.attacked=1</script> <svg><style><img src=x onerror="window.attacked=1">

- ```
<img src=x onerror="window.attacked=1">
- ```

![x](https://127.0.0.1:1/$" onerror="window.attacked=1" x="$)
![x](a.png "$" onerror="window.attacked=1" x="$")
![$" onerror="window.attacked=1" x="$](a.png)
![x](https://127.0.0.1:1/\\begin{a}"onerror="window.attacked=1"x="\\end{a})
![x](https://127.0.0.1:1/\\\\("onerror="window.attacked=1"x="\\\\))
[x](https://127.0.0.1:1/$" onmouseover="window.attacked=1" x="$)

```$" onmouseover="window.attacked=1" x="$
code
```

[r]: /url "x
```html
"
<img src=x onerror="window.attacked=1">
```

<details open ontoggle="window.attacked=1"><summary>s</summary>x</details> [x](javascript:window.attacked=1)
"""


@pytest.mark.slow
def test_no_script_in_an_answer_runs_neither_live_nor_after(open_notebook):
    seen = Event()

    def script(exchange):
        exchange.chunked().text_events([ATTACKS])
        exchange.pause(seen)
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    with ScriptedServer(script) as server:
        notebook = open_notebook(
            *(f"%%together --show {show}\nhello" for show in ("markdown", "text", "code")), server=server
        )
        notebook.run(0)
        notebook.wait_run(0)
        for number in (1, 2, 3):
            seen.clear()
            notebook.run(number)
            grows(notebook, number, len(ATTACKS) // 2)
            assert notebook.page.evaluate("window.attacked") is None
            seen.set()
            notebook.wait_run(number)
            if number < 3:
                notebook.output(number).locator("sub").wait_for()
        picture(notebook.page, "attacks")
        assert notebook.page.evaluate("window.attacked") is None
        assert (
            notebook.page.evaluate(
                "document.querySelectorAll('[onerror],[ontoggle],[onmouseover],[href^=javascript]').length"
            )
            == 0
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "cut",
    [
        "1. a\n   ```python\n   print(1)",
        "1. a\n   ```python\n   print(1)\n    ```\n",
        "```\nx",
        "- b\n\n    ```\n    y",
        "$$\nx",
    ],
)
def test_the_footer_is_no_part_of_what_the_answer_leaves_open(open_notebook, cut):
    with ScriptedServer(answers([cut], finish="length")) as server:
        notebook = open_notebook("%%together\nhello", server=server)
        for number in range(2):
            notebook.run(number)
            notebook.wait_run(number)
        footer = notebook.output(1).locator("sub")
        footer.wait_for()
        assert footer.inner_text().startswith("test/chat · ")
