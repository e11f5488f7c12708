"""How an answer is shown: each row of the table of `--show`."""

from __future__ import annotations

import json

import pytest

from together_nb.errors import InputError
from together_nb.formats import FORMATS, format_for

RUN = "```python\nprint(1)\n```"


def test_the_rows_are_those_of_the_design():
    assert list(FORMATS) == ["markdown", "text", "code", "json", "tokens", "none"]


@pytest.mark.parametrize(("chat", "name"), [(True, "markdown"), (False, "text")])
def test_auto_is_markdown_for_a_chat_and_text_for_a_completion(chat, name):
    assert format_for("auto", chat=chat) is FORMATS[name]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_found_by_its_name(name):
    assert format_for(name, chat=True) is FORMATS[name]
    assert format_for(name, chat=False).name == name


def test_an_unknown_format_is_refused_and_the_nearest_named():
    with pytest.raises(InputError) as refused:
        format_for("markdwon", chat=True)
    assert str(refused.value) == "There is no way to show an answer called 'markdwon'.\nDid you mean markdown?"


def test_an_unknown_format_near_none_gets_the_list():
    with pytest.raises(InputError) as refused:
        format_for("pdf", chat=True)
    assert refused.value.hint == "Use one of: auto, markdown, text, code, json, tokens, none."


@pytest.mark.parametrize(
    ("name", "text", "markdown"),
    [
        ("markdown", "**bold**", "**bold**"),
        ("text", "**bold**", "&#42;&#42;bold&#42;&#42;"),
        ("code", "x = 1", "```\nx = 1\n```"),
        ("code", RUN, RUN),
        ("code", f"\n{RUN}\n\n", RUN),
        ("code", "~~~c++\nint x;\n~~~", "```c++\nint x;\n```"),
        ("code", "```\n```", "```\n```"),
        ("code", "````md\n```\nx\n```\n````", "````md\n```\nx\n```\n````"),
        ("code", f"Here:\n{RUN}", f"````\nHere:\n{RUN}\n````"),
        ("code", f"{RUN}\nand\n{RUN}", f"````\n{RUN}\nand\n{RUN}\n````"),
        ("json", '{"a": [1, "ü"]}', '```json\n{\n  "a": [\n    1,\n    "ü"\n  ]\n}\n```'),
        ("json", '```json\n{"a": 1}\n```', '```json\n{\n  "a": 1\n}\n```'),
        ("json", '{"a": ', '```json\n{"a": \n```\n\n*This is not valid JSON, so it is shown as it came.*'),
        ("none", "anything", ""),
    ],
)
def test_a_whole_answer_is_shown_so(name, text, markdown):
    assert FORMATS[name].final(text) == markdown


@pytest.mark.parametrize(
    ("name", "text", "markdown"),
    [
        ("markdown", "**bo", "**bo"),
        ("markdown", "```python\nx", "```python\nx\n```"),
        ("text", "a_b", "a&#95;b"),
        ("code", "x = 1", "```\nx = 1\n```"),
        ("json", '{"a": ', '```json\n{"a": \n```'),
        ("none", "anything", ""),
    ],
)
def test_a_growing_answer_is_shown_so(name, text, markdown):
    assert FORMATS[name].partial(text) == markdown


def test_markdown_that_ends_in_open_code_is_closed_so_that_the_footer_is_no_code():
    assert FORMATS["markdown"].final("```python\nx") == "```python\nx\n```"


@pytest.mark.parametrize("name", ["markdown", "text", "code", "json"])
@pytest.mark.parametrize("text", ["\x1b[31m \u202e", '"\x1b[31m \u202e"', '"\\u001b[31m \\u202e"'])
def test_no_format_lets_control_characters_through(name, text):
    for markdown in (FORMATS[name].partial(text), FORMATS[name].final(text)):
        assert "\x1b" not in markdown
        assert "\u202e" not in markdown


def test_json_too_deep_to_read_is_shown_as_it_came():
    deep = "[" * 100_000
    assert FORMATS["json"].final(deep).startswith("```json\n[[[")


def test_half_a_character_in_json_is_replaced():
    FORMATS["json"].final(json.dumps("\ud83d")).encode()


def test_only_markdown_is_cut_where_its_blocks_end():
    assert [row.name for row in FORMATS.values() if row.markdown] == ["markdown"]


@pytest.mark.parametrize("text", ["[12345678901234567890.123]", '{"a": 1, "a": 2}', '["\\u00e9"]', "[1.0,2]"])
def test_json_is_never_shown_changed(text):
    shown = FORMATS["json"].final(text)
    assert shown.startswith("```json\n")
    assert "".join(shown.split()) == "```json" + "".join(text.split()) + "```"


def test_what_is_no_json_is_said_to_be_none():
    assert "not valid JSON" in FORMATS["json"].final("[NaN]")
