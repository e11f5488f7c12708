"""Tokens shaded by their probability, as HTML without script, so that it survives saving.

Each token is a radio button that looks like text: Tab reaches the group, the arrow keys move between tokens.
How unlikely a token is shows in a shade and in the thickness of an underline, so that it is readable without
colour. Where a page strips the style sheet, the buttons and the attributes, as GitHub and an untrusted notebook
do, the bare text and a folded table of the tokens remain.
"""

from __future__ import annotations

import html
import math
import re
import uuid
from typing import TYPE_CHECKING

from together_nb.base.escape import entity, visible
from together_nb.render.remarks import remarks
from together_nb.render.token_text import percent, quoted, reason_for_none, signed, summary, token_and_alternatives
from together_nb.values.likelihood import aligned, index_in_top, least_likely, whole_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from together_nb.values.chunk import Choice, Token
    from together_nb.values.completion import Completion

LISTED = 1000  # tokens, up to which all are listed; tables should not fill the notebook
LEAST_LISTED = 200  # above that, only the least likely
SHADED = 2000  # tokens in one output: a server drops more than one to three megabytes at once

SHADE_CSS = """
.tnb-tokens { position: relative; line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere; }
.tnb-token { cursor: default; display: inline; }
.tnb-token > input { display: inline-block; position: absolute; opacity: 0; width: 1px; height: 1px; margin: 0; pointer-events: none; }
.tnb-token > input + span { border-radius: 2px; padding: 2px 0;
  background: color-mix(in srgb, #f76707 calc((1 - var(--p)) * 50%), transparent);
  border-bottom: solid calc((.9 - var(--p)) * 4.5px) color-mix(in srgb, currentColor 75%, transparent); }
.tnb-token > input + span:empty::before { content: "∅"; }
.tnb-token u { text-decoration: none; }
.tnb-token u::before { content: "↵"; }
.tnb-token.tnb-unknown > input + span { background: none; border-bottom: 1px dotted; }
.tnb-token:hover > input + span, .tnb-token > input:focus-visible + span, .tnb-token > input:checked + span {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 0; }
.tnb-scale { display: inline-block; width: 5em; height: 9px; vertical-align: baseline; border-radius: 2px;
  background: linear-gradient(to right, transparent, color-mix(in srgb, #f76707 50%, transparent));
  border: 1px solid var(--jp-border-color1, #bdbdbd); }
"""

# A token's details are in a strip of their own, with bars.
TIP_CSS = """
.tnb-tip { display: none; position: absolute; left: 0; right: 0; bottom: 0; height: var(--tnb-strip, 9em);
  overflow: auto; box-sizing: border-box; padding: 6px 8px; z-index: 1; line-height: 1.45; white-space: normal;
  color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color2, #eee);
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 3px; }
.tnb-token > input:checked ~ .tnb-tip { display: block; }
.tnb-token:hover > .tnb-tip { display: block; z-index: 3; }
.tnb-token > input:focus-visible ~ .tnb-tip { display: block; z-index: 2; }
.tnb-tip ol { list-style: none; margin: 4px 0 0; padding: 0; columns: 14em; column-gap: 20px; }
.tnb-tip li { display: grid; grid-template-columns: minmax(5.5em, 1fr) 3.5em 4em; gap: 6px; align-items: center;
  break-inside: avoid; font-variant-numeric: tabular-nums; }
.tnb-tip code { white-space: pre; overflow: hidden; text-overflow: ellipsis; background: none; padding: 0;
  color: inherit; font-family: var(--jp-code-font-family, monospace); }
.tnb-tip meter { width: 100%; height: 10px; }
.tnb-tip li > b { font-weight: 400; text-align: right; }
.tnb-tip li.tnb-taken { font-weight: 600; }
.tnb-tip li.tnb-taken > b { font-weight: 600; }
"""

# For an answer in a cell: a token's details are in a strip below its line, over what follows.
CELL_CSS = """
.tnb-shaded p { margin: .4em 0; }
.tnb-shaded .tnb-tokens { font-family: var(--jp-content-font-family, inherit); font-size: var(--jp-content-font-size1, 14px); }
.tnb-shaded .tnb-token > input { appearance: none; display: inline-block; position: static; opacity: 1; width: 0; height: 0;
  min-width: 0; padding: 0; border: 0; outline: 0; background: none; vertical-align: baseline; }
.tnb-shaded .tnb-token > input::after { content: attr(aria-label); display: none; position: absolute; left: 0; right: 0;
  margin-top: .75em; z-index: 2; padding: 5px 8px; white-space: pre-line; columns: 12em; column-gap: 16px;
  font: 13px/1.5 var(--jp-ui-font-family, sans-serif); font-variant-numeric: tabular-nums; text-align: left;
  color: var(--jp-ui-font-color1, #212121); background: var(--jp-layout-color2, #eee);
  border: 1px solid var(--jp-border-color1, #bdbdbd); border-radius: 3px; pointer-events: none; }
.tnb-shaded .tnb-token > input:focus::after { display: inline-block; }
.tnb-shaded .tnb-token:hover > input::after { display: inline-block; z-index: 3; }
.tnb-shaded .tnb-token > input:checked:not(:focus) + span { outline: none; }
.tnb-shaded .tnb-token:hover > input:checked:not(:focus) + span { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.tnb-shaded .tnb-hint::after { opacity: .7; font-size: smaller;
  content: "The darker the shade and the thicker the line, the less likely the token. Point at a token, or Tab to the text and go on with the arrow keys."; }
.tnb-shaded td, .tnb-shaded th { text-align: left !important; overflow-wrap: anywhere; vertical-align: top; padding: 2px 10px 2px 0; }
@media print { .tnb-token > input + span { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def tokens_html(tokens: Iterable[Token], group: str) -> str:
    """Return HTML of tokens, each with a tip; pieces of one group can be concatenated.

    Parameters
    ----------
    tokens
        The tokens.
    group
        Name of the radio group, one for each text on the page.
    """
    return "".join(_label(token.text, token, html.escape(group), _told(token), _tip(token)) for token in tokens)


def text_html(text: str, tokens: Sequence[Token], group: str) -> list[str]:
    """Return HTML of each piece of `text`, its tokens as radio buttons labelled with their probabilities.

    The pieces together are exactly the text, whatever the tokens are.
    """
    return [
        _label(piece, token, group, _told(token)) if token else f"<span>{literal_html(piece)}</span>"
        for piece, token in aligned(text, whole_characters(tokens))
    ]


def new_group() -> str:
    """Return a radio group name that is unique on the page."""
    return f"tnb-{uuid.uuid4().hex[:8]}"


def completion_html(completion: Completion, footer: str, notes: Iterable[str] = ()) -> str:
    """All answers of a completion, each with its summary and a folded table of its tokens, and the footer.

    Parameters
    ----------
    completion
        The answers.
    footer
        The line below them.
    notes
        Sentences above the footer.

    Returns
    -------
    str
        HTML without script. Model text is escaped, so that it forms neither tags nor formulas.
    """
    several = len(completion.choices) > 1
    most = SHADED // len(completion.choices)
    parts = [_answer_html(completion, choice, most, titled=several) for choice in completion.choices]
    parts += [f"<p><em>{literal_html(words)}</em></p>" for words in notes]
    parts.append(f"<p><sub>{literal_html(footer)}</sub></p>")
    return f'<style>{SHADE_CSS}{CELL_CSS}</style><div class="tnb-shaded">{"".join(parts)}</div>'


def thinking_html(reasoning: str) -> str:
    """A folded section that holds the model's thinking."""
    return f"<details><summary>Thinking</summary><p>{literal_html(reasoning.strip())}</p></details>"


def literal_html(text: str) -> str:
    """Return HTML that shows `text` literally, with line breaks and runs of spaces, and without formulas."""
    escaped = html.escape(visible(text), quote=False)
    escaped = re.sub(r"[$\\]", lambda sign: entity(sign.group()), escaped)
    return re.sub(" {2,}", lambda run: "&nbsp;" * len(run.group()), escaped).replace("\n", "<br>")


def _answer_html(completion: Completion, choice: Choice, most: int, *, titled: bool) -> str:
    parts = [f"<p><b>Answer {choice.index + 1}</b></p>"] if titled else []
    if choice.reasoning:
        parts.append(thinking_html(choice.reasoning))
    pieces = text_html(choice.text, choice.tokens[:most], new_group())
    parts.append(f'<div class="tnb-tokens" role="radiogroup" aria-label="Tokens">{"".join(pieces)}</div>')
    parts += [f"<p>{literal_html(line)}</p>" for line in remarks(choice)]
    if reason_for_none(completion, choice):
        parts.append(f"<p><em>{reason_for_none(completion, choice)}</em></p>")
    elif choice.tokens:
        parts.append(f"<p>{summary(choice.tokens)}</p>")
        if len(choice.tokens) > most:
            parts.append(f"<p>The first {most:,} of {len(choice.tokens):,} tokens are shaded.</p>")
        parts.append('<p class="tnb-hint"></p>')
        parts.append(_table(whole_characters(choice.tokens)))
    return "".join(parts)


def _table(tokens: Sequence[Token]) -> str:
    all_of_them = len(tokens) <= LISTED
    listed = tokens if all_of_them else least_likely(tokens, LEAST_LISTED)
    title = "Tokens and alternatives"
    if not all_of_them:
        title += f": the {len(listed):,} least likely of {len(tokens):,}"
    rows = "".join(_table_row(token) for token in listed)
    head = "<tr><th>Token</th><th>Probability</th><th>Instead</th></tr>"
    return f"<details><summary>{title}</summary><table>{head}{rows}</table></details>"


def _table_row(token: Token) -> str:
    cells = (quoted(token.text), percent(token.logprob), ", ".join(token_and_alternatives(token)[1:]))
    return f"<tr>{''.join(f'<td>{literal_html(cell)}</td>' for cell in cells)}</tr>"


def _label(piece: str, token: Token, group: str, said: str, tip: str = "") -> str:
    chance = 1.0 if token.logprob is None else math.exp(min(token.logprob, 0.0))
    kind = "tnb-token" if token.logprob is not None else "tnb-token tnb-unknown"
    # The style sheet draws the line break sign, so that the bare text has none.
    shown = literal_html(piece).replace("<br>", "<u></u><br>")
    # Else JupyterLab handles the arrow keys, and selects another cell. Its sanitizer keeps the buttons, and drops
    # attributes without a value: `hidden` has one, to hide them without a style sheet.
    keys = 'data-lm-suppress-shortcuts="true"'
    return (
        f'<label class="{kind}" style="--p:{chance:.3f}">'
        f'<input type="radio" name="{group}" aria-label="{html.escape(said)}" {keys} hidden="hidden">'
        f"<span>{shown}</span>{tip}</label>"
    )


def _told(token: Token) -> str:
    """The label for screen readers and for the strip, with each alternative on its own line."""
    head, *others = token_and_alternatives(token)
    return f"{head}; instead:\n" + ";\n".join(others) if others else head


def _tip(token: Token) -> str:
    chance = f"{percent(token.logprob)}, log-probability {signed(token.logprob)}" if token.logprob is not None else ""
    head = f"<code>{html.escape(quoted(token.text))}</code> {chance or 'no probability given'}"
    taken = index_in_top(token)
    rows = [_row(text, logprob, taken=number == taken) for number, (text, logprob) in enumerate(token.top)]
    if token.top and token.logprob is not None and taken is None:
        rows.append(_row(token.text, token.logprob, taken=True))
    listed = f"<ol>{''.join(rows)}</ol>" if rows else ""
    return f'<span class="tnb-tip" aria-hidden="true">{head}{listed}</span>'


def _row(text: str, logprob: float, *, taken: bool) -> str:
    chance = math.exp(min(logprob, 0.0))
    mark = ' class="tnb-taken"' if taken else ""
    arrow = "▸ " if taken else ""
    return (
        f"<li{mark}><code>{arrow}{html.escape(quoted(text))}</code>"
        f'<meter value="{chance:.4f}"></meter><b>{percent(logprob)}</b></li>'
    )
