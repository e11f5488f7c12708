"""`together_nb.render.sanitize`: a model's Markdown can say everything and do nothing."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.render.sanitize import harmless

PLAIN = r"</?(?:br|hr|sub|sup|b|i|em|strong|u|s|kbd|mark|small|del|ins)[ ]?/?>|</?(?:pre|code|span)>"
FORMULA = re.compile(r"\$\$[^$\"`]+\$\$|\$[^$\n\"`]+\$")


@pytest.mark.parametrize(
    "markdown",
    [
        "# Title\n\n**bold** *it* `code` [a](https://x.org/?a=b:c) [b](#top) [c](./d.md) [d](https://x.org/e.png)!",
        "a < b, a <= b, a<-b, 1<2, x << 3, ->, a & b, &amp;",
        "```python\nif a < b:\n    print(x[1:2], d[a](b), 'a' <= c)\n```",
        "```rust\nvec![1]\n```",
        "| a | b |\n|--|--|\n| 1<br>2 | H<sub>2</sub>O |",
        "[1]: https://x.org/a 'title'\n[note]: ./b.md",
        "$a < b$ and $$\\sum_{i=1}^{n} i$$",
        "> quoted\n\n1. one\n   ```sh\n   ls -l > out\n   ```\n",
    ],
)
def test_what_does_nothing_is_left_as_it_is(markdown):
    assert harmless(markdown) == markdown


# `D`, `S` and `P` stand for a dollar sign, a backslash and the sign of a picture that are only shown.
SHOWN = {"D": "<span>&#36;</span>", "S": "<span>&#92;</span>", "P": "!<span></span>"}


@pytest.mark.parametrize(
    ("markdown", "made"),
    [
        ("<img src=x onerror=a()>", "&lt;img src=x onerror=a()>"),
        ("a <!-- b", "a &lt;!-- b"),
        ("<b onclick=a()>x</b>", "&lt;b onclick=a()>x&lt;/b>"),
        ("<details open>", "&lt;details open>"),
        ("[x](javascript:a())", "[x&#93;(javascript:a())"),
        ("[x]( \n javascript:a())", "[x&#93;( \n javascript:a())"),
        ("[x](java&#115;cript:a)", "[x&#93;(java&#115;cript:a)"),
        ("[x](<javascript:a>)", "[x&#93;(&lt;javascript:a>)"),
        ("![x](data:image/svg+xml,y)", "P[x&#93;(data:image/svg+xml,y)"),
        ("[x]: javascript:a", "[x&#93;: javascript:a"),
        ("[x]:\n  vbscript:a", "[x&#93;:\n  vbscript:a"),
        ("use `<div>` or `x`", "use <code>&#60;div&#62;</code> or `x`"),
        ("$a<b$", "$a< b$"),
        ("$5 and $10", "D5 and D10"),
        ('![x](https://a/$" onerror="a()" x="$)', 'P[x](https://a/D" onerror="a()" x="D)'),
        ('![x](a.png "$" onerror="a()" x="$")', 'P[x](a.png "D" onerror="a()" x="D")'),
        ('![$" onerror="a()" x="$](a.png)', 'P[D" onerror="a()" x="D](a.png)'),
        ('![x](https://a/\\begin{a}"b"\\end{a})', 'P[x](https://a/Sbegin{a}"b"Send{a})'),
        ('![x](https://a/\\\\("b"\\\\))', 'P[x](https://a/SS("b"SS))'),
        ("![x](https://a/b.png)", "P[x](https://a/b.png)"),
        ("@@0@@", "&#64;@0@@"),
        ("<https://x.org/a>", "https://x.org/a"),
        ('```$" onmouseover="a()\nx\n```', "<pre><code>x\n</code></pre>\n"),
        ("```sh\necho $HOME\n```", "<pre><code>echo &#36;HOME\n</code></pre>\n"),
        ("${a$ b $c}$", "D{aD b Dc}D"),
        ("```html\n<p>\n\n*x*\n```\nend", "<pre><code>&#60;p&#62;\n\n&#42;x&#42;\n</code></pre>\n\nend"),
        ("1. a\n   ```\n   <p>\n   ```", "1. a\n   <pre><code>&#60;p&#62;\n   </code></pre>\n"),
    ],
)
def test_tags_and_scripts_are_shown_and_not_obeyed(markdown, made):
    for sign, shown in SHOWN.items():
        made = made.replace(sign, shown)
    assert harmless(markdown) == made


@given(st.lists(st.sampled_from([
    "<img onerror=a>", "<", "!--", "</pre>", "</code>", "```", "````", "~~~", "`", "``", "\n", "\n\n", "    ", "- ", "> ", "1. ",
    "$", "$$", "\\", "text", "[x](", "]:", "](", "javascript:a", ")", "<b>", "<b x>", '"', "|", "<script>", "<svg/onload=a>", "&lt;",
])).map("".join))  # fmt: skip
def test_no_tag_of_the_models_own_is_left_wherever_it_stands(markdown):
    assert re.search(r"<[A-Za-z/!?]", re.sub(PLAIN, " ", harmless(markdown))) is None


@given(st.lists(st.sampled_from([
    "$", "$$", "\\", "\\(", "\\)", "\\begin{a}", "\\end{a}", "@@0@@", '"', "`", "```", "\n", "\n\n", "- ", "   ", "text",
    "![x](https://a/", ")", "{", "}", "x", " ",
])).map("".join))  # fmt: skip
def test_what_begins_a_formula_ends_it_and_holds_no_quotation_mark(markdown):
    assert re.search(r"\$|\\\\[()\[\]]|@@\d", FORMULA.sub("", harmless(markdown))) is None


@given(st.text(alphabet="ab<>`$[]()!/\\ \n:-", max_size=60))
def test_no_picture_and_no_link_to_a_script_is_left_wherever_it_stands(prefix):
    assert "![x](" not in harmless(prefix + "![x](https://a/b.png)")
    made = harmless(prefix.replace("\\", "") + "[x](javascript:a()) [y]: javascript:b")
    assert re.search(r"\]\(\s*javascript:|\]:\s*javascript:", made) is None
