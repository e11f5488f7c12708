"""What the server says: the same tokens each time."""

import itertools
import re
from functools import cache

# A hundred words or so of each kind of block that answers are made of.
_BLOCKS = (
    "## Part {0}\n\n",
    (
        "The harbour was **quiet** that morning, and the boats lay *still* at their ropes. Nobody had seen the "
        "[lighthouse](https://example.org) lit since the storm; `keeper()` returned nothing, and the tide went on "
        "rising by itself, hour after hour, as it had done in each of the {0} years before.\n\n"
    ),
    (
        "- the first rope, which is new\n- the second, with `splices`\n  - one of hemp\n  - one of **wire**\n"
        "- and the third, number {0}\n\n"
    ),
    "1. Cast off.\n2. Row for {0} strokes.\n3. Rest.\n\n",
    (
        '```python\ndef row(strokes: int = {0}) -> float:\n    """Metres made good."""\n    total = 0.0\n'
        "    for stroke in range(strokes):\n        total += 0.8 * (1 - stroke / strokes)\n    return total\n```\n\n"
    ),
    "| boat | length (m) | crew |\n|:--|--:|--:|\n| Anna | 7.5 | 3 |\n| Berta | 9.1 | {0} |\n| Clara | 12 | 5 |\n\n",
    "The distance is $d = v \\cdot t$, and the work\n\n$$W = \\int_0^{{d}} F(x)\\,dx = {0}\\,\\mathrm{{kJ}}$$\n\n",
    "> It was calm, said the keeper, and then it was not.\n\n",
)
_TOKEN = re.compile(r" ?\w{1,7}|\n+|.", re.DOTALL)
_SENTENCE = "The sea was calm that day, and the boat lay still; nobody spoke of the storm that had come before."


def _markdown():
    for number in itertools.count(1):
        for block in _BLOCKS:
            yield from _TOKEN.findall(block.format(number))


def _prose():
    words = [(" " if number else "") + word for number, word in enumerate(_SENTENCE.split())]
    for number in itertools.count(1):
        yield from words
        yield "\n\n" if number % 4 == 0 else " "


def _numbered():
    """Each token names its place, so that it can be found in a page."""
    for number in itertools.count():
        yield f" t{number}" + ("\n\n" if number % 60 == 59 else "")


KINDS = {"markdown": _markdown, "prose": _prose, "numbered": _numbered}


@cache
def tokens(kind: str, count: int) -> tuple[str, ...]:
    """The first tokens of that kind."""
    return tuple(itertools.islice(KINDS[kind](), count))
