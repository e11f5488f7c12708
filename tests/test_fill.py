"""Names filled in in a prompt, and every other brace left alone."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.fill import fill, variable


class Touchy:
    @property
    def broken(self):
        raise RuntimeError

    def method(self):
        return "called"


class Speechless:
    def __str__(self):
        raise ValueError


NAMES = {
    "hero": "Ada",
    "größe": 3,
    "zero": 0,
    "empty": "",
    "nothing": None,
    "braces": "{hero} {{hero}}",
    "backslashes": r"\1 \g<0>",
    "person": SimpleNamespace(name="Alan", friend=SimpleNamespace(name="Joan"), _secret="key"),
    "d": {"key": "by word", "two words": "by text", 3: "by number", "3": "by digit's text", "nested": {"k": [1, 2]}},
    "row": ["first", "second"],
    "In": ["", "1 + 1", "2 + 2", "print('hi')"],
    "Out": {3: 4},
    "touchy": Touchy(),
    "speechless": Speechless(),
    "f": len,
    "C": Touchy,
    "json": json,
    "a": "A",
    "b": "B",
}


@pytest.mark.parametrize(
    ("typed", "sent", "filled"),
    [
        ("Tell of {hero}.", "Tell of Ada.", ("hero",)),
        ("{hero}", "Ada", ("hero",)),
        ("{hero}{zero}", "Ada0", ("hero", "zero")),
        ("{hero} and {zero} and {hero}", "Ada and 0 and Ada", ("hero", "zero")),
        ("{größe}", "3", ("größe",)),
        ("[{empty}]", "[]", ("empty",)),
        ("{nothing}", "None", ("nothing",)),
        ("{person.name} {person.friend.name}", "Alan Joan", ("person.name", "person.friend.name")),
        ("{d[key]} {d['two words']} {d[\"key\"]}", "by word by text by word", ("d[key]", "d['two words']", 'd["key"]')),
        ("{d[3]} {d['3']}", "by number by digit's text", ("d[3]", "d['3']")),
        ("{d[nested][k][1]}", "2", ("d[nested][k][1]",)),
        ("{row[0]} {row[-1]}", "first second", ("row[0]", "row[-1]")),
        ("{In[3]} gave {Out[3]}", "print('hi') gave 4", ("In[3]", "Out[3]")),
    ],
)
def test_a_defined_name_is_filled_in_and_named_once(typed, sent, filled):
    assert fill(typed, NAMES) == (sent, filled)


@pytest.mark.parametrize(
    "typed",
    [
        "{unknown}", "{person.unknown}", "{d[unknown]}", "{row[9]}", "{In[9]}", "{Out[9]}", "{hero.name}", "{unknown.name[3]}",
        '{"hero": "a", "b": {"c": [1, {}]}}', "{'hero': 1}", "{hero: 1}", "{ hero }", "{hero, zero}", "{}", "{{}}", "{0}", "{1,2}",
        r"\frac{1}{2} \mathbb{R} \begin{align} x^{2} \end{align}",
        "f'{hero!r} {hero:>10} {zero + 1}'", "{hero!r}", "{hero:x}", "{zero:.2f}",
        "{{hero}} {{ hero }} {% if hero %} {# hero #}", "{{{hero}}}", "{{hero}", "{hero}}", "${{hero}}",
        "def f(): { return {hero ; } }", "{hero\n}", "{d['a\nb']}", "{row[0:1]}", "{row[zero]}", "{row[]}", "{d[key}", "{d.key}",
        "{f}", "{f(1)}", "{C}", "{json}", "{json.dumps}", "{touchy.method}", "{touchy.method()}", "{hero.upper()}",
        "{touchy.broken}", "{speechless}", "{person._secret}", "{person.__class__}", "{hero.__class__.__mro__}", "{__import__}",
    ],
)  # fmt: skip
def test_every_other_brace_stays_as_typed(typed):
    assert fill(typed, NAMES) == (typed, ())


def test_a_value_with_braces_is_not_expanded_again():
    assert fill("{braces} {hero}", NAMES) == ("{hero} {{hero}} Ada", ("braces", "hero"))


def test_a_value_with_backslashes_goes_in_as_it_is():
    assert fill("{backslashes}", NAMES) == (r"\1 \g<0>", ("backslashes",))


def test_what_looks_like_a_key_is_none():
    # A private attribute may hold one: `{client._api_key}` must not be sent by a prompt.
    assert fill("{person._secret}", NAMES) == ("{person._secret}", ())


def test_a_constant_of_a_module_is_filled_in_though_the_module_is_not():
    assert fill("{math} {math.pi}", {"math": math}) == ("{math} 3.141592653589793", ("math.pi",))


def test_only_the_users_interrupt_comes_through():
    class Slow:
        def __str__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill("{slow}", {"slow": Slow()})


@given(st.text(alphabet="{}[]. abhero'\"0\n"))
def test_without_names_any_text_stays_as_it_is(text):
    assert fill(text, {}) == (text, ())


@given(st.text(alphabet="{}[].ab "), st.text())
def test_text_outside_the_braces_stays_and_nothing_is_expanded_twice(typed, value):
    sent, filled = fill(typed, {"a": value})
    assert filled in ((), ("a",))
    assert (value.join(typed.split("{a}")) == sent) or "{{a}" in typed or "{a}}" in typed
    assert bool(filled) or sent == typed


@pytest.mark.parametrize(
    ("name", "spelled"), [("answer", "answer"), ("_x", "_x"), ("größe", "größe"), ("match", "match"), ("\ufb01", "fi")]
)
def test_a_variables_name_is_spelled_as_python_does(name, spelled):
    assert variable(name) == spelled


@pytest.mark.parametrize(
    "name",
    ["", "1x", "a b", "a.b", "a[0]", "a-b", "class", "None", "True", "lambda", " x", "print", "In", "Out", "__debug__", "get_ipython"],
)  # fmt: skip
def test_another_word_is_no_variables_name(name):
    assert variable(name) is None


def test_a_name_is_looked_up_as_python_spells_it():
    assert fill("{\ufb01} {\u00b5}", {"fi": 1, "\u03bc": 2}) == ("1 2", ("\ufb01", "\u00b5"))


@pytest.mark.parametrize("text", [r"\frac{x}{x}", r"\text{x}", "e^{x}", r"\sqrt{x} + \left{x}"])
def test_the_arguments_of_a_latex_command_stay_as_typed(text):
    assert fill(text, {"x": 1}) == (text, ())
