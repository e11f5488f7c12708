r"""Texts as a model might write them that is not on the reader's side, or is under somebody else's orders.

What can run says so: it sets ``top.__pwned`` to its name, and `WATCH` gathers the names.
"""

from __future__ import annotations

from together_nb.values.chunk import Token

WATCH = """{ const ran = []; Object.defineProperty(window, '__pwned', {set: name => { ran.push(name) }, get: () => ran}) }"""
# What a person might do: point at each element, give it the focus, follow each link that leads to no page. Tells
# which elements there are that could run something.
POKE = """within => { const found = []; for (const e of document.querySelectorAll(within + ' *')) {
    for (const kind of ['mouseover', 'focus', 'pointerover']) e.dispatchEvent(new MouseEvent(kind));
    if ([...e.attributes].some(one => /^on/.test(one.name) || /^\\s*(javascript|data:text)/i.test(one.value))
        || /^(script|iframe|object|embed|form|meta|base|video|animate)$/i.test(e.tagName)
        || (e.tagName === 'STYLE' && !/together-nb|tnb-place/.test(e.textContent))) found.push(e.outerHTML);
    const to = e.getAttribute('href') ?? e.getAttribute('xlink:href') ?? 'https:';
    if (!/^(https?:|mailto:|#)/i.test(to)) {
        e.removeAttribute('target');  // a new page would not be looked at
        e.dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true, view: window})) } }
    return found }"""


def _named(texts: dict[str, str]) -> dict[str, str]:
    return {name: text.replace("RUN", f"void(top.__pwned='{name}')") for name, text in texts.items()}


# JupyterLab runs each of them when it gets it as the Markdown of a cell that was run: a test sees it do so.
SCRIPTS = _named({
    "script": "<script>RUN</script>",
    "image": '<img src=x onerror="RUN">',
    "svg-script": "<svg><script>RUN</script></svg>",
    "svg-animation": '<svg><animate onbegin="RUN" attributeName="x" dur="1s"></animate></svg>',
    "svg-style": '<svg><style><img src=x onerror="RUN">',
    "svg-link": '<svg><a href="javascript:RUN"><text y="20">x</text></a></svg>',
    "details": '<details open ontoggle="RUN"><summary>s</summary>x</details>',
    "video": '<video><source onerror="RUN"></video>',
    "frame": '<iframe srcdoc="<script>RUN</script>"></iframe>',
    "frame-address": '<iframe src="javascript:RUN"></iframe>',
    "focus": '<input autofocus onfocus="RUN">',
    "pointer": 'word <b onmouseover="RUN">here</b>',
    "textarea": '</textarea><img src=x onerror="RUN">',
    "end-of-code": '</code></pre></details></div><img src=x onerror="RUN">',
    "end-of-a-comment": '<!-- --><img src=x onerror="RUN"> -->',
    "quotation-marks": """"><img src=x onerror="RUN">'><img src=x onerror="RUN">""",
    "open-code-span": '`a <img src=x onerror="RUN">',
    "code-in-a-list": '- ```\n<img src=x onerror="RUN">\n- ```',
    "json": '{"a": "</code></pre><img src=x onerror="RUN">}',
    "link": "[x](javascript:RUN)",
    "link-in-entities": "[x](&#106;avascript&colon;RUN)",
    "link-in-capitals": "[x](JaVaScRiPt:RUN)",
    "link-in-brackets": "[x](<javascript:RUN>)",
    "link-by-reference": "[x][ref]\n\n[ref]: javascript:RUN",
    "link-as-a-tag": '<a href="javascript:RUN">x</a>',
    "formula-in-an-address": '![x](https://127.0.0.1:1/$" onerror="RUN" x="$)',
    "formula-in-a-title": '![x](a.png "$" onerror="RUN" x="$")',
    "formula-in-the-words": '![$" onerror="RUN" x="$](a.png)',
    "environment-in-an-address": '![x](https://127.0.0.1:1/\\begin{a}"onerror="RUN"x="\\end{a})',
    "brackets-in-an-address": '![x](https://127.0.0.1:1/\\\\("onerror="RUN"x="\\\\))',
    "language-by-itself": '```zz" style="animation: jp-spinner-rotate 1s, jp-fade 1s, fa-spin 1s" onanimationstart="RUN\nx\n```',
    "language-under-the-pointer": '```html" onmouseover="RUN\nx\n```',
    "language-with-tildes": '~~~a" onmouseover="RUN\nx\n~~~',
    "language-in-a-list": '- ```a" onmouseover="RUN\n  x\n  ```',
    "language-in-a-quotation": '> ```a" onmouseover="RUN\n> x\n> ```',
    "language-with-backticks": '~~~a` `" onmouseover="RUN\nx\n~~~',
    "language-of-code": '```$" onmouseover="RUN" x="$\ncode\n```',
})  # fmt: skip

# What this JupyterLab does not run, by its own means or by luck.
OTHERS = _named({
    "svg": '<svg onload="RUN"></svg>',
    "link-otherwise": "[x](java\tscript:RUN) [y](data:text/html,x) [z](vbscript:x)",
    "formula-link": "$\\href{javascript:RUN}{x}$ \\\\(\\href{javascript:RUN}{x}\\\\)",
    "picture": "![x](https://127.0.0.1:1/seen) ![x][seen]\n\n[seen]: https://127.0.0.1:1/seen",
    "diagram": '```mermaid\ngraph TD\nA["#60;img src=x onerror=RUN#62;"]-->B\nclick A href "javascript:RUN"\n```',
    "refresh": '<meta http-equiv="refresh" content="0;url=javascript:RUN">',
    "object": '<object data="javascript:RUN"></object><embed src="javascript:RUN">',
    "form": '<form action="javascript:RUN"><button>x</button></form><base href="https://127.0.0.1:1/">',
})  # fmt: skip

CONTROLS = (
    "\x1b[2J\x1b[31mred\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b]8;;https://x.org\x1b\\link\x1b]8;;\x1b\\"  # CSI, OSC
    "\x1bPq\x1b\\\x1b_a\x1b\\\x9b31m\x9d52;c;ZXZpbA==\x9c\x90q\x9c"  # DCS, APC, and the same in one character
    "\x00nul\x07bel\x08\x7fback\rover\x0b\x0c\x1a\x85end\u2028\u2029"
    "\u202eoverride\u202c\u2066isolate\u2069\u200e\u200f\u061c\ud83d\ude00 whole, \ud83d half, \udc80 half"
)

OPEN = {
    "fence": "```python\nx",
    "tildes": "~~~~\nx",
    "formula": "$$\nx",
    "tags": "<b><s><small>struck\n\n<u>x",
    "tags over lines": "<s>x\n\n</s> # <s>x\n    </s>",
    "comment": "<!-- x",
    "pre": "<pre><textarea><title><xmp>x",
    "details": "<details><summary>x",
    "table": "| a | b |\n|--|--|\n| x | <s>y",
    "list": "1. a\n   - b\n\n     ```\n     c",
    "quotation": "> a\n> - b\n>   ```\n>   c",
    "definition": "[x]: https://x.org 'title",
    "brackets": "[" * 1000 + "![" * 500,
    "signs": "*a **b _c ~~d " * 50,
}  # fmt: skip

LONG = {
    "word": "w" * 10_000,
    "list": "- " * 10_000 + "x",
    "numbered list": "1. " * 10_000 + "x",
    "quotation": ">" * 10_000 + "x",
    "list and quotation": "> - " * 5_000 + "x",
    "tags": "<b>" * 10_000 + "x",
    "roots": "$" + "\\sqrt{" * 120 + "x" + "}" * 120 + "$",
}
SHORT = {**SCRIPTS, **OTHERS, "controls": CONTROLS, **{f"open {name}": text for name, text in OPEN.items()}}
ALL = {**SHORT, **{f"long {name}": text for name, text in LONG.items()}}
LAST = "All of it has come."


def hostile_tokens() -> tuple[Token, ...]:
    """Each script as a token, and as what might have stood in the place of the others."""
    texts = (*SCRIPTS.values(), CONTROLS)
    return tuple(Token(text, -1.0, None, tuple((other, -2.0) for other in texts)) for text in texts)
