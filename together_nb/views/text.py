"""Views without widgets: a terminal, one display at the end, nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from together_nb.base.escape import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from together_nb.values.chunk import Choice, Chunk
    from together_nb.values.completion import Completion
    from together_nb.wire.retry import Wait
    from together_nb.wire.stream import CompletionStream

_LEAST = 5  # unlikely tokens that a terminal lists


class SilentView:
    """The base of all views: it draws nothing."""

    def start(self, stream: CompletionStream) -> None:
        """Show that an answer is awaited."""

    def write(self, chunks: list[Chunk]) -> None:
        """Draw what has arrived since the last call; an empty list means that time has passed."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Leave what the notebook saves."""


class SilentColumns:
    """The base of all views of columns: it draws nothing.

    Parameters
    ----------
    titles
        What differs in each column.
    across
        How many belong in a row.
    show
        Name of a format.
    """

    def __init__(self, titles: Sequence[str], across: int, show: str) -> None:
        self._titles = list(titles)
        self._across = across
        self._show = show

    def begin(self, streams: Sequence[CompletionStream]) -> None:
        """Show that the answers are awaited."""

    def column(self, number: int) -> SilentView:  # noqa: ARG002  (all are alike)
        """Return the view of one answer."""
        return SilentView()

    def end(self) -> None:
        """Leave what the notebook saves."""


class OnceView(SilentView):
    """One display at the end, for nbclient, nbconvert and papermill, which keep each update.

    Parameters
    ----------
    show
        Name of the format.
    """

    def __init__(self, show: str) -> None:
        self._show = show

    def finish(self, completion: Completion, error: BaseException | None) -> None:  # noqa: ARG002  (IPython shows it)
        """Display the answer as it is saved."""
        from IPython.display import display

        display(completion.bundle(self._show), metadata={"together_nb": completion.metadata()}, raw=True)


class TerminalView(SilentView):
    """Writes each chunk to stdout as it arrives, with control characters made visible.

    A terminal cannot fold: a line says that the model thinks, and the thinking is in
    `Completion.reasoning`. Of several answers the first streams; the others follow at the end.

    Parameters
    ----------
    of_tokens
        Whether to write at the end how likely each answer was, and its least likely tokens.
    """

    def __init__(self, *, of_tokens: bool = False) -> None:
        self._of_tokens = of_tokens
        self._thinking = False
        self._refusing = False
        self._said = False
        self._stream: CompletionStream | None = None
        self._wait: Wait | None = None

    def start(self, stream: CompletionStream) -> None:
        """Report the notes on the request, and keep the stream, to report its waits."""
        self._stream = stream
        for words in stream.notes:
            write(f"({visible(words)})\n")

    def write(self, chunks: list[Chunk]) -> None:
        """Write new chunks, or report a new wait."""
        from together_nb.render.remarks import REFUSAL

        wait = None if self._stream is None else self._stream.wait
        if wait is not None and wait is not self._wait:
            write(wait_line(wait))
        self._wait = wait or self._wait
        for chunk in chunks:
            if chunk.index:
                continue
            if chunk.reasoning and not self._thinking:
                self._thinking = True
                write("(thinking …)\n")
            write(visible(chunk.text))
            if chunk.refusal and not self._refusing:
                self._refusing = True
                write(f"\n\n{REFUSAL}" if self._said else REFUSAL)
            write(visible(chunk.refusal))
            self._said = self._said or bool(chunk.text)
        sys.stdout.flush()

    def finish(self, completion: Completion, error: BaseException | None) -> None:  # noqa: ARG002  (IPython shows it)
        """Write the other answers and the footer."""
        from together_nb.render.remarks import call_lines, remarks

        for number, choice in enumerate(completion.choices):
            if number:
                said = "\n".join(filter(None, (choice.text, *remarks(choice))))
                write(f"\n\nAnswer {choice.index + 1}:\n{visible(said)}")
            else:
                write("".join(f"\n{visible(line)}" for line in call_lines(choice)))
            if self._of_tokens:
                write("".join(f"\n{line}" for line in token_lines(completion, choice)))
        write(f"\n[{completion.footer()}]\n")
        sys.stdout.flush()


def token_lines(completion: Completion, choice: Choice) -> list[str]:
    """Lines on how likely an answer was, and on its least likely tokens."""
    from together_nb.render.token_text import reason_for_none, summary, token_line
    from together_nb.values.likelihood import least_likely, whole_characters

    least = [f"  {token_line(token)}" for token in least_likely(whole_characters(choice.tokens), _LEAST)]
    return [line for line in (reason_for_none(completion, choice), summary(choice.tokens), *least) if line]


def wait_line(wait: Wait, way_out: str = "Ctrl-C") -> str:
    """The line that reports a wait and how to stop it."""
    return f"({visible(str(wait))} · {way_out} stops)\n"


def write(text: str) -> None:
    """Write to stdout, escaping what its encoding lacks."""
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
