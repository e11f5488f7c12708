"""Tokens shaded by their probability, with what else could have stood in their place.

Plain HTML and CSS, no script: it survives saving. Each token is a radio button that looks like
text: Tab reaches the whole, the arrow keys go from token to token. What is known of the token under
the pointer or the focus stands in a strip below, so that nothing is clipped and nothing moves.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

from together_nb.completion import count
from together_nb.escape import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from together_nb.completion import Token

CSS = """
.tnb-tokens { position: relative; line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere; }
.tnb-token { cursor: default; display: inline; }
.tnb-token > input { position: absolute; opacity: 0; width: 1px; height: 1px; margin: 0; pointer-events: none; }
.tnb-token > i { font-style: normal; border-radius: 3px; padding: 2px 0;
  background: color-mix(in srgb, #f76707 calc((1 - var(--p)) * 60%), transparent); }
.tnb-token.tnb-unknown > i { background: none; border-bottom: 1px dotted; }
.tnb-token:hover > i, .tnb-token > input:focus-visible + i, .tnb-token > input:checked + i {
  outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 0; }
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


def tokens_html(tokens: Iterable[Token], group: str) -> str:
    """HTML of tokens, one after the other; pieces of one group can be set side by side.

    Parameters
    ----------
    tokens
        The tokens.
    group
        Name of the radio group, one for each text on the page.
    """
    return "".join(_token(token, html.escape(group)) for token in tokens)


def summary(tokens: Sequence[Token]) -> str:
    """How many tokens, their mean log-probability, and the perplexity that it makes; "" without any."""
    known = [token.logprob for token in tokens if token.logprob is not None]
    if not known:
        return ""
    mean = sum(known) / len(known)
    perplexity = math.exp(min(-mean, 700))  # beyond which a float ends
    told = f"{perplexity:,.2f}" if perplexity < 1e6 else f"{perplexity:.1e}"  # noqa: PLR2004
    return f"{count(len(known), 'token')} · mean log-probability {_signed(mean)} · perplexity {told}"


def _token(token: Token, group: str) -> str:
    shown, known = _shown(token.text), token.logprob is not None
    probability = math.exp(min(token.logprob, 0.0)) if token.logprob is not None else 1.0
    kind = "tnb-token" if known else "tnb-token tnb-unknown"
    said = html.escape(_said(token))
    # JupyterLab would take the arrow keys for its own, and select another cell.
    keys = 'data-lm-suppress-shortcuts="true"'
    return (
        f'<label class="{kind}" style="--p:{probability:.3f}">'
        f'<input type="radio" name="{group}" aria-label="{said}" {keys}>'
        f"<i>{html.escape(shown)}</i>{_tip(token)}</label>"
    )


def _tip(token: Token) -> str:
    chances = (
        f"{_percent(token.logprob)}, log-probability {_signed(token.logprob)}" if token.logprob is not None else ""
    )
    head = f"<code>{html.escape(_quoted(token.text))}</code> {chances or 'no probability given'}"
    taken = _place(token)
    rows = [_row(text, logprob, taken=number == taken) for number, (text, logprob) in enumerate(token.top)]
    if token.top and token.logprob is not None and taken is None:
        rows.append(_row(token.text, token.logprob, taken=True))
    listed = f"<ol>{''.join(rows)}</ol>" if rows else ""
    return f'<span class="tnb-tip" aria-hidden="true">{head}{listed}</span>'


def _place(token: Token) -> int | None:
    """Which of the alternatives the token is: of those that look like it, the one that is as likely."""
    alike = [number for number, (text, _) in enumerate(token.top) if text == token.text]
    if token.logprob is None:
        return None
    return min(alike, key=lambda number: abs(token.top[number][1] - (token.logprob or 0.0)), default=None)


def _row(text: str, logprob: float, *, taken: bool) -> str:
    chance = math.exp(min(logprob, 0.0))
    mark = ' class="tnb-taken"' if taken else ""
    arrow = "▸ " if taken else ""
    return (
        f"<li{mark}><code>{arrow}{html.escape(_quoted(text))}</code>"
        f'<meter value="{chance:.4f}"></meter><b>{_percent(logprob)}</b></li>'
    )


def _said(token: Token) -> str:
    """The same for who hears it."""
    if token.logprob is None:
        return f"{_quoted(token.text)}, no probability given"
    others = "; ".join(f"{_quoted(text)} {_percent(lp)}" for text, lp in token.top if text != token.text)
    return f"{_quoted(token.text)} {_percent(token.logprob)}" + (f"; instead: {others}" if others else "")


def _shown(text: str) -> str:
    """As it stands in the text, an empty token and a line break visible too."""
    return visible(text).replace("\n", "↵\n") or "∅"


def _quoted(text: str) -> str:
    return "“" + visible(text).replace("\n", "↵").replace("\t", "⇥").replace(" ", "␣") + "”"


def _percent(logprob: float) -> str:
    percent = 100 * math.exp(min(logprob, 0.0))
    return f"{percent:.1f} %" if percent >= 0.1 else f"{percent:.1g} %" if percent >= 1e-4 else "< 0.0001 %"  # noqa: PLR2004


def _signed(number: float) -> str:
    return f"{number:.2f}".replace("-", "\N{MINUS SIGN}")
