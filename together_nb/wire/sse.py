"""Bytes → server-sent events → JSON payloads, and the terminator.

sseclient-py splits events into fields, as the specification has it, and this is the only module
that imports it. What it would get wrong is put right in front of it, on the bytes: it is handed
whole events with plain line ends and valid UTF-8, and nothing else. So a tail cut in mid-event is
never dispatched, however the bytes were cut into pieces, and the terminator is always an event.
Events of one line that holds data in JSON, as nearly all are, have no fields to be split into.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import json
import re
from time import monotonic
from typing import TYPE_CHECKING, Any

from together_nb.errors import StreamError, TogetherError

try:
    from sseclient import SSEClient
except ImportError as error:  # the package `sseclient`, by another author, has the same import name
    raise TogetherError("sseclient-py is not installed.", "Run: pip install sseclient-py") from error
if not hasattr(SSEClient, "events"):
    raise TogetherError(
        "The package `sseclient` stands where `sseclient-py` should: they share an import name.",
        "Run: pip uninstall -y sseclient && pip install --force-reinstall sseclient-py",
    )

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DONE = "[DONE]"
_DONE = DONE.encode()
_BOM = b"\xef\xbb\xbf"
_END = b"\n\n"
_DATA = b"data:"
LONGEST = 16 * 2**20  # bytes of an event
MOST_LINES = 100_000  # of an event, comments among them
_MARGIN = 64  # bytes before the terminator on its line
_LINES = 32  # that sseclient is given at once: it copies all that it has for each
_GROUP_SECONDS = 0.05
_NOT_THE_END = re.compile(rb'"finish_reason": ?null')
_THE_END = re.compile(rb'"finish_reason":(?! ?null)|\[DONE\]')
_OBJECT_BEGINS = re.compile(rb"data:[ \t]{0,64}\{")


class Payloads:
    """Iterator of the JSON objects that a reply's bytes carry.

    Parameters
    ----------
    pieces
        The bytes, cut anywhere.

    Attributes
    ----------
    terminated : bool
        Whether the terminator has come. A stream that ends without it may have been cut.

    Raises
    ------
    StreamError
        On iteration: an event holds something that is not a JSON object.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.terminated = False
        self._rest = bytearray()  # of what has come, what is not yet a whole event
        self._iterator = self._payloads(pieces)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._iterator

    @property
    def within_an_event(self) -> bool:
        """Whether the bytes end within an event, so that something of it has come; a comment is none."""
        return re.search(rb"^[^:\n]", bytes(self._rest), re.MULTILINE) is not None

    def _payloads(self, pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        for block in whole_events(pieces, self._rest):
            for event in block.decode().split("\n\n"):
                # The usual event is one line, in which sseclient would only look for more.
                if event.startswith(("data: {", "data:{")) and "\n" not in event:
                    yield _json_object(event[len("data:") :].removeprefix(" "))
                    continue
                for data in _by_sseclient(event) if event else ():
                    if data.startswith(DONE):
                        self.terminated = True
                        return
                    if data.strip():  # `data:` alone keeps a connection alive
                        yield _json_object(data)


def _by_sseclient(event: str) -> Iterator[str]:
    """The data of an event of any shape, if it has any."""
    lines = event.split("\n")
    parts = ("\n".join(lines[start : start + _LINES]) for start in range(0, len(lines), _LINES))
    data = [read.data for part in parts for read in SSEClient(iter([f"{part}\n\n".encode()])).events()]
    if data:
        yield "\n".join(data)


def _json_object(data: str) -> dict[str, Any]:
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise StreamError(
            f"The server sent an event that is not a JSON object: {data[:60]!r}.",
            "What came before it is kept.",
        )
    return payload


def in_groups(pieces: Iterable[bytes], begun: Callable[[], bool]) -> Iterator[bytes]:
    """`pieces`, those of a twentieth of a second in one: for an answer that nobody watches.

    None that might be among the last is kept waiting, and none that had come is lost.

    Parameters
    ----------
    pieces
        The bytes as they arrive.
    begun
        Whether anything of the answer has been read; before that nothing is kept waiting either.
    """
    held: list[bytes] = []
    given = -_GROUP_SECONDS
    broke: Exception | None = None
    try:
        for piece in pieces:
            held.append(piece)
            now = monotonic()
            if now - given >= _GROUP_SECONDS or not begun() or not _in_mid_answer(piece):
                group, given = b"".join(held), now
                held.clear()
                yield group
    except Exception as error:  # noqa: BLE001  (raised again, after what had come)
        broke = error
    if held:
        yield b"".join(held)
    if broke is not None:
        raise broke


def _in_mid_answer(piece: bytes) -> bool:
    """Whether a piece says of an answer that it goes on, and of none that it ends. Servers that say neither are not waited for."""
    return _NOT_THE_END.search(piece) is not None and _THE_END.search(piece) is None


def whole_events(pieces: Iterable[bytes], buffer: bytearray | None = None) -> Iterator[bytes]:
    r"""Blocks of whole events: ``\n`` line ends, a blank line after each event, valid UTF-8.

    Ends after the terminator, which comes as ``data: [DONE]``, ``data:[DONE]`` or a bare
    ``[DONE]`` line, and is always an event here. What follows on its line does not matter: no JSON
    begins so, and a server that keeps the connection open may never send it.

    Parameters
    ----------
    pieces
        The bytes as they arrive; empty pieces are passed over.
    buffer
        Holds what is not yet a whole event.
    """
    buffer = bytearray() if buffer is None else buffer
    searched = 0  # neither a blank line nor a terminator ends before here
    lines = _LineEnds(buffer)
    for piece in _plain_lines(_without_bom(pieces)):
        buffer += piece
        ended = _terminator(buffer, max(searched - len(_DONE), 0))
        blank = buffer.rfind(_END, max(searched - 1, 0))
        end = ended or lines.last_end(0 if blank < 0 else blank + len(_END), searched)
        if end:
            yield _mended(bytes(buffer[:end]))
            if ended:
                return
            del buffer[:end]
            lines.forget(end)
        searched = len(buffer)
        if searched > LONGEST or lines.count > MOST_LINES:
            raise StreamError(
                f"The server sent an event of more than {LONGEST // 2**20} MiB or {MOST_LINES:,} lines.",
                "What came before it is kept.",
            )


def _terminator(buffer: bytearray, start: int) -> int:
    """Where the terminator ends in `buffer`, looked for from `start` on; 0 where there is none."""
    found = buffer.find(_DONE, start)
    while found >= 0:
        # A line that goes on further back is none: it would be looked through for each that is found on it.
        before = bytes(buffer[max(found - _MARGIN, 0) : found]).rpartition(b"\n")[2]
        if len(before) < _MARGIN and before.strip() in (b"", b"data:"):
            return found + len(_DONE)
        found = buffer.find(_DONE, found + 1)
    return 0


def _closes(line: bytes | bytearray) -> bool:
    """Whether a line of data may end an event, though no blank line follows.

    Events stand line under line as the tutorial prints them, comments between or not. `}` is never followed by `{` within
    one JSON text, so that a pretty-printed one over several lines is not torn apart.
    """
    return line.rstrip(b" \t").endswith(b"}")


def _apart(block: bytes) -> bytes:
    """`block` with a blank line after each event that stands above another."""
    lines = block.split(b"\n")
    closed: int | None = None  # the last line of data, where an event may end with it
    for number, line in enumerate(lines):
        if line.startswith(_DATA):
            if closed is not None and _OBJECT_BEGINS.match(line):
                lines[closed] += b"\n"
            closed = number if _closes(line) else None
        elif not line:
            closed = None
    return b"\n".join(lines)


class _LineEnds:
    """Tells where events end that stand line under line; each line is looked at once, in however many pieces it comes.

    Parameters
    ----------
    buffer
        Holds what is not yet a whole event.

    Attributes
    ----------
    count : int
        Lines that have been looked at and are still in the buffer.
    """

    def __init__(self, buffer: bytearray) -> None:
        self.count = 0
        self._buffer = buffer
        self._line = 0  # where the first line begins that has not been looked at
        self._closed = 0  # where the last line of data ends, if its JSON may end with it; else 0

    def last_end(self, end: int, searched: int) -> int:
        """Where the last whole event ends; 0 where there is none.

        Parameters
        ----------
        end
            Where the last blank line ends, or 0: what ends before it is in the block anyway.
        searched
            What stands before it was there before.
        """
        buffer = self._buffer
        if end:
            self._line, self._closed = end, 0
        while True:
            is_data = buffer.startswith(_DATA, self._line)
            if is_data and self._closed and _OBJECT_BEGINS.match(buffer, self._line):
                end, self._closed = self._closed, 0
            line_end = buffer.find(b"\n", max(self._line, searched))
            if line_end < 0:
                return end
            if is_data:
                self._closed = line_end + 1 if _closes(buffer[self._line : line_end]) else 0
            self._line = line_end + 1
            self.count += 1

    def forget(self, end: int) -> None:
        """What ends there has been taken out of the buffer."""
        self.count = 0
        self._line -= end
        self._closed = max(self._closed - end, 0)


def _without_bom(pieces: Iterable[bytes]) -> Iterator[bytes]:
    start: bytes | None = b""
    for piece in pieces:
        if start is None:
            yield piece
            continue
        start += piece
        if len(start) >= len(_BOM) or not _BOM.startswith(start):
            yield start.removeprefix(_BOM)
            start = None


def _plain_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    r"""`pieces` with ``\r\n`` and ``\r`` turned into ``\n``, at once though a ``\n`` may follow."""
    after_return = False
    for piece in pieces:
        plain = piece[1:] if after_return and piece.startswith(b"\n") else piece
        if piece:
            after_return = piece.endswith(b"\r")
        if b"\r" in plain:
            plain = plain.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if plain:
            yield plain


def _mended(block: bytes) -> bytes:
    """`block` such that sseclient reads it right."""
    try:
        block.isascii() or block.decode()
    except UnicodeDecodeError:
        block = block.decode(errors="replace").encode()
    # The usual case: each event is one line, and a blank one follows. Then nothing can be glued together.
    if block.count(b"\n") == 2 * block.count(_END) and not block.endswith(_DONE):
        return block
    block = _apart(block)
    if block.endswith(_DONE):  # the terminator: only `_terminator` ends a block so
        return block[: block.rfind(b"\n") + 1] + b"\ndata: " + _DONE + _END
    return block if block.endswith(_END) else block + b"\n"
