"""Hostile texts of a model or a server, through all that shows them: shown, and not obeyed."""

import json
import re
import sys
import unicodedata
from itertools import product

import nbformat
import pexpect
import pytest

from tests.hostile import ALL, CONTROLS, LAST, LONG, OTHERS, POKE, SCRIPTS, SHORT, WATCH, hostile_tokens
from tests.kernels import environment_without
from tests.panel.test_browser import PanelPage
from tests.panel.test_browser import run as run_cells
from tests.servers import ScriptedServer, replies
from together_nb.errors import APIStatusError, TogetherError
from together_nb.render import tables
from together_nb.render.formats import FORMATS
from together_nb.render.sanitize import harmless
from together_nb.render.token_html import tokens_html
from together_nb.run.background import BackgroundRun
from together_nb.values.chunk import Choice, Usage
from together_nb.values.completion import Completion
from together_nb.values.model_list import ModelList
from together_nb.values.parameters import AUTO
from together_nb.values.request import CompletionRequest
from together_nb.wire.dialects import DIALECTS

REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
# The tags that our own Markdown is made of, and those that change the look of a word.
HARMLESS_TAG = re.compile(
    r"</?(?:br|hr|sub|sup|b|i|em|strong|u|s|kbd|mark|small|del|ins|pre|code|span|details|summary)[ ]?/?>"
)
WORDS = SCRIPTS["image"] + CONTROLS
MODELS = [
    {"id": text, "type": "chat", "display_name": text, "organization": text, "context_length": 9, "pricing": {"input": 1}}
    for text in (*SCRIPTS.values(), CONTROLS, LONG["word"], "a\n\n| b | c |\n# d")
]  # fmt: skip
MODELS.append({"id": "test/chat", "type": WORDS, "pricing": {"input": 1, "output": 1}})


def obeyed(text):
    """The characters in a text that a terminal or the order of reading obeys, and those that no encoding carries."""
    return {
        f"U+{ord(one):04X}"
        for one in text
        if (unicodedata.category(one) in ("Cc", "Cs") and one not in "\n\t")
        or unicodedata.bidirectional(one) in REORDERING
        or one in "\u200e\u200f\u061c\u2028\u2029"
    }


def strings(value):
    """All strings within a JSON value, keys too."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []


def hostile(**given):
    return Completion(
        CompletionRequest(CONTROLS, CONTROLS, "chat"),
        [Choice(0, CONTROLS, CONTROLS, CONTROLS, list(hostile_tokens())), Choice(1, CONTROLS)],
        **{"model": CONTROLS, "id": CONTROLS, "error": CONTROLS, "note": CONTROLS, "filled": (CONTROLS,), **given},
    )


def refused(status, text=CONTROLS):
    return replies(status, {"error": {"message": text, "type": text, "code": text}})


def broken_off(text):
    """A script: an answer that is broken off by an error in hostile words."""

    def script(exchange):
        exchange.chunked().text_events(["part"])
        exchange.event({"error": {"message": text}})
        exchange.done()

    return script


class Answers:
    """A script: the texts as answers side by side, and all else in it is hostile too."""

    def __init__(self, texts):
        self.texts = list(texts)

    def __call__(self, exchange):
        exchange.chunked()
        request = exchange.request.json()
        for index, text in enumerate(self.texts[: request.get("n", 1)]):
            half = len(text) // 2  # so that what was cut within a word, a tag or a sequence is drawn too
            thought = "" if index else "\n\n".join((*SCRIPTS.values(), CONTROLS))
            exchange.event(self.payload(text[:half], index, reasoning=thought))
            exchange.event(self.payload(text[half:], index, logprobs=request.get("logprobs") and not index))
        exchange.event(self.payload(f"\n\n{LAST}", 0))
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": CONTROLS, "reasoning_tokens": CONTROLS}
        for index in range(request.get("n", 1)):
            exchange.event({**self.payload("", index, finish=WORDS), "usage": usage})
        exchange.done()

    def payload(self, text, index, *, reasoning=None, logprobs=False, finish=None):
        choice = {"index": index, "delta": {"content": text, "reasoning": reasoning}, "finish_reason": finish}
        if logprobs:
            rows = [
                {"token": one.text, "logprob": one.logprob, "top_logprobs": [{"token": t, "logprob": p} for t, p in one.top]}
                for one in hostile_tokens()
            ]  # fmt: skip
            choice["logprobs"] = {"content": rows}
        return {"id": WORDS, "model": WORDS, "object": WORDS, "choices": [choice]}


# What is written


@pytest.mark.parametrize("name", [*SCRIPTS, *OTHERS])
def test_no_tag_and_no_script_is_in_the_markdown_of_any_part_of_it(name):
    for end in range(1, len(ALL[name]) + 1):
        made = HARMLESS_TAG.sub("", FORMATS["markdown"].partial(ALL[name][:end]))
        assert re.search(r"<[A-Za-z/!?]|\][(:]\s*<?(?!https?:|\[)[^\s)]*:", made) is None


def test_what_a_terminal_obeys_is_in_nothing_that_is_shown():
    chat, error = hostile(), APIStatusError(CONTROLS, CONTROLS, status=400)
    error.reword(CONTROLS + "again")
    assert error.message.endswith("again")
    runs = [BackgroundRun(lambda: None, None, None) for _ in range(2)]
    runs[0].set_exception(TogetherError(CONTROLS, CONTROLS))
    runs[1].set_exception(ValueError(CONTROLS))
    for shown in (
        repr(chat), repr(chat.tokens), chat.footer(), *map(repr, runs), tokens_html(chat.tokens, "g"),
        *tables.of_models(ModelList.from_json(MODELS).callable(), CONTROLS),
        str(error), repr(error), error.hint, *error.args, "".join(error._render_traceback_()),
    ):  # fmt: skip
        assert "x1b" in shown
        assert not obeyed(shown)
    for show in (AUTO, *FORMATS):
        assert not obeyed("".join(chat.bundle(show).values()))
    for form, text in product(FORMATS.values(), (CONTROLS, json.dumps(CONTROLS), '"\x1b[31m \u202e"')):
        assert not obeyed(form.partial(text) + form.final(text))


def test_a_footer_and_a_row_are_one_line_whatever_is_in_them():
    assert "\n" not in hostile(model="a\n\n# b\n").footer()
    markdown, plain = tables.of_models(ModelList.from_json(MODELS).callable())
    assert len(markdown.split("\n")) == 2 + len(plain.split("\n")) - 1 == 2 + len(MODELS) - 1


def test_counts_are_numbers_or_not_there():
    usage = {"prompt_tokens": 1, "completion_tokens": "2", "total_tokens": CONTROLS, "reasoning_tokens": [CONTROLS]}
    (chunk,) = DIALECTS["chat"].chunks({"usage": {**usage, "prompt_tokens_details": {"cached_tokens": "many"}}})
    assert chunk.usage == Usage(1, 2, 3)


# Each is drawn where it does no harm, and shown where it does.
@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        pytest.param("- " * 90 + "x", "- " * 100 + "x", id="list"),
        pytest.param(">" * 90 + "x", ">" * 100 + "x", id="quotation"),
        pytest.param("1. " * 90 + "x", "1. " * 100 + "x", id="numbered list"),
        pytest.param("-" * 200, "- > " * 50 + "x", id="list and quotation"),
        pytest.param(" " * 300 + "x", " " * 500 + "- x", id="indented"),
        pytest.param("$" + "{" * 30 + "x" + "}" * 30 + "$", "$" + "{" * 31 + "x" + "}" * 31 + "$", id="formula"),
        pytest.param("<b>a</b> <i><s>b</s></i> a<br>b `<` <b>`<`</b>", "<b>a", id="open tag"),
        pytest.param("<sub>a</sub>", "<sub>a\n</sub>", id="tag over lines"),
        pytest.param("[x](a/b.png)", "[x](/logout)", id="link to the root"),
        pytest.param("[x](https://x.org/logout)", "[x]( //x.org)", id="link without a scheme"),
        pytest.param("[x]: b", "[x]: /logout", id="reference to the root"),
    ],
)
def test_what_goes_too_deep_or_too_far_is_shown_to_the_letter(kept, shown):
    assert harmless(kept).replace("<code>&#60;</code>", "`<`") == kept
    made = harmless(shown)
    assert made != shown
    assert re.search(r"<(?!/?span>)|\]\(|\]:|\$|^[ ]*(?:-|>|1\.)", made) is None


# A kernel


IN_THE_KERNEL = "import together_nb; together_nb.settings.model, together_nb.settings.max_retries = 'test/chat', 1"


def run(kernel, server, cell, **options):
    kernel.run(f"together_nb.settings.base_url = {server.base_url!r}").wait()
    return kernel.run(cell, **options).wait()


@pytest.mark.parametrize("watched", [True, False], ids=["live", "once"])
def test_no_message_of_a_kernel_holds_what_a_terminal_obeys(kernel, watched):
    with ScriptedServer(Answers([CONTROLS, SCRIPTS["image"]]), models=MODELS) as server:
        for show in (AUTO, *FORMATS):
            cell = run(kernel, server, f"%%together --show {show} --n 2 --logprobs 1\nhello", watched=watched)
            contents = [one["content"] for one in cell.messages if one["msg_type"] not in ("execute_input", "status")]
            # What made an answer is data, and goes with it as it is.
            shown = [{key: value for key, value in one.items() if key != "metadata"} for one in contents]
            assert cell.status == "ok"
            assert any("ended by" in text for text in strings(shown)) or show == "none"
            assert not obeyed("".join(strings(shown)))


@pytest.mark.parametrize(
    ("script", "models", "cell"),
    [
        pytest.param(refused(400), MODELS, "%%together\nhello", id="refused"),
        pytest.param(refused(404), MODELS, "%%together\nhello", id="not found"),
        pytest.param(replies(500, CONTROLS.encode(errors="replace")), MODELS, "%%together\nhello", id="failed"),
        pytest.param(replies(302, b"", location="http://x/\x1b[2J\x07"), MODELS, "%%together\nhello", id="sent on"),
        pytest.param(replies(200, b"<p>", content_type="a/\x1b[2J\x07"), MODELS, "%%together\nhello", id="a page"),
        pytest.param(broken_off(CONTROLS), MODELS, "%%together\nhello", id="broken off"),
        pytest.param(refused(400), refused(400), "%together models", id="no list"),
        pytest.param(refused(400), MODELS, "%together models zzz\x1b[2J", id="no such model"),
    ],
)
def test_hostile_words_of_a_server_reach_the_reader_as_words(kernel, script, models, cell):
    with ScriptedServer(script, models=models) as server:
        error = run(kernel, server, cell).error
    assert not obeyed("".join(strings(error)))
    assert "x1b[2J" in error["evalue"]


# A terminal


def test_no_control_sequence_reaches_a_terminal(tmp_path):
    """A real IPython on a pty that understands no sequences, so that each that comes was let through."""
    scripts = {
        "%%together -m refused": refused(400),
        "%%together -m broken": broken_off(CONTROLS),
        "%%together --dry-run": replies(500, b""),
        "%%together -b --api completions": Answers([CONTROLS]),
        "%%together --n 2": Answers([CONTROLS, CONTROLS]),
    }
    environment = {"IPYTHONDIR": str(tmp_path), "TERM": "dumb", "TOGETHER_MODEL": "test/chat", "NO_COLOR": "1"}
    options = ["--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor", "--ext=together_nb"]
    with ScriptedServer(replies(500, b""), models=MODELS) as server:
        environment = environment_without("TOGETHER_") | environment | {"TOGETHER_BASE_URL": server.base_url}
        arguments = ["-m", "IPython", *options]
        terminal = pexpect.spawn(sys.executable, arguments, env=environment, echo=False, timeout=60, encoding="utf-8")
        seen = ""

        def enter(*lines, until=r"In \[\d+\]: "):
            nonlocal seen
            terminal.send("".join(f"{line}\n" for line in lines))
            terminal.expect(until)
            seen += terminal.before
            return terminal.before

        try:
            terminal.expect(r"In \[1\]: ")
            enter(f"text = {CONTROLS!a}")
            for line, script in scripts.items():
                server.script = script
                assert "[2J" in enter(line, "{text}", "", "")
            for line in ("_together", "repr(_together)", "%together models", "%together"):
                shown = enter(line)
                assert "[2J" in shown or line == "%together"
            server.models = refused(400)
            enter("%together login", until="not saved.: ")
            assert "could not be tried out" in enter("a-key-that-is-long-enough-to-be-one")
        finally:
            terminal.close(force=True)
    assert not obeyed(seen.replace("\r\n", "\n"))


# A page

PROMPT = "\n".join((*SCRIPTS.values(), LONG["word"]))
TOGETHER = Answers(["\n\n".join(SHORT.values())])
ENDED = "sub:has-text('ended by')"
# Cells: what the server answers, and what is seen in the end.
CELLS = {
    f"%%together --n {len(ALL)}\nhello": (Answers(ALL.values()), ENDED),
    "%%together --show text\nhello": (TOGETHER, ENDED),
    "%%together --show json\nhello": (TOGETHER, ENDED),
    "%%together -b --show markdown\nhello": (TOGETHER, ENDED),
    "%%together --show none\nhello": (TOGETHER, ""),
    "%%together -b\nhello": (broken_off(PROMPT), "text=StreamError"),
    f"%%together --raw -m '<img/src=x onerror=top.__pwned=1>' --dry-run\n{PROMPT}": (None, "pre"),
    "%together models": (None, "table"),
    "%%together --show code\nhello": (TOGETHER, ENDED),  # the last: it offers its code as a new cell below
}
OVERFLOWING = """() => [...document.querySelectorAll('html, .jp-WindowedPanel-outer, .jp-Cell, .jp-OutputArea-child')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.className)"""
POKED = f"names => {{ ({POKE})('.jp-OutputArea-output'); return names.every(name => window.__pwned.includes(name)) }}"
STYLES = "e => { const s = getComputedStyle(e); return [s.fontWeight, s.textDecorationLine, e.innerText.split('\\n').length] }"


def watched(notebook):
    """A notebook's page, in which what runs is gathered from now on, and so is what is fetched."""
    page, fetched = notebook.page, []
    page.evaluate(WATCH)
    page.add_init_script(WATCH)  # for when it is opened again
    page.on("request", lambda one: fetched.append(one.url) if "//127.0.0.1:1/" in one.url else None)
    run_cells(notebook, 0)
    return page, fetched


def ran(page):
    """What has run so far, whatever a person does, or could."""
    could = page.evaluate(POKE, ".jp-OutputArea-output")
    assert len(page.context.pages) == 1
    return page.evaluate("window.__pwned") + could


@pytest.mark.slow
@pytest.mark.browser
def test_no_script_of_a_cell_runs_now_or_when_it_is_opened_again_and_no_answer_leaves_its_place(open_notebook):
    with ScriptedServer(replies(500, b""), models=MODELS) as server:
        notebook = open_notebook(*CELLS, server=server, width=1000)
        page, fetched = watched(notebook)
        for number, (script, seen) in enumerate(CELLS.values(), 1):
            server.script = script
            run_cells(notebook, number)
            notebook.output(number).locator(seen or "*").first.wait_for(state="attached")
            assert ran(page) == []
    assert (fetched, page.evaluate(OVERFLOWING)) == ([], [])
    nbformat.validate(notebook.save())
    page.reload()
    for number, (_, seen) in enumerate(CELLS.values(), 1):
        notebook.output(number).locator(seen or "*").first.wait_for(state="attached")
    assert page.locator(".jp-RenderedMarkdown:not(.jp-mod-trusted)").count() == 0  # nothing is sanitized
    assert (ran(page), fetched, page.evaluate(OVERFLOWING)) == ([], [], [])
    # Of all that is left open, nothing is the title of the next answer's, nor the footer's.
    output = notebook.output(1)
    titles = output.locator(".jp-RenderedMarkdown > p > strong:only-child").all_inner_texts()
    assert [title for title in titles if title.startswith("Answer ")] == [f"Answer {n + 1}" for n in range(len(ALL))]
    assert output.locator(".jp-RenderedMarkdown > p:last-child > sub").count() == 1
    assert output.locator(ENDED).evaluate(STYLES) == ["400", "none", 1]


@pytest.mark.slow
@pytest.mark.browser
def test_no_script_runs_in_any_tab_of_the_panel_where_it_would_without_us(open_notebook):
    code = f"from together_nb import Panel\nPanel(prompt={PROMPT!r}, system={PROMPT!r}, logprobs=3, shared=False)"
    control = f"for text in {[*SCRIPTS.values()]!r}:\n    display({{'text/markdown': text}}, raw=True)"
    with ScriptedServer(TOGETHER, models=MODELS) as server:
        notebook = open_notebook(code, control, server=server, width=1000)
        page, fetched = watched(notebook)
        notebook.run(1)
        panel = PanelPage(page)
        panel.wait("Ready")
        ids = page.locator("datalist option").evaluate_all("all => all.map(e => e.value)")
        assert set(SCRIPTS.values()) <= set(ids)
        panel.click("Generate")
        panel.wait("Done")
        for tab, seen in {
            "Tokens": ".tnb-token", "Events": "text=[DONE]", "Request": "text=curl", "History": "text=history[",
            "Answer": f"text={LAST}",
        }.items():  # fmt: skip
            panel.tab(tab)
            panel.root.locator(seen).first.wait_for()
            assert ran(page) == []
        panel.tab("Compare")
        panel.field("vary").select_option("model")
        panel.root.get_by_placeholder("ids of models").wait_for()  # else the kernel empties the field while it is typed
        panel.type("over", f"{SCRIPTS['image']}, {SCRIPTS['svg-script']}")
        panel.root.locator(".tnb-compare-head").get_by_role("button", name="Compare").click()
        panel.root.locator(".tnb-column .tnb-help", has_text="ended by").nth(1).wait_for()
        assert ran(page) == []
        for server.script in (refused(400, PROMPT), broken_off(PROMPT)):
            panel.click("Generate")
            panel.wait("Failed")
            assert ran(page) == []
        assert (fetched, page.evaluate(OVERFLOWING)) == ([], [])
        # What is looked for is seen where nobody prevents it.
        notebook.run(2)
        page.wait_for_function(POKED, arg=[*SCRIPTS])
        assert fetched
        assert len(page.evaluate(POKE, ".jp-OutputArea-output")) >= len(SCRIPTS)
        page.add_style_tag(content=".jp-OutputArea-output { overflow: visible !important; min-width: 2000px }")
        assert page.evaluate(OVERFLOWING)
