"""`together_nb.variations`: what differs between the columns of a comparison."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.errors import InputError
from together_nb.params import PARAMETERS
from together_nb.variations import KEYS, MOST, combined, listed, parsed, values_of


def told(*texts):
    found = parsed(list(texts))
    return [(one.title, one.values) for one in found.columns]


def test_each_value_is_a_column_in_the_order_it_was_typed():
    assert told("temperature=0.7,0, 1.2") == [
        ("temperature = 0.7", {"temperature": 0.7}),
        ("temperature = 0", {"temperature": 0.0}),
        ("temperature = 1.2", {"temperature": 1.2}),
    ]


def test_of_several_keys_all_combinations_are_made_the_first_key_changing_slowest():
    found = parsed(["temperature=0,1", "model=a,b", "max-tokens=5"])
    assert found.titles == [
        f"temperature = {at} · model = {model} · max_tokens = 5" for at in (0, 1) for model in ("a", "b")
    ]
    assert found.columns[1].values == {"temperature": 0.0, "model": "b", "max_tokens": 5}
    assert found.across == 1
    assert parsed(["temperature=0,1", "seed=1,2,3"]).across == 3


def test_where_only_the_model_differs_its_id_is_the_title():
    assert told("model=a/b, c") == [("a/b", {"model": "a/b"}), ("c", {"model": "c"})]


@pytest.mark.parametrize("spelling", ["top_p", "top-p", " top_p "])
def test_a_key_may_be_spelled_as_the_option_is(spelling):
    assert told(f"{spelling}=0.5") == [("top_p = 0.5", {"top_p": 0.5})]


def test_unset_is_a_value():
    assert told("temperature=unset,0") == [("temperature = unset", {"temperature": None}), ("temperature = 0", {"temperature": 0.0})]  # fmt: skip
    assert told("system=unset,x")[0] == ("system = unset", {"system": None})


def test_a_value_that_is_named_twice_is_asked_for_once():
    assert [values for _, values in told("temperature=0,0.0,1,0")] == [{"temperature": 0.0}, {"temperature": 1.0}]


def test_a_value_in_quotation_marks_may_hold_commas():
    assert told("""system="Be brief, please.", 'x, y' ,It's "fine\"""") == [
        ("system = Be brief, please.", {"system": "Be brief, please."}),
        ("system = x, y", {"system": "x, y"}),
        ('system = It\'s "fine"', {"system": 'It\'s "fine"'}),
    ]


def test_each_stop_is_a_list_of_one_and_reads_line_ends():
    assert told(r"stop=\n,','") == [("stop = \\n", {"stop": ["\n"]}), ("stop = ,", {"stop": [","]})]


def test_a_long_value_is_cut_in_the_title_and_nowhere_else():
    ((title, values),) = told("system=" + "word " * 50 + "end")
    assert title == f"system = {'word ' * 7}word…"
    assert values["system"].endswith("end")


@pytest.mark.parametrize(
    ("texts", "message", "hint"),
    [
        (["temprature=0,1"], "There is nothing called 'temprature' to compare.", "Did you mean temperature"),
        (["logit_bias={}"], "There is nothing called 'logit_bias' to compare.", "What can differ: model, api"),
        (["temperature"], "--compare temperature does not say which values to compare.", "temperature=…"),
        (["temperature="], "There is no value to compare.", "commas"),
        (["temperature= , ,"], "There is no value to compare.", "commas"),
        (["temperature=0", "temperature=1"], "temperature is compared twice.", "in one option"),
        (["top-p=0", "top_p=1"], "top_p is compared twice.", "in one option"),
        (["temperature=0,hot"], "temperature must be a number of at least 0, not 'hot'.", "How freely"),
        (["echo=True,2"], "echo must be True or False, not '2'.", "prompt"),
        (['system="open,x'], "A quotation mark is not closed in '\"open,x'.", "other kind"),
        (["seed=1,2,3,4,5,6,7,8,9", "top_k=1,2,3,4,5,6,7,8"], "72 combinations are more than", f"at most {MOST}"),
        ([], "There is nothing to compare.", "--compare temperature=0,0.7,1.2"),
    ],
)
def test_what_cannot_be_compared_is_an_error_that_says_what_to_do(texts, message, hint):
    with pytest.raises(InputError) as caught:
        parsed(texts)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_every_parameter_but_those_that_are_objects_can_be_compared():
    assert set(PARAMETERS) - set(KEYS) == {"logit_bias"}


def test_values_of_a_list_are_told_as_they_are():
    class Number:  # as numpy has them
        def item(self):
            return 0.5

    assert [one.told for one in listed("temperature", [0, 0.7, Number(), None, 0.0])] == ["0", "0.7", "0.5", "unset"]
    assert [(one.told, one.value) for one in listed("stop", [["\n", "."], "x"])] == [("\\n, .", ["\n", "."]), ("x", ["x"])]  # fmt: skip
    assert [(one.told, one.value) for one in listed("model", ["a", None])] == [("a", "a"), ("unset", None)]
    assert [one.told for one in listed("echo", (True, False))] == ["True", "False"]
    with pytest.raises(InputError, match="top_p must be a number from 0 to 1, not 2"):
        listed("top_p", [1, 2])
    for key, huge in (("seed", 10**5000), ("temperature", 10**5000), ("stop", [1])):
        with pytest.raises(InputError, match=key) as refused:
            listed(key, [1, huge] if key != "stop" else [huge])
        assert len(str(refused.value)) < 300


@given(st.lists(st.text(st.characters(exclude_characters='"'), min_size=1), min_size=1, max_size=8))
def test_any_texts_in_quotation_marks_come_out_as_they_went_in(texts):
    values = [one.value for one in values_of("system", ",".join(f'"{text}"' for text in texts))]
    assert values == [None if text == "unset" else text for text in dict.fromkeys(texts)]


@given(st.text())
def test_any_text_is_values_or_an_error_in_words(text):
    found = None
    with contextlib.suppress(InputError):
        found = combined({"system": values_of("system", text)})
    assert found is None or found.columns
