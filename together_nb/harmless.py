"""A model's Markdown made harmless: it can say everything and do nothing.

JupyterLab does not sanitize the Markdown of a cell that was run here (seen in 4.6.6: the output is
trusted, ``<img onerror=…>`` runs, live and after). So nothing of the model's own may reach the
page as a tag or as a link that is a script. Telling code from text is left to no renderer's
opinion: whatever could open a tag is spelled in entities, in text and in code alike, so that a
wrong guess about what is code costs looks and nothing else.
"""

from __future__ import annotations

import re

# Only these open a tag: "<" before a space, a digit or "=" is text everywhere.
_TAG = r"<(?=[A-Za-z/!?])"
# Tags without attributes that change the look of a word; models write them, in tables above all.
_PLAIN_TAG = re.compile(r"</?(?:br|hr|sub|sup|b|i|em|strong|u|s|kbd|mark|small|del|ins)[ ]?/?>", re.IGNORECASE)
_TAG_OPENER = re.compile(_TAG)
# `](` and `]:` are followed by a link's target: only these kinds may stand.
_TARGET = re.compile(r"\](?=[(:])(?![(:]\s*(?!\s)(?:https?://|mailto:|[\w./~%#?=+-]*(?:[\s)\"']|$)))")
_SUSPECT = re.compile(rf"{_TAG}|\](?:\(|:)\s*[^\s)]*[:&\\]")
# In a formula a space says nothing, and an entity would be shown as it is spelled.
_FORMULA = re.compile(r"\$\$(?:(?!\n[ \t]*\n).)+?\$\$|\$(?=\S)[^$\n]+?(?<=\S)\$", re.DOTALL)
_FENCE = re.compile(r"^(?P<indent>[ \t>]*)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_CODE_SPAN = re.compile(r"(?<![`\\])(?P<ticks>`+)(?!`)(?P<code>(?:(?!\n[ \t]*\n).)+?)(?<!`)(?P=ticks)(?!`)", re.DOTALL)
_SPECIAL = re.compile(r"[^\w\s]")


def harmless(markdown: str) -> str:
    """`markdown` without tags of its own (but ``<br>`` and such) and without links that are scripts.

    What it would show, it still shows: tags as text, code as code. Code that holds something like
    a tag is set as HTML of our own, whose every sign is an entity.
    """
    if _SUSPECT.search(markdown) is None and _TARGET.search(markdown) is None:
        return markdown
    out: list[str] = []
    text: list[str] = []
    lines = iter(markdown.split("\n"))
    for line in lines:
        opened = _FENCE.match(line)
        if opened is None:
            text.append(line)
            continue
        block, closed = _block(opened, lines)
        if _SUSPECT.search("\n".join((line, *block))) is None:
            text += [line, *block, *closed]
            continue
        if text:
            out.append(_text("\n".join(text)))
            text = []
        out.append(_preformatted(opened, block))
    if text:
        out.append(_text("\n".join(text)))
    return "\n".join(out)


def _block(opened: re.Match[str], lines: object) -> tuple[list[str], list[str]]:
    """The lines of a fenced block and the line that closes it, if any."""
    fence = opened["fence"]
    closing = re.compile(rf"[ \t>]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*")
    block: list[str] = []
    for line in lines:  # type: ignore[attr-defined]
        if closing.fullmatch(line):
            return block, [line]
        block.append(line)
    return block, []


def _preformatted(opened: re.Match[str], block: list[str]) -> str:
    indent = opened["indent"]
    code = [line.removeprefix(indent) for line in block]
    spelled = [indent + _entities(line) if line.strip() else "" for line in code]
    # A blank line would end the block where the renderer takes it for part of a paragraph.
    return "\n".join((f"{indent}<pre><code>" + "\n".join(spelled).removeprefix(indent), f"{indent}</code></pre>", ""))


def _text(markdown: str) -> str:
    """Text with its code spans."""
    out: list[str] = []
    end = 0
    for span in _CODE_SPAN.finditer(markdown):
        out.append(_plain(markdown[end : span.start()]))
        code = span["code"]
        suspect = _SUSPECT.search(code) is not None
        out.append(f"<code>{_entities(code.strip())}</code>" if suspect else span.group())
        end = span.end()
    out.append(_plain(markdown[end:]))
    return "".join(out)


def _plain(text: str) -> str:
    """Text without code."""
    kept = [_escaped(piece) for piece in _PLAIN_TAG.split(text)]
    tags = _PLAIN_TAG.findall(text)
    return "".join(piece + tag for piece, tag in zip(kept, (*tags, ""), strict=True))


def _escaped(text: str) -> str:
    text = _FORMULA.sub(lambda formula: _TAG_OPENER.sub("< ", formula.group()), text)
    return _TARGET.sub("&#93;", _TAG_OPENER.sub("&lt;", text))


def _entities(code: str) -> str:
    return _SPECIAL.sub(lambda sign: f"&#{ord(sign.group())};", code)
