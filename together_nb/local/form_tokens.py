"""The tokens of a constrained answer: forced ones, random ones, and the model's own words."""

from __future__ import annotations

import json
import math
import string
from typing import TYPE_CHECKING

from together_nb.local.sampler import with_biased
from together_nb.local.vocabulary import END_ID, UNKNOWN, Candidates, Generated, tokenize

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from together_nb.local.grammar import Words
    from together_nb.local.sampler import Chooser, LanguageModel
    from together_nb.local.vocabulary import Context

_ENDS = (".", "?", "!")


class FormTokens:
    """Produces tokens one by one, and keeps the model's context.

    Parameters
    ----------
    model
        The model that supplies the words.
    tokens
        The prompt's tokens.
    chooser
        Chooses among the candidates.
    logprobs
        How many of the likeliest tokens to report at each position.

    Attributes
    ----------
    count
        How many tokens it has produced.
    """

    def __init__(self, model: LanguageModel, tokens: Sequence[str], chooser: Chooser, logprobs: int) -> None:
        self._model, self._chooser, self._dice, self._logprobs = model, chooser, chooser.dice, logprobs
        self._context = model.context(tokens)
        self._at_break = not tokens or tokens[-1][:1] == "\n"
        self.count = 0

    def state(self) -> tuple[Context, bool, int]:
        """A snapshot for `restore`."""
        return self._context, self._at_break, self.count

    def restore(self, state: tuple[Context, bool, int]) -> None:
        """Forget the tokens since `state`."""
        self._context, self._at_break, self.count = state

    def forced(self, text: str) -> Generated:
        """A token that the form leaves no choice about."""
        self.count += 1
        return Generated(text, self._model.token_id(text), 0.0, ((text, 0.0),) if self._logprobs else ())

    def thrown(self, text: str) -> Generated:
        """A token drawn at random."""
        self.count += 1
        token = self._model.token_id(text)
        logprob = math.log(self._model.token_probability(token, self._context))
        return Generated(text, token, logprob, ((text, logprob),) if self._logprobs else ())

    def _begin(self) -> None:
        """Begin a value, which is a new line to the model."""
        if not self._at_break:
            self._context = self._model.extended(self._context, "\n")
            self._at_break = True

    def _chosen(self, candidates: Candidates, texts: Sequence[str]) -> tuple[int, Generated]:
        """The position chosen among `candidates`, and its token, spelled as in `texts`."""
        position = self._chooser.choose(candidates)
        logprobs = [math.log(each) for each in candidates.probabilities[: self._logprobs]]
        top = tuple(zip(texts, logprobs, strict=False))
        self.count += 1
        logprob = math.log(candidates.probabilities[position])
        return position, Generated(texts[position], candidates.ids[position], logprob, top)

    def one_of(self, texts: Sequence[str], lead: str) -> Iterator[Generated]:
        """One of several values, token by token; what all remaining values share is forced."""
        self._begin()
        left = [_spelled(lead, text) for text in texts]
        place = 0
        while place < len(left[0]):
            tokens = list(dict.fromkeys(spelled[place] for spelled in left))
            if len(tokens) == 1:
                piece = self.forced(tokens[0])
            else:
                piece = self._either(tokens)
                left = [spelled for spelled in left if spelled[place] == piece.text]
            if any(map(str.isalnum, piece.text)):
                self._context = self._model.extended(self._context, piece.text)
                self._at_break = False
            yield piece
            place += 1

    def _either(self, texts: Sequence[str]) -> Generated:
        """One of several tokens, drawn at random if the model does not know all of them."""
        weighed = sorted(map(self._weighed, texts), key=lambda one: -one[0])
        ids = [token for _, token, _ in weighed]
        if self._model.token_id(UNKNOWN) in ids:
            return self.thrown(self._dice.choice(texts))
        return self._chosen(Candidates(ids, [share for share, _, _ in weighed]), [text for _, _, text in weighed])[1]

    def _weighed(self, text: str) -> tuple[float, int, str]:
        """A token's probability and id, with or without a leading space, and its text."""
        ids = {self._model.token_id(text), self._model.token_id(" " + text)}
        probability, token = max((self._model.token_probability(each, self._context), each) for each in ids)
        return probability, token, text

    def text(self, form: Words, lead: str, most_words: int) -> Iterator[Generated]:
        """A string in the model's words, up to the end of its sentence or to `most_words`."""
        self._begin()
        yield self.forced(lead + '"')
        length = words = 0
        last = ""
        while form.most is None or length < form.most:
            enough = length >= form.least
            if enough and (words >= most_words or last in _ENDS):
                break
            room = math.inf if form.most is None else form.most - length
            candidates, texts = self._fitting(room, may_end=enough and length > 0, first=not length)
            if not candidates.ids and enough:
                break
            if not candidates.ids:  # no word fits, but the string must not be empty
                candidates, texts = self._fitting(math.inf, may_end=False, first=True)
                texts = [text[: int(room)] if room < math.inf else text for text in texts]
            if not candidates.ids:  # a model that knows no words
                candidates, texts = Candidates([self._model.token_id("a")], [1.0]), ["a"]
            position, piece = self._chosen(candidates, texts)
            if not piece.text:
                yield piece._replace(text='"')
                return
            length += len(piece.text)
            last = piece.text[-1]
            words += any(map(str.isalnum, piece.text))
            self._context = self._model.extended(self._context, self._model.vocabulary[candidates.ids[position]])
            self._at_break = False
            yield piece._replace(text=escaped(piece.text))
        yield self.forced('"')

    def _fitting(self, room: float, *, may_end: bool, first: bool) -> tuple[Candidates, list[str]]:
        """The candidates that may come next within a string, and their spellings: "" ends it."""
        model = self._model
        candidates = model.candidates_after(self._context)
        if self._chooser.bias:
            candidates = with_biased(model, candidates, self._context, self._chooser.bias)
        ids, probabilities, texts = [], [], []
        for token, probability in zip(candidates.ids, candidates.probabilities, strict=True):
            text = "" if token == END_ID else model.vocabulary[token]
            if first:
                text = text.lstrip()
            if text.isspace():
                text = ""  # a line break ends a string
            # A quotation mark is rarely closed within its sentence.
            if (len(text) <= room and '"' not in text and (text[:1].isalnum() or not first)) if text else may_end:
                ids.append(token)
                probabilities.append(probability)
                texts.append(text)
        return Candidates(ids, probabilities), texts


def escaped(text: str) -> str:
    """Escape `text` for a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def odd_text(dice: random.Random, form: Words) -> str:
    """Random letters of a fitting length."""
    shortest = max(form.least, 1)
    length = max(shortest, 8) if form.most is None else min(max(shortest, 8), form.most)
    return "".join(dice.choices(string.ascii_letters, k=length))


def _spelled(lead: str, text: str) -> list[str]:
    """The tokens of a JSON value; a number is one, so that none is a prefix of another."""
    tokens = tokenize(text) if text[:1] in '"{[' else [text]
    return [lead + tokens[0], *tokens[1:]]
