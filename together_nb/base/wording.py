"""Text for people: counts, amounts, times, and shortened texts."""

from __future__ import annotations

from time import gmtime, strftime


def timestamp() -> str:
    """Now, in UTC as ISO 8601: ``2026-11-26T10:20:30Z``."""
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())


def dollars(amount: float) -> str:
    """An amount of US dollars with its significant digits."""
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.2g}" if amount >= 1e-4 else f"${amount:.1e}"  # noqa: PLR2004


def count(number: int, noun: str) -> str:
    """``1 chunk``, ``2 chunks``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shorten(text: str, width: int, *, one_line: bool = True) -> str:
    """Return `text` on one line, cut to `width` characters with an ellipsis."""
    if not one_line:
        return text if len(text) <= width else f"{text[: width - 1]}…"
    # A text may be of any length: split only what can be shown.
    line, rest = " ".join(text[: 4 * width].split()), text[4 * width :]
    if len(line) <= width and (not rest or rest.isspace()):
        return line
    return line[: width - 1].rstrip() + "…"
