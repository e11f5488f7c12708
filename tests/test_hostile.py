"""Hostile texts of a model or a server, through all that shows them: shown, and not obeyed.

With ``TOGETHER_NB_SCREENSHOTS=FOLDER`` pictures of what a person sees are left there.
"""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from threading import Event

import nbformat
import pexpect
import pytest

from tests.hostile import ALL, CONTROLS, LAST, LONG, OTHERS, POKE, SCRIPTS, SHORT, WATCH, hostile_tokens
from tests.kernels import Kernel, environment_without
from tests.lab import Lab, Notebook, picture, write_notebook
from tests.servers import ScriptedServer, replies
from tests.test_panel_browser import PanelPage
from together_nb import tables
from together_nb.background import BackgroundRun
from together_nb.catalog import Catalog
from together_nb.completion import Choice, Completion, CompletionRequest, Usage
from together_nb.dialects import DIALECTS
from together_nb.errors import APIStatusError, TogetherError
from together_nb.formats import AUTO, FORMATS
from together_nb.harmless import harmless
from together_nb.shaded import tokens_html

SHOWS = (AUTO, *FORMATS)
REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
# The tags that our own Markdown is made of, and those that change the look of a word.
HARMLESS_TAG = re.compile(
    r"</?(?:br|hr|sub|sup|b|i|em|strong|u|s|kbd|mark|small|del|ins|pre|code|span|details|summary)[ ]?/?>"
)
MODELS = [
    {"id": text, "type": "chat", "display_name": text, "organization": text, "context_length": 9, "pricing": {"input": 1}}
    for text in (*SCRIPTS.values(), CONTROLS, LONG["word"], "a\n\n| b | c |\n# d")
]  # fmt: skip
MODELS.append({"id": "test/chat", "type": SCRIPTS["image"] + CONTROLS, "pricing": {"input": 1, "output": 1}})


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
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from strings(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from strings(one)


def hostile(**given):
    return Completion(
        CompletionRequest(CONTROLS, CONTROLS, "chat"),
        [Choice(0, CONTROLS, CONTROLS, CONTROLS, list(hostile_tokens())), Choice(1, CONTROLS)],
        **{"model": CONTROLS, "id": CONTROLS, "error": CONTROLS, "note": CONTROLS, "filled": (CONTROLS,), **given},
    )


def body(text):
    return json.dumps({"error": {"message": text, "type": text, "code": text}}).encode()


def broken_off(text):
    """A script: an answer that is broken off by an error in hostile words."""

    def script(exchange):
        exchange.chunked().text_events(["part"])
        exchange.event({"error": {"message": text}})
        exchange.done()

    return script


class Answers:
    """A script: the texts as answers side by side, held before the end; all else in it is hostile too."""

    def __init__(self, texts, *, held=False):
        self.texts = list(texts)
        self.go = Event()
        if not held:
            self.go.set()

    def __call__(self, exchange):
        exchange.chunked()
        asked = exchange.request.json()
        for index, text in enumerate(self.texts[: asked.get("n", 1)]):
            half = len(text) // 2  # so that what was cut within a word, a tag or a sequence is drawn too
            thought = "" if index else "\n\n".join((*SCRIPTS.values(), CONTROLS))
            exchange.event(self.payload(text[:half], index, reasoning=thought))
            exchange.event(self.payload(text[half:], index, logprobs=asked.get("logprobs") and not index))
        exchange.event(self.payload(f"\n\n{LAST}", 0))
        exchange.pause(self.go)
        for index in range(asked.get("n", 1)):
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": CONTROLS, "reasoning_tokens": CONTROLS}
            exchange.event({**self.payload("", index, finish=SCRIPTS["image"] + CONTROLS), "usage": usage})
        exchange.done()

    def payload(self, text, index, *, reasoning=None, logprobs=False, finish=None):
        choice = {"index": index, "delta": {"content": text, "reasoning": reasoning}, "finish_reason": finish}
        if logprobs:
            rows = [
                {"token": one.text, "logprob": one.logprob, "top_logprobs": [{"token": t, "logprob": p} for t, p in one.top]}
                for one in hostile_tokens()
            ]  # fmt: skip
            choice["logprobs"] = {"content": rows}
        words = SCRIPTS["image"] + CONTROLS
        return {"id": words, "model": words, "object": words, "choices": [choice]}


# What is written


@pytest.mark.parametrize("name", [*SCRIPTS, *OTHERS])
def test_no_tag_and_no_script_is_in_the_markdown_of_any_part_of_it(name):
    text = ALL[name]
    for end in range(1, len(text) + 1):
        made = HARMLESS_TAG.sub("", FORMATS["markdown"].partial(text[:end]))
        assert re.search(r"<[A-Za-z/!?]", made) is None
        assert re.search(r"\][(:]\s*<?(?!https?:|\[)[^\s)]*:", made) is None


@pytest.mark.parametrize("show", SHOWS)
def test_what_a_terminal_obeys_is_in_no_format(show):
    chat = hostile()
    assert not obeyed("".join(chat.bundle(show).values()))
    if show != AUTO:
        assert not obeyed(FORMATS[show].partial(CONTROLS) + FORMATS[show].final(CONTROLS))


def test_what_a_terminal_obeys_is_in_nothing_else_that_is_shown():
    chat = hostile()
    run = BackgroundRun(lambda: None, None)
    run.set_exception(TogetherError(CONTROLS, CONTROLS))
    failed = BackgroundRun(lambda: None, None)
    failed.set_exception(ValueError(CONTROLS))
    for shown in (
        repr(chat), repr(chat.tokens), chat.footer(), repr(run), repr(failed), tokens_html(chat.tokens, "g"),
        *tables.of_models(Catalog.from_json(MODELS).callable(), CONTROLS),
    ):  # fmt: skip
        assert "x1b" in shown
        assert not obeyed(shown)


def test_what_a_terminal_obeys_is_in_no_error_and_in_nothing_that_is_made_of_it():
    error = APIStatusError(CONTROLS, CONTROLS, status=400)
    error.reword(CONTROLS + "again")
    assert error.message.endswith("again")
    shown = (str(error), repr(error), error.message, error.hint, *error.args, *error._render_traceback_())
    assert not obeyed("".join(shown))


def test_a_footer_and_a_row_are_one_line_whatever_is_in_them():
    assert "\n" not in hostile(model="a\n\n# b\n").footer()
    markdown, plain = tables.of_models(Catalog.from_json(MODELS).callable())
    assert len(markdown.split("\n")) == 2 + len(plain.split("\n")) - 1 == 2 + len(MODELS) - 1


def test_counts_are_numbers_or_not_there():
    usage = {"prompt_tokens": 1, "completion_tokens": "2", "total_tokens": CONTROLS, "reasoning_tokens": [CONTROLS]}
    (chunk,) = DIALECTS["chat"].chunks({"usage": {**usage, "prompt_tokens_details": {"cached_tokens": "many"}}})
    assert chunk.usage == Usage(1, 2, 3)


# Each is drawn where it does no harm, and shown where it does.
@pytest.mark.parametrize(
    ("kept", "shown"),
    [
        ("- " * 90 + "x", "- " * 100 + "x"),
        (">" * 90 + "x", ">" * 100 + "x"),
        ("1. " * 90 + "x", "1. " * 100 + "x"),
        ("-" * 200, "- > " * 50 + "x"),
        (" " * 300 + "x", " " * 500 + "- x"),
        ("$" + "{" * 30 + "x" + "}" * 30 + "$", "$" + "{" * 31 + "x" + "}" * 31 + "$"),
        ("<b>a</b> <i><s>b</s></i> a<br>b `<` <b>`<`</b>", "<b>a"),
        ("<sub>a</sub>", "<sub>a\n</sub>"),
        ("[x](a/b.png)", "[x](/logout)"),
        ("[x](https://x.org/logout)", "[x]( //x.org)"),
        ("[x]: b", "[x]: /logout"),
    ],
    ids=[
        "list",
        "quotation",
        "numbered list",
        "list and quotation",
        "indented",
        "formula",
        "open tag",
        "tag over lines",
        "link to the root",
        "link without a scheme",
        "reference to the root",
    ],
)
def test_what_goes_too_deep_or_too_far_is_shown_to_the_letter(kept, shown):
    assert harmless(kept).replace("<code>&#60;</code>", "`<`") == kept
    made = harmless(shown)
    assert made != shown
    assert re.search(r"<(?!/?span>)|\]\(|\]:|\$|^[ ]*(?:-|>|1\.)", made) is None


# A kernel


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    one.run("import together_nb; together_nb.settings.model = 'test/chat'").wait()
    yield one
    one.stop()


def ask(kernel, server, cell, **options):
    kernel.run(f"together_nb.settings.base_url = {server.base_url!r}").wait()
    return kernel.run(cell, **options)


def said(run):
    """All that a cell has sent to be shown; what made an answer is data, and goes with it as it is."""
    contents = [one["content"] for one in run.messages if one["msg_type"] not in ("execute_input", "status")]
    return "".join(strings([{key: value for key, value in one.items() if key != "metadata"} for one in contents]))


@pytest.mark.parametrize("watched", [True, False], ids=["live", "once"])
def test_no_message_of_a_kernel_holds_what_a_terminal_obeys(kernel, watched):
    texts = [CONTROLS, SCRIPTS["image"]]
    with ScriptedServer(Answers(texts), models=MODELS) as server:
        for show in SHOWS:
            run = ask(kernel, server, f"%%together --show {show} --n 2 --logprobs 1\nhello", watched=watched).wait()
            assert run.status == "ok"
            assert "ended by" in said(run) or show == "none"
            assert not obeyed(said(run))


@pytest.mark.parametrize(
    ("script", "models", "cell"),
    [
        (replies(400, body(CONTROLS)), MODELS, "%%together\nhello"),
        (replies(404, body(CONTROLS)), MODELS, "%%together\nhello"),
        (replies(500, CONTROLS.encode(errors="replace")), MODELS, "%%together\nhello"),
        (replies(302, b"", location="http://x/\x1b[2J\x07"), MODELS, "%%together\nhello"),
        (replies(200, b"<p>", content_type="text/\x1b[2J\x07"), MODELS, "%%together\nhello"),
        (broken_off(CONTROLS), MODELS, "%%together\nhello"),
        (replies(400, body(CONTROLS)), replies(400, body(CONTROLS)), "%together models"),
        (broken_off(CONTROLS), MODELS, "%together models zzz\x1b[2J"),
    ],
    ids=["refused", "not found", "failed", "sent on", "a page", "broken off", "no list", "no such model"],
)
def test_hostile_words_of_a_server_reach_the_reader_as_words(kernel, script, models, cell):
    with ScriptedServer(script, models=models) as server:
        run = ask(kernel, server, cell).wait()
    assert not obeyed("".join(strings(run.error)))
    assert "x1b[2J" in run.error["evalue"]


# A terminal


def test_no_control_sequence_reaches_a_terminal(tmp_path):
    """A real IPython on a pty that understands no sequences, so that each that comes was let through."""
    scripts = {
        "%%together -m refused": replies(400, body(CONTROLS)),
        "%%together -m broken": broken_off(CONTROLS),
        "%%together --dry-run": replies(500, b""),
        "%%together -b --api completions": Answers([CONTROLS]),
        "%%together --n 2": Answers([CONTROLS, CONTROLS]),
    }
    kept = environment_without("TOGETHER_")
    environment = kept | {"IPYTHONDIR": str(tmp_path), "TERM": "dumb", "TOGETHER_MODEL": "test/chat", "NO_COLOR": "1"}
    options = ["--simple-prompt", "--no-banner", "--no-confirm-exit", "--colors=NoColor", "--ext=together_nb"]
    with ScriptedServer(replies(500, b""), models=MODELS) as server:
        environment["TOGETHER_BASE_URL"] = server.base_url
        terminal = pexpect.spawn(
            sys.executable, ["-m", "IPython", *options], env=environment, echo=False, timeout=60, encoding="utf-8"
        )
        seen = ""

        def enter(*lines):
            nonlocal seen
            terminal.send("".join(f"{line}\n" for line in lines))
            terminal.expect(r"In \[\d+\]: ")
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
            server.models = replies(400, body(CONTROLS))
            terminal.send("%together login\n")
            terminal.expect("not saved.: ")
            seen += terminal.before
            assert "could not be tried out" in enter("a-key-that-is-long-enough-to-be-one")
        finally:
            terminal.close(force=True)
    assert not obeyed(seen.replace("\r\n", "\n"))


# A page

PATIENCE = 30_000  # milliseconds; only a hang takes that long
PROMPT = "\n".join((*SCRIPTS.values(), LONG["word"]))
TOGETHER = "\n\n".join(SHORT.values())
CELLS = {
    "load": "%load_ext together_nb",
    AUTO: f"%%together --n {len(ALL)}\nhello",
    **{show: f"%%together --show {show}\nhello" for show in ("text", "json")},
    "markdown": "%%together -b --show markdown\nhello",
    "broken off": "%%together -b\nhello",
    "none": "%%together --show none\nhello",
    "request": f"%%together --raw -m '<img/src=x onerror=top.__pwned=1>' --dry-run\n{PROMPT}",
    "models": "%together models",
    "panel": "import json, pathlib\nfrom IPython.display import display\nfrom together_nb import Panel\n"
    "texts = json.loads(pathlib.Path('texts.json').read_text())\n"
    "Panel(prompt=texts['prompt'], system=texts['prompt'], logprobs=3, shared=False)",
    "control": "for text in texts['scripts'].values():\n    display({'text/markdown': text}, raw=True)",
    "code": "%%together --show code\nhello",  # the last: it offers its code as a new cell below
}  # fmt: skip
FORMAT_CELLS = (AUTO, "text", "code", "json", "markdown")


class Page:
    """A notebook with all the cells, in a page that is watched."""

    def __init__(self, browser, folder, server):
        write_notebook(folder / "hostile.ipynb", *CELLS.values())
        (folder / "texts.json").write_text(json.dumps({"prompt": PROMPT, "scripts": SCRIPTS}))
        self.server = server
        self.lab = Lab(folder, environment={"TOGETHER_BASE_URL": server.base_url, "TOGETHER_MODEL": "test/chat"})
        self.page = browser.new_page(viewport={"width": 1000, "height": 1000})
        self.page.set_default_timeout(PATIENCE)
        self.page.add_init_script(WATCH)
        self.fetched = []  # of what no server has
        self.page.on("request", lambda one: self.fetched.append(one.url) if "//127.0.0.1:1/" in one.url else None)
        self.notebook = Notebook(self.page, self.lab, "hostile.ipynb")
        self.run("load")

    def run(self, name, script=None, *, held=False):
        """Run a cell; to its end, unless its answers are held back."""
        self.server.script = script
        self.notebook.run(list(CELLS).index(name))
        if not held:
            self.notebook.wait_run(list(CELLS).index(name))

    def output(self, name):
        return self.notebook.output(list(CELLS).index(name))

    def ran(self, within=".jp-OutputArea-output"):
        """What has run so far, whatever a person does, or could."""
        could = self.page.evaluate(POKE, within)
        assert len(self.page.context.pages) == 1
        return self.page.evaluate("window.__pwned") + could

    def overflowing(self):
        """What has grown wider than the notebook's page; an output that is too wide scrolls in its own box."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('html, .jp-WindowedPanel-outer, .jp-Cell, .jp-OutputArea-child')]
                .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.className)"""
        )


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    with ScriptedServer(replies(500, b""), models=MODELS) as server:
        one = Page(browser, tmp_path_factory.mktemp("page"), server)
        yield one
        one.lab.stop()
        one.page.close()


@pytest.mark.browser
def test_no_script_runs_while_it_streams_after_it_has_ended_and_when_it_is_opened_again(page):
    for name in FORMAT_CELLS:
        answers = Answers(ALL.values() if name == AUTO else [TOGETHER], held=True)
        page.run(name, answers, held=True)
        output = page.output(name)
        output.get_by_text(LAST).last.wait_for()
        assert page.ran() == []
        output.get_by_text(re.compile(r"^test/chat · [\d,]+ chunks? · ")).wait_for()
        picture(page.page, f"hostile-{name}-streaming")
        answers.go.set()
        output.locator("sub", has_text="ended by").wait_for()
        assert page.ran() == []
        picture(page.page, f"hostile-{name}-after")
    page.run("broken off", broken_off(PROMPT))
    page.output("broken off").get_by_text("StreamError").wait_for()
    page.run("none", Answers([SCRIPTS["image"]]))
    page.run("request")
    page.run("models")
    page.output("models").locator("table").wait_for()
    assert page.output("none").inner_text().strip() == ""
    assert page.ran() == []
    assert page.fetched == []
    assert page.overflowing() == []
    nbformat.validate(page.notebook.save())
    page.page.reload()
    page.output("models").locator("table").wait_for()
    for name in FORMAT_CELLS:
        page.output(name).locator("sub", has_text="ended by").wait_for()
        assert (
            page.output(name).locator(".jp-RenderedMarkdown:not(.jp-mod-trusted)").count() == 0
        )  # nothing is sanitized
    assert page.ran() == []
    assert page.fetched == []
    assert page.overflowing() == []


@pytest.mark.browser
def test_no_answer_reaches_beyond_its_place(page):
    """Of all that is left open, nothing is the title of the next answer's, nor the footer's."""
    output = page.output(AUTO)
    page.run(AUTO, Answers(ALL.values()))
    footer = output.locator("sub", has_text="ended by")
    footer.wait_for()
    titles = output.locator(".jp-RenderedMarkdown > p > strong:only-child").all_inner_texts()
    assert [title for title in titles if title.startswith("Answer ")] == [f"Answer {n + 1}" for n in range(len(ALL))]
    assert output.locator(".jp-RenderedMarkdown > p:last-child > sub").count() == 1
    styles = "e => { const s = getComputedStyle(e); return [s.fontWeight, s.textDecorationLine] }"
    assert footer.evaluate(styles) == ["400", "none"]
    assert footer.inner_text().count("\n") == 0


@pytest.mark.browser
def test_no_script_runs_in_any_tab_of_the_panel(page):
    answers = Answers([TOGETHER], held=True)
    page.run("panel", answers)
    panel = PanelPage(page.page)
    panel.wait("Ready")
    ids = page.page.locator("datalist option").evaluate_all("all => all.map(e => e.value)")
    assert set(SCRIPTS.values()) <= set(ids)
    panel.click("Generate")
    panel.shows(LAST)
    for tab in ("Answer", "Tokens", "Events"):
        panel.tab(tab)
        panel.root.locator({"Answer": f"text={LAST}", "Tokens": ".tnb-token", "Events": "time"}[tab]).first.wait_for()
        assert page.ran() == []
    answers.go.set()
    panel.wait("Done")
    for tab, what in {
        "Events": "text=[DONE]",
        "Request": "text=curl",
        "History": "text=history[",
        "Answer": f"text={LAST}",
    }.items():
        panel.tab(tab)
        panel.root.locator(what).first.wait_for()
        assert page.ran() == []
        picture(page.page, f"hostile-panel-{tab.lower()}")
    panel.tab("Compare")
    panel.field("vary").select_option("model")
    panel.type("over", f"{SCRIPTS['image']}, {SCRIPTS['svg-script']}")
    panel.root.locator(".tnb-compare-head").get_by_role("button", name="Compare").click()
    panel.root.locator(".tnb-column .tnb-help", has_text="ended by").nth(1).wait_for()
    assert page.ran() == []
    picture(page.page, "hostile-panel-compare")
    for script in (replies(400, body(PROMPT)), broken_off(PROMPT)):
        page.server.script = script
        panel.click("Generate")
        panel.wait("Failed")
        assert page.ran() == []
    assert page.fetched == []
    assert page.overflowing() == []


@pytest.mark.browser
def test_what_this_test_looks_for_is_seen_where_nobody_prevents_it(page):
    page.page.evaluate("window.__pwned.length = 0")
    page.run("control")
    page.page.wait_for_function(
        f"names => {{ ({POKE})('.jp-OutputArea-output'); return names.every(name => window.__pwned.includes(name)) }}",
        arg=[*SCRIPTS],
    )
    assert page.fetched
    # By the elements alone it is seen too, before anything has run.
    assert len(page.page.evaluate(POKE, ".jp-OutputArea-output")) >= len(SCRIPTS)
    page.page.add_style_tag(content=".jp-OutputArea-output { overflow: visible !important; min-width: 2000px }")
    assert page.overflowing()
