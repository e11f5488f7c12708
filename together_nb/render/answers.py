"""An answer as a notebook saves it, and its footer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from together_nb.base.escape import literal, visible
from together_nb.base.wording import count
from together_nb.render.formats import format_for
from together_nb.render.remarks import remarks
from together_nb.render.token_text import reason_for_none, summary
from together_nb.values import hooks
from together_nb.values.completion import Completion, parse_answer
from together_nb.values.parameters import AUTO

if TYPE_CHECKING:
    from together_nb.values.chunk import Choice

_LONGEST_PART = 1000  # characters of a part of the footer: some come from the server


@hooks.footer.register(Completion)
def footer(completion: Completion, *, way_on: bool = False) -> str:
    """One line of plain text: model · tokens · seconds · tokens/s · cost · why it ended · note."""
    parts = [completion.model or completion.request.model]
    if completion.usage is not None:
        parts.append(count(completion.usage.completion_tokens, "token"))
    else:
        parts.append(count(completion.chunks, "chunk"))
    parts.append(f"{completion.timings.total:.1f} s")
    if completion.tokens_per_second is not None:
        parts.append(f"{completion.tokens_per_second:.0f} tokens/s")
    goes_on = (
        way_on
        and (completion.truncated or completion.abrupt)
        and len(completion.choices) == 1
        and bool(completion.text)
    )
    parts += [completion.cost_told, f"{completion.ending}: %together continue" if goes_on else completion.ending]
    if completion.filled:
        parts.append("filled in: " + ", ".join(completion.filled))
    parts.append(completion.note)
    lines = (" ".join(part[:_LONGEST_PART].split()) for part in parts)
    return " · ".join(visible(line) for line in lines if line)


@hooks.bundle.register(Completion)
def bundle(completion: Completion, show: str = AUTO, *, alone: bool = True) -> dict[str, str]:
    """An answer as Markdown and plain text, with its footer; with tokens also as HTML."""
    shown, read = format_for(show, chat=completion.api == "chat"), parse_answer(completion)
    several = len(completion.choices) > 1
    markdown, plain = [], []
    for choice in completion.choices:
        if several:
            markdown.append(f"**Answer {choice.index + 1}**")
            plain.append(f"Answer {choice.index + 1}:")
        if choice.reasoning:
            markdown.append(thinking(choice.reasoning))
        if choice.text:
            # JSON that is invalid, or does not fit, is shown as received, with the reason.
            as_it_came = shown.name == "json" and read.reason
            markdown.append((shown.partial if as_it_came else shown.final)(choice.text))
            plain.append(visible(choice.text))
        for line in remarks(choice):
            markdown.append(literal(line))
            plain.append(visible(line))
        line = _told_of_tokens(completion, choice) if shown.of_tokens else ""
        if line:
            markdown.append(literal(line))
            plain.append(line)
    notes = list(filter(None, (read.reason, read.note)))
    for words in notes:
        markdown.append(f"*{literal(words)}*")
        plain.append(visible(words))
    footer = completion.footer(way_on=alone)
    markdown.append(f"<sub>{literal(footer)}</sub>")
    plain.append(f"[{footer}]")
    bundle = {"text/markdown": "\n\n".join(markdown), "text/plain": "\n\n".join(plain)}
    if shown.of_tokens:
        from together_nb.render.token_html import completion_html

        bundle["text/html"] = completion_html(completion, footer, notes)
    return bundle


def _told_of_tokens(completion: Completion, choice: Choice) -> str:
    """The line below an answer's tokens: the summary, or why there is none."""
    return reason_for_none(completion, choice) or summary(choice.tokens)


def thinking(reasoning: str) -> str:
    """Markdown of a folded section that holds the model's thinking."""
    return f"<details><summary>Thinking</summary>\n\n{literal(reasoning.strip())}\n\n</details>"
