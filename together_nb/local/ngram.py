"""An interpolated n-gram model over words and punctuation.

The whole model is a table of counts and one formula. Let h be the last words, h' the same
without the first, N(h) how often h occurs in the corpus, c(hw) how often w follows it::

    P(w|h) = (c(hw) + kappa * P(w|h')) / (N(h) + kappa)

With no word left in h, P(w) = (c(w) + kappa / V) / (N + kappa), where V is the size of the
vocabulary. Words h that do not occur in the corpus have N(h) = 0, so that P(w|h) = P(w|h').

The model generates tokens as they are spelled, with their leading space (``" Turing"``), but
matches words: without that space, in lower case, every run of line breaks as one. So the prompt
``alan turing was`` finds what followed ``Alan Turing was``. A lone space is not a word.
"""

from __future__ import annotations

import math
import re
import threading
from collections import Counter
from functools import lru_cache
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from together_nb.base.fork import after_fork
from together_nb.local import generation, vocabulary
from together_nb.local.vocabulary import END_ID, UNKNOWN, Candidates, Context, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from together_nb.values.parameters import SamplingParams

ORDER = 5
KAPPA = 0.7
COMMONEST = 64
END_OF_TEXT = "<|endoftext|>"
"""The token that ends each document; a document also begins after one."""
_TITLE = re.compile(r"^# .*$", re.MULTILINE)


def _word(token: str) -> str:
    """The word that `token` is in a context; "" for a lone space."""
    return "\n" if token[:1] == "\n" else token.strip().lower().replace("’", "'")  # noqa: RUF001


class _Place(NamedTuple):
    """What followed one context in the corpus: the number of tokens, and the count of each."""

    total: int
    followers: dict[int, int]


class NgramModel:
    """A trained model. It no longer changes, so threads may share it.

    Parameters
    ----------
    documents : iterable of str
        The texts to count.
    order : int
        Length of the longest n-gram: `order` - 1 words of context and the one that follows.
    kappa : float
        Weight of the shorter context, in counts.

    Attributes
    ----------
    vocabulary : tuple of str
        The text of each token by its id: first `END_OF_TEXT`, then from the commonest to the
        rarest, last `UNKNOWN`.

    Notes
    -----
    Generation weighs only some of the V tokens at each position, the *candidates*: every token that
    followed the last word in the corpus, the end of the text and the 64 commonest tokens. The others
    read worst. In the package's own corpus their total probability is 0.2 per cent, averaged
    over the positions of a text; if only a rare word is left of the context, up to 19 per cent. If
    the last word was never seen, the candidates are the whole vocabulary. This does not change the
    reported probabilities: they are P(w|h), and the likeliest 64 are always among the candidates.

    Examples
    --------
    >>> from together_nb.local.ngram import NgramModel
    >>> model = NgramModel(["Once upon a time there was a cat."], order=2, kappa=0.5)
    >>> model.vocabulary[0], len(model.vocabulary)
    ('<|endoftext|>', 10)
    >>> model.probability(" upon", "Once") > model.probability(" cat", "Once")
    True
    """

    def __init__(self, documents: Iterable[str], order: int = ORDER, kappa: float = KAPPA) -> None:
        self.order = order
        self.kappa = kappa
        texts = [[*tokenize(document), END_OF_TEXT] for document in documents]
        counts = Counter(token for text in texts for token in text)
        del counts[END_OF_TEXT]
        ranked = sorted(counts, key=lambda token: (-counts[token], token))
        self.vocabulary: tuple[str, ...] = (END_OF_TEXT, *ranked, UNKNOWN)
        self._ids = {token: number for number, token in enumerate(self.vocabulary)}
        # All spellings of a word share a number, the id of the commonest one.
        self._numbers: dict[str, int] = {}
        for number, token in enumerate(self.vocabulary[:-1]):
            self._numbers.setdefault(_word(token), number)
        self._number_of = {token: self._numbers[_word(token)] for token in self.vocabulary[:-1] if _word(token)}
        self._places = self._count(texts)
        self.candidates_after = lru_cache(maxsize=2048)(self._candidates)
        self._after_word = lru_cache(maxsize=2048)(self._candidates_after_word)

    def _count(self, texts: list[list[str]]) -> dict[Context, _Place]:
        followers: dict[Context, dict[int, int]] = {(): {}}
        for text in texts:
            context: Context = (END_ID,)[: self.order - 1]
            for token in text:
                number = self._ids[token]
                for start in range(len(context) + 1):
                    counted = followers.setdefault(context[start:], {})
                    counted[number] = counted.get(number, 0) + 1
                context = self._extended(context, token)
        return {context: _Place(sum(counted.values()), counted) for context, counted in followers.items()}

    def token_id(self, token: str) -> int:
        """The id of a token.

        Parameters
        ----------
        token : str
            As `tokenize` returns it, with its leading space.

        Returns
        -------
        int
            Its index in `vocabulary`; that of `UNKNOWN` if it is not there.
        """
        return self._ids.get(token, len(self.vocabulary) - 1)

    def context(self, tokens: Iterable[str]) -> Context:
        """The context after `tokens`, which begin a document.

        Parameters
        ----------
        tokens : iterable of str
            As `tokenize` returns them.

        Returns
        -------
        tuple of int
            The numbers of the last words that occur together in the corpus, at most `order` - 1 of them.
        """
        context: Context = (END_ID,)[: self.order - 1]
        for token in tokens:
            context = self._extended(context, token)
        return self._seen(context)

    def extended(self, context: Context, token: str) -> Context:
        """The context after one more token.

        Parameters
        ----------
        context : tuple of int
            The one before it.
        token : str
            As `tokenize` returns it.

        Returns
        -------
        tuple of int
            The numbers of the last words that occur together in the corpus, at most `order` - 1 of them.
        """
        return self._seen(self._extended(context, token))

    def _extended(self, context: Context, token: str) -> Context:
        number = self._number_of.get(token)
        if number is None:
            word = _word(token)
            if not word:
                return context
            number = self._numbers.get(word, -1)
        return (*context[max(0, len(context) - self.order + 2) :], number) if self.order > 1 else ()

    def _seen(self, context: Context) -> Context:
        """The longest suffix of `context` that occurs in the corpus; the rest changes no probability."""
        while context and context not in self._places:
            context = context[1:]
        return context

    def probability(self, token: str, context: str) -> float:
        """P(`token` | `context`), exactly by the module's formula.

        Parameters
        ----------
        token : str
            A token as `tokenize` returns it; one that is not in the vocabulary counts as `UNKNOWN`.
        context : str
            The text before it; its last `order` - 1 words matter. It begins a document.

        Returns
        -------
        float
            From 0 to 1.
        """
        return self.token_probability(self.token_id(token), self.context(tokenize(context)))

    def token_probability(self, token: int, context: Context) -> float:
        """The probability of a token, by its id.

        Parameters
        ----------
        token : int
            Its index in `vocabulary`.
        context : tuple of int
            As `context` or `extended` returns it.

        Returns
        -------
        float
            From 0 to 1.
        """
        probability = 1 / len(self.vocabulary)
        for start in range(len(context), -1, -1):
            place = self._places.get(context[start:])
            if place is None:
                break
            probability = (place.followers.get(token, 0) + self.kappa * probability) / (place.total + self.kappa)
        return probability

    def _candidates_after_word(self, context: Context) -> tuple[list[int], list[float], dict[int, int]]:
        """Ids, probabilities and positions after a context of one word or none."""
        if context:
            ids = sorted({*self._places[context].followers, *range(min(COMMONEST + 1, len(self.vocabulary) - 1))})
        else:
            ids = list(range(len(self.vocabulary) - 1))
        # As in `token_probability`, but each context is looked up once.
        probabilities = [1 / len(self.vocabulary)] * len(ids)
        for start in range(len(context), -1, -1):
            total, followers = self._places[context[start:]]
            count, whole = followers.get, total + self.kappa
            probabilities = [
                (count(token, 0) + self.kappa * shorter) / whole
                for token, shorter in zip(ids, probabilities, strict=True)
            ]
        return ids, probabilities, {token: position for position, token in enumerate(ids)}

    def _candidates(self, context: Context) -> Candidates:
        """The candidates after a context from `context` or `extended`."""
        # All contexts that end in one word share its candidates: each longer context scales the
        # probabilities down and lifts the few tokens that followed it.
        ids, probabilities, position = self._after_word(context[-1:])
        scale = 1.0
        lifts: dict[int, float] = {}
        for start in range(len(context) - 1):  # from the longest to that of two words
            total, followers = self._places[context[start:]]
            for token, count in followers.items():
                lifts[token] = lifts.get(token, 0.0) + scale * count / (total + self.kappa)
            scale *= self.kappa / (total + self.kappa)
        probabilities = [scale * probability for probability in probabilities]
        for token, lift in lifts.items():
            probabilities[position[token]] += lift
        order = sorted(range(len(ids)), key=probabilities.__getitem__, reverse=True)
        return Candidates([ids[place] for place in order], [probabilities[place] for place in order])

    def top(self, candidates: Candidates, count: int) -> tuple[tuple[str, float], ...]:
        """The likeliest tokens and their log-probabilities (natural), likeliest first.

        Parameters
        ----------
        candidates : Candidates
            The candidates.
        count : int
            How many to return.

        Returns
        -------
        tuple of tuple of (str, float)
            Each token with its log-probability.
        """
        pairs = islice(zip(*candidates, strict=True), count)
        return tuple((self.vocabulary[token], math.log(probability)) for token, probability in pairs)

    def generate(self, prompt: str, sampling: SamplingParams) -> Iterator[vocabulary.Generated]:
        """Generate the tokens that continue a prompt, one by one.

        Parameters
        ----------
        prompt : str
            The text to continue; it begins a document.
        sampling : SamplingParams
            The sampling parameters; `n` is ignored.

        Returns
        -------
        iterator of Generated
            Each token, with its log-probability; see `together_nb.local.generation`.

        Raises
        ------
        InputError
            `logit_bias` has an invalid token id, or a value that is not a finite number.
        """
        return generation.generate(self, tokenize(prompt), sampling)


def train(documents: Iterable[str], order: int = ORDER) -> NgramModel:
    """Train a model on `documents`, with n-grams of up to `order` words."""
    return NgramModel(documents, order)


def documents_of(text: str) -> list[str]:
    """The documents of a corpus file, separated by lines ``# Title``."""
    return [document for part in _TITLE.split(text) if (document := part.strip())]


def corpus() -> list[str]:
    """The documents that come with the package."""
    folder = resources.files("together_nb.local") / "corpus"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    return [document for file in files for document in documents_of(file.read_text(encoding="utf-8"))]


_training = threading.Lock()
_default: NgramModel | None = None


def default_model() -> NgramModel:
    """Return the model of the package's own corpus, trained at the first call in a fraction of a second.

    Returns
    -------
    NgramModel
        The same at each call.

    Examples
    --------
    >>> from together_nb.local.ngram import default_model
    >>> model = default_model()
    >>> model is default_model(), model.order
    (True, 5)
    """
    global _default  # noqa: PLW0603  (trained once for the process)
    with _training:
        if _default is None:
            _default = train(corpus())
        return _default


def _new_lock() -> None:
    global _training  # noqa: PLW0603
    _training = threading.Lock()


after_fork(_new_lock)
