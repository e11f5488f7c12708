"""How an answer is shown: the table of `--show`."""

import pytest

from together_nb.errors import InputError
from together_nb.render.formats import FORMATS, format_for

RUN = "```python\nprint(1)\n```"
INVALID = "\n\n*This is not valid JSON, so it is shown as it came.*"
DEEP = "[" * 100_000


def test_a_format_is_found_by_its_name_and_auto_is_markdown_for_a_chat_and_text_for_a_completion():
    assert all(format_for(name, chat=chat) is FORMATS[name] for name in FORMATS for chat in (True, False))
    assert all(row.name == name for name, row in FORMATS.items())
    assert format_for("auto", chat=True) is FORMATS["markdown"]
    assert format_for("auto", chat=False) is FORMATS["text"]


@pytest.mark.parametrize(("name", "hint"), [("markdwon", "Did you mean markdown?"), ("pdf", "Use one of: auto, ")])
def test_an_unknown_format_is_refused_with_the_nearest_or_all(name, hint):
    with pytest.raises(InputError, match=f"called '{name}'") as refused:
        format_for(name, chat=True)
    assert refused.value.hint.startswith(hint)
    if name == "pdf":
        assert all(known in refused.value.hint for known in FORMATS)


@pytest.mark.parametrize(
    ("name", "text", "markdown"),
    [
        ("markdown", "**bold**", "**bold**"),
        ("markdown", "```python\nx", "```python\nx\n```"),  # or the footer would be code
        ("text", "**bold**", "&#42;&#42;bold&#42;&#42;"),
        ("text", " a", "a"),
        ("text", "  a", "&nbsp;&nbsp;a"),
        ("tokens", "*", "&#42;"),
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
        ("json", '{"a": ', f'```json\n{{"a": \n```{INVALID}'),
        ("json", "[NaN]", f"```json\n[NaN]\n```{INVALID}"),
        ("json", DEEP, f"```json\n{DEEP}\n```{INVALID}"),
        ("json", '"\ud83d"', '```json\n"\ufffd"\n```'),
        ("none", "anything", ""),
    ],
    ids=lambda text: text[:20],
)
def test_a_whole_answer_is_shown_so(name, text, markdown):
    assert FORMATS[name].final(text) == markdown


@pytest.mark.parametrize(
    ("name", "text", "markdown"),
    [
        ("markdown", "**bo", "**bo"),
        ("markdown", "```python\nx", "```python\nx\n```"),
        ("text", "a_b", "a&#95;b"),
        ("tokens", "a_b", "a&#95;b"),
        ("code", RUN, f"````\n{RUN}\n````"),
        ("json", '{"a": ', '```json\n{"a": \n```'),
        ("none", "anything", ""),
    ],
)
def test_a_growing_answer_is_shown_so(name, text, markdown):
    assert FORMATS[name].partial(text) == markdown


@pytest.mark.parametrize("text", ["[12345678901234567890.123]", '{"a": 1, "a": 2}', '["\\u00e9"]', '["a b",  1]'])
def test_json_is_never_shown_changed(text):
    shown = FORMATS["json"].final(text)
    assert "".join(shown.split()) == "```json" + "".join(text.split()) + "```"


def test_text_and_code_are_not_cut_where_blocks_of_markdown_end():
    assert {name: FORMATS[name].markdown for name in ("markdown", "text", "code", "json")} == {
        "markdown": True, "text": False, "code": False, "json": False,
    }  # fmt: skip
