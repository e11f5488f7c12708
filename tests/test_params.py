"""The one list of sampling parameters: what a value may be, and what is said of one that may not."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.errors import InputError
from together_nb.params import PARAMETERS, UNSET, Parameter, SamplingParams, escaped, unescaped

GOOD = {
    "max_tokens": [1, 512],
    "temperature": [0.0, 0.7, 2.0],
    "top_p": [0.0, 0.7, 1.0],
    "top_k": [-1, 0, 50],
    "min_p": [0.0, 1.0],
    "repetition_penalty": [0.01, 1.0],
    "presence_penalty": [-2.0, 0.0, 2.0],
    "frequency_penalty": [-2.0, 0.0, 2.0],
    "stop": [[], ["\n"], ["a", "b"]],
    "seed": [-1, 0, 2**53 + 1, 2**64],
    "logprobs": [0, 20],
    "n": [1, 128],
    "echo": [True, False],
    "logit_bias": [{}, {"1024": -100.0}],
    "reasoning_effort": ["low", "medium", "high"],
}
BAD = [
    ("max_tokens", 0, "max_tokens must be a whole number of at least 1, not 0."),
    ("max_tokens", 1.5, "max_tokens must be a whole number of at least 1, not 1.5."),
    ("max_tokens", "8", "max_tokens must be a whole number of at least 1, not '8'."),
    ("temperature", -0.1, "temperature must be a number of at least 0, not -0.1."),
    ("temperature", "hot", "temperature must be a number of at least 0, not 'hot'."),
    ("temperature", 10**400, "temperature must be a number of at least 0, not " + "1" + "0" * 36 + "…."),
    ("top_p", 1.01, "top_p must be a number from 0 to 1, not 1.01."),
    ("top_k", "all", "top_k must be a whole number, not 'all'."),
    ("min_p", -0.01, "min_p must be a number from 0 to 1, not -0.01."),
    ("repetition_penalty", 0, "repetition_penalty must be a number over 0, not 0."),
    ("presence_penalty", [], "presence_penalty must be a number, not []."),
    ("frequency_penalty", b"1", "frequency_penalty must be a number, not b'1'."),
    ("stop", "", "stop must be a text or a list of texts, not ''."),
    ("stop", [""], "stop must be a text or a list of texts, not ['']."),
    ("stop", ["a", 1], "stop must be a text or a list of texts, not ['a', 1]."),
    ("stop", {"a": 1}, "stop must be a text or a list of texts, not {'a': 1}."),
    ("seed", 0.5, "seed must be a whole number, not 0.5."),
    ("seed", int, "seed must be a whole number, not <class 'int'>."),
    ("logprobs", 21, "logprobs must be a whole number from 0 to 20, not 21."),
    ("logprobs", -1, "logprobs must be a whole number from 0 to 20, not -1."),
    ("n", 0, "n must be a whole number from 1 to 128, not 0."),
    ("n", 129, "n must be a whole number from 1 to 128, not 129."),
    ("echo", 1, "echo must be True or False, not 1."),
    ("echo", "true", "echo must be True or False, not 'true'."),
    ("logit_bias", [1], "logit_bias must be a JSON object, not [1]."),
    ("logit_bias", {"1": {2}}, "logit_bias must be a JSON object, not {'1': {2}}."),
    ("logit_bias", {"1": float("nan")}, "logit_bias must be a JSON object, not {'1': nan}."),
    ("reasoning_effort", "max", "reasoning_effort must be one of low, medium, high, not 'max'."),
    ("reasoning_effort", 1, "reasoning_effort must be one of low, medium, high, not 1."),
]
NUMBERS = [name for name, parameter in PARAMETERS.items() if parameter.type in (int, float)]


class Index:
    """An integer as numpy's are: no int, and with `__index__`."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


def test_the_parameters_are_those_of_the_api_in_their_order():
    assert list(PARAMETERS) == list(GOOD)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_a_fitting_value_is_kept_and_sent(name, value):
    params = SamplingParams.from_dict({name: value})
    assert getattr(params, name) == value
    assert type(getattr(params, name)) is type(value)
    assert params.to_dict() == {name: value}


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_an_unfit_value_is_refused_with_what_it_must_be_and_what_it_does(name, value, message):
    with pytest.raises(InputError) as refused:
        SamplingParams.from_dict({name: value})
    assert refused.value.message == message
    assert refused.value.hint == PARAMETERS[name].help


def test_every_parameter_has_an_unfit_value_among_these_tests():
    assert {name for name, _, _ in BAD} == set(PARAMETERS)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [True, False, float("nan"), float("inf"), float("-inf"), 1j])
def test_truth_and_numbers_that_are_none_are_refused(name, value):
    with pytest.raises(InputError, match=f"^{name} must be "):
        SamplingParams.from_dict({name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 5000, "true", "", "1,5", "[1]", '"1"', "1 2"]
)
def test_a_typed_number_that_is_none_is_refused(name, text):
    with pytest.raises(InputError, match=f"^{name} must be "):
        PARAMETERS[name].parse(text)


class Broken:
    """A value of which nothing can be had."""

    def __index__(self):
        raise ZeroDivisionError

    __float__ = __repr__ = __index__


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "value",
    [10**4000, -(10**4000), 10**5000, Index(10**5000), Fraction(10**5000), Fraction(10**5000, 3), Decimal(10) ** 4000, Decimal("sNaN"), Broken(),
     "1" * 10**6, b"1" * 10**6, [10**5000], (10**5000,), {"a": 10**5000}],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_number_beyond_all_measure_is_refused_in_few_words(name, value):
    with pytest.raises(InputError, match=f"^{name} must be ") as refused:
        SamplingParams(**{name: value})
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("name", [*NUMBERS, "logit_bias"])
@pytest.mark.parametrize(
    "text", ["1" * 4000, "-" + "9" * 10**5, '{"1": %s}', '{"1": NaN}', '{"1": -Infinity}', '{"1": 1e400}']
)
def test_a_typed_number_beyond_all_measure_is_refused_in_few_words(name, text):
    with pytest.raises(InputError, match=f"^{name} must be ") as refused:
        PARAMETERS[name].parse(text.replace("%s", "1" * 5000))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "bias",
    [10**4000, 10**5000, -(10**4000), float("nan"), float("inf"), True, None, "1", [1], {"1": 1}, Fraction(1, 2), Broken()],
    ids=lambda bias: type(bias).__name__,
)  # fmt: skip
def test_a_logit_bias_that_is_no_number_is_refused_in_few_words(bias):
    for value in ({"1": bias}, {"1": 1, "2": bias}, {**dict.fromkeys(range(1000), 0), 7: bias}):
        with pytest.raises(InputError, match=r"^logit_bias must be a JSON object, not ") as refused:
            SamplingParams(logit_bias=value)
        assert len(str(refused.value)) < 300


def test_a_logit_bias_of_more_tokens_than_there_are_is_refused_in_few_words():
    with pytest.raises(InputError, match="logit_bias") as refused:
        SamplingParams(logit_bias=dict.fromkeys(range(1_000_000), 1))
    assert "1,000,000 entries" in str(refused.value)
    assert len(str(refused.value)) < 300


def test_unset_is_not_sent():
    assert SamplingParams().to_dict() == {}
    assert SamplingParams(temperature=None, stop=None, echo=None).to_dict() == {}


def test_zero_is_a_value_and_is_sent():
    params = SamplingParams(
        temperature=0, top_p=0, top_k=0, seed=0, logprobs=0, presence_penalty=0, echo=False, stop=[]
    )
    assert params.to_dict() == {
        "temperature": 0.0, "top_p": 0.0, "top_k": 0, "presence_penalty": 0.0, "stop": [], "seed": 0, "logprobs": 0, "echo": False,
    }  # fmt: skip


def test_an_integer_as_numpy_has_them_is_an_integer():
    sent = SamplingParams(max_tokens=Index(7)).to_dict()
    assert sent == {"max_tokens": 7}
    assert type(sent["max_tokens"]) is int


def test_a_whole_float_is_an_integer_where_one_is_wanted():
    sent = SamplingParams(max_tokens=3.0, seed=-0.0).to_dict()
    assert json.dumps(sent) == '{"max_tokens": 3, "seed": 0}'


@pytest.mark.parametrize("value", [1, Fraction(1, 1), Index(1)])
def test_any_real_number_is_a_float_where_one_is_wanted(value):
    sent = SamplingParams(temperature=value).to_dict()
    assert json.dumps(sent) == '{"temperature": 1.0}'


def test_a_seed_beyond_2_to_the_53_keeps_every_digit():
    assert PARAMETERS["seed"].parse("9007199254740993") == 9007199254740993
    assert SamplingParams(seed=18446744073709551615).to_dict() == {"seed": 18446744073709551615}


def test_one_stop_text_is_a_list_of_it():
    assert SamplingParams(stop="END").to_dict() == {"stop": ["END"]}
    assert SamplingParams(stop=("a", "b")).to_dict() == {"stop": ["a", "b"]}


def test_a_later_change_of_what_was_given_changes_nothing():
    stop, bias = ["a"], {"1": 2.0}
    params = SamplingParams(stop=stop, logit_bias=bias)
    stop.append("b")
    bias["3"] = 4.0
    assert params.to_dict() == {"stop": ["a"], "logit_bias": {"1": 2.0}}


def test_token_ids_as_numbers_are_the_texts_that_json_makes_of_them():
    assert SamplingParams(logit_bias={50256: -100}).to_dict() == {"logit_bias": {"50256": -100}}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_tokens", "200", 200),
        ("max_tokens", "2e2", 200),
        ("temperature", "0", 0.0),
        ("temperature", "0.7", 0.7),
        ("presence_penalty", "-1.5", -1.5),
        ("stop", r"\n\n", ["\n\n"]),
        ("stop", "true", ["true"]),
        ("echo", "true", True),
        ("echo", "false", False),
        ("logit_bias", '{"1": -1}', {"1": -1}),
        ("reasoning_effort", "low", "low"),
    ],
)
def test_a_typed_value_is_read(name, text, value):
    assert PARAMETERS[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stop", ""),
        ("logit_bias", "{"),
        ("logit_bias", "1"),
        ("logit_bias", "[" * 100_000),
        ("echo", "1"),
        ("echo", "yes"),
    ],
)
def test_a_typed_value_that_does_not_fit_is_refused(name, text):
    with pytest.raises(InputError, match=f"^{name} must be "):
        PARAMETERS[name].parse(text)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"\n", "\n"), (r"\t", "\t"), (r"\r\n", "\r\n"), (r"\\n", r"\n"), (r"\\", "\\"), ("\\", "\\"), (r"\x41", r"\x41"),
        (r"C:\dir", r"C:\dir"), (r"a\\\nb", "a\\\nb"), ("", ""),
    ],
)  # fmt: skip
def test_stop_understands_backslash_n_and_leaves_other_backslashes(typed, meant):
    assert unescaped(typed) == meant


@given(st.text(alphabet="\\nrt\n\t\rab"))
def test_any_text_can_be_typed_with_doubled_backslashes(text):
    assert unescaped(text.replace("\\", "\\\\")) == text


@given(st.text() | st.text(alphabet="\\nrt\n\t\rab"))
def test_an_escaped_text_is_on_one_line_and_is_read_as_what_it_was(text):
    assert not set(escaped(text)) & set("\n\t\r")
    assert unescaped(escaped(text)) == text


@pytest.mark.parametrize(
    ("name", "value", "texts"),
    [
        ("max_tokens", 200, ("200",)),
        ("temperature", 0, ("0.0",)),
        ("seed", 2**64, ("18446744073709551616",)),
        ("stop", ["\n\n", "C:\\new", "it's"], (r"\n\n", r"C:\\new", "it's")),
        ("stop", [], ()),
        ("echo", False, ("false",)),
        ("logit_bias", {"50256": -100}, ('{"50256": -100}',)),
        ("reasoning_effort", "low", ("low",)),
    ],
)
def test_a_value_is_spelled_as_one_would_type_it(name, value, texts):
    assert PARAMETERS[name].spell(PARAMETERS[name].validate(value)) == texts


def values(parameter):
    """Any value that fits."""
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


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
@given(data=st.data())
def test_what_is_spelled_is_read_as_what_it_was(parameter, data):
    value = parameter.validate(data.draw(values(parameter)))
    read = [parameter.parse(text) for text in parameter.spell(value)]
    if parameter.type is list:
        assert [text for one in read for text in one] == value
    else:
        assert [(type(one), one) for one in read] == [(type(value), value)]


@pytest.mark.parametrize("parameter", PARAMETERS.values(), ids=PARAMETERS)
def test_unset_is_spelled_and_read_as_such(parameter):
    assert parameter.spell(None) == (UNSET,)
    assert parameter.parse(UNSET) is None


def test_an_unknown_parameter_is_refused_and_the_nearest_named():
    with pytest.raises(InputError) as refused:
        SamplingParams.from_dict({"temprature": 1})
    assert str(refused.value) == "There is no sampling parameter called 'temprature'.\nDid you mean temperature?"


def test_an_unknown_parameter_that_is_near_none_gets_the_whole_list():
    with pytest.raises(InputError) as refused:
        SamplingParams.from_dict({"zzz": 1})
    assert refused.value.hint.startswith("The parameters are max_tokens, temperature, top_p, ")


def test_values_go_over_those_that_were_set_and_none_unsets():
    params = SamplingParams(temperature=0.7, top_k=5)
    assert params.updated({"temperature": 0, "top_k": None, "n": 2}).to_dict() == {"temperature": 0.0, "n": 2}
    assert params.to_dict() == {"temperature": 0.7, "top_k": 5}


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_says_what_it_does_in_one_sentence(name):
    text = PARAMETERS[name].help
    assert text[0].isupper()
    assert text.endswith(".")


@pytest.mark.parametrize("name", [name for name, parameter in PARAMETERS.items() if parameter.slider])
def test_both_ends_of_a_slider_are_allowed_values(name):
    low, high, step = PARAMETERS[name].slider
    assert low < low + step < high
    assert PARAMETERS[name].validate(low) == low
    assert PARAMETERS[name].validate(high) == high


def test_the_option_is_the_name_with_hyphens():
    assert PARAMETERS["max_tokens"].option == "--max-tokens"
    assert PARAMETERS["n"].option == "--n"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "a number"),
        ({"minimum": 0}, "a number of at least 0"),
        ({"maximum": 2}, "a number of at most 2"),
        ({"minimum": 0, "exclusive_minimum": True}, "a number over 0"),
        ({"minimum": -2, "maximum": 2}, "a number from -2 to 2"),
        ({"minimum": 0, "maximum": 0.5, "exclusive_minimum": True}, "a number over 0 and up to 0.5"),
    ],
)
def test_bounds_are_said_as_they_are_kept(facts, expected):
    assert Parameter("x", float, "Help.", **facts).expected == expected


def test_a_bound_on_one_side_is_kept():
    with pytest.raises(InputError, match=r"x must be a number of at most 2, not 2\.5"):
        Parameter("x", float, "Help.", maximum=2).validate(2.5)


def test_one_parameter_is_known_to_chat_only():
    assert {name: parameter.dialects for name, parameter in PARAMETERS.items() if parameter.dialects} == {
        "reasoning_effort": ("chat",)
    }
