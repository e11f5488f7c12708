"""Find a secret in a text: whole, in long pieces, and escaped as in JSON and URLs.

The rule depends on the secret, since many local servers accept any key and people choose words:

- 16 characters and more: anywhere, and pieces of 8 characters and more. A piece of words alone is kept unless it is
  most of the secret: ``my-local-development-server-key`` must not hide the word "development".
- 8 to 15 characters: as a whole word.
- Shorter ones, and placeholders (``EMPTY``, ``sk-no-key-required``): only after ``Bearer``.

All of it takes time linear in the text, whatever it contains.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import NoReturn

GONE = "…"
"""The replacement of a secret."""

Span = tuple[int, int]

_WORD, _LONG = 8, 16  # least characters to find it as a word, and anywhere
_PIECE = 8  # characters
_BLOCK, _STEP = 4, 5  # any 8 characters in a row hold a block of 4 that begins at a multiple of 5
_MOST = 2 / 3  # of a secret: a run this long is found, words or not
_LEVELS = 3  # of escaping, as in JSON within JSON
_BEARER = re.compile(r"bearer\s+", re.IGNORECASE)
_ESCAPE = re.compile(r'\\u([0-9A-Fa-f]{4})|\\(["\\/bfnrt])|%([0-9A-Fa-f]{2})')
_JSON_ESCAPE = re.compile(r'\\u([0-9A-Fa-f]{4})|\\(["\\/bfnrt])()')
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LETTERS = re.compile(r"[A-Za-z]+")
_CASES = re.compile(r"[A-Z]+|[A-Z]?[a-z]+(?:[A-Z][a-z]{2,})*")
_RANDOM = re.compile(r"[0-9]{9}|(?=[0-9]*[A-Za-z])[A-Za-z0-9]{8}")  # 8 digits alone are a date
_SHORT = 3  # letters: a run this short is a word if only signs surround it
_LIKE = 0.6  # share of a word's letter pairs that are common; of random letters a quarter are
_LIKE_BESIDE_DIGITS = 0.7
_PAIRS = (
    "ab ac ad ag ai al am an ap ar as at au ay ba be bl bo br bu ca ce ch ck cl co ct cu da de di do dr ds ea ec ed "
    "ee ef el em en ep er es et ev ew ex fa fe fi fo fr ge gh gi gr gs ha he hi ho ht ic id ie ig il im in io ip ir "
    "is it iv ke ks la ld le li ll lo ls lt lu ly ma me mi mo mp na nc nd ne ng ni nn no ns nt nu oa oc od og ok ol "
    "om on oo op or os ot ou ow pa pe pi pl po pr pt pu qu ra rd re rg ri rm rn ro rr rs rt ru ry sa sc se sh si sl "
    "so sp ss st su ta tc te th ti to tr ts tt tu ty ue ul um un up ur us ut va ve wa we wh wi wo xt"
)
# From the documentation of servers that need no key, and of clients that want one anyway.
_FILLERS = (
    "a abc an any anything api apikey blank change changeme dummy empty example fake fakekey foo for free goes here "
    "ignore ignored in insert is key llama llamacpp lm lmstudio local localhost me missing mock my mykey na needed "
    "nil no nokey none not notneeded nothing notused null ollama openai or paste pk placeholder put replace replaceme "
    "required sample sk some something studio test testing testkey the this to token unset unused vllm whatever you "
    "your yourapikey yourkey"
)
_COMMON, _PLACEHOLDERS = frozenset(_PAIRS.split()), frozenset(_FILLERS.split())


class Secret:
    """A text that must not be shown, and how to find it.

    Parameters
    ----------
    value
        The text; ASCII, of a class that hides it in its repr.
    """

    __slots__ = ("_as_word", "_blocks", "_most", "_pieces", "_telling", "_value")

    def __init__(self, value: str) -> None:
        self._value = value
        self._most = max(_LONG, round(len(value) * _MOST))
        # Hashes, which reveal nothing.
        self._pieces = self._telling = self._blocks = frozenset[int]()
        self._as_word = len(value) >= _WORD and not is_placeholder(value)
        if len(value) >= _LONG and self._as_word:
            words = _words(value)
            starts = range(len(value) - _PIECE + 1)
            self._pieces = frozenset(hash(value[start : start + _PIECE]) for start in starts)
            self._telling = frozenset(
                hash(value[start : start + _PIECE]) for start in starts if not all(words[start : start + _PIECE])
            )
            self._blocks = frozenset(hash(value[start : start + _BLOCK]) for start in range(len(value) - _BLOCK + 1))

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not pickled: it would be written somewhere.")

    def spans(self, text: str) -> list[Span]:
        """Return where (start, end) it is in `text`, in order and without overlap."""
        found, texts = self._found(text), [text]
        while len(texts) <= _LEVELS and _ESCAPE.search(texts[-1]) is not None:
            plain = _ESCAPE.sub(_meant, texts[-1])
            hits = self._found(plain)
            for spelled in reversed(texts if hits else []):
                hits = _spelled(spelled, hits)
            found += hits
            texts.append(plain)
        return merged(found)

    def _found(self, text: str) -> list[Span]:
        if self._pieces:
            found = self._long(text)
        elif self._as_word:
            found = self._whole_words(text)
        else:
            found = []
            for bearer in _BEARER.finditer(text):
                end = bearer.end() + len(self._value)
                if text.startswith(self._value, bearer.end()) and _ends(text, end):
                    found.append((bearer.end(), end))
        return found

    def _whole_words(self, text: str) -> list[Span]:
        value, found = self._value, []
        start = text.find(value)
        while start >= 0:
            end = start + len(value)
            whole = not (_joined(text[start - 1 : start], value[0]) or _joined(value[-1], text[end : end + 1]))
            if whole:
                found.append((start, end))
            start = text.find(value, end if whole else start + 1)
        return found

    def _long(self, text: str) -> list[Span]:
        """Find runs whose every 8 characters are in the secret: long runs whole, of others what is not a word."""
        blocks, pieces, telling = self._blocks, self._pieces, self._telling
        found: list[Span] = []
        seen = 0  # where the next run may begin
        for block in [at for at in range(0, len(text), _STEP) if hash(text[at : at + _BLOCK]) in blocks]:
            for start in range(max(block + _BLOCK - _PIECE, seen), block + 1):
                if hash(text[start : start + _PIECE]) in pieces:
                    break
            else:
                continue
            stop = start
            while hash(text[stop : stop + _PIECE]) in pieces:
                stop += 1
            seen = stop
            if stop - 1 + _PIECE - start >= self._most:
                found.append((start, stop - 1 + _PIECE))
            else:
                found += [(at, at + _PIECE) for at in range(start, stop) if hash(text[at : at + _PIECE]) in telling]
        return found


def is_placeholder(value: str) -> bool:
    """Whether `value` is what people enter where no key is needed: ``EMPTY``, ``sk-no-key-required``, ``sk-xxxx``."""
    words = re.findall(r"[a-z]+|[0-9]+", value.lower())
    return any(word.isalpha() for word in words) and all(
        word in _PLACEHOLDERS or set(word) in ({"x"}, {"0"}) or "1234567890".startswith(word) for word in words
    )


def looks_random(value: str) -> bool:
    """Whether 8 letters and digits in a row, or 9 digits, are outside of words, as in most keys and in no name."""
    rest = "".join(" " if word else one for one, word in zip(value, _words(value), strict=True))
    return _RANDOM.search(rest) is not None


def merged(spans: list[Span]) -> list[Span]:
    """Sort `spans` and merge those that overlap."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if out and start < out[-1][1]:
            out[-1] = out[-1][0], max(end, out[-1][1])
        else:
            out.append((start, end))
    return out


def json_text(spelled: str) -> str:
    """Decode the inside of a JSON string."""
    return _JSON_ESCAPE.sub(_meant, spelled)


def in_json(spelled: str, spans: list[Span]) -> list[Span]:
    """Map `spans` of `json_text(spelled)` to `spelled`."""
    return _spelled(spelled, spans, _JSON_ESCAPE)


def _spelled(text: str, spans: list[Span], escape: re.Pattern[str] = _ESCAPE) -> list[Span]:
    """Map `spans` of the unescaped `text` to `text` itself."""
    escapes = list(escape.finditer(text))
    longer = [0, *accumulate(one.end() - one.start() - 1 for one in escapes)]
    ends = [one.end() - more for one, more in zip(escapes, longer[1:], strict=True)]  # unescaped, each is one character
    return [(start + longer[bisect_right(ends, start)], end + longer[bisect_right(ends, end)]) for start, end in spans]


def _meant(escape: re.Match[str]) -> str:
    return _ESCAPED.get(escape[2], escape[2]) if escape[2] else chr(int(escape[1] or escape[3], 16))


def _words(value: str) -> list[bool]:
    """Flag the characters that belong to words: letters that look like one, and signs."""
    flags = [not character.isalnum() for character in value]
    for letters in _LETTERS.finditer(value):
        start, end = letters.span()
        alone = not (value[start - 1 : start].isalnum() or value[end : end + 1].isalnum())
        if _is_word(letters[0], alone=alone):
            flags[start:end] = [True] * (end - start)
    return flags


def _is_word(letters: str, *, alone: bool) -> bool:
    if len(letters) <= _SHORT:
        return alone
    if not _CASES.fullmatch(letters):
        return False
    lower = letters.lower()
    common = sum(lower[at : at + 2] in _COMMON for at in range(len(lower) - 1))
    return common >= (_LIKE if alone else _LIKE_BESIDE_DIGITS) * (len(lower) - 1)


def _joined(left: str, right: str) -> bool:
    """Whether two adjacent characters belong to one word; "" is a text's end."""
    return (left.isalnum() or left == "_") and (right.isalnum() or right == "_")


def _ends(text: str, end: int) -> bool:
    """Whether a token ends at `end`; a full stop may follow."""
    following = text[end : end + 2]
    return not following or not (
        following[0].isalnum() or following[0] in "_~+/=-" or (following[0] == "." and following[1:].isalnum())
    )
