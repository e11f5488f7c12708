"""`together_nb.items`: items from whatever holds them, and the names that a template is filled from."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pandas as pd
import pytest

from together_nb.errors import InputError
from together_nb.fill import fill
from together_nb.items import fields_of, is_conversation, items_of, names_of, shown

City = namedtuple("City", "name country")  # noqa: PYI024  (a plain one is the point)
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
        (City("Paris", "France"), "{name} in {country}, {item[0]}, {item.name}", "Paris in France, Paris, Paris"),
        (SimpleNamespace(name="Paris"), "{item.name}", "Paris"),
        ({"city": "{n}", "n": 3}, "{city} {unknown}", "{n} {unknown}"),
    ],
)
def test_an_item_is_filled_in(item, template, filled):
    assert fill(template, names_of(item))[0] == filled


def test_a_dataframes_rows_are_items_and_its_index_is_kept():
    frame = pd.DataFrame({"city": ["Paris", "Rome"], "n": [1, 2]}, index=["a", "b"])
    items = items_of(frame)
    assert items.rows == ({"city": "Paris", "n": 1}, {"city": "Rome", "n": 2})
    assert list(items.index) == ["a", "b"]
    assert fill("{n}. {city}", names_of(items.rows[1]))[0] == "2. Rome"


def test_a_series_values_are_items():
    assert items_of(pd.Series(["Paris", "Rome"])).rows == ("Paris", "Rome")


def test_a_dataframe_whose_columns_cannot_be_told_apart_is_refused():
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    with pytest.raises(InputError, match=r"several columns called a\.") as raised:
        items_of(frame)
    assert "Rename them" in raised.value.hint


def test_a_generator_is_gone_through_once():
    assert items_of(str(number) for number in range(3)).rows == ("0", "1", "2")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("Paris", "One text was given"),
        (b"Paris", "One text was given"),
        ({"city": "Paris"}, "One dict was given"),
        (7, "cannot be had from int"),
        (None, "cannot be had from NoneType"),
        (pd.DataFrame, "cannot be had from type"),
    ],
)
def test_what_holds_no_items_is_refused_with_a_way_out(given, said):
    with pytest.raises(InputError, match=said) as raised:
        items_of(given)
    assert '["Paris", "Rome"]' in raised.value.hint


def test_what_iterating_raises_is_raised():
    def broken():
        yield "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        items_of(broken())


@pytest.mark.parametrize(
    ("item", "is_one"),
    [
        (TURNS, True),
        (tuple(TURNS), True),
        ([], False),
        ("role", False),
        ([{"role": 1}], False),
        ([{"content": "x"}], False),
        (TURNS[0], False),
        (["user"], False),
    ],
)
def test_a_list_of_messages_is_told_from_other_lists(item, is_one):
    assert is_conversation(item) is is_one


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ("Paris", "Paris"),
        ({"city": "Paris", "n": 3}, "city=Paris, n=3"),
        (City("Paris", "France"), "name=Paris, country=France"),
        (("Paris", 3), "Paris, 3"),
        (TURNS, "Hello"),
        (7, "7"),
    ],
)
def test_an_item_is_shown_in_a_line(item, line):
    assert shown(item) == line


def test_what_an_item_raises_when_it_is_shown_is_not_raised():
    def fail(_):
        raise SystemExit

    item = type("Broken", (), {"__str__": fail})()
    assert [shown(one) for one in (item, {"a": item}, (item,))] == ["<Broken>", "<dict>", "<tuple>"]


def test_the_environment_has_no_names():
    assert list(names_of(os.environ)) == ["item"]
    assert fill("{item} {item[PATH]} {PATH}", names_of(os.environ)) == ("{item} {item[PATH]} {PATH}", ())


def test_only_named_fields_are_fields():
    assert fields_of(("Paris",)) == {}
    assert fields_of({1: 2, "a": 3}) == {"a": 3}


def test_pandas_is_not_imported():
    code = "import sys; from together_nb.items import items_of; items_of([{'a': 1}]); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
