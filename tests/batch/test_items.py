"""`together_nb.batch.items`: items from whatever holds them, and the names that a template is filled from."""

import os
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pandas as pd
import pytest

from together_nb.batch.items import fields_of, is_conversation, items_of, names_of, shown
from together_nb.errors import InputError
from together_nb.run.template import fill

City = namedtuple("City", "name country")  # noqa: PYI024  (a plain one is the point)
PARIS = City("Paris", "France")
TURNS = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("item", "template", "filled"),
    [
        ("Paris", "Where is {item}?", "Where is Paris?"),
        (7, "{item} times", "7 times"),
        ({"city": "Paris", "n": 3}, "{n} facts on {city}: {item[city]}", "3 facts on Paris: Paris"),
        ({"two words": 1}, "{item['two words']} {two}", "1 {two}"),
        ({"item": "its own"}, "{item}", "its own"),
        ({1: "one", "two": 2}, "{item[1]} {two}", "one 2"),
        (("Paris", "France"), "{item[0]} in {item[1]}", "Paris in France"),
        (PARIS, "{name} in {country}, {item[0]}, {item.name}", "Paris in France, Paris, Paris"),
        (SimpleNamespace(name="Paris"), "{item.name}", "Paris"),
        ({"city": "{n}", "n": 3}, "{city} {unknown}", "{n} {unknown}"),
        (os.environ, "{item} {item[PATH]} {PATH}", "{item} {item[PATH]} {PATH}"),
    ],
)
def test_an_item_is_filled_in(item, template, filled):
    assert fill(template, names_of(item))[0] == filled


def test_items_are_a_dataframes_rows_with_its_index_or_whatever_an_iterable_gives():
    items = items_of(pd.DataFrame({"city": ["Paris", "Rome"], "n": [1, 2]}, index=["a", "b"]))
    assert items.rows == ({"city": "Paris", "n": 1}, {"city": "Rome", "n": 2})
    assert list(items.index) == ["a", "b"]
    for given in (pd.Series(["Paris", "Rome"]), iter(["Paris", "Rome"])):
        assert items_of(given).rows == ("Paris", "Rome")


@pytest.mark.parametrize(
    ("given", "telling", "hint"),
    [
        ("Paris", "One text", '["Paris", "Rome"]'),
        (b"Paris", "One text", '["Paris", "Rome"]'),
        ({"city": "Paris"}, "One dict", '["Paris", "Rome"]'),
        (7, "int", '["Paris", "Rome"]'),
        (None, "NoneType", '["Paris", "Rome"]'),
        (pd.DataFrame, "type", '["Paris", "Rome"]'),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), r"called a\.", "Rename"),
    ],
)
def test_what_holds_no_items_is_refused_with_a_way_out(given, telling, hint):
    with pytest.raises(InputError, match=telling) as raised:
        items_of(given)
    assert hint in raised.value.hint


def test_what_iterating_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        items_of(1 / zero for zero in (1, 0))


def test_a_list_of_messages_is_distinguished_from_other_values():
    for item in (TURNS, tuple(TURNS)):
        assert is_conversation(item)
    for item in ([], "role", [{"role": 1}], [{"content": "x"}], TURNS[0], ["user"]):
        assert not is_conversation(item)


def unprintable(_):
    raise SystemExit


BROKEN = type("Broken", (), {"__str__": unprintable})()


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ("Paris", "Paris"),
        ({"city": "Paris", "n": 3}, "city=Paris, n=3"),
        (PARIS, "name=Paris, country=France"),
        (("Paris", 3), "Paris, 3"),
        (TURNS, "Hello"),
        (7, "7"),
        (BROKEN, "<Broken>"),
        ({"a": BROKEN}, "<dict>"),
        ((BROKEN,), "<tuple>"),
    ],
)
def test_an_item_is_shown_in_a_line_whatever_it_raises(item, line):
    assert shown(item) == line


def test_only_named_fields_are_fields():
    assert [fields_of(item) for item in (("Paris",), {1: 2, "a": 3})] == [{}, {"a": 3}]


def test_pandas_is_not_imported():
    code = "import sys; from together_nb.batch.items import items_of; items_of([{'a': 1}]); sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
