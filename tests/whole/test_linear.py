"""What is done with a hostile reply takes a time that grows with its length, and not with its square."""

import json
from contextlib import suppress
from functools import partial
from time import thread_time

import pytest

from together_nb.base.fences import fenced_blocks, one_block, open_fence
from together_nb.errors import StreamError
from together_nb.render.sanitize import harmless
from together_nb.render.token_text import token_and_alternatives
from together_nb.values.chunk import Chunk, Token
from together_nb.values.likelihood import aligned
from together_nb.values.request import CompletionRequest
from together_nb.values.schema import schema_of
from together_nb.views.blocks import Blocks
from together_nb.wire.accumulator import Accumulator
from together_nb.wire.dialects import DIALECTS
from together_nb.wire.error_words import error_message, is_about_length
from together_nb.wire.sse import Payloads
from together_nb.wire.status_errors import page_title
from together_nb.wire.wiretap import Wiretap

LIMIT = 10  # seconds of processor time; each takes a tenth of that, and would take many times that if it were quadratic


def pieces(data, size):
    return (data[start : start + size] for start in range(0, len(data), size))


def payloads(data, size):
    with suppress(StreamError):
        for _ in Payloads(pieces(data, size)):
            pass


def fed(add, data, size):
    for piece in pieces(data, size):
        add(piece)


def ended_choices(count):
    accumulator = Accumulator(CompletionRequest("x"))
    for index in range(count):
        accumulator.add(Chunk("a", index, finish_reason="stop"))


def unasked_choices(count):
    accumulator = Accumulator(CompletionRequest("Tell"))
    for chunk in DIALECTS["chat"].chunks({"choices": [{}] * count}):
        accumulator.add(chunk)
    for index in range(count):
        accumulator.add(Chunk("a", index=index))


def unique_items(count):
    items = schema_of({"type": "array", "uniqueItems": True, "items": {"type": "object"}}, "items")
    items.parse(json.dumps([{"a": number} for number in range(count)]))


ROWS = {
    "a table's rule that has no end": lambda: Blocks(markdown=True).add("a\n|-" + " " * 80_000 + "x\n" + "word\n" * 5),
    "items that are to be unique": lambda: unique_items(8_000),
    "answers that nobody asked for": lambda: unasked_choices(700_000),
    "the title of a page of open title tags": lambda: page_title("<title" * 200_000),
    "the title of a page of titles with attributes": lambda: page_title("<title x" * 200_000),
    "the words of an error, again and again": lambda: is_about_length("exceed hello prompt " * 100_000),
    "a message that opens many objects": lambda: error_message("a{" * 1_000_000),
    "one event full of terminators": lambda: payloads(b'data: {"a": "' + b"x[DONE]" * 200_000 + b'"}\n\n', 65536),
    "a line of terminators in small pieces": lambda: payloads(b"data: {" + b"x[DONE]" * 100_000, 7),
    "an event without an end, byte by byte": lambda: payloads(b"data: {" + b"x" * 200_000, 1),
    "data that begins with spaces, byte by byte": lambda: payloads(b"data: {}\ndata:" + b" " * 150_000, 1),
    "comments under an event, in small pieces": lambda: payloads(b"data: {}\n" + b": comment\n" * 60_000, 5),
    "lines of data, in small pieces": lambda: payloads(b"data: {\n" + b"data: 1,\n" * 20_000, 5),
    "lines that close and do not open": lambda: payloads(b"data: {\n" + b"data: }\n:\n" * 30_000 + b"\n", 64),
    "an event of many lines": lambda: payloads(b"data: {\n" + b"data:1\n" * 400_000 + b"\n", 4_000_000),
    "a stream of blank lines, tapped": lambda: fed(partial(Wiretap().add, seconds=0), b"\n" * 24_000_000, 65536),
    "a fence with a long name and a backtick": lambda: one_block("```" + "a" * 100_000 + "`\nx\n```"),
    "a fence, spaces and a backtick": lambda: fenced_blocks("```" + " " * 100_000 + "`\nx\n```"),
    "a long fence above many lines": lambda: one_block("`" * 2_000_000 + "x\n" + "x\n" * 200_000 + "`" * 2_000_000),
    "a fence with a long name above fences": lambda: open_fence("```" + "i" * 500_000 + "\n" + "``` x\n" * 80_000),
    "a long formula, indented": lambda: open_fence("  $$" + "x" * 2_000_000 + "\n" + "x\n" * 200_000),
    "a long fence above short ones": lambda: open_fence("`" * 2_000_000 + "\n" + "```\n" * 200_000),
    "blank lines in code, drawn as they come": lambda: fed(Blocks(markdown=True).add, "```\n" + "x\n\n" * 10_000, 30),
    "links that are none, in code": lambda: harmless("```\n" + "](" * 600_000 + "\n```\n<b "),
    **{
        f"{text!r} again and again, made harmless": partial(harmless, text * (60_000 // len(text)))
        for text in ("](", "`", "``", "~", "$", "](  ", "<", "` `` ", "$a", "[x]: ", "{$", "```\n", "@@")
    },
    "tokens that are not in the text": lambda: list(aligned("a" * 4_000_000, [Token("b", -1.0)] * 300_000)),
    "a token among many alternatives": lambda: token_and_alternatives(
        Token("a", -1.0, None, tuple((str(number), -2.0) for number in range(20_000)))
    ),
    "more answers than were asked for": lambda: ended_choices(60_000),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ROWS)
def test_the_time_grows_with_the_length(name):
    begun = thread_time()
    ROWS[name]()
    assert thread_time() - begun < LIMIT
