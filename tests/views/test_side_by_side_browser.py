"""Answers side by side in a real JupyterLab, while they stream, after, saved and opened again; and in nbconvert's HTML."""

from __future__ import annotations

import json
from itertools import pairwise
from threading import Event

import pytest

from tests.hostile import POKE, SHORT, WATCH
from tests.lab import picture
from tests.panel.test_browser import run
from tests.servers import ScriptedServer, answers

pytestmark = [pytest.mark.browser, pytest.mark.slow]

IMPORT = "from together_nb import compare\n"
TEXT = """A **storm** over the harbour, at {}:

1. the boats are tied
2. the lamps are lit

```python
print("a line of code that is rather long for a column of four")
```

The keeper writes `all quiet` and looks out at the anti-disestablishmentarian sea again.
"""
COLUMNS = ".together-nb-columns .tnb-column"
TABLE = ".jp-RenderedMarkdown > table"
BOXES = (
    "all => all.map(e => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height].map(Math.round) })"
)
CLIPPED = """within => [...document.querySelectorAll(within)].flatMap(e => [e, ...e.querySelectorAll('*')])
    .filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== 'auto')
    .map(e => e.outerHTML.slice(0, 200))"""


def story(go):
    """Half of a text, and the other half when `go` is set; every fourth fails instead."""

    def script(exchange):
        at = exchange.request.json().get("temperature")
        text = TEXT.format(at)
        exchange.chunked().text_events([text[:90]])
        exchange.pause(go)
        if at == 1.5:
            exchange.event({"error": {"message": "<b>out</b> of memory"}})
        else:
            answers([text[90:]])(exchange)

    return script


def open_again(notebook):
    """Open the saved file in a fresh page, where it is not trusted."""
    document = json.loads(notebook.path.read_text())
    document["cells"][0]["source"] = "# This is not the notebook that was signed."
    (notebook.path.parent / "again.ipynb").write_text(json.dumps(document))
    notebook.page.goto(notebook.url.replace("lesson.ipynb", "again.ipynb"))
    notebook.page.locator(TABLE).first.wait_for()


@pytest.mark.parametrize(("width", "theme"), [(600, "Dark"), (1200, "Light")])
def test_answers_stream_side_by_side_and_a_table_takes_their_place(open_notebook, width, theme):
    go = Event()
    with ScriptedServer(story(go)) as server:
        cell = IMPORT + "got = compare('hello', temperature=[0, 0.7, 1.2, 1.5, 2])"
        notebook = open_notebook(cell, server=server, width=width, theme=f"JupyterLab {theme}")
        tag = f"{width}-{theme.lower()}"
        run(notebook, 0)
        notebook.run(1)
        columns = notebook.page.locator(COLUMNS)
        for at in ("0.0", "0.7", "1.2", "1.5"):
            columns.get_by_text(f"at {at}:").wait_for()
        assert columns.nth(4).inner_text().split() == ["temperature", "=", "2", "Queued"]
        picture(notebook.page, f"side-by-side-streaming-{tag}")
        boxes = columns.evaluate_all(BOXES)
        across = {1200: 3, 600: 1}[width]  # five are three and two, where there is room for them
        assert len({y for _, y, _, _ in boxes[:across]}) == 1
        assert all(one[0] + one[2] <= other[0] for one, other in pairwise(boxes[:across]))
        assert all(wide >= 200 for _, _, wide, _ in boxes)
        assert notebook.page.evaluate(CLIPPED, COLUMNS) == []
        go.set()
        notebook.wait_run(1)
        notebook.page.locator(TABLE).first.wait_for()
        picture(notebook.page, f"side-by-side-after-{tag}")
        assert columns.count() == 0
        assert notebook.page.locator(f"{TABLE} td").count() == 5
        failed = notebook.page.locator(f"{TABLE} td").nth(3).inner_text()
        assert "<b>out</b> of memory" in failed
        assert "error from the server" in failed
        assert notebook.page.evaluate(CLIPPED, ".jp-RenderedMarkdown") == []
        document = notebook.save()
        (output,) = document["cells"][1]["outputs"]
        assert set(output["data"]) == {"text/markdown", "text/plain"}
        titles = [one["title"] for one in output["metadata"]["together_nb"]["compared"]]
        assert titles[:2] == ["temperature = 0", "temperature = 0.7"]
        assert "widgets" not in document["metadata"]
        open_again(notebook)
        picture(notebook.page, f"side-by-side-again-{tag}")
        told = notebook.page.locator(f"{TABLE} td div > p:first-child").evaluate_all(BOXES)
        assert [one[1] for one in told[:3]] == [told[0][1]] * 3
        assert told[3][1] == told[4][1]  # the shorter one begins where the longer does
        assert all(one[2] >= 180 for one in told)


def test_two_keys_stand_down_and_across_and_shaded_tokens_side_by_side_too(open_notebook):
    keys = IMPORT + "got = compare('hello', model=['test/chat', 'test/base'], temperature=[0, 1])"
    tokens = (
        "got = compare('Once upon a time', temperature=[0, 1], seed=4, max_tokens=30, logprobs=3, show='tokens',"
        " model='local/ngram')"
    )
    with ScriptedServer(answers(["Once"])) as server:
        notebook = open_notebook(keys, tokens, server=server)
        run(notebook, 0, 1, 2)
        notebook.page.locator(TABLE).first.wait_for()
        picture(notebook.page, "side-by-side-two-keys")
        heads = notebook.page.locator(f"{TABLE} th")
        titles = [f"model = test/{one} · temperature = {at}" for one in ("chat", "base") for at in (0, 1)]
        assert heads.all_inner_texts() == titles
        first, second, third, fourth = heads.evaluate_all(BOXES)
        assert first[1] == second[1] < third[1] == fourth[1]
        assert first[0] == third[0] < second[0] == fourth[0]
    cells = notebook.output(2).locator(".jp-RenderedHTML > table > tbody > tr > td")
    cells.nth(1).wait_for()
    picture(notebook.page, "side-by-side-tokens")
    first, second = cells.evaluate_all(BOXES)
    assert (first[1], first[2]) == (second[1], second[2])
    assert all(cells.nth(number).locator("input").count() > 5 for number in (0, 1))
    (output,) = notebook.save()["cells"][2]["outputs"]
    assert set(output["data"]) == {"text/html", "text/markdown", "text/plain"}


# Whether each cell of the table holds one answer and its footer, and nothing is outside of it.
WHOLE = """within => [...document.querySelectorAll(within + ' > table')].map(table => {
    const cells = [...table.rows].flatMap(row => [...row.cells]).filter(cell => cell.tagName === 'TD');
    return [cells.length,
        cells.filter(cell => cell.querySelectorAll('sub').length >= 1
            && cell.firstElementChild.lastElementChild.matches('p')
            && cell.firstElementChild.lastElementChild.lastElementChild?.tagName === 'SUB'
            && cell.firstElementChild.lastElementChild.textContent.startsWith('test/chat · ')
            && getComputedStyle(cell.firstElementChild.lastElementChild.lastElementChild).fontWeight === '400').length,
        [...table.parentElement.children].filter(one => one !== table).length] })"""
HOSTILE = {
    **SHORT,
    "end of the cell": "x</td></tr></table>\n\n</div></td><td>\n\n</table>\n\n# y",
    "end of the cell in a list": "- a\n\n  </div></td>\n\n  - b\n\n    </td></tr></table>",
    "code by spaces": "a\n\n    code\n\n    </td>",
    "a list at the end": "1. a\n2. b\n   - c",
    "a table in the table": "| a | b |\n|---|---|\n| 1 | </td> |",
}


@pytest.mark.parametrize("show", ["markdown", "text", "code"])
def test_no_answer_breaks_out_of_its_cell_live_saved_again_and_in_html(open_notebook, tmp_path, browser, show):
    texts = list(HOSTILE.values())
    halves = (0, len(texts) // 2, len(texts))
    with ScriptedServer(lambda exchange: answers([texts[exchange.request.json()["seed"]]])(exchange)) as server:
        cells = [
            IMPORT + f"got = compare('hello', seed=list(range({start}, {end})), api='chat', show={show!r})"
            for start, end in pairwise(halves)
        ]
        notebook = open_notebook(*cells, server=server)
        page = notebook.page
        page.evaluate(WATCH)
        page.add_init_script(WATCH)  # for the page that is opened later
        run(notebook, 0, 1, 2)
        page.locator(TABLE).nth(1).wait_for()
        whole = [[end - start, end - start, 0] for start, end in pairwise(halves)]
        assert page.evaluate(POKE, ".jp-OutputArea-output") == []
        assert page.evaluate(WHOLE, ".jp-RenderedMarkdown") == whole
        widths = {box[2] for box in page.locator(f"{TABLE} > tbody > tr > th").evaluate_all(BOXES)}
        assert max(widths) - min(widths) <= 1  # no long word makes its column wider
        notebook.output(1).evaluate("e => e.scrollIntoView()")
        picture(page, f"side-by-side-hostile-{show}")
        assert page.evaluate("window.__pwned") == []
        notebook.save()
        open_again(notebook)
        page.locator(TABLE).nth(1).wait_for()
        assert page.evaluate(WHOLE, ".jp-RenderedMarkdown") == whole
        assert page.evaluate("window.__pwned") == []
        picture(page, f"side-by-side-hostile-{show}-again")
    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_filename(str(notebook.path))
    (tmp_path / "lesson.html").write_text(html)
    exported = browser.new_page(viewport={"width": 1200, "height": 1000}, offline=True)
    exported.add_init_script(WATCH)
    exported.goto((tmp_path / "lesson.html").as_uri(), wait_until="domcontentloaded")
    exported.locator(TABLE).first.evaluate("e => e.scrollIntoView()")
    picture(exported, f"side-by-side-hostile-{show}-html")
    assert exported.evaluate(WHOLE, ".jp-RenderedMarkdown") == whole
    assert exported.evaluate("window.__pwned") == []
