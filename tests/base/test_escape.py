"""Model text made harmless for a terminal and for Markdown."""

from __future__ import annotations

import html
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from together_nb.base.escape import literal, visible, without_surrogates
from together_nb.base.fences import balanced, closing, fenced, open_fence

# Markdown's signs, oftener than chance would have them.
marks = st.text(alphabet=" \n\t*_`#>-+=|[]()<>!&;:$\\~^1.)@/\"'awx") | st.text()
COMMONMARK = MarkdownIt("commonmark")
RENDERERS = {
    "markdown-it, CommonMark": COMMONMARK.render,
    "markdown-it, GitHub's": MarkdownIt("gfm-like", {"linkify": False}).render,
    "nbconvert": markdown2html_mistune,
}


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x1b[31mred \x9b31m", r"\x1b[31mred \x9b31m"),
        ("a\r\nb", "a\nb"),
        ("over\rwritten", r"over\x0dwritten"),
        ("back\x08space\x7f\x00", r"back\x08space\x7f\x00"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("naïve 漢 😀 \u200d", "naïve 漢 😀 \u200d"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_control_characters_are_shown_and_nothing_else_changes(text, seen):
    assert visible(text) == seen


@given(st.text(alphabet=st.characters()) | st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
@settings(max_examples=200)
def test_no_control_character_remains(text):
    seen = visible(text)
    assert not {unicodedata.category(c) for c in seen if c not in "\t\n"} & {"Cc", "Zl", "Zp", "Cs"}
    reordering = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(c) for c in seen} & reordering
    seen.encode()


def test_a_lone_half_is_replaced_and_nothing_else():
    assert without_surrogates("\ud83da\ude00\ud83d ü \ud83d\ude00") == "\ufffda\ufffd\ufffd ü 😀"


# literal


def shows(name, text):
    """Whether a renderer draws the `literal` text as that text."""
    page = RENDERERS[name](literal(text))
    words = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br ?/?>\n?", "\n", page)))
    return words.split() == visible(text).split() and set(re.findall(r"</?(\w+)", page)) <= {"p", "br", "span"}


@pytest.mark.parametrize("name", RENDERERS)
@given(text=marks)
@settings(max_examples=200)
def test_markdown_of_literal_text_renders_as_that_text(name, text):
    assert shows(name, text)


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize(
    "text",
    [
        "# no heading", "1. no list\n2. none", "- none", "+ none", "no heading\n===", "no heading\n---", "    no code", "```\nno code\n```",
        "*no* _emphasis_ **here**", "<b>no tag</b><script>alert(1)</script>", "&amp; &copy;", "[no](http://link)", "![no](image)",
        "https://no.link www.no.link no@link.org", "$no$ $$maths$$ \\(no\\)", "a | b\n--|--\n1 | 2", "~~no~~", "> no quote", "[^1]: no note",
        "line\\\nbreak", "* * *", "term\n: definition", "1) none", "[ ] no task", "\x1b[0m \u202e",
    ],
)  # fmt: skip
def test_no_markdown_is_obeyed(name, text):
    assert shows(name, text)


def test_lines_tabs_and_the_spaces_at_their_start_are_kept():
    page = COMMONMARK.render(literal("def f():\n    return  1\n\n\nend"))
    # A blank line is a new paragraph; a second one is a paragraph of its own.
    assert page == "<p>def f():<br />\n\xa0\xa0\xa0\xa0return\xa0\xa01</p>\n<p>\xa0</p>\n<p>end</p>\n"
    assert literal("a\tb") == "a&nbsp;&nbsp;&nbsp;b"


# Fences


@given(st.text(alphabet="`~\n ab") | st.text(), st.sampled_from(["", "json", "c++"]))
@settings(max_examples=200)
def test_a_fence_holds_any_text(text, language):
    text = visible(text)
    tokens = COMMONMARK.parse(fenced(text, language) + "\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].info == language
    assert tokens[0].content.removesuffix("\n") == text.removesuffix("\n").replace("\0", "\ufffd")


@pytest.mark.parametrize(
    ("markdown", "opened"),
    [
        ("text", ""), ("```", "```"), ("text\n```python\ncode", "```python"), ("```\ncode\n```", ""), ("```\ncode\n``` \nafter", ""),
        ("````\n```\ncode", "````"), ("```\n````", ""), ("```\n~~~\n", "```"), ("~~~ `x`\ncode", "~~~ `x`"), ("``` not a `fence", ""),
        ("``inline``", ""), ("1. a\n\n    ```\n    in a list's item", "    ```"), ("1. a\n   ```\n   x\n    ```\n", ""),
        ("```\nx\n    ```", "```"), ("   ```\ncode", "   ```"), ("```\ncode\n```\n```js", "```js"), ("```\n``` x", "```"),
        ("$$\nx", "$$"), ("$$\nx\n$$", ""), ("$$ x $$", ""), ("$$ x\ny $$", ""), ("```\n$$\n```", ""), ("$$\n```\n$$", ""),
    ],
)  # fmt: skip
def test_what_is_open_at_the_end_is_found(markdown, opened):
    assert open_fence(markdown) == opened


@pytest.mark.parametrize(
    ("markdown", "end"),
    [
        ("text", ""), ("```python\ncode", "\n```"), ("~~~~ x\ncode\n", "~~~~"), ("  ````\n", "  ````"), ("$$\nx", "\n$$"),
        ("open one with `<!--`", ""), ("```html\n<!-- b\n```", ""), ("- ```\n", "  ```"),
    ],
)  # fmt: skip
def test_what_is_left_open_is_closed_in_kind(markdown, end):
    assert balanced(markdown) == markdown + end
    assert closing(open_fence(markdown)) == end.strip("\n") or not end


@given(st.text(alphabet="`~$ \nab"))
@settings(max_examples=200)
def test_a_footer_below_balanced_markdown_is_no_part_of_a_code_block(text):
    tokens = COMMONMARK.parse(balanced(text) + "\n\nfooter")
    assert "footer" not in "".join(token.content for token in tokens if token.type == "fence")
