"""What has to be done with a hostile reply in a time that grows with its length and not with its square.

``python -m tests.linear NAME…`` does what is named and writes a line for each that is done: its name, and the seconds
of processor time. It may not take more than `LIMIT` seconds of those for one: then it is ended there.
"""

from __future__ import annotations

import contextlib
import json
import sys
from time import process_time

from together_nb.accumulate import Accumulator
from together_nb.chunk import Chunk, Token
from together_nb.completion import CompletionRequest, Timings
from together_nb.dialects import DIALECTS
from together_nb.errors import StreamError
from together_nb.escape import open_fence
from together_nb.formats import fenced_blocks, one_block
from together_nb.harmless import harmless
from together_nb.probabilities import aligned, chances
from together_nb.refusals import page_title
from together_nb.schema import schema_of
from together_nb.sse import Payloads
from together_nb.views.blocks import Blocks
from together_nb.wiretap import Wiretap

LIMIT = 10  # seconds


def cut(data, size):
    return (data[start : start + size] for start in range(0, len(data), size))


def payloads(data, size):
    def read():
        with contextlib.suppress(StreamError):
            for _ in Payloads(cut(data, size)):
                pass

    return read


def tapped(data, size):
    def tap():
        wiretap = Wiretap()
        for piece in cut(data, size):
            wiretap.add(piece, 0)

    return tap


def sealed(text, size):
    def grow():
        blocks = Blocks(markdown=True)
        for piece in cut(text, size):
            blocks.add(piece)

    return grow


def ended(choices):
    accumulator = Accumulator(CompletionRequest("x"))
    for index in range(choices):
        accumulator.add(Chunk("a", index, finish_reason="stop"))


# Name → what is made of a text, which is made first.
def unasked(count):
    def read():
        accumulator = Accumulator(CompletionRequest("Tell"))
        for chunk in DIALECTS["chat"].chunks({"choices": [{}] * count}):
            accumulator.add(chunk)
        for index in range(count):
            accumulator.add(Chunk("a", index=index))
        assert len(accumulator.completion(Timings(None, 0.0)).choices) <= 1024

    return read


def parsed_unique(count):
    items = schema_of({"type": "array", "uniqueItems": True, "items": {"type": "object"}}, "items")
    return lambda: items.parse(json.dumps([{"a": number} for number in range(count)]))


ROWS = {
    "a table's rule that has no end": lambda: Blocks(markdown=True).add("a\n|-" + " " * 80_000 + "x\n" + "word\n" * 5),
    "items that are to be unique": parsed_unique(8_000),
    "answers that nobody asked for": unasked(700_000),
    "the title of a page of open title tags": lambda: page_title("<title" * 200_000),
    "the title of a page of titles with attributes": lambda: page_title("<title x" * 200_000),
    "one event full of terminators": payloads(b'data: {"a": "' + b"x[DONE]" * 200_000 + b'"}\n\n', 65536),
    "a line of terminators in small pieces": payloads(b"data: {" + b"x[DONE]" * 100_000, 7),
    "an event without an end, byte by byte": payloads(b"data: {" + b"x" * 200_000, 1),
    "data that begins with spaces, byte by byte": payloads(b"data: {}\ndata:" + b" " * 150_000, 1),
    "comments under an event, in small pieces": payloads(b"data: {}\n" + b": comment\n" * 60_000, 5),
    "lines of data under each other, in small pieces": payloads(b"data: {\n" + b"data: 1,\n" * 20_000, 5),
    "an event of lines that close and do not open": payloads(b"data: {\n" + b"data: }\n:\n" * 30_000 + b"\n", 64),
    "an event of many lines": payloads(b"data: {\n" + b"data:1\n" * 400_000 + b"\n", 4_000_000),
    "a stream of blank lines, tapped": tapped(b"\n" * 24_000_000, 65536),
    "a fence with a long name and a backtick": lambda: one_block("```" + "a" * 100_000 + "`\nx\n```"),
    "a fence, spaces and a backtick": lambda: fenced_blocks("```" + " " * 100_000 + "`\nx\n```"),
    "a long fence above many lines": lambda: one_block("`" * 2_000_000 + "x\n" + "x\n" * 200_000 + "`" * 2_000_000),
    "a fence with a long name above fences": lambda: open_fence("```" + "i" * 500_000 + "\n" + "``` x\n" * 80_000),
    "a long formula that is indented above lines": lambda: open_fence(
        "  $$" + "x" * 2_000_000 + "\n" + "x\n" * 200_000
    ),
    "a long fence above short ones": lambda: open_fence("`" * 2_000_000 + "\n" + "```\n" * 200_000),
    "blank lines in code, drawn as they come": sealed("```\n" + "x\n\n" * 10_000, 30),
    "links that are none, in code": lambda: harmless("```\n" + "](" * 600_000 + "\n```\n<b "),
    "tokens that are not in the text": lambda: list(aligned("a" * 4_000_000, [Token("b", -1.0)] * 300_000)),
    "a token among many alternatives": lambda: chances(
        Token("a", -1.0, None, tuple((str(number), -2.0) for number in range(20_000)))
    ),
    "more answers than were asked for": lambda: ended(60_000),
}


def main():
    for name in sys.argv[1:]:
        begun = process_time()
        with contextlib.suppress(ImportError):  # Windows has none
            import resource

            _, most = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (int(begun) + LIMIT + 1, most))
        ROWS[name]()
        print(name, round(process_time() - begun, 2), sep="\t", flush=True)


if __name__ == "__main__":
    main()
