"""Views without widgets: a terminal, one display at the end, nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from together_nb.escape import visible

if TYPE_CHECKING:
    from together_nb.client import CompletionStream
    from together_nb.completion import Chunk, Completion
    from together_nb.retry import Wait


class SilentView:
    """Draws nothing: the answer is in the variable."""

    def start(self, stream: CompletionStream) -> None:
        """Nothing to do."""

    def write(self, chunks: list[Chunk]) -> None:
        """Nothing to do."""

    def finish(self, completion: Completion, error: BaseException | None) -> None:
        """Nothing to do."""


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
        """Display the answer as it is to be saved."""
        from IPython.display import display

        display(completion.bundle(self._show), metadata={"together_nb": completion.metadata()}, raw=True)


class TerminalView(SilentView):
    """Writes each piece to stdout as it comes, control characters made visible.

    A terminal has nothing to fold: that the model thinks is said in a line, and the thinking is in
    `Completion.reasoning`. Of several answers the first streams; the others follow at the end.
    """

    def __init__(self) -> None:
        self._thinking = False
        self._stream: CompletionStream | None = None
        self._wait: Wait | None = None

    def start(self, stream: CompletionStream) -> None:
        """Keep hold of the stream: it may have to be waited for."""
        self._stream = stream

    def write(self, chunks: list[Chunk]) -> None:
        """Write what has come, or that it is waited for."""
        wait = None if self._stream is None else self._stream.wait
        if wait is not None and wait is not self._wait:
            _write(waiting(wait))
        self._wait = wait or self._wait
        for chunk in chunks:
            if chunk.index:
                continue
            if chunk.reasoning and not self._thinking:
                self._thinking = True
                _write("(thinking …)\n")
            _write(visible(chunk.text))
        sys.stdout.flush()

    def finish(self, completion: Completion, error: BaseException | None) -> None:  # noqa: ARG002  (IPython shows it)
        """Write the other answers and the footer."""
        for choice in completion.choices[1:]:
            _write(f"\n\nAnswer {choice.index + 1}:\n{visible(choice.text)}")
        _write(f"\n[{completion.footer()}]\n")
        sys.stdout.flush()


def waiting(wait: Wait, way_out: str = "Ctrl-C") -> str:
    """The line that tells of a wait, and of what stops it."""
    return f"({visible(str(wait))} · {way_out} stops)\n"


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
    except UnicodeEncodeError:  # a terminal of few characters
        encoding = sys.stdout.encoding or "ascii"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
