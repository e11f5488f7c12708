"""Model text made harmless for a terminal and for Markdown."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from together_nb.escape import balanced, closing, fenced, literal, open_fence, visible, without_surrogates

# Markdown's signs, oftener than chance would have them.
marks = st.text(alphabet=" \n\t*_`#>-+=|[]()<>!&;:$\\~^1.)@/\"'awx") | st.text()
RENDERERS = {
    "markdown-it, CommonMark": MarkdownIt("commonmark").render,
    "markdown-it, GitHub's": MarkdownIt("gfm-like", {"linkify": False}).render,
    "nbconvert": markdown2html_mistune,
}


def shown(page):
    """The text of a page, and the tags that draw it."""
    import html

    tags = set(re.findall(r"</?(\w+)", page))
    text = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"<br ?/?>\n?", "\n", page)))
    return text, tags


# visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x1b]52;c;Zm9v\x07", r"\x1b]52;c;Zm9v\x07"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
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
@settings(max_examples=300)
def test_no_control_character_remains(text):
    seen = visible(text)
    assert [c for c in seen if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") and c not in "\t\n"] == []
    assert [
        c
        for c in seen
        if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    ] == []
    seen.encode()


# without_surrogates


def test_halves_of_a_pair_that_stand_together_are_one_character():
    assert without_surrogates("\ud83d\ude00") == "😀"


@pytest.mark.parametrize("text", ["\ud83d", "\ude00", "a\ud83db", "\ude00\ud83d"])  # noqa: PT014  (ruff sees no halves)
def test_a_lone_half_is_replaced(text):
    assert without_surrogates(text) == re.sub("[\ud800-\udfff]", "\ufffd", text)


@given(st.text())
def test_a_text_without_halves_stays(text):
    assert without_surrogates(text) == text


# literal


@pytest.mark.parametrize("name", RENDERERS)
@given(text=marks)
@settings(max_examples=400)
def test_markdown_of_literal_text_renders_as_that_text(name, text):
    words, tags = shown(RENDERERS[name](literal(text)))
    assert words.split() == visible(text).split()
    assert tags <= {"p", "br", "span"}


@pytest.mark.parametrize("name", RENDERERS)
@pytest.mark.parametrize(
    "text",
    [
        "# no heading", "1. no list\n2. none", "- none", "+ none", "no heading\n===", "no heading\n---", "    no code", "```\nno code\n```",
        "*no* _emphasis_ **here**", "<b>no tag</b><script>alert(1)</script>", "&amp; &copy;", "[no](http://link)", "![no](image)",
        "https://no.link www.no.link no@link.org", "$no$ $$maths$$ \\(no\\)", "a | b\n--|--\n1 | 2", "~~no~~", "> no quote", "[^1]: no note",
        "line\\\nbreak", "* * *", "term\n: definition", "1) none", "[ ] no task",
    ],
)  # fmt: skip
def test_no_markdown_is_obeyed(name, text):
    words, tags = shown(RENDERERS[name](literal(text)))
    assert words.split() == text.split()
    assert tags <= {"p", "br", "span"}


def test_lines_and_the_spaces_at_their_start_are_kept():
    page = RENDERERS["markdown-it, CommonMark"](literal("def f():\n    return  1\n\n\nend"))
    # A blank line is a new paragraph; a second one is a paragraph of its own.
    assert page == "<p>def f():<br />\n\xa0\xa0\xa0\xa0return\xa0\xa01</p>\n<p>\xa0</p>\n<p>end</p>\n"


def test_a_tab_is_as_wide_as_its_stop():
    assert literal("a\tb") == "a&nbsp;&nbsp;&nbsp;b"


def test_literal_text_shows_control_characters_too():
    words, _ = shown(RENDERERS["markdown-it, CommonMark"](literal("\x1b[0m \u202e")))
    assert words == "\\x1b[0m \\u202e\n"


# fenced


@given(st.text(alphabet="`~\n ab") | st.text(), st.sampled_from(["", "json", "c++"]))
@settings(max_examples=300)
def test_a_fence_holds_any_text(text, language):
    text = visible(text)
    tokens = MarkdownIt("commonmark").parse(fenced(text, language) + "\n\nafter")
    assert [token.type for token in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert tokens[0].info == language
    assert tokens[0].content.removesuffix("\n") == text.removesuffix("\n").replace("\0", "\ufffd")


# open_fence, closing, balanced


@pytest.mark.parametrize(
    ("markdown", "opened"),
    [
        ("text", ""),
        ("```", "```"),
        ("text\n```python\ncode", "```python"),
        ("```\ncode\n```", ""),
        ("```\ncode\n``` \nafter", ""),
        ("````\n```\ncode", "````"),
        ("```\n````", ""),
        ("```\n~~~\n", "```"),
        ("~~~ `x`\ncode", "~~~ `x`"),
        ("``` not a `fence", ""),
        ("``inline``", ""),
        ("1. a\n\n    ```\n    in a list's item", "    ```"),
        ("1. a\n   ```\n   x\n    ```\n", ""),
        ("```\nx\n    ```", "```"),
        ("   ```\ncode", "   ```"),
        ("```\ncode\n```\n```js", "```js"),
        ("```\n``` x", "```"),
        ("$$\nx", "$$"),
        ("$$\nx\n$$", ""),
        ("$$ x $$", ""),
        ("$$ x\ny $$", ""),
        ("```\n$$\n```", ""),
        ("$$\n```\n$$", ""),
    ],
)
def test_what_is_open_at_the_end_is_found(markdown, opened):
    assert open_fence(markdown) == opened


@pytest.mark.parametrize(
    ("opened", "line"), [("```python", "```"), ("~~~~ x", "~~~~"), ("  ````", "  ````"), ("$$", "$$")]
)
def test_what_was_opened_is_closed_in_kind(opened, line):
    assert closing(opened) == line


@pytest.mark.parametrize(
    ("markdown", "closed"),
    [
        ("text", "text"),
        ("```\ncode", "```\ncode\n```"),
        ("~~~~\ncode\n", "~~~~\ncode\n~~~~"),
        ("$$\nx", "$$\nx\n$$"),
        ("open one with `<!--`", "open one with `<!--`"),
        ("```html\n<!-- b\n```", "```html\n<!-- b\n```"),
    ],
)
def test_what_is_left_open_is_closed(markdown, closed):
    assert balanced(markdown) == closed


@given(st.text(alphabet="`~$ \nab"))
@settings(max_examples=300)
def test_a_footer_below_balanced_markdown_is_no_part_of_a_code_block(text):
    tokens = MarkdownIt("commonmark").parse(balanced(text) + "\n\nfooter")
    assert "footer" not in "".join(token.content for token in tokens if token.type == "fence")
