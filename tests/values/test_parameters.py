"""Sampling parameters as they are declared: which values fit, how they are sent, typed and spelled."""

from __future__ import annotations

import json
from contextlib import contextmanager
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.declared import bad, good
from together_nb.errors import InputError
from together_nb.values.parameters import PARAMETERS, UNSET, Parameter, SamplingParams, escaped, unescaped

each = pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)


class Index:
    """An integer as numpy's are: no int, and with `__index__`."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


class Broken:
    """A value of which nothing can be had."""

    def __index__(self):
        raise ZeroDivisionError

    __float__ = __repr__ = __index__


# What does not fit beside `bad`, as a value and as it is typed.
BEYOND = [
    10**4000, -(10**4000), 10**5000, Index(10**5000), Fraction(10**5000), Fraction(10**5000, 3), Decimal(10) ** 4000,
    Decimal("sNaN"), float("-inf"), Broken(), "1" * 10**6, b"1" * 10**6, [10**5000], (10**5000,), {"a": 10**5000},
    True, False,
]  # fmt: skip
BIASES = [10**4000, 10**5000, float("nan"), float("inf"), True, None, "1", [1], {"1": 1}, {2}, Fraction(1, 2), Broken()]
MANY = [dict.fromkeys(range(300_001), 1), *({**dict.fromkeys(range(1000), 0), 7: bias} for bias in BIASES)]
AMISS = {
    **dict.fromkeys((int, float), BEYOND),
    list: ["", [""], ["a", 1], {"a": 1}],
    bool: ["true"],
    dict: [[1], *({"1": bias} for bias in BIASES), *MANY],
}
TYPED_BIASES = ["-" + "9" * 10**5, '{"1": NaN}', '{"1": -Infinity}', '{"1": 1e400}', f'{{"1": {"1" * 5000}}}']
TYPED_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e999", "true", "1,5", "[1]", '"1"', "", "1 2", "1" * 4000]
TYPED_AMISS = {
    **dict.fromkeys((int, float), TYPED_NUMBERS + TYPED_BIASES),
    list: [""],
    bool: ["1", "yes"],
    dict: ["{", "1", "[" * 100_000, *TYPED_BIASES],
}


@contextmanager
def refused(parameter):
    """A value is refused in few words, with what it must be and what the parameter does."""
    with pytest.raises(InputError) as caught:
        yield caught
    assert len(str(caught.value)) < 300
    assert caught.value.message.startswith(f"{parameter.name} must be {parameter.expected}, not ")
    assert caught.value.hint == parameter.help


@each
def test_a_value_that_fits_is_kept_and_sent_in_its_type(parameter):
    for value in good(parameter):
        sent = SamplingParams.from_dict({parameter.name: value}).to_dict()
        assert sent == {parameter.name: value}
        assert type(sent[parameter.name]) is type(value) is parameter.type


@each
def test_a_value_that_does_not_fit_is_refused(parameter):
    for value in [*bad(parameter), *AMISS.get(parameter.type, [])]:
        with refused(parameter):
            SamplingParams.from_dict({parameter.name: value})
    for text in TYPED_AMISS.get(parameter.type, ["hot"] if parameter.choices else []):
        with refused(parameter):
            parameter.parse(text)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("temperature", 10**400, "1" + "0" * 38 + "…"),
        ("seed", 10**5000, "one of 16,610 bits"),
        ("presence_penalty", b"1", "b'1'"),
        ("stop", ["a", 1], "['a', 1]"),
        ("logit_bias", {"1": {2}}, "{'1': {2}}"),
        ("logit_bias", MANY[0], "one of 300,001 entries"),
        ("top_p", Broken(), "this Broken"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refusal_shows_the_value(name, value, shown):
    with refused(PARAMETERS[name]) as caught:
        SamplingParams(**{name: value})
    assert caught.value.message.endswith(f", not {shown}.")


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("max_tokens", Index(7), "7"),
        ("max_tokens", 3.0, "3"),
        ("seed", -0.0, "0"),
        ("seed", 18446744073709551615, "18446744073709551615"),
        ("temperature", 1, "1.0"),
        ("temperature", Fraction(1, 1), "1.0"),
        ("temperature", Index(1), "1.0"),
        ("stop", "END", '["END"]'),
        ("stop", ("a", "b"), '["a", "b"]'),
        ("logit_bias", {50256: -100}, '{"50256": -100}'),
    ],
)
def test_a_value_of_a_kindred_type_is_sent_in_the_parameters_own(name, value, sent):
    assert json.dumps(SamplingParams(**{name: value}).to_dict()[name]) == sent


# Typed and spelled


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_tokens", "2e2", 200),
        ("seed", "9007199254740993", 9007199254740993),
        ("stop", r"\n\n", ["\n\n"]),
        ("stop", "true", ["true"]),
        ("echo", "TRUE", True),
    ],
)
def test_what_is_typed_is_read(name, text, value):
    assert PARAMETERS[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [
        ("temperature", 0, ("0.0",)),
        ("stop", ["\n\n", "C:\\new", "it's"], (r"\n\n", r"C:\\new", "it's")),
        ("stop", [], ()),
        ("echo", False, ("false",)),
        ("logit_bias", {"é": -100}, ('{"é": -100}',)),
        ("reasoning_effort", "low", ("low",)),
        *((name, None, (UNSET,)) for name in PARAMETERS),
    ],
)
def test_a_value_is_spelled_as_one_would_type_it(name, value, texts):
    assert PARAMETERS[name].spell(PARAMETERS[name].validate(value)) == texts
    if value is None:
        assert PARAMETERS[name].parse(UNSET) is None


def values(parameter):
    low, high = parameter.minimum, parameter.maximum
    kinds = {
        int: st.integers(low, high),
        float: st.floats(low, high, exclude_min=parameter.exclusive_minimum, allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        list: st.lists(st.text(min_size=1).filter(lambda text: text != UNSET)),
        dict: st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
        str: st.sampled_from(parameter.choices) if parameter.choices else st.text(),
    }
    return kinds[parameter.type]


@each
@given(data=st.data())
@settings(max_examples=30)
def test_what_is_spelled_is_read_as_what_it_was(parameter, data):
    value = parameter.validate(data.draw(values(parameter)))
    read = [parameter.parse(text) for text in parameter.spell(value)]
    if parameter.type is list:
        assert [text for one in read for text in one] == value
    else:
        assert [(type(one), one) for one in read] == [(type(value), value)]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n", "\n"), (r"\t", "\t"), (r"\r\n", "\r\n"), (r"\\n", r"\n"), (r"\\", "\\"), ("\\", "\\"),
        (r"\x41", r"\x41"), (r"C:\dir", r"C:\dir"), (r"a\\\nb", "a\\\nb"), ("", ""),
    ],
)  # fmt: skip
def test_stop_understands_backslash_n_and_leaves_other_backslashes(typed, meant):
    assert unescaped(typed) == meant


@given(st.text() | st.text(alphabet="\\nrt\n\t\rab"))
def test_an_escaped_text_is_on_one_line_and_is_read_as_what_it_was(text):
    assert not set(escaped(text)) & set("\n\t\r")
    assert unescaped(escaped(text)) == unescaped(text.replace("\\", "\\\\")) == text


# Declared


def test_an_unknown_parameter_is_refused_with_the_nearest_or_all():
    for name, hint in (("temprature", "Did you mean temperature?"), ("zzz", ", ".join(PARAMETERS))):
        with pytest.raises(InputError, match=f"'{name}'") as caught:
            SamplingParams.from_dict({name: 1})
        assert hint in caught.value.hint


def test_values_go_over_those_that_were_set_none_unsets_and_a_later_change_of_what_was_given_changes_nothing():
    stop, bias = ["a"], {"1": 2.0}
    given = SamplingParams(stop=stop, logit_bias=bias)
    stop.append("b")
    bias["3"] = 4.0
    assert given.to_dict() == {"stop": ["a"], "logit_bias": {"1": 2.0}}
    params = SamplingParams(temperature=0.7, top_k=5)
    assert params.updated({"temperature": 0, "top_k": None, "n": 2}).to_dict() == {"temperature": 0.0, "n": 2}
    assert params.to_dict() == {"temperature": 0.7, "top_k": 5}


@each
def test_a_declaration_is_whole(parameter):
    assert parameter.option == "--" + parameter.name.replace("_", "-")
    assert parameter.help[0].isupper()
    assert parameter.help.endswith(".")
    if parameter.slider:
        low, high, step = parameter.slider
        assert low < low + step < high
        assert [parameter.validate(low), parameter.validate(high)] == [low, high]


@pytest.mark.parametrize(
    ("facts", "expected", "fit", "unfit"),
    [
        ({}, "a number", -1e9, "hot"),
        ({"minimum": 0}, "a number of at least 0", 0, -0.1),
        ({"maximum": 2}, "a number of at most 2", 2, 2.5),
        ({"minimum": 0, "exclusive_minimum": True}, "a number over 0", 0.1, 0),
        ({"minimum": -2, "maximum": 2}, "a number from -2 to 2", 2, 2.1),
        ({"minimum": 0, "maximum": 0.5, "exclusive_minimum": True}, "a number over 0 and up to 0.5", 0.5, 0),
    ],
)
def test_bounds_are_said_as_they_are_kept(facts, expected, fit, unfit):
    parameter = Parameter("x", float, "Help.", **facts)
    assert parameter.expected == expected
    assert parameter.validate(fit) == fit
    with pytest.raises(InputError, match=f"x must be {expected}, not"):
        parameter.validate(unfit)


def test_a_text_parameter_takes_any_text():
    free = Parameter("x", str, "Help.")
    assert (free.expected, free.validate("a"), free.parse("1"), free.spell("a")) == ("a text", "a", "1", ("a",))
