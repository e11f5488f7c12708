"""Sanitize a model's Markdown without losing any of its text.

JupyterLab does not sanitize the Markdown of a cell run in this session (seen in 4.6.6: the output is
trusted, ``<img onerror=…>`` runs, live and later). It also extracts formulas before it parses the
Markdown and puts them back raw, so that a quotation mark in a formula in a link's address ends the
attribute. So nothing from the model may reach the page as a tag, as a script link, or as a formula
that holds more than a formula.

No renderer is trusted to tell code from text: whatever could open a tag or begin a formula is
written as entities, in text and in code alike. A wrong guess about what is code affects only looks.
"""

from __future__ import annotations

import re

from together_nb.base.escape import entity, literal

# Only these open a tag: "<" before a space, a digit or "=" is text everywhere.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
# Formatting tags without attributes; models write them, mostly in tables.
_PLAIN_TAG = r"<(?P<slash>/?)(?P<name>(?i:br|hr|sub|sup|b|i|em|strong|u|s|kbd|mark|small|del|ins))[ ]?/?>"
_ALONE = frozenset({"br", "hr"})
# An image is fetched without a click: its address can leak data to its server, or act on this one. It becomes a
# link; only an element separates the two characters whatever precedes them.
_PICTURE = re.compile(r"!(?=\[)")
_NO_PICTURE = "!<span></span>"
_AUTOLINK = re.compile(r"<(https?://[^\s<>]+)>")
# `](` and `]:` are followed by a link's target: only these kinds are allowed.
# None from or towards the server's root, or overlong: following Jupyter's /logout logs the user out.
_TARGET = re.compile(
    r"\](?=[(:])(?![(:]\s*(?!\s)(?:https?://|mailto:|(?!/)(?:(?!\.\.)[\w./~#?=+-]){0,2000}(?:[\s)\"']|$)))"
)
# What JupyterLab takes for the delimiter or the placeholder of a formula.
_DELIMITER = re.compile(r"\$|\\\\(?=[()\[\]])|\\(?=(?:begin|end)\b)|@(?=@\d)")
# In code: a tag, a delimiter, or a link that is not plainly harmless. Links are searched in one pass, together with
# those that begin within them, so that the time is linear in the text.
_SIGN = re.compile(rf"{_TAG.pattern}|{_DELIMITER.pattern}|\][(:](?:\s{{9}}|\s{{0,8}}/)")
_LINK = re.compile(r"\][(:]\s{0,8}([^\s)]*)")
_UNSAFE = re.compile(r"[:&%\\]|\.\.|\]\(\Z")
_FORMULA = re.compile(r"\$\$([^$\"`@]{1,3000})\$\$|(?<![\\$])\$(?=\S)([^$\n\"`@]{1,1000}?)(?<=\S)\$(?!\$)")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
_FENCE = re.compile(
    r"^(?P<before>(?:[ \t>]|(?:[-*+]|\d{1,9}[.)])(?=[ \t])){0,500})(?:(?P<fence>`{3,})[^`\n]*|(?P<tildes>~{3,})[^\n]*)$"
)
_CODE_SPAN = re.compile(
    r"(?<![`\\])(?P<ticks>`{1,9})(?!`)(?P<code>(?:(?!\n[ \t]*\n).){1,500}?)(?<!`)(?P=ticks)(?!`)", re.DOTALL
)
# What `_text` extracts before it searches the rest; tags must be closed on their line.
_PIECE = re.compile(rf"{_CODE_SPAN.pattern}|\][(:][^)\n`]*|(?P<tag>{_PLAIN_TAG})|(?P<end>\n)", re.DOTALL)
# A fence and its language, which JupyterLab writes unescaped into an attribute.
_NAMED = re.compile(r"(?:`{3}|~{3})[^\n\r]*")
_SPECIAL = re.compile(r"[^\w\s]")
# Lists and quotations, nested on a line or by indentation, that JupyterLab fails to render (from about 1,000 on,
# the answer and the notebook's table of contents stay empty).
_NESTED = r"(?:>|(?:[-*+]|\d{1,9}[.)])(?=[ \t]))"
_TOO_DEEP = re.compile(rf"^[ \t]*(?:{_NESTED}[ \t]*){{100}}|^(?:[ \t]|{_NESTED}){{500}}", re.MULTILINE)
_DEEPEST_CODE = 40  # characters before a fence, at most, that the lines of code keep as indent
_DEEPEST_FORMULA = 30  # 120 nested roots crashed the page's process


def harmless(markdown: str) -> str:
    """Return `markdown` without tags (except ``<br>`` and the like), script links and images.

    It still shows all its content: tags as text, code as code, formulas as formulas, an image as a link. Code that
    contains something like a tag or a formula becomes our own HTML, with all punctuation as entities.
    Markdown nested deeper than a renderer can handle is shown literally, as a whole.
    """
    if '"' in markdown:
        markdown = _NAMED.sub(lambda fence: fence.group().replace('"', "&quot;"), markdown)
    if _TOO_DEEP.search(markdown) is not None:
        return literal(markdown)
    if not _suspect(markdown) and _TARGET.search(markdown) is None and _PICTURE.search(markdown) is None:
        return markdown
    out: list[str] = []
    text: list[str] = []
    lines = iter(markdown.split("\n"))
    for line in lines:
        opening = _FENCE.match(line)
        if opening is None:
            text.append(line)
            continue
        if text:
            out.append(_text("\n".join(text)))
            text = []
        block, closed = _block(opening, lines)
        whole = "\n".join((line, *block, *closed))
        out.append(_preformatted(opening, block) if _suspect(whole) else whole)
    if text:
        out.append(_text("\n".join(text)))
    return "\n".join(out)


def _suspect(code: str) -> bool:
    """Whether code contains something that takes effect if a renderer takes it for text."""
    return _SIGN.search(code) is not None or any(_UNSAFE.search(link[1]) for link in _LINK.finditer(code))


def _block(opening: re.Match[str], lines: object) -> tuple[list[str], list[str]]:
    """The lines of a fenced block and the line that closes it, if any."""
    fence = opening["fence"] or opening["tildes"]
    closing = re.compile(rf"[ \t>]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*")
    block: list[str] = []
    for line in lines:  # type: ignore[attr-defined]
        if closing.fullmatch(line):
            return block, [line]
        block.append(line)
    return block, []


def _preformatted(opening: re.Match[str], block: list[str]) -> str:
    before = opening["before"]
    # Of a list item that began before the fence.
    indent = re.sub(r"[^\s>]", " ", before) if len(before) <= _DEEPEST_CODE else ""
    code = [line.removeprefix(indent) for line in block]
    spelled = [indent + _entities(line) if line.strip() else "" for line in code]
    # A blank line would end the block where the renderer takes it for part of a paragraph.
    return "\n".join((f"{before}<pre><code>" + "\n".join(spelled).removeprefix(indent), f"{indent}</code></pre>", ""))


def _text(markdown: str) -> str:
    """Sanitize text with code spans."""
    out: list[str] = []
    end = 0
    for piece in _kept(markdown):
        out.append(_escaped(markdown[end : piece.start()]))
        code = piece["code"]
        suspect = code is not None and (_suspect(code) or _PICTURE.search(code) is not None)
        out.append(f"<code>{_entities(code.strip())}</code>" if suspect else piece.group())
        end = piece.end()
    out.append(_escaped(markdown[end:]))
    return "".join(out)


def _kept(markdown: str) -> list[re.Match[str]]:
    """The code spans, and the plain tags that are closed on their line: an open one would extend to the footer."""
    kept: dict[int, re.Match[str]] = {}  # by where they begin
    opening: list[tuple[str, re.Match[str]]] = []
    for piece in _PIECE.finditer(markdown):
        name = (piece["name"] or "").lower()
        if piece["code"] is not None or name in _ALONE:
            kept[piece.start()] = piece
        elif piece["end"]:
            opening = []
        elif name and not piece["slash"]:
            opening.append((name, piece))
        elif name and opening and opening[-1][0] == name:
            for one in (opening.pop()[1], piece):
                kept[one.start()] = one
    return [piece for _, piece in sorted(kept.items())]


def _escaped(text: str) -> str:
    text = _AUTOLINK.sub(r"\1", text)
    out: list[str] = []
    end = 0
    for formula in _FORMULA.finditer(text):
        out.append(_words(text[end : formula.start()]))
        whole = formula.group()
        # In a formula an entity would be shown as spelled, and a space has no meaning.
        out.append(_TAG.sub("< ", whole) if _is_formula(formula[1] or formula[2]) else _words(whole))
        end = formula.end()
    out.append(_words(text[end:]))
    return "".join(out)


def _is_formula(content: str) -> bool:
    """Whether JupyterLab ends the formula where we do: its braces are paired and no line is blank."""
    depth = 0
    for brace in re.findall(r"\\.|[{}]", content):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if not 0 <= depth <= _DEEPEST_FORMULA:
            return False
    return depth == 0 and content[-1:] != "\\" and _BLANK_LINE.search(content) is None


def _words(text: str) -> str:
    text = _TAG.sub("&lt;", text)
    text = _TARGET.sub("&#93;", text)
    text = _PICTURE.sub(_NO_PICTURE, text)
    return _DELIMITER.sub(lambda found: "".join(map(entity, found.group())), text)


def _entities(code: str) -> str:
    return _SPECIAL.sub(lambda sign: f"&#{ord(sign.group())};", code)
