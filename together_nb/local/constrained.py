"""Constrained decoding: the schema gives the structure, the model fills in the words.

What the form leaves no choice about (brackets, names) is *forced*, with a log-probability of 0. The
model supplies the words within strings, and chooses among several values: the sampling parameters
apply as usual to those of its candidates that fit. Log-probabilities are the model's own, over all
candidates. Numbers, lengths of arrays, alternatives of other kinds, values that the model has no word
for and strings for a `pattern` or `format` are drawn by the same seeded generator; at temperature 0
they are the same for every seed.

The model is trained on prose, which has no braces: to it, a line break separates two values. Spaces
follow ``:`` and ``,``. A string ends with its sentence or after a dozen words. Optional members are
written; none is made up. A form that contains itself, or a long answer, is ended the shortest way.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from together_nb.local.effort import Effort
from together_nb.local.flat_schema import canonical
from together_nb.local.form_tokens import FormTokens, escaped, odd_text
from together_nb.local.grammar import Alternatives, Drawn, FixedValues, List, Record, Words
from together_nb.local.ranges import Numbers
from together_nb.local.vocabulary import tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from together_nb.local.grammar import Form, Grammar
    from together_nb.local.sampler import Chooser, LanguageModel
    from together_nb.local.vocabulary import Generated

_MOST_WORDS = 12
_FEWEST_WORDS = 4  # when hurrying to an end
_LONG = 2000  # tokens after which to hurry
_LONG_WITHIN_ITSELF = 150  # likewise, for a form nested in itself; before, for one nested twice
_DEEP = 60  # nesting beyond which to hurry
_USUAL_ITEMS = 3
_TRIES = 5  # at a unique item, in the model's words
_ODD_TRIES = 500  # and in random letters
_MOST_STEPS = 1_000_000  # for texts that match patterns, and for unique items
_STEPS_OF_A_TOKEN = 50
_NULL = FixedValues(("null",))


def write(
    grammar: Grammar, model: LanguageModel, tokens: Sequence[str], chooser: Chooser, logprobs: int | None
) -> Iterator[Generated]:
    """Yield the tokens of one answer, to its end.

    Parameters
    ----------
    grammar
        The answer's grammar.
    model
        The model that supplies the words.
    tokens
        The prompt's tokens.
    chooser
        Chooses among the candidates.
    logprobs
        How many of the likeliest tokens to report at each position.
    """
    return _Writer(grammar, model, tokens, chooser, logprobs or 0).written(0)


class _Writer:
    """Writes one answer."""

    def __init__(
        self, grammar: Grammar, model: LanguageModel, tokens: Sequence[str], chooser: Chooser, logprobs: int
    ) -> None:
        self._forms, self._heights, self._variety = grammar.forms, grammar.heights, grammar.variety
        self._wording = FormTokens(model, tokens, chooser, logprobs)
        self._dice = chooser.dice
        self._effort = Effort(_MOST_STEPS, grammar.look)
        self._within: list[int] = []
        self._hurried = 0
        self._odd = False

    def written(self, number: int, lead: str = "", without: AbstractSet[str] = frozenset()) -> Iterator[Generated]:
        """A value of the form `number`; its first token begins with `lead`."""
        form = self._forms[number]
        self._within.append(number)
        within_itself, count = self._within.count(number) - 1, self._wording.count
        hurry = within_itself > (1 if count < _LONG_WITHIN_ITSELF else 0) or len(self._within) > _DEEP or count > _LONG
        self._hurried += hurry
        yield from self._value(form, lead, without)
        self._hurried -= hurry
        self._within.pop()

    def _value(self, form: Form, lead: str, without: AbstractSet[str]) -> Iterator[Generated]:
        if isinstance(form, FixedValues):
            yield from self._wording.one_of([text for text in form.texts if text not in without] or form.texts, lead)
        elif isinstance(form, Words) and self._odd:
            yield from self._drawn(odd_text(self._dice, form), lead)
        elif isinstance(form, Words):
            yield from self._wording.text(form, lead, _FEWEST_WORDS if self._hurried else _MOST_WORDS)
        elif isinstance(form, Numbers):
            yield self._wording.thrown(lead + (form.draw(self._dice, without) or form.draw(self._dice) or "0"))
        elif isinstance(form, Drawn):
            yield from self._drawn(form.pattern.draw(self._dice, self._effort) or form.sample, lead)
        elif isinstance(form, Alternatives):
            yield from self.written(self._alternative(form), lead, without)
        elif isinstance(form, List):
            yield from self._list(form, lead)
        else:
            yield from self._record(form, lead)

    def _alternative(self, form: Alternatives) -> int:
        possible = [part for part in form.alternatives if self._heights[part] < math.inf]
        if self._hurried:
            lowest = min(self._heights[part] for part in possible)
            possible = [part for part in possible if self._heights[part] == lowest]
        weights = [1 if self._forms[part] == _NULL else 4 for part in possible]  # null says little
        return self._dice.choices(possible, weights)[0]

    def _drawn(self, text: str, lead: str) -> Iterator[Generated]:
        """A string drawn at random."""
        yield self._wording.forced(lead + '"')
        for token in tokenize(escaped(text)):
            yield self._wording.thrown(token)
        yield self._wording.forced('"')

    def _record(self, form: Record, lead: str) -> Iterator[Generated]:
        members = [
            (name, part)
            for name, part in form.members
            if name in form.required or not (self._hurried or self._heights[part] == math.inf)
        ]
        if not members:
            yield self._wording.forced(lead + "{}")
            return
        yield self._wording.forced(lead + "{")
        for place, (name, part) in enumerate(members):
            if place:
                yield self._wording.forced(",")
            yield self._wording.forced(' "' if place else '"')
            for token in tokenize(escaped(name)):
                yield self._wording.forced(token)
            yield self._wording.forced('":')
            yield from self.written(part, " ")
        yield self._wording.forced("}")

    def _list(self, form: List, lead: str) -> Iterator[Generated]:
        parts = self._items(form)
        if not parts:
            yield self._wording.forced(lead + "[]")
            return
        yield self._wording.forced(lead + "[")
        texts: set[str] = set()
        values: set[str] = set()
        for place, part in enumerate(parts):
            space = " " if place else ""
            item: Iterator[Generated] | list[Generated]
            if form.unique:
                item = self._unlike(part, space, texts, values)
                text = "".join(piece.text for piece in item).strip()
                if text in texts and place >= form.least:
                    break
                texts.add(text)
                values.add(canonical(json.loads(text)))
            else:
                item = self.written(part, space)
            if place:
                yield self._wording.forced(",")
            yield from item
        yield self._wording.forced("]")

    def _items(self, form: List) -> list[int]:
        """The forms of the items to write."""
        most = math.inf
        if form.rest is None:
            most = len(form.first)
        elif form.unique:
            most = len(form.first) + self._variety(form.rest)
        if self._hurried:
            count = form.least
        elif form.first:
            count = max(form.least, len(form.first))
        else:
            count = self._dice.randint(max(form.least, 1), max(form.least, 1) + _USUAL_ITEMS - 1)
        parts = list(form.first)
        count = int(min(count, form.most, most))
        if form.rest is not None:
            parts += [form.rest] * (count - len(parts))
        parts = parts[:count]
        possible = next((place for place, part in enumerate(parts) if self._heights[part] == math.inf), count)
        return parts[:possible]

    def _unlike(self, part: int, lead: str, texts: set[str], values: set[str]) -> list[Generated]:
        """An item not in `texts`, whose values are `values`, if one is found; in random letters as a last resort."""
        state = self._wording.state()
        for number in range(_TRIES + _ODD_TRIES):
            self._wording.restore(state)
            self._odd = number >= _TRIES
            item = []
            for piece in self.written(part, lead, texts):
                item.append(piece)
                self._effort.spend(_STEPS_OF_A_TOKEN)
            if self._effort.left < 0 or canonical(json.loads("".join(piece.text for piece in item))) not in values:
                break
        self._odd = False
        return item
