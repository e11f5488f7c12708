"""`--show tokens` in a real JupyterLab: live, after, saved and opened again, by keyboard, without colour, without style."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from threading import Event

import pytest

from tests.lab import picture
from tests.panel.test_browser import run
from tests.servers import ScriptedServer, answers
from together_nb.values.chunk import Choice, Token
from together_nb.values.completion import Completion
from together_nb.values.parameters import SamplingParams
from together_nb.values.request import CompletionRequest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TEXT = "Once upon a time, $x$ there were \\(y\\)\n\n<b>seven</b> dwarfs.\n  indent"
WORDS = re.findall(r"\n+|[.,]| *[^\s.,]+", TEXT)
CHANCES = [0.999, 0.6, 0.3, 0.97, 0.8, 0.02, 0.5, 0.45, 0.1, 0.7, 0.0004, 0.9, 0.95, 0.5, 0.25]
ASK = """import together_nb
from together_nb.run import driver
from together_nb.views import view_for
opened = together_nb.stream("hello", logprobs=5, api="chat")
driver.run(opened, view_for(get_ipython(), "tokens", chat=True), together_nb.history.append);"""


def told(exchange, text, chance):
    """One token, with four that might have stood in its place."""
    left = (1 - chance) / 2
    top = [(text, chance), *((f" other{number}", left / 2**number) for number in range(4))]
    rows = [{"token": one, "logprob": math.log(p)} for one, p in sorted(top, key=lambda row: -row[1])]
    payload = exchange.payload(text)
    row = {"token": text, "logprob": math.log(chance), "top_logprobs": rows}
    payload["choices"][0]["logprobs"] = {"content": [row]}
    exchange.event(payload)


def story(seen=None, *, repeat=1):
    def script(exchange):
        exchange.chunked().headers()
        for word, chance in zip(WORDS * repeat, CHANCES * repeat, strict=True):
            told(exchange, word, chance)
        if seen is not None:
            exchange.pause(seen)
        answers([])(exchange)

    return script


def places(output):
    """Where some tokens are drawn, and in what font."""
    return output.evaluate(
        """e => [...e.querySelectorAll('.tnb-token > span')].map(span => {
            const box = span.getBoundingClientRect(), style = getComputedStyle(span), top = e.getBoundingClientRect();
            return [box.x - top.x, box.y - top.y, box.width, style.fontFamily, style.fontSize, style.lineHeight] })"""
    )


CONTRAST = """e => {
    const numbers = text => { const [r, g, b, a] = text.match(/[\\d.e-]+/g).map(Number);
        return (/^color/.test(text) ? [r, g, b] : [r / 255, g / 255, b / 255]).concat(a ?? 1) };
    const over = (one, other) => [0, 1, 2].map(n => one[n] * one[3] + other[n] * (1 - one[3])).concat(1);
    const light = color => { const [r, g, b] = color.map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b };
    let ground = [0, 0, 0, 0];
    for (let one = e.parentElement; one && ground[3] < 1; one = one.parentElement) {
        const color = numbers(getComputedStyle(one).backgroundColor);
        if (color[3] === 1) ground = color; }
    const shade = over(numbers(getComputedStyle(e).backgroundColor), ground);
    const text = over(numbers(getComputedStyle(e).color), shade);
    const [high, low] = [light(text), light(shade)].sort((a, b) => b - a);
    return (high + .05) / (low + .05) }"""
THICKNESS = "all => all.map(e => parseFloat(getComputedStyle(e).borderBottomWidth))"


@pytest.mark.parametrize(("width", "theme"), [(1200, "Light"), (600, "Dark")])
def test_tokens_are_shaded_as_they_come_stay_in_place_and_can_be_read_without_colour_too(open_notebook, width, theme):
    seen = Event()
    name = f"tokens-{theme.lower()}-{width}"
    with ScriptedServer(story(seen, repeat=4)) as server:
        notebook = open_notebook(ASK, server=server, width=width, theme=f"JupyterLab {theme}")
        run(notebook, 0)
        notebook.run(1)
        output = notebook.output(1)
        output.locator(".tnb-token").nth(4 * len(WORDS) - 1).wait_for()
        before = places(output)
        picture(notebook.page, f"{name}-streaming")
        seen.set()
        notebook.wait_run(1)
        output.locator("sub").wait_for()
        after = places(output)
        picture(notebook.page, f"{name}-after")
        output.locator(".tnb-token").nth(5).hover()
        picture(notebook.page, f"{name}-pointed")
        output.locator("details summary").last.click()
        picture(notebook.page, f"{name}-table")
        assert notebook.page.evaluate("document.querySelectorAll('mjx-container').length") == 0
        spans = output.locator(".tnb-token > span")
        contrasts = [spans.nth(number).evaluate(CONTRAST) for number in range(len(WORDS))]
        assert min(contrasts) >= 4.5
        assert max(contrasts) - min(contrasts) > 1
        notebook.page.add_style_tag(content="html { filter: grayscale(1) }")
        picture(notebook.page, f"{name}-grey")
        thick = spans.evaluate_all(THICKNESS)[: len(WORDS)]
        by_chance = [width for _, width in sorted(zip(CHANCES, thick, strict=True))]
        assert by_chance == sorted(by_chance, reverse=True)
        assert (by_chance[0], by_chance[-1]) == (4, 0)
        notebook.page.emulate_media(media="print")
        assert spans.evaluate_all(THICKNESS)[5] > 2
    for one, other in zip(before, after, strict=True):
        assert one[3:] == other[3:]
        assert abs(one[0] - other[0]) <= 2, (one, other)
        assert abs(one[1] - other[1]) <= 4, (one, other)


def tip_of(output, number):
    """How the strip of a token is displayed, and what it says."""
    radio = output.locator(".tnb-token > input").nth(number)
    return radio.evaluate("e => [getComputedStyle(e, '::after').display, e.getAttribute('aria-label')]")


def overflows(output):
    """Whether something in the output has to be scrolled."""
    return output.evaluate(
        """e => [e, ...e.querySelectorAll('*')].filter(one => one.scrollHeight > one.clientHeight + 1
            && /auto|scroll/.test(getComputedStyle(one).overflowY)).map(one => one.className)"""
    )


def ran(open_notebook, server, width=1200):
    notebook = open_notebook(ASK, ASK, server=server, width=width)
    run(notebook, 0, 1)
    notebook.output(1).locator("sub").wait_for()
    return notebook


def open_again(notebook, name="lesson.ipynb"):
    """Close the page, and open the file, or another."""
    page = notebook.page
    page.goto("about:blank")
    page.goto(notebook.url.replace("lesson.ipynb", name))
    page.locator("sub").wait_for(timeout=60_000)
    return page.locator(".jp-Cell-outputWrapper:visible").last


def test_alternatives_are_shown_under_the_pointer_and_the_focus_nothing_moves_and_no_other_answer_notices(
    open_notebook,
):
    with ScriptedServer(story()) as server:
        notebook = ran(open_notebook, server, width=600)
        output, last = notebook.output(1), len(WORDS) - 1
        before = places(output)
        assert tip_of(output, 3)[0] == "none"
        output.locator(".tnb-token > span").nth(3).hover()
        shown, words = tip_of(output, 3)
        assert shown == "block"
        assert words.splitlines()[:2] == ["“␣time” 97.0 %; instead:", "“␣other0” 1.5 %;"]
        notebook.page.mouse.move(0, 0)
        output.locator(".tnb-token > input").first.focus()
        for number in range(last + 1):
            focused = output.locator(".tnb-token > input").nth(number)
            assert focused.evaluate("e => e === document.activeElement")
            assert [tip_of(output, one)[0] == "block" for one in range(last + 1)].index(True) == number
            if number < last:
                notebook.page.keyboard.press("ArrowRight" if number % 2 else "ArrowDown")
        assert overflows(output) == []
        picture(notebook.page, "tokens-focus")
        assert places(output) == before
        notebook.page.keyboard.press("Tab")
        assert output.locator("summary").evaluate("e => e === document.activeElement")
        notebook.page.keyboard.press("Enter")
        output.locator("td").first.wait_for()
        notebook.page.keyboard.press("Shift+Tab")
        assert output.locator(".tnb-token > input").nth(last).evaluate("e => e === document.activeElement")
        run(notebook, 2)
        another = notebook.output(2)
        for one in (output, another):
            one.locator(".tnb-token > span").nth(2).click()
        checked = "e => [...e.querySelectorAll('.tnb-token > input')].findIndex(one => one.checked)"
        assert [output.evaluate(checked), another.evaluate(checked)] == [2, 2]
        notebook.page.keyboard.press("ArrowRight")
        assert [output.evaluate(checked), another.evaluate(checked)] == [2, 3]


def test_what_is_saved_needs_no_widget_and_looks_the_same_again_and_untrusted_is_bare_text_and_a_table(open_notebook):
    with ScriptedServer(story()) as server:
        notebook = ran(open_notebook, server)
        before = places(notebook.output(1))
        document = notebook.save()
        (output,) = document["cells"][1]["outputs"]
        assert set(output["data"]) == {"text/html", "text/markdown", "text/plain"}
        assert "widgets" not in document["metadata"]
        again = open_again(notebook)
        assert places(again) == before
        again.locator(".tnb-token > input").first.focus()
        notebook.page.keyboard.press("ArrowRight")
        assert tip_of(again, 1)[0] == "block"
        picture(notebook.page, "tokens-again")
        document["cells"][1]["source"] = ["# not what was run, nor what was signed"]
        (notebook.path.parent / "other.ipynb").write_text(json.dumps(document))
        again = open_again(notebook, "other.ipynb")
        picture(notebook.page, "tokens-untrusted")
        assert again.locator("style").count() == 0
        assert again.locator("input:visible").count() == 0
        bare = again.locator(".tnb-tokens").evaluate("e => e.textContent")
        assert bare.replace("\xa0", " ") == TEXT.replace("\n", "")
        assert "perplexity" in again.inner_text()
        again.locator("summary").click()
        assert again.locator("tr").count() == 1 + len(WORDS)
        assert "“␣time”" in again.locator("table").inner_text()
        picture(notebook.page, "tokens-untrusted-table")


def completion():
    tokens = [
        Token(word, math.log(chance), None, ((word, math.log(chance)), (" other", math.log((1 - chance) / 2 + 1e-9))))
        for word, chance in zip(WORDS, CHANCES, strict=True)
    ]
    request = CompletionRequest("hello", model="m", api="chat", sampling=SamplingParams(logprobs=2))
    return Completion(request, [Choice(0, TEXT, "some <b>thoughts</b>", "stop", tokens)], model="m", chunks=1)


def stripped(markup):
    """What is left on a page that lets through neither style nor forms."""
    markup = re.sub(r"<style>.*?</style>|<input[^>]*>|</?label[^>]*>", "", markup, flags=re.DOTALL)
    return re.sub(r' (?:style|class|role|aria-[a-z]+|data-[a-z-]+)="[^"]*"', "", markup)


def test_without_style_and_buttons_the_text_is_clean_and_the_table_is_there(browser):
    with browser.new_page(viewport={"width": 700, "height": 600}) as page:
        page.set_content(stripped(completion().bundle("tokens")["text/html"]))
        picture(page, "tokens-stripped")
        read = page.locator("body").inner_text().replace("\xa0", " ")
        assert TEXT in read
        assert "some" not in read  # folded
        after = read.partition(TEXT)[2]
        assert [line for line in after.splitlines() if line] == [
            "15 tokens · mean log-probability \N{MINUS SIGN}1.34 · perplexity 3.82",
            "Tokens and alternatives",
            "m · 1 chunk · 0.0 s",
        ]
        page.locator("summary").last.click()
        assert page.locator("tr").nth(2).locator("td").all_inner_texts() == ["“␣upon”", "60.0 %", "“␣other” 20.0 %"]


def test_a_page_made_of_the_notebook_shows_the_same(browser, tmp_path):
    from nbformat import v4

    output = v4.new_output("display_data", completion().bundle("tokens"))
    notebook = v4.new_notebook(cells=[v4.new_code_cell("1", outputs=[output, output], execution_count=1)])
    (tmp_path / "page.ipynb").write_text(json.dumps(notebook))
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--embed-images", "page.ipynb"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    with browser.new_page(viewport={"width": 900, "height": 700}) as page:
        page.route("http*://**", lambda route: route.abort())  # nothing is fetched
        page.goto((tmp_path / "page.html").as_uri())
        root = page.locator(".tnb-shaded").first
        assert TEXT.partition("\n")[0] in root.locator(".tnb-tokens").first.inner_text().replace("\xa0", " ")
        root.locator(".tnb-token > span").nth(5).hover()
        assert tip_of(root, 5)[0] == "block"
        picture(page, "tokens-nbconvert")
