"""The status line: a state that screen readers announce, and figures that they do not."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from together_nb.base.wording import count, dollars
from together_nb.views.parts import DrawnValue, escaped, note, row

if TYPE_CHECKING:
    from together_nb.values.completion import Completion
    from together_nb.wire.retry import Wait
    from together_nb.wire.stream import CompletionStream


class State(Enum):
    """The panel's states, in the words shown and announced."""

    READY = "Ready"
    WAITING = "Waiting for the first token"
    RETRYING = "Waiting to try again"
    ANSWERING = "Answering"
    DONE = "Done"
    CUT = "Cut at its limit"
    STOPPED = "Stopped"
    LOST = "Connection lost"
    FAILED = "Failed"

    @property
    def running(self) -> bool:
        """Whether an answer is under way."""
        return self in (State.WAITING, State.RETRYING, State.ANSWERING)

    @classmethod
    def after(cls, completion: Completion) -> State:
        """The state after an answer has ended."""
        if completion.cancelled:
            return cls.STOPPED
        if completion.error:
            return cls.LOST if completion.error == "connection lost" else cls.FAILED
        return cls.CUT if completion.truncated else cls.DONE


class StatusLine:
    """State, tokens, tokens a second, time to the first token, cost."""

    def __init__(self) -> None:
        # The live region contains all states from the start, and a class shows one of them: a region that
        # is redrawn would not be announced.
        states = "".join(f'<span class="tnb-is-{state.name.lower()}">{state.value}</span>' for state in State)
        self._state = note("state")
        self._state.value = f'<span role="status" aria-live="polite">{states}</span>'
        self._figures = DrawnValue(note("figures"))
        self.box = row("status", self._state, self._figures.widget)
        self.state = State.READY
        self._state.add_class("tnb-now-ready")

    def to(self, state: State) -> None:
        """Show and announce `state`."""
        if state is not self.state:
            kept = [name for name in self._state._dom_classes if not name.startswith("tnb-now-")]  # noqa: SLF001
            self._state._dom_classes = (*kept, f"tnb-now-{state.name.lower()}")  # noqa: SLF001  (one message, not two)
            self.state = state

    def clear(self) -> None:
        """Remove the figures."""
        self._figures.set("")

    def waiting(self, wait: Wait) -> None:
        """Show the wait before the request is retried."""
        self._figures.set(f"<span>{escaped(str(wait))}</span>")

    def streaming(self, stream: CompletionStream, before: Completion | None) -> None:
        """Show the figures of a streaming answer; `before` is the partial that it continues."""
        chunks, seconds = stream.chunks, stream.seconds
        first = stream.first_token
        parts = [(count(chunks + (before.chunks if before else 0), "chunk"), "so far")]
        if first is not None and chunks > 1 and seconds > first:
            parts.append((f"{(chunks - 1) / (seconds - first):.0f}", "chunks/s"))
        figures = [*parts, (_seconds(first), "to the first token"), (f"{seconds:.1f} s", "in all")]
        self._draw([*figures, *((words, "") for words in stream.notes)])

    def ended(self, completion: Completion) -> None:
        """Show the figures of a finished answer, with the server's count if it sent one."""
        usage, rate, timings = completion.usage, completion.tokens_per_second, completion.timings
        counted = count(completion.chunks, "chunk") if usage is None else count(usage.completion_tokens, "token")
        parts = [(counted, "")]
        if rate is not None:
            parts.append((f"{rate:.0f}", "tokens/s"))
        parts += [(_seconds(timings.first_token), "to the first token"), (f"{timings.total:.1f} s", "in all")]
        if completion.cost is not None:
            parts.append((dollars(completion.cost), ""))
        self._draw(parts)

    def _draw(self, parts: list[tuple[str, str]]) -> None:
        self._figures.set(
            "".join(
                f"<span><b>{escaped(value)}</b>{' ' if unit else ''}{escaped(unit)}</span>"
                for value, unit in parts
                if value
            )
        )


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.2f} s"
