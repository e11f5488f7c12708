"""`together_nb.render.token_html`: tokens as HTML that holds no markup but its own."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import together_nb
from tests.servers import ScriptedServer, answers
from together_nb.base.escape import visible
from together_nb.render.token_html import SHADE_CSS, TIP_CSS, tokens_html
from together_nb.render.token_text import summary
from together_nb.values.chunk import Token

MINUS = "\N{MINUS SIGN}"
ATTRIBUTES = {
    "label": ["class", "style"],
    "input": ["type", "name", "aria-label", "data-lm-suppress-shortcuts", "hidden"],
    "span": ["class", "aria-hidden"],
    "li": ["class"],
    "meter": ["value"],
    **{tag: [] for tag in ("u", "br", "code", "ol", "b")},
}
HOSTILE = [
    "</label><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</i></span><!-- ", "<!DOCTYPE html>",
    "<?php ?>", '" autofocus onfocus="alert(1)', "' onclick='alert(1)", "&lt;b&gt; &amp; &#60; &copy",
    "<", "&", "\x1b[31mred\x1b]52;c;aGk=\x07",
    "\ud83d", "\udc00\ud800", "\ud83d\ude00", "\x00", "\u202egnp.exe", "\r\n", "\r", "", "\n", "a\n\tb",
]  # fmt: skip


class Page(HTMLParser):
    """The HTML of tokens, read; refuses what is not balanced and what is not the view's own."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self._open = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert names == [name for name in ATTRIBUTES[tag] if name in names]
        element = {"tag": tag, "text": "", "inside": [one["tag"] for one in self._open], **dict(attributes)}
        self.elements.append(element)
        if tag == "br":
            self.handle_data("\n")
        elif tag != "input":
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        assert self._open, data
        for element in self._open:
            element["text"] += data

    def refuse(self, *of):
        raise AssertionError(of)

    handle_comment = handle_decl = handle_pi = unknown_decl = refuse

    def of(self, tag):
        return [one for one in self.elements if one["tag"] == tag]

    def texts(self, tag):
        return [one["text"] for one in self.of(tag)]

    def pieces(self):
        """The text of each token, as the page has it."""
        spans = [one for one in self.of("span") if one["inside"] == ["label"] and "class" not in one]
        return [one["text"].replace("\xa0", " ") for one in spans]

    def tips(self):
        return [one["text"].replace("\xa0", " ") for one in self.of("span") if one.get("class") == "tnb-tip"]


def page_of(*tokens, group="g"):
    return Page(tokens_html(tokens, group))


def likely(text, probability, **others):
    """A token and its alternatives by their probabilities."""
    return Token(text, math.log(probability), None, tuple((one, math.log(p)) for one, p in others.pop("top", ())))


def seen(text):
    return visible(text).replace("\xa0", " ")


def test_tokens_are_one_group_of_radio_buttons_one_after_the_other():
    assert tokens_html([], "g") == ""
    page = page_of(*(likely(text, 0.5) for text in ("Once", " upon", " a\n", "time")), group="one")
    assert page.pieces() == ["Once", " upon", " a\n", "time"]
    assert [(radio["type"], radio["name"]) for radio in page.of("input")] == [("radio", "one")] * 4
    assert {radio["data-lm-suppress-shortcuts"] for radio in page.of("input")} == {"true"}  # JupyterLab leaves the keys
    assert {span["aria-hidden"] for span in page.of("span") if "class" in span} == {"true"}  # or it were read twice


def test_every_class_has_its_style():
    page = page_of(likely("a", 0.5, top=[("a", 0.5)]), Token("b", None))
    classes = {name for one in page.elements for name in one.get("class", "").split()}
    assert classes == {"tnb-token", "tnb-unknown", "tnb-tip", "tnb-taken"}
    assert classes <= set(re.findall(r"\.([\w-]+)", SHADE_CSS + TIP_CSS))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_token_or_an_alternative_is_markup(text):
    page = page_of(likely(text, 0.5, top=[(text, 0.5), (text + "x", 0.25)]), likely("safe", 0.5), group=text + "g")
    assert page.pieces() == [seen(text), "safe"]
    assert [radio["name"] for radio in page.of("input")] == [text + "g"] * 2
    assert len(page.of("li")) == 2


# The numbers


@pytest.mark.parametrize(
    ("logprob", "shade", "percent", "number"),
    [
        (0.0, "1.000", "100.0 %", "0.00"),
        (1e-7, "1.000", "100.0 %", "0.00"),  # rounded over one
        (math.log(0.256), "0.256", "25.6 %", f"{MINUS}1.36"),
        (math.log(0.0023), "0.002", "0.2 %", f"{MINUS}6.07"),
        (math.log(0.0004), "0.000", "0.04 %", f"{MINUS}7.82"),
        (math.log(2e-6), "0.000", "0.0002 %", f"{MINUS}13.12"),
        (math.log(1e-9), "0.000", "< 0.0001 %", f"{MINUS}20.72"),
        (-math.inf, "0.000", "< 0.0001 %", f"{MINUS}inf"),
    ],
)
def test_a_probability_is_a_shade_a_bar_and_numbers_in_the_tip_and_read_aloud(logprob, shade, percent, number):
    page = page_of(Token("\n\t ", logprob, None, (("\n\t ", logprob),)))
    assert [(label["style"], label["class"]) for label in page.of("label")] == [(f"--p:{shade}", "tnb-token")]
    assert page.tips() == [f"“↵⇥␣” {percent}, log-probability {number}▸ “↵⇥␣”{percent}"]
    assert page.of("input")[0]["aria-label"] == f"“↵⇥␣” {percent}"
    assert page.of("meter")[0]["value"] == f"{min(math.exp(logprob), 1):.4f}"


def test_a_token_without_a_probability_says_so_and_has_no_shade():
    page = page_of(Token("Once", None))
    assert page.of("label")[0]["class"] == "tnb-token tnb-unknown"
    assert page.tips() == ["“Once” no probability given"]
    assert page.of("input")[0]["aria-label"] == "“Once”, no probability given"
    assert page.of("ol") == []


HALF = "\ufffd"  # what is left of a token that is half a character


@pytest.mark.parametrize(
    ("token", "rows", "taken"),
    [
        (
            likely("cat", 0.25, top=[("dog", 0.5), ("cat", 0.25), (""" <b'c">""", 0.125)]),
            ["“dog”50.0 %", "▸ “cat”25.0 %", """“␣<b'c">”12.5 %"""],
            1,
        ),
        (likely("eel", 0.01, top=[("dog", 0.5), ("cat", 0.25)]), ["“dog”50.0 %", "“cat”25.0 %", "▸ “eel”1.0 %"], 2),
        (likely(HALF, 0.25, top=[(HALF, 0.5), (HALF, 0.25)]), [f"“{HALF}”50.0 %", f"▸ “{HALF}”25.0 %"], 1),
        (Token("Once", None, None, (("It", math.log(0.5)),)), ["“It”50.0 %"], None),
    ],
    ids=["among them", "not among them", "two look the same", "without a probability"],
)
def test_the_alternatives_are_listed_and_the_taken_one_alone_is_marked(token, rows, taken):
    page = page_of(token)
    assert page.texts("li") == rows
    marks = [one.get("class") for one in page.of("li")]
    assert marks == ["tnb-taken" if number == taken else None for number in range(len(rows))]
    others = [row.replace("”", "” ") for number, row in enumerate(rows) if number != taken]
    if taken is not None:
        assert page.of("input")[0]["aria-label"].endswith("; instead:\n" + ";\n".join(others))


@pytest.mark.parametrize(
    ("tokens", "line"),
    [
        ([Token("Once", None)], ""),
        ([likely("a", 0.5)], f"1 token · mean log-probability {MINUS}0.69 · perplexity 2.00"),
        ([likely("a", 0.5), likely("b", 0.125)], f"2 tokens · mean log-probability {MINUS}1.39 · perplexity 4.00"),
        ([Token("a", None), likely("b", 0.5)], f"1 token · mean log-probability {MINUS}0.69 · perplexity 2.00"),
        ([likely("a", 1 / 5000)] * 1234, f"1,234 tokens · mean log-probability {MINUS}8.52 · perplexity 5,000.00"),
        ([Token("a", -9999.0)], f"1 token · mean log-probability {MINUS}9999.00 · perplexity 1.0e+304"),
        ([Token("a", -math.inf)], f"1 token · mean log-probability {MINUS}inf · perplexity 1.0e+304"),
    ],
)
def test_the_summary_counts_and_gives_the_mean_and_the_perplexity_of_what_is_known(tokens, line):
    assert summary(tokens) == line


# From the wire


def as_arrays(text, logprob, top):
    rows = [{"token": one, "logprob": lp} for one, lp in top]
    shape = {"tokens": [text], "token_logprobs": [logprob], "token_ids": [7], "top_logprobs": [rows]}
    return {"text": text, "delta": {"content": text}, "logprobs": shape}


@pytest.mark.parametrize("api", ["chat", "completions", "inference"])
def test_what_the_server_sends_of_its_tokens_is_drawn(api):
    half, quarter = math.log(0.5), math.log(0.25)
    events = [
        as_arrays("He", half, [("She", quarter), ("He", half)]),
        as_arrays("\n<i>", quarter, [(" &", half)]),
        as_arrays("?", None, []),
        as_arrays("!", "-0.5", []),
    ]

    def script(exchange):
        exchange.chunked().headers()
        for fields in events:
            exchange.event({"choices": [{"index": 0, **fields}]})
        answers([])(exchange)

    with ScriptedServer(script) as server:
        answer = together_nb.complete("Tell me", base_url=server.base_url, model="test/chat", api=api, logprobs=2)
    page = page_of(*answer.tokens)
    assert answer.text == "".join(page.pieces()) == "He\n<i>?!"
    assert page.texts("li") == ["▸ “He”50.0 %", "“She”25.0 %", "“␣&”50.0 %", "▸ “↵<i>”25.0 %"]
    assert summary(answer.tokens) == f"2 tokens · mean log-probability {MINUS}1.04 · perplexity 2.83"


# Whatever comes

STRANGE = st.characters() | st.integers(0xD800, 0xDFFF).map(chr) | st.sampled_from("<>&\"'=/\\ \t\r\n\0\x1b\x85\u2028")
TEXTS = st.text(STRANGE) | st.sampled_from(HOSTILE)
LOGPROBS = st.floats()  # a server may send NaN and the infinities too
TOPS = st.lists(st.tuples(TEXTS, LOGPROBS), max_size=4).map(tuple)
TOKENS = st.builds(Token, TEXTS, st.none() | LOGPROBS, st.none(), TOPS)


@given(st.lists(TOKENS, max_size=8), TEXTS)
@hypothesis_settings(max_examples=60)
def test_any_tokens_make_balanced_html_with_a_radio_button_each_and_no_markup_of_the_models(tokens, group):
    page = page_of(*tokens, group=group)
    assert page.pieces() == [seen(token.text) for token in tokens]
    assert [one["inside"] for one in page.of("input")] == [["label"]] * len(tokens)
    assert [one["inside"] for one in page.of("label")] == [[]] * len(tokens)
    whole = [piece + tip for piece, tip in zip(page.pieces(), page.tips(), strict=True)]
    assert [text.replace("\xa0", " ") for text in page.texts("label")] == whole  # nothing stands elsewhere
    assert {one["name"] for one in page.of("input")} <= {group}
    assert not any(character in radio["aria-label"] for radio in page.of("input") for character in "\x00\x1b")
    known = sum(token.logprob is not None for token in tokens)
    assert summary(tokens).startswith(f"{known:,} token" if known else "")
