"""How likely an answer was: the figures, and what `--show tokens` leaves of an answer in each view."""

from __future__ import annotations

import html
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.base.escape import visible
from together_nb.render.token_html import LEAST_LISTED, LISTED, SHADED
from together_nb.render.token_text import token_line
from together_nb.values.chunk import Choice, Chunk, Token
from together_nb.values.completion import Completion
from together_nb.values.likelihood import aligned, least_likely, mean_logprob, perplexity
from together_nb.values.parameters import SamplingParams
from together_nb.values.request import CompletionRequest
from together_nb.views import view_for
from together_nb.views.text import TerminalView

HALF, QUARTER = math.log(0.5), math.log(0.25)
OTHERS = ((" dog", HALF), (" cat", QUARTER), (" cow", -3.0), (" owl", -4.0), (" fox", -5.0))
MINUS = "\N{MINUS SIGN}"


def token(text, chance=0.25, top=OTHERS):
    return Token(text, math.log(chance), None, top)


def answer(*tokens, text=None, reasoning="", index=0):
    text = "".join(one.text for one in tokens) if text is None else text
    return Choice(index, text, reasoning, "stop", list(tokens))


def completion(*choices, logprobs=5):
    request = CompletionRequest("hello", model="m", api="chat", sampling=SamplingParams(logprobs=logprobs))
    return Completion(request, list(choices), model="m", chunks=1)


def bundle(*choices, **options):
    return completion(*choices, **options).bundle("tokens")


def body(markup):
    return markup.partition("</style>")[2]


def texts(markup):
    """The text of each answer as a page reads it that drops what it does not know."""
    found = re.findall(r'<div class="tnb-tokens".*?>(.*?)</div>', body(markup), re.DOTALL)
    plain = [re.sub("<.*?>", "", one.replace("<br>", "\n"), flags=re.DOTALL) for one in found]
    return [html.unescape(one).replace("\xa0", " ") for one in plain]


@pytest.mark.parametrize(
    ("logprobs", "mean", "perplexed"),
    [([None, -1.0, -3.0], -2.0, math.exp(2)), ([], None, None), ([None], None, None), ([-math.inf], -math.inf, None)],
)
def test_the_figures_are_those_of_the_tokens_that_have_a_probability(logprobs, mean, perplexed):
    tokens = [Token("a", logprob) for logprob in logprobs]
    made = completion(answer(*tokens))
    assert made.mean_logprob == mean_logprob(tokens) == mean
    if mean == -math.inf:
        assert math.isfinite(perplexity(tokens))
    else:
        assert made.perplexity == (perplexed and pytest.approx(perplexed))


def test_the_least_likely_are_first_and_say_what_else_there_was():
    tokens = [token(" ox", 0.9), token(" cat", 0.25), token(" elk", 0.01)]
    least = least_likely([*tokens, Token("?", None)], 2)
    told = ["“␣elk” 1.0 % instead of “␣dog” 50.0 %", "“␣cat” 25.0 % instead of “␣dog” 50.0 %"]
    assert [token_line(one) for one in least] == told
    assert token_line(token("x", 0.5, ())) == "“x” 50.0 %"


@pytest.mark.parametrize(
    ("text", "tokens", "pieces"),
    [
        ("ab", ["a", "b"], [("a", "a"), ("b", "b")]),
        ("€ x", ["\ufffd", "\ufffd", " x"], [("", "\ufffd"), ("", "\ufffd"), ("€", None), (" x", " x")]),
        ("start end", [" end"], [("start", None), (" end", " end")]),
        ("ab", ["a"], [("a", "a"), ("b", None)]),
        ("a", ["a", "<eos>"], [("a", "a"), ("", "<eos>")]),
        ("ab", ["b", "a", "b"], [("", "b"), ("a", "a"), ("b", "b")]),
        ("", [], []),
    ],
)
def test_what_no_token_is_stands_in_the_text_all_the_same(text, tokens, pieces):
    found = aligned(text, [Token(one, -1.0) for one in tokens])
    assert [(piece, one and one.text) for piece, one in found] == pieces


@given(st.text(), st.lists(st.text(max_size=3), max_size=8))
def test_no_character_is_lost_or_added_whatever_the_tokens_are(text, names):
    tokens = [Token(one, -1.0) for one in names]
    pieces = list(aligned(text, tokens))
    assert "".join(piece for piece, _ in pieces) == text
    assert [one for _, one in pieces if one is not None] == tokens
    assert texts(bundle(answer(*tokens, text=text))["text/html"]) == [visible(text).replace("\xa0", " ")]


def test_the_bundle_holds_the_text_the_summary_and_the_footer_as_html_and_as_text():
    made = bundle(answer(token(" cat"), token("\n", 0.5), token("<b>$x$\\(y</b>")))
    summary = f"3 tokens · mean log-probability {MINUS}1.16 · perplexity 3.17"
    assert made["text/plain"] == f" cat\n<b>$x$\\(y</b>\n\n{summary}\n\n[m · 1 chunk · 0.0 s]"
    markup = body(made["text/html"])
    assert texts(made["text/html"]) == [" cat\n<b>$x$\\(y</b>"]
    assert "perplexity 3.17" in markup
    assert "<sub>m · 1 chunk · 0.0 s</sub>" in markup
    assert "<b>" not in markup
    assert re.search(r"[$\\]", re.sub(r'="[^"]*"', "", markup)) is None  # no formula is seen in it
    rows = re.findall("<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", markup)
    assert rows[0] == ("“␣cat”", "25.0 %", "“␣dog” 50.0 %, “␣cow” 5.0 %, “␣owl” 1.8 %, “␣fox” 0.7 %")


def test_each_of_several_answers_has_its_own_and_groups_are_never_shared():
    choices = answer(token("one")), answer(token("two", 0.5), index=1)
    made = bundle(*choices)
    assert texts(made["text/html"]) == ["one", "two"]
    assert "<b>Answer 1</b>" in made["text/html"]
    assert re.findall(r"perplexity ([\d.]+)", made["text/plain"]) == ["4.00", "2.00"]
    assert len(set(re.findall('name="(.*?)"', made["text/html"] + bundle(*choices)["text/html"]))) == 4


def test_the_thinking_is_folded_and_escaped():
    markup = body(bundle(answer(token("42"), reasoning="6 <img src=x onerror=alert(1)>\n$7$"))["text/html"])
    assert markup.index("<details><summary>Thinking</summary>") < markup.index("tnb-tokens")
    assert "6 &lt;img src=x" in markup
    assert "<img" not in markup


@pytest.mark.parametrize(("logprobs", "words"), [(5, "The server told no probabilities"), (None, "--logprobs 5")])
def test_an_answer_without_probabilities_is_shown_and_says_so(logprobs, words):
    made = bundle(answer(text="plain\ntext"), logprobs=logprobs)
    assert texts(made["text/html"]) == ["plain\ntext"]
    assert words in made["text/html"]
    assert words in made["text/plain"]
    assert "<table>" not in made["text/html"]


def test_a_notebook_stays_small_and_of_a_long_answer_the_least_likely_are_listed_and_all_of_the_text_is_there():
    tokens = [token(" cat", 0.3 + 0.5 * number / 1000) for number in range(1000)]
    markup = bundle(answer(*tokens))["text/html"]
    assert len(markup.encode()) < 600 * len(tokens)
    assert markup.count("<tr>") == LISTED + 1
    tokens = [token(f" {number}", 0.9 if number % 10 else 0.1) for number in range(SHADED + 500)]
    markup = bundle(answer(*tokens))["text/html"]
    assert texts(markup) == ["".join(one.text for one in tokens)]
    assert markup.count("<input") == SHADED
    assert "The first 2,000 of 2,500 tokens are shaded." in markup
    assert "the 200 least likely of 2,500" in markup
    assert markup.count("<td>10.0 %</td>") == LEAST_LISTED


def test_a_terminal_streams_the_text_and_tells_of_the_least_likely_at_the_end(capsys):
    view = view_for(None, "tokens", chat=True)
    assert type(view) is TerminalView
    view.write([Chunk(" cat", tokens=(token(" cat"),)), Chunk(" \x1b[31m")])
    view.finish(completion(answer(token(" cat"), token(" \x1b[31m", 0.01)), answer(text="two", index=1)), None)
    assert capsys.readouterr().out == (
        " cat \\x1b[31m\n"
        f"2 tokens · mean log-probability {MINUS}3.00 · perplexity 20.00\n"
        "  “␣\\x1b[31m” 1.0 % instead of “␣dog” 50.0 %\n"
        "  “␣cat” 25.0 % instead of “␣dog” 50.0 %"
        "\n\nAnswer 2:\ntwo"
        "\nThe server told no probabilities of this answer."
        "\n[m · 1 chunk · 0.0 s]\n"
    )
