"""`together_nb.shaded`: tokens as HTML that holds no markup but its own."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import ScriptedServer
from together_nb import complete
from together_nb.completion import Token
from together_nb.escape import visible
from together_nb.probabilities import summary
from together_nb.shaded import SHADE_CSS, TIP_CSS, tokens_html

ATTRIBUTES = {
    "label": ["class", "style"],
    "input": ["type", "name", "aria-label", "data-lm-suppress-shortcuts", "hidden"],
    "u": [],
    "br": [],
    "span": ["class", "aria-hidden"],
    "code": [],
    "ol": [],
    "li": ["class"],
    "meter": ["value"],
    "b": [],
}
HOSTILE = [
    "</label><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</i></span><!-- ",
    "<!DOCTYPE html>",
    "<?php ?>",
    '" autofocus onfocus="alert(1)',
    "' onclick='alert(1)",
    "&lt;b&gt; &amp; &#60; &copy",
    "<",
    "&",
    "\x1b[31mred\x1b]52;c;aGk=\x07",
    "\ud83d",
    "\udc00\ud800",
    "\x00",
    "\u202egnp.exe",
    "\r\n",
    "\r",
    "",
    "a\n\tb",
]


class Drawn(HTMLParser):
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
        return [
            one["text"].replace("\xa0", " ")
            for one in self.of("span")
            if one["inside"] == ["label"] and one.get("class") is None
        ]

    def tips(self):
        return [one["text"] for one in self.of("span") if one.get("class") == "tnb-tip"]


def drawn(*tokens, group="g"):
    return Drawn(tokens_html(tokens, group))


def likely(text, probability, **others):
    """A token and its alternatives by their probabilities."""
    return Token(text, math.log(probability), None, tuple((one, math.log(p)) for one, p in others.pop("top", ())))


def shown(text):
    return visible(text).replace("\xa0", " ")


# The text


def test_the_tokens_stand_one_after_the_other_as_the_text():
    assert drawn(*(likely(text, 0.5) for text in ("Once", " upon", " a\n", "time"))).pieces() == [
        "Once", " upon", " a\n", "time",
    ]  # fmt: skip


def test_nothing_makes_nothing():
    assert tokens_html([], "g") == ""


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", ""),
        ("\n", "\n"),
        ("a\r\nb", "a\nb"),
        ("\x00", r"\x00"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202e", r"\u202e"),
        ("\ud83d", "\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text, seen):
    (token,) = drawn(likely(text, 0.5)).pieces()
    assert token == seen


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_token_or_an_alternative_is_markup(text):
    page = drawn(likely(text, 0.5, top=[(text, 0.5), (text + "x", 0.25)]), likely("safe", 0.5))
    assert page.pieces() == [shown(text), "safe"]
    assert len(page.of("input")) == 2
    assert len(page.of("li")) == 2


def test_a_quote_does_not_end_the_attribute_that_is_read_aloud():
    (radio,) = drawn(likely('" onfocus="x', 0.5, top=[("'>", 0.25)])).of("input")
    assert radio["aria-label"] == '“"␣onfocus="x” 50.0 %; instead:\n“\'>” 25.0 %'


def test_the_name_of_the_group_is_no_markup_either():
    (radio,) = drawn(likely("a", 0.5), group='"><script>').of("input")
    assert radio["name"] == '"><script>'


# The keyboard


def test_a_text_is_one_group_of_radio_buttons():
    radios = drawn(*(likely(text, 0.5) for text in "abc"), group="one").of("input")
    assert [(radio["type"], radio["name"]) for radio in radios] == [("radio", "one")] * 3


def test_jupyterlab_leaves_the_arrow_keys_to_the_tokens():
    (radio,) = drawn(likely("a", 0.5)).of("input")
    assert radio["data-lm-suppress-shortcuts"] == "true"


def test_the_tip_is_not_read_twice():
    (tip,) = [one for one in drawn(likely("a", 0.5)).of("span") if "class" in one]
    assert (tip["class"], tip["aria-hidden"]) == ("tnb-tip", "true")


def test_every_class_has_its_style():
    page = drawn(likely("a", 0.5, top=[("a", 0.5)]), Token("b", None))
    classes = {name for one in page.elements for name in one.get("class", "").split()}
    assert classes == {"tnb-token", "tnb-unknown", "tnb-tip", "tnb-taken"}
    assert classes <= set(re.findall(r"\.([\w-]+)", SHADE_CSS + TIP_CSS))


# The numbers


@pytest.mark.parametrize(
    ("logprob", "shade"),
    [(0.0, "1.000"), (math.log(0.5), "0.500"), (math.log(0.0625), "0.062"), (-50.0, "0.000"), (-math.inf, "0.000")],
)
def test_the_shade_is_the_probability(logprob, shade):
    (label,) = drawn(Token("a", logprob)).of("label")
    assert (label["style"], label["class"]) == (f"--p:{shade}", "tnb-token")


def test_a_probability_that_was_rounded_over_one_is_one():
    page = drawn(Token("a", 1e-7, None, (("a", 1e-7),)))
    assert page.of("label")[0]["style"] == "--p:1.000"
    assert page.of("meter")[0]["value"] == "1.0000"
    assert page.texts("b") == ["100.0 %"]


@pytest.mark.parametrize(
    ("probability", "percent", "logprob"),
    [
        (1.0, "100.0 %", "0.00"),
        (0.256, "25.6 %", "\N{MINUS SIGN}1.36"),
        (0.0023, "0.2 %", "\N{MINUS SIGN}6.07"),
        (0.0004, "0.04 %", "\N{MINUS SIGN}7.82"),
        (2e-6, "0.0002 %", "\N{MINUS SIGN}13.12"),
        (1e-9, "< 0.0001 %", "\N{MINUS SIGN}20.72"),
    ],
)
def test_the_numbers_are_in_the_tip_and_read_aloud(probability, percent, logprob):
    page = drawn(likely(" a", probability))
    assert page.tips() == [f"“␣a” {percent}, log-probability {logprob}"]
    assert page.of("input")[0]["aria-label"] == f"“␣a” {percent}"


def test_line_breaks_tabs_and_spaces_can_be_told_apart_in_the_tip():
    assert drawn(likely("\n\t ", 0.5)).texts("code") == ["“↵⇥␣”"]


def test_a_token_without_a_probability_says_so_and_has_no_shade():
    page = drawn(Token("Once", None))
    assert page.of("label")[0]["class"] == "tnb-token tnb-unknown"
    assert page.tips() == ["“Once” no probability given"]
    assert page.of("input")[0]["aria-label"] == "“Once”, no probability given"
    assert page.of("ol") == []


# What else could have stood there


def test_the_alternatives_are_listed_and_the_taken_one_is_marked():
    page = drawn(likely("cat", 0.25, top=[("dog", 0.5), ("cat", 0.25), (" <b>", 0.125)]))
    assert page.texts("li") == ["“dog”50.0 %", "▸ “cat”25.0 %", "“␣<b>”12.5 %"]
    assert [one.get("class") for one in page.of("li")] == [None, "tnb-taken", None]
    assert [one["value"] for one in page.of("meter")] == ["0.5000", "0.2500", "0.1250"]
    assert page.of("input")[0]["aria-label"] == "“cat” 25.0 %; instead:\n“dog” 50.0 %;\n“␣<b>” 12.5 %"


def test_a_taken_one_that_is_not_among_them_is_added():
    page = drawn(likely("eel", 0.01, top=[("dog", 0.5), ("cat", 0.25)]))
    assert page.texts("li") == ["“dog”50.0 %", "“cat”25.0 %", "▸ “eel”1.0 %"]
    assert [one.get("class") for one in page.of("li")] == [None, None, "tnb-taken"]


def test_one_alone_is_marked_where_two_look_the_same():
    half = "\ufffd"  # what is left of a token that is half a character
    page = drawn(likely(half, 0.25, top=[(half, 0.5), (half, 0.25)]))
    assert [one.get("class") for one in page.of("li")] == [None, "tnb-taken"]


def test_alternatives_are_listed_where_the_token_itself_has_no_probability():
    page = drawn(Token("Once", None, None, (("It", math.log(0.5)),)))
    assert page.texts("li") == ["“It”50.0 %"]


# The line above


def test_the_summary_counts_and_says_the_mean_and_the_perplexity():
    tokens = [likely("a", 0.5), likely("b", 0.125)]
    assert summary(tokens) == "2 tokens · mean log-probability \N{MINUS SIGN}1.39 · perplexity 4.00"


def test_one_token_is_counted_as_one():
    assert summary([likely("a", 0.5)]) == "1 token · mean log-probability \N{MINUS SIGN}0.69 · perplexity 2.00"


def test_thousands_are_grouped():
    told = summary([likely("a", 1 / 5000)] * 1234)
    assert told == "1,234 tokens · mean log-probability \N{MINUS SIGN}8.52 · perplexity 5,000.00"


@pytest.mark.parametrize("tokens", [[], [Token("Once", None)]])
def test_there_is_no_summary_of_nothing_known(tokens):
    assert summary(tokens) == ""


def test_tokens_without_a_probability_do_not_count():
    tokens = [Token("Once", None), likely("a", 0.5), likely("b", 0.5)]
    assert summary(tokens) == "2 tokens · mean log-probability \N{MINUS SIGN}0.69 · perplexity 2.00"


@pytest.mark.parametrize("logprob", [-9999.0, -math.inf])
def test_a_summary_stays_a_line_however_unlikely_the_text(logprob):
    told = summary([Token("a", logprob), likely("b", 0.5)])
    assert told.startswith("2 tokens · mean log-probability ")
    assert len(told) < 100


# From the wire


def as_number(text, logprob, top):
    return {"delta": {"content": text, "token_id": 7}, "logprobs": logprob, "top_logprobs": dict(top)}


def as_arrays(text, logprob, top):
    rows = [{"token": one, "logprob": lp} for one, lp in top]
    told = {"tokens": [text], "token_logprobs": [logprob], "token_ids": [7], "top_logprobs": [rows]}
    return {"text": text, "delta": {"content": text}, "logprobs": told}


def as_maps(text, logprob, top):
    told = {"tokens": [text], "token_logprobs": [logprob], "top_logprobs": [dict(top)]}
    return {"text": text, "delta": {"content": text}, "logprobs": told}


def as_openai_does(text, logprob, top):
    rows = [{"token": one, "logprob": lp, "bytes": None} for one, lp in top]
    return {
        "delta": {"content": text},
        "logprobs": {"content": [{"token": text, "logprob": logprob, "top_logprobs": rows}]},
    }


def answered(api, events):
    """The answer that is read from these choices, one event each."""

    def script(exchange):
        exchange.chunked().headers()
        for fields in events:
            exchange.event({"choices": [{"index": 0, **fields}]})
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    with ScriptedServer(script) as server:
        return complete("Tell me", base_url=server.base_url, model="test/chat", api=api, logprobs=2)


@pytest.mark.parametrize(
    ("api", "shape"),
    [
        ("chat", as_number),
        ("chat", as_arrays),
        ("chat", as_maps),
        ("chat", as_openai_does),
        ("completions", as_arrays),
        ("completions", as_maps),
        ("inference", as_arrays),
    ],
)
def test_each_shape_on_the_wire_is_drawn(api, shape):
    half, quarter = math.log(0.5), math.log(0.25)
    answer = answered(
        api, [shape("He", half, [("She", quarter), ("He", half)]), shape("\n<i>", quarter, [(" &", half)])]
    )
    page = drawn(*answer.tokens)
    assert answer.text == "He\n<i>"
    assert page.pieces() == ["He", "\n<i>"]
    assert page.texts("li") == ["▸ “He”50.0 %", "“She”25.0 %", "“␣&”50.0 %", "▸ “↵<i>”25.0 %"]
    assert summary(answer.tokens) == "2 tokens · mean log-probability \N{MINUS SIGN}1.04 · perplexity 2.83"


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [(as_number, [" upon"]), (as_arrays, ["Once", " upon"]), (as_openai_does, ["Once", " upon"])],
)
def test_a_token_without_a_probability_is_drawn_where_the_shape_can_tell_of_one(shape, tokens):
    answer = answered("chat", [shape("Once", None, []), shape(" upon", math.log(0.5), [])])
    assert answer.text == "Once upon"
    assert drawn(*answer.tokens).pieces() == tokens


@pytest.mark.parametrize("shape", [as_arrays, as_openai_does])
@pytest.mark.parametrize("logprob", ["-0.5", {}])
def test_a_probability_that_is_no_number_stops_neither_the_text_nor_the_drawing(shape, logprob):
    answer = answered("chat", [shape("Once", logprob, [])])
    page = drawn(*answer.tokens)
    assert answer.text == "Once"
    assert len(page.of("input")) == len(answer.tokens)
    summary(answer.tokens)


# Whatever comes

TEXTS = st.one_of(
    st.text(
        st.one_of(
            st.characters(), st.integers(0xD800, 0xDFFF).map(chr), st.sampled_from("<>&\"'=/\\ \t\r\n\0\x1b\x85\u2028")
        )
    ),
    st.sampled_from(HOSTILE),
)
LOGPROBS = st.floats()  # a server may send NaN and the infinities too
TOKENS = st.builds(
    Token,
    TEXTS,
    st.none() | LOGPROBS,
    st.none(),
    st.lists(st.tuples(TEXTS, LOGPROBS), max_size=4).map(tuple),
)


@given(st.lists(TOKENS, max_size=8), TEXTS)
def test_any_tokens_make_balanced_html_with_a_radio_button_each_and_no_markup_of_the_models(tokens, group):
    page = drawn(*tokens, group=group)
    assert page.pieces() == [shown(token.text) for token in tokens]
    assert [one["inside"] for one in page.of("input")] == [["label"]] * len(tokens)
    assert [one["inside"] for one in page.of("label")] == [[]] * len(tokens)
    told = [piece + tip.replace("\xa0", " ") for piece, tip in zip(page.pieces(), page.tips(), strict=True)]
    assert [text.replace("\xa0", " ") for text in page.texts("label")] == told  # nothing stands elsewhere
    assert {one["name"] for one in page.of("input")} <= {group}
    assert not any(character in said["aria-label"] for said in page.of("input") for character in "\x00\x1b")


@given(st.lists(TOKENS, max_size=8))
def test_a_summary_can_be_made_of_any_tokens(tokens):
    known = sum(token.logprob is not None for token in tokens)
    assert summary(tokens).startswith(f"{known:,} token" if known else "")
