"""The one list of sampling parameters.

Each parameter is one field of `SamplingParams`. That field defines the magic's option, the trait
behind ``%config TogetherMagics``, the validation and its error, the key of the payload, the
Python keyword and the row of the guide's table.

Unset is a separate state: it is None here, and it is not sent. 0 is a value, and is sent.
"""

from __future__ import annotations

import json
import math
import operator
from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_type_hints

from together_nb.errors import InputError

OPENAPI = "togethercomputer/openapi, openapi.yaml (2026-04)"
UNSET = "unset"
AUTO = "auto"
"""A choice left to the model's type."""
_MOST_TOKENS = 300_000  # no vocabulary has more


@dataclass(frozen=True)
class Parameter:
    """The declaration of one sampling parameter.

    Parameters
    ----------
    name
        Python keyword and key of the payload.
    type
        int, float, bool, str, list (of strings) or dict (a JSON object).
    help
        What it does, one sentence.
    minimum, maximum
        Bounds; a value outside them is refused before it is sent. The API enforces them, or a value
        outside them has no meaning. None is no bound.
    exclusive_minimum
        Whether `minimum` itself is refused too.
    slider
        Lowest, highest and step of a slider: a hint, not a bound. None where no slider helps.
    choices
        The only values, for a str.
    dialects
        The dialects that know it; empty for all.
    rare
        Whether it is folded away where space is short.
    source
        The source of these facts.
    """

    name: str
    type: type
    help: str
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    slider: tuple[float, float, float] | None = None
    choices: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()
    rare: bool = False
    source: str = OPENAPI

    @property
    def option(self) -> str:
        """The option on a cell, ``--max-tokens``."""
        return "--" + self.name.replace("_", "-")

    @property
    def expected(self) -> str:
        """What a value must be, in words: ``a number from 0 to 1``."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {
            int: "a whole number",
            float: "a number",
            bool: "True or False",
            list: "a text or a list of texts",
            dict: "a JSON object",
            str: "a text",
        }[self.type]
        if self.minimum is not None and self.maximum is not None:
            low = f"over {self.minimum:g} and up to" if self.exclusive_minimum else f"from {self.minimum:g} to"
            return f"{words} {low} {self.maximum:g}"
        if self.minimum is not None:
            return f"{words} {'over' if self.exclusive_minimum else 'of at least'} {self.minimum:g}"
        return words if self.maximum is None else f"{words} of at most {self.maximum:g}"

    @property
    def entry(self) -> str:
        """The entry in a docstring: type, effect, valid values."""
        kinds: dict[type, str] = {list: "list of str", dict: "dict of str to float"}
        kind = kinds.get(self.type, self.type.__name__)
        only = f" For the {' and the '.join(self.dialects)} API alone." if self.dialects else ""
        return (
            f"{self.name} : {kind} or None\n    {self.help}\n    {self.expected[0].upper()}{self.expected[1:]}.{only}"
        )

    def validate(self, value: Any) -> Any:
        """Return `value` in the parameter's type; None, which is unset, stays None.

        Raises
        ------
        InputError
            It is of the wrong type or out of bounds.
        """
        if value is None:
            return None
        try:
            converted = self._converted(value)
        except Exception:  # noqa: BLE001  (a value of another kind may raise anything)
            converted = None
        if converted is None or not self._within(converted):
            raise InputError(f"{self.name} must be {self.expected}, not {_in_words(value)}.", self.help)
        return converted

    def parse(self, text: str) -> Any:
        r"""Return the value of `text`, as typed after the option; ``unset`` is None.

        In a ``stop``, ``\n``, ``\t`` and ``\\`` are escapes as in Python.

        Raises
        ------
        InputError
            It is not a value of this parameter.
        """
        if text == UNSET:
            return None
        if self.type is bool:
            return self.validate({"true": True, "false": False}.get(text.lower(), text))
        if self.type is list:
            return self.validate(unescaped(text))
        if self.type in (int, float, dict):
            try:
                return self.validate(json.loads(text, parse_int=_typed_int))
            except (ValueError, RecursionError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{self.name} must be {self.expected}, not {_in_words(text)}.", self.help) from None
        return self.validate(text)

    def spell(self, value: Any) -> tuple[str, ...]:
        r"""Return the texts to type after the option, one by one, for `value`; `parse` reads each.

        Only a list has more than one. A text ``unset`` in it cannot be spelled.
        """
        if value is None:
            return (UNSET,)
        if self.type is list:
            return tuple(escaped(text) for text in value)
        return (value,) if self.type is str else (json.dumps(value, ensure_ascii=False),)

    def _converted(self, value: Any) -> Any:
        """Return `value` in the parameter's type, or None if it is of another one."""
        if self.type is bool or isinstance(value, bool):
            return value if self.type is bool and isinstance(value, bool) else None
        if self.type is int:
            return _as_int(value)
        if self.type is float:
            return _as_float(value)
        if self.type is list:
            texts = [value] if isinstance(value, str) else value
            whole = isinstance(texts, (list, tuple)) and all(isinstance(text, str) and text for text in texts)
            return list(texts) if whole else None
        if self.type is str:
            return value if isinstance(value, str) and (not self.choices or value in self.choices) else None
        return _as_json(value) if isinstance(value, dict) else None

    def _within(self, value: Any) -> bool:
        if not isinstance(value, (int, float)):
            return True
        if self.minimum is not None and (value < self.minimum or (self.exclusive_minimum and value == self.minimum)):
            return False
        return self.maximum is None or value <= self.maximum


def _as_int(value: Any) -> int | None:
    # numpy's integers have __index__; a slider may give 3.0.
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    try:
        number = operator.index(value)
    except TypeError:
        return None
    return None if _as_float(number) is None else number  # Python may not even print so many digits


def _as_float(value: Any) -> float | None:
    if isinstance(value, (str, bytes, bytearray)):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _as_json(value: dict[Any, Any]) -> dict[str, Any] | None:
    """Return `value` as it is sent, with str keys; None if JSON cannot hold it."""
    if len(value) > _MOST_TOKENS:
        return None
    try:
        sent = dict(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError, RecursionError):
        return None
    return sent if all(not isinstance(one, bool) and _as_float(one) is not None for one in sent.values()) else None


def _typed_int(digits: str) -> float:
    return int(digits) if len(digits) < 400 else math.inf  # noqa: PLR2004  (more than a float holds)


def unescaped(text: str) -> str:
    r"""Return `text` with ``\n``, ``\t``, ``\r`` and ``\\`` read as in Python; other backslashes stay."""
    out, rest = [], text
    while rest:
        head, slash, rest = rest.partition("\\")
        out.append(head)
        if slash:
            meant = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}.get(rest[:1])
            out.append(slash if meant is None else meant)
            rest = rest if meant is None else rest[1:]
    return "".join(out)


def escaped(text: str) -> str:
    r"""Return `text` on one line; `unescaped` restores it."""
    for character, letter in (("\\", "\\"), ("\n", "n"), ("\t", "t"), ("\r", "r")):
        text = text.replace(character, "\\" + letter)
    return text


def _in_words(value: Any) -> str:
    from together_nb.base.wording import shorten  # as above

    if isinstance(value, int) and value.bit_length() > 10_000:  # noqa: PLR2004  (takes long to spell, or cannot be)
        return f"one of {value.bit_length():,} bits"
    if isinstance(value, dict) and len(value) > _MOST_TOKENS:
        return f"one of {len(value):,} entries"
    try:
        text = repr(value[:40] if isinstance(value, (str, bytes, list, tuple)) else value)
    except Exception:  # noqa: BLE001  (as above)
        return f"this {type(value).__name__}"
    return shorten(text, 40)  # one line of the message


def _declare(help: str, **facts: Any) -> Any:  # noqa: A002  (the field's own word)
    return field(default=None, metadata={"help": help, **facts})


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the model chooses its tokens. None is unset, and is not sent; 0 is a value, and is sent.

    Parameters
    ----------
    max_tokens : int or None
        The most tokens to generate. A whole number of at least 1.
    temperature : float or None
        How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is
        wilder. A number of at least 0.
    top_p : float or None
        Choose among the likeliest tokens that together have this probability. A number from 0 to 1.
    top_k : int or None
        Choose among this many likeliest tokens. A whole number.
    min_p : float or None
        Drop tokens less likely than this share of the likeliest one's probability. A number from 0 to 1.
    repetition_penalty : float or None
        Over 1 makes tokens that already occurred less likely. A number over 0.
    presence_penalty : float or None
        Over 0 makes tokens that the answer already used less likely, however often. A number.
    frequency_penalty : float or None
        Over 0 makes tokens less likely the more often the answer used them. A number.
    stop : list of str or None
        End the answer before this text; may be given several times. A text or a list of texts.
    seed : int or None
        The same seed and request give the same answer, as far as the server can. A whole number.
    logprobs : int or None
        Return each token's log-probability and this many alternatives. A whole number from 0 to 20.
    n : int or None
        How many answers to generate. A whole number from 1 to 128.
    echo : bool or None
        Return the prompt too, in front of the answer. True or False.
    logit_bias : dict of str to float or None
        Add to the logit of single tokens: a JSON object of token id to bias. A JSON object.
    reasoning_effort : str or None
        How long a reasoning model may think. One of low, medium, high. For the chat API alone.

    Raises
    ------
    InputError
        A value is of the wrong type or out of bounds.

    Notes
    -----
    Names and types are those of togethercomputer/openapi, openapi.yaml (2026-04).
    So are the bounds that the API enforces; a value outside the other bounds has no meaning.

    Examples
    --------
    >>> from together_nb import SamplingParams
    >>> SamplingParams(max_tokens=40, temperature=0).to_dict()
    {'max_tokens': 40, 'temperature': 0.0}
    >>> SamplingParams(top_p=2)
    Traceback (most recent call last):
    ...
    together_nb.errors.InputError: top_p must be a number from 0 to 1, not 2.
    Choose among the likeliest tokens that together have this probability.
    """

    max_tokens: int | None = _declare("The most tokens to generate.", minimum=1, slider=(1, 2048, 1))
    temperature: float | None = _declare(
        "How freely to choose: 0 always takes the likeliest token, 1 follows the model's odds, more is wilder.",
        minimum=0, slider=(0, 2, 0.05),
    )  # fmt: skip
    top_p: float | None = _declare(
        "Choose among the likeliest tokens that together have this probability.",
        minimum=0, maximum=1, slider=(0, 1, 0.01),
    )  # fmt: skip
    top_k: int | None = _declare("Choose among this many likeliest tokens.", slider=(1, 100, 1))
    min_p: float | None = _declare(
        "Drop tokens less likely than this share of the likeliest one's probability.",
        minimum=0, maximum=1, slider=(0, 1, 0.01), rare=True,
    )  # fmt: skip
    repetition_penalty: float | None = _declare(
        "Over 1 makes tokens that already occurred less likely.",
        minimum=0, exclusive_minimum=True, slider=(0.5, 2, 0.05),
    )  # fmt: skip
    presence_penalty: float | None = _declare(
        "Over 0 makes tokens that the answer already used less likely, however often.",
        slider=(-2, 2, 0.1), rare=True,
    )  # fmt: skip
    frequency_penalty: float | None = _declare(
        "Over 0 makes tokens less likely the more often the answer used them.",
        slider=(-2, 2, 0.1), rare=True,
    )  # fmt: skip
    stop: list[str] | None = _declare("End the answer before this text; may be given several times.", rare=True)
    seed: int | None = _declare("The same seed and request give the same answer, as far as the server can.", rare=True)
    logprobs: int | None = _declare(
        "Return each token's log-probability and this many alternatives.",
        minimum=0, maximum=20, slider=(0, 20, 1), rare=True,
    )  # fmt: skip
    n: int | None = _declare("How many answers to generate.", minimum=1, maximum=128, slider=(1, 8, 1), rare=True)
    echo: bool | None = _declare("Return the prompt too, in front of the answer.", rare=True)
    logit_bias: dict[str, float] | None = _declare(
        "Add to the logit of single tokens: a JSON object of token id to bias.", rare=True
    )
    reasoning_effort: str | None = _declare(
        "How long a reasoning model may think.", choices=("low", "medium", "high"), dialects=("chat",), rare=True
    )

    def __post_init__(self) -> None:
        for parameter in PARAMETERS.values():
            object.__setattr__(self, parameter.name, parameter.validate(getattr(self, parameter.name)))

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters that are set, as in the payload.

        Returns
        -------
        dict
            Value by name, without what is unset.
        """
        return {name: value for name in PARAMETERS if (value := getattr(self, name)) is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SamplingParams:
        """Return parameters from keywords.

        Parameters
        ----------
        values : dict
            Value by name; None is unset.

        Returns
        -------
        SamplingParams
            Those of `values`, the rest unset.

        Raises
        ------
        InputError
            A keyword is not a parameter, or its value is invalid.
        """
        for name in values:
            if name not in PARAMETERS:
                from together_nb.base.suggest import suggestion  # loading the extension need not wait for it

                hint = suggestion(name, PARAMETERS) or f"The parameters are {', '.join(PARAMETERS)}."
                raise InputError(f"There is no sampling parameter called {name!r}.", hint)
        return cls(**values)

    def updated(self, values: dict[str, Any]) -> SamplingParams:
        """Return these parameters, overridden by `values`.

        Parameters
        ----------
        values : dict
            Value by name; None unsets.

        Returns
        -------
        SamplingParams
            New ones; these are unchanged.

        Raises
        ------
        InputError
            A keyword is not a parameter, or its value is invalid.
        """
        return self.from_dict({**self.to_dict(), **values})


def _parameters() -> dict[str, Parameter]:
    hints = get_type_hints(SamplingParams)
    declared = {}
    for declaration in fields(SamplingParams):
        kind = next(kind for kind in get_args(hints[declaration.name]) if kind is not type(None))
        declared[declaration.name] = Parameter(
            declaration.name, getattr(kind, "__origin__", kind), **declaration.metadata
        )
    return declared


PARAMETERS: dict[str, Parameter] = _parameters()
"""Every parameter by its name, in the order of declaration."""
