"""A conversation as a notebook saves it."""

from __future__ import annotations

from together_nb.base.escape import literal, visible
from together_nb.values import hooks
from together_nb.values.conversation import Conversation


@hooks.bundle.register(Conversation)
def bundle(conversation: Conversation) -> dict[str, str]:
    """The turns as Markdown and plain text."""
    markdown, plain = [], []
    for number, turn in enumerate(conversation.turns):
        mark = f" · {turn.mark}" if turn.mark else ""
        if turn.system is not None:
            markdown.append(f"**system** {literal(turn.system)}")
            plain.append(f"system: {visible(turn.system)}")
        markdown += [
            f"**[{number}] you** {literal(turn.prompt)}",
            f"**model** {literal(turn.answer)}{literal(mark)}",
        ]
        plain += [f"[{number}] you: {visible(turn.prompt)}", f"model: {visible(turn.answer)}{mark}"]
    if not conversation.turns:
        markdown, plain = ["(no turns yet)"], ["(no turns yet)"]
    return {"text/markdown": "\n\n".join(markdown), "text/plain": "\n".join(plain)}
