"""`together_nb.values.variations`: what differs between the columns of a comparison."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.declared import EXAMPLES
from together_nb.errors import InputError
from together_nb.values.variations import KEYS, MOST, combinations, parse, values_from_list, values_of


@pytest.mark.parametrize(
    ("text", "key", "columns"),
    [
        ("temperature=0.7,0, 1.2", "temperature", [("0.7", 0.7), ("0", 0.0), ("1.2", 1.2)]),
        ("temperature=unset,0", "temperature", [("unset", None), ("0", 0.0)]),
        ("temperature=0,0.0,1,0", "temperature", [("0", 0.0), ("1", 1.0)]),  # each once
        (" top-p =0.5", "top_p", [("0.5", 0.5)]),
        ("system=unset,x", "system", [("unset", None), ("x", "x")]),
        (
            """system="Be brief, please.", 'x, y' ,It's "fine\"""",
            "system",
            [("Be brief, please.", "Be brief, please."), ("x, y", "x, y"), ('It\'s "fine"', 'It\'s "fine"')],
        ),
        (r"stop=\n,','", "stop", [("\\n", ["\n"]), (",", [","])]),
        ("system=" + "word " * 50 + "end", "system", [("word " * 7 + "word…", "word " * 50 + "end")]),
        ("system=" + "x" * 40 + "," + "y" * 41, "system", [("x" * 40, "x" * 40), ("y" * 39 + "…", "y" * 41)]),
    ],
)
def test_each_value_is_a_column_in_the_order_it_was_typed(text, key, columns):
    found = parse([text])
    assert found.titles == [f"{key} = {title}" for title, _ in columns]
    assert [one.values for one in found.columns] == [{key: value} for _, value in columns]


def test_of_several_keys_all_combinations_are_made_the_first_key_changing_slowest():
    found = parse(["temperature=0,1", "model=a,b", "max-tokens=5"])
    assert found.titles == [f"temperature = {at} · model = {model} · max_tokens = 5" for at in "01" for model in "ab"]
    assert found.columns[1].values == {"temperature": 0.0, "model": "b", "max_tokens": 5}
    assert found.across == 1
    assert parse(["temperature=0,1", "seed=1,2,3"]).across == 3
    assert len(parse(["seed=1,2,3,4,5,6,7,8", "top_k=1,2,3,4,5,6,7,8"]).columns) == 64


def test_where_only_the_model_differs_its_id_is_the_title():
    assert parse(["model=a/b, c"]).titles == ["a/b", "c"]


@pytest.mark.parametrize(
    ("texts", "telling", "hint"),
    [
        (["temprature=0,1"], "'temprature'", "temperature"),
        (["logit_bias={}"], "'logit_bias'", "model, api"),
        (["temperature"], "does not say", "temperature=…"),
        (["temperature="], "no value", "commas"),
        (["temperature= , ,"], "no value", "commas"),
        (["top-p=0", "top_p=1"], "twice", "one option"),
        (["temperature=0,hot"], "'hot'", "How freely"),
        (["echo=True,2"], "True or False", "prompt"),
        (['system="open,x'], "quotation mark", "other kind"),
        (["seed=1,2,3,4,5,6,7,8,9", "top_k=1,2,3,4,5,6,7,8"], "72 combinations", f"at most {MOST}"),
        ([], "nothing to compare", "--compare temperature=0,0.7,1.2"),
    ],
)
def test_what_cannot_be_compared_is_an_error_that_says_what_to_do(texts, telling, hint):
    with pytest.raises(InputError) as caught:
        parse(texts)
    assert telling in caught.value.message
    assert hint in caught.value.hint


def test_every_parameter_but_those_that_are_objects_can_be_compared():
    assert set(KEYS) - {"model", "api", "system"} == {one.name for one, _ in EXAMPLES if one.type is not dict}


class Number:  # as numpy has them
    def item(self):
        return 0.5


@pytest.mark.parametrize(
    ("key", "values", "shown", "found"),
    [
        ("temperature", [0, 0.7, Number(), None, 0.0], ["0", "0.7", "0.5", "unset"], [0, 0.7, 0.5, None]),
        ("stop", [["\n", "."], "x"], ["\\n, .", "x"], [["\n", "."], ["x"]]),
        ("model", ["a", None], ["a", "unset"], ["a", None]),
        ("echo", (True, False), ["True", "False"], [True, False]),
    ],
)
def test_values_of_a_list_are_named_as_they_are(key, values, shown, found):
    assert [(one.title, one.value) for one in values_from_list(key, values)] == list(zip(shown, found, strict=True))


def test_values_of_a_list_that_do_not_fit_are_refused_in_short():
    for key, value in (("top_p", 2), ("seed", 10**5000), ("temperature", 10**5000), ("stop", [1])):
        with pytest.raises(InputError, match=key) as refused:
            values_from_list(key, [value])
        assert len(str(refused.value)) < 300


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters='"'), min_size=1), min_size=1, max_size=8))
def test_any_texts_in_quotation_marks_are_values_as_they_are(texts):
    values = [one.value for one in values_of("system", ",".join(f'"{text}"' for text in texts))]
    assert values == [None if text == "unset" else text for text in dict.fromkeys(texts)]


@given(st.text())
def test_any_text_is_values_or_an_error_in_words(text):
    with contextlib.suppress(InputError):
        assert combinations({"system": values_of("system", text)}).columns
