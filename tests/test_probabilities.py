"""How likely an answer was: the figures, and what `--show tokens` leaves of an answer in each view."""

from __future__ import annotations

import html
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernels import WIDGET, Kernel
from tests.servers import ScriptedServer
from together_nb.completion import Choice, Chunk, Completion, CompletionRequest, Token
from together_nb.escape import visible
from together_nb.params import SamplingParams
from together_nb.probabilities import aligned, in_place_of, least_likely, mean_logprob, perplexity
from together_nb.shaded import LEAST_LISTED, LISTED, SHADED
from together_nb.views import view_for
from together_nb.views.text import TerminalView

HALF, QUARTER = math.log(0.5), math.log(0.25)
OTHERS = ((" dog", HALF), (" cat", QUARTER), (" cow", -3.0), (" owl", -4.0), (" fox", -5.0))


def token(text, chance=0.25, top=OTHERS):
    return Token(text, math.log(chance), None, top)


def answer(*tokens, text=None, reasoning="", index=0):
    text = "".join(one.text for one in tokens) if text is None else text
    return Choice(index, text, reasoning, "stop", list(tokens))


def completion(*choices, logprobs=5):
    request = CompletionRequest("hello", model="m", api="chat", sampling=SamplingParams(logprobs=logprobs))
    return Completion(request, list(choices), model="m", chunks=1)


def shown(*choices, **options):
    return completion(*choices, **options).bundle("tokens")


def body(markup):
    return markup.partition("</style>")[2]


def texts(markup):
    """The text of each answer as a page reads it that drops what it does not know."""
    found = re.findall(r'<div class="tnb-tokens".*?>(.*?)</div>', body(markup), re.DOTALL)
    return [
        html.unescape(re.sub("<.*?>", "", one.replace("<br>", "\n"), flags=re.DOTALL)).replace("\xa0", " ")
        for one in found
    ]


# The figures


def test_the_mean_and_the_perplexity_are_those_of_the_tokens_that_have_a_probability():
    made = completion(answer(Token("a", None), Token("b", -1.0), Token("c", -3.0)))
    assert made.mean_logprob == -2.0
    assert made.perplexity == pytest.approx(math.exp(2))


@pytest.mark.parametrize("tokens", [(), (Token("a", None),)])
def test_nothing_is_told_of_an_answer_without_probabilities(tokens):
    made = completion(answer(*tokens))
    assert (made.mean_logprob, made.perplexity) == (None, None)


def test_a_perplexity_that_is_too_large_for_a_number_stays_one():
    assert math.isfinite(perplexity([Token("a", -math.inf)]))
    assert mean_logprob([Token("a", -math.inf)]) == -math.inf


def test_the_least_likely_come_first_and_say_what_else_there_was():
    tokens = [token(" ox", 0.9), token(" cat", 0.25), token(" elk", 0.01)]
    least = least_likely([*tokens, Token("?", None)], 2)
    assert [one.text for one in least] == [" elk", " cat"]
    assert [in_place_of(one) for one in least] == [
        "“␣elk” 1.0 % instead of “␣dog” 50.0 %",
        "“␣cat” 25.0 % instead of “␣dog” 50.0 %",
    ]
    assert in_place_of(token("x", 0.5, ())) == "“x” 50.0 %"


# The text is what counts


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
def test_no_character_is_lost_or_added_whatever_the_tokens_are(text, told):
    tokens = [Token(one, -1.0) for one in told]
    pieces = list(aligned(text, tokens))
    assert "".join(piece for piece, _ in pieces) == text
    assert [one for _, one in pieces if one is not None] == tokens
    (read,) = texts(shown(answer(*tokens, text=text))["text/html"])
    assert read == visible(text).replace("\xa0", " ")


# What is saved


def test_the_bundle_holds_the_text_the_summary_and_the_footer_as_html_and_as_text():
    bundle = shown(answer(token(" cat"), token("\n", 0.5), token("<b>$x$\\(y</b>")))
    assert bundle["text/plain"] == (
        " cat\n<b>$x$\\(y</b>\n\n3 tokens · mean log-probability \N{MINUS SIGN}1.16 · perplexity 3.17\n\n[m · 1 chunk · 0.0 s]"
    )
    markup = body(bundle["text/html"])
    assert texts(bundle["text/html"]) == [" cat\n<b>$x$\\(y</b>"]
    assert "perplexity 3.17" in markup
    assert "<sub>m · 1 chunk · 0.0 s</sub>" in markup
    assert "<b>" not in markup
    assert re.search(r"[$\\]", re.sub(r'="[^"]*"', "", markup)) is None  # no formula is seen in it
    rows = re.findall("<tr><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td></tr>", markup)
    assert rows[0] == ("“␣cat”", "25.0 %", "“␣dog” 50.0 %, “␣cow” 5.0 %, “␣owl” 1.8 %, “␣fox” 0.7 %")


def test_each_of_several_answers_has_its_own_and_groups_are_never_shared():
    choices = (answer(token("one")), answer(token("two", 0.5), index=1))
    bundle = shown(*choices)
    assert texts(bundle["text/html"]) == ["one", "two"]
    assert "<b>Answer 1</b>" in bundle["text/html"]
    assert [line for line in bundle["text/plain"].split("\n\n") if "perplexity" in line] == [
        "1 token · mean log-probability \N{MINUS SIGN}1.39 · perplexity 4.00",
        "1 token · mean log-probability \N{MINUS SIGN}0.69 · perplexity 2.00",
    ]
    groups = re.findall('name="(.*?)"', bundle["text/html"] + shown(*choices)["text/html"])
    assert len(set(groups)) == 4


def test_the_thinking_is_folded_and_escaped():
    markup = body(shown(answer(token("42"), reasoning="6 <img src=x onerror=alert(1)>\n$7$"))["text/html"])
    assert markup.index("<details><summary>Thinking</summary>") < markup.index("tnb-tokens")
    assert "6 &lt;img src=x" in markup
    assert "<img" not in markup


@pytest.mark.parametrize(
    ("logprobs", "words"),
    [
        (5, "The server told no probabilities of this answer."),
        (None, "No probabilities were asked for: --logprobs 5 does."),
    ],
)
def test_an_answer_without_probabilities_is_shown_and_says_so(logprobs, words):
    bundle = shown(answer(text="plain\ntext"), logprobs=logprobs)
    assert texts(bundle["text/html"]) == ["plain\ntext"]
    assert words in bundle["text/html"]
    assert words in bundle["text/plain"]
    assert "<table>" not in bundle["text/html"]


def test_a_notebook_stays_small():
    tokens = [token(" cat", 0.3 + 0.5 * number / 1000) for number in range(1000)]
    markup = shown(answer(*tokens))["text/html"]
    print(f"{len(markup.encode()) / 1000:.0f} bytes a token")
    assert len(markup.encode()) < 600 * len(tokens)
    assert markup.count("<tr>") == LISTED + 1


def test_of_a_long_answer_the_least_likely_are_listed_and_all_of_the_text_is_there():
    tokens = [token(f" {number}", 0.9 if number % 10 else 0.1) for number in range(SHADED + 500)]
    markup = shown(answer(*tokens))["text/html"]
    assert texts(markup) == ["".join(one.text for one in tokens)]
    assert markup.count("<input") == SHADED
    assert "The first 2,000 of 2,500 tokens are shaded." in markup
    assert "the 200 least likely of 2,500" in markup
    assert markup.count("<td>10.0 %</td>") == LEAST_LISTED


# The views


def test_a_terminal_streams_the_text_and_tells_of_the_least_likely_at_the_end(capsys):
    view = view_for(None, "tokens", chat=True)
    assert type(view) is TerminalView
    made = completion(answer(token(" cat"), token(" \x1b[31m", 0.01)), answer(text="two", index=1))
    view.write([Chunk(" cat", tokens=(token(" cat"),)), Chunk(" \x1b[31m")])
    view.finish(made, None)
    assert capsys.readouterr().out == (
        " cat \\x1b[31m\n"
        "2 tokens · mean log-probability \N{MINUS SIGN}3.00 · perplexity 20.00\n"
        "  “␣\\x1b[31m” 1.0 % instead of “␣dog” 50.0 %\n"
        "  “␣cat” 25.0 % instead of “␣dog” 50.0 %"
        "\n\nAnswer 2:\ntwo"
        "\nThe server told no probabilities of this answer."
        "\n[m · 1 chunk · 0.0 s]\n"
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    yield one
    one.stop()


ASK = """from together_nb import session, views, stream
opened = stream("hello", logprobs=2, api="chat", model="test/chat", base_url={url!r})
session.run(opened, views.view_for(get_ipython(), "tokens", chat=True));"""


def script(exchange):
    exchange.chunked().headers()
    for text in ("Once", " <i>upon"):
        payload = exchange.payload(text)
        rows = [{"token": text, "logprob": HALF}, {"token": " else", "logprob": QUARTER}]
        payload["choices"][0]["logprobs"] = {"content": [{"token": text, "logprob": HALF, "top_logprobs": rows}]}
        exchange.event(payload)
    exchange.event(exchange.payload("", finish="stop"))
    exchange.done()


@pytest.mark.parametrize("watched", [True, False])
def test_a_cell_is_left_with_html_and_no_widget(kernel, watched):
    with ScriptedServer(script) as server:
        run = kernel.run(ASK.format(url=server.base_url), watched=watched).wait()
    assert run.status == "ok"
    left = run.display["data"]
    assert set(left) == {"text/html", "text/markdown", "text/plain"}
    assert texts(left["text/html"]) == ["Once <i>upon"]
    assert left["text/plain"].startswith(
        "Once <i>upon\n\n2 tokens · mean log-probability \N{MINUS SIGN}0.69 · perplexity 2.00\n\n[test/chat · "
    )
    opened = [one["content"]["comm_id"] for one in run.of("comm_open")]
    closed = [one["content"]["comm_id"] for one in run.of("comm_close")]
    assert bool(opened) is watched
    states = [one["content"]["data"].get("state", {}).get("value", "") for one in run.of("comm_open", "comm_msg")]
    assert any(isinstance(value, str) and "tnb-token" in value for value in states) is watched
    views = [one for one in run.of("display_data") if WIDGET in one["content"]["data"]]
    assert len(views) == watched
    assert len(closed) == len(set(closed))
