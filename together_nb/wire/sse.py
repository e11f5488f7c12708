"""Bytes → server-sent events → JSON payloads, and the terminator.

sseclient-py splits events into fields, as specified, and only this module imports it. What it
would get wrong is corrected beforehand, on the bytes: it receives only whole events with plain
line ends and valid UTF-8. So a tail cut in mid-event is never dispatched, however the bytes were
split, and the terminator is always an event. Nearly all events are one line of JSON data; those
need no splitting.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import json
import re
from time import monotonic
from typing import TYPE_CHECKING, Any

from together_nb.errors import StreamError, TogetherError
from together_nb.wire.error_words import failure

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
_OTHER_DONE = re.compile(r"""["'<\[({]*done["'>\])}.]*""", re.IGNORECASE)  # `DONE`, `"[DONE]"`
_DONE = DONE.encode()
_BOM = b"\xef\xbb\xbf"
_END = b"\n\n"
_DATA = b"data:"
LONGEST = 16 * 2**20  # bytes of an event
MOST_LINES = 100_000  # of an event, with comments
_MARGIN = 64  # bytes before the terminator on its line
_LINES = 32  # given to sseclient at once: it copies its buffer for each line
_DECODER = json.JSONDecoder(strict=False)
_GROUP_SECONDS = 0.05
_NOT_THE_END = re.compile(rb'"finish_reason": ?null')
_THE_END = re.compile(rb'"finish_reason":(?! ?null)|\[DONE\]')
_OBJECT_BEGINS = re.compile(rb"data:[ \t]{0,64}\{")
_FIELD = re.compile(r"(?:data|event|id|retry|error)?:")
_NAME = re.compile(r"^event:[ ]?(.*)$", re.MULTILINE)
_FAILURE = re.compile(r"^error:(.*)$", re.MULTILINE)
_FAILURE_NAME = re.compile("error|exception|fail", re.IGNORECASE)
_NEWS = re.compile(
    r"\W*(ping|pong|heart[-_ ]?beat|keep[-_ ]?alive|status|info|progress|queue[d]?|notice|warning)\W*", re.IGNORECASE
)
_LONGEST_STRAY = 300  # characters of a text that is no event
_NOTHING = ("null", "{}", "[]", '""')


class Payloads:
    """Iterator over the JSON objects in a reply's bytes; a failure told outside of JSON becomes ``{"error": …}``.

    What keeps a connection alive (comments, pings, empty data) is skipped.

    Parameters
    ----------
    pieces
        The bytes, cut anywhere.

    Attributes
    ----------
    terminated : bool
        Whether the terminator has arrived. A stream without it may be truncated.
    stray : str
        The beginning of what came and is no event, such as the words of a server that failed; "" if nothing did.

    Raises
    ------
    StreamError
        On iteration: an event's data is not a JSON object, and nothing that is known beside.
    """

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.terminated = False
        self.stray = ""
        self._rest = bytearray()  # bytes that are not yet a whole event
        self._iterator = self._payloads(pieces)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._iterator

    @property
    def within_an_event(self) -> bool:
        """Whether the bytes end within an event that has begun; comments do not count."""
        return re.search(rb"^[^:\n]", bytes(self._rest), re.MULTILINE) is not None

    def _payloads(self, pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        for block in whole_events(pieces, self._rest):
            for event in block.decode().split("\n\n"):
                # The usual event is one line, with nothing for sseclient to split.
                if event.startswith(("data: {", "data:{")) and "\n" not in event:
                    yield _json_object(event[len("data:") :].removeprefix(" "))
                    continue
                yield from self._read(event)
                if self.terminated:
                    return
        yield from self.last()

    def _read(self, event: str) -> Iterator[dict[str, Any]]:
        """Yield the payloads of an event of any shape."""
        if not event:
            return
        raw = event.partition("data:")[2]
        whole = _parsed(raw) if "\n" in raw else None
        if isinstance(whole, dict):  # a line break within one of its strings
            yield whole
            return
        lines, bare = _without_json_line(event.split("\n"))
        event = "\n".join(lines)
        name = "".join(_NAME.findall(event)[-1:]).strip()
        data = _data(lines).strip()
        while data.startswith("data:"):  # wrapped twice by a gateway
            data = data.removeprefix("data:").lstrip()
        yield from self._told(name, data)
        for told in filter(None, map(str.strip, _FAILURE.findall(event))):
            yield _as_failure(told)
        if bare is not None:
            yield bare
        elif not any(map(_FIELD.match, lines)):
            self.stray = self.stray or event.strip()[:_LONGEST_STRAY]

    def _told(self, name: str, data: str) -> Iterator[dict[str, Any]]:
        """Yield the payload of an event's name and data, if it has one."""
        if data.startswith(DONE) or _OTHER_DONE.fullmatch(data):
            self.terminated = True
        elif _FAILURE_NAME.search(name):
            yield _as_failure(data or f"an event `{name[:60]}` without data")
        elif data in ("", *_NOTHING) or data.startswith(":") or _NEWS.fullmatch(data) or _NEWS.fullmatch(name):
            pass
        elif name in ("", "message") or data.startswith("{"):
            yield _json_object(data)

    def last(self) -> Iterator[dict[str, Any]]:
        """Yield the last event if only its blank line is missing: where the reply ended in good order, or is silent."""
        tail = _mended(bytes(self._rest) + b"\n").decode() if self._rest else ""
        for event in tail.split("\n\n"):
            try:
                payloads = list(self._read(event))
            except StreamError:
                return
            if payloads:
                self._rest.clear()
                yield from payloads


def _data(lines: list[str]) -> str:
    """Return the data of an event of any shape, or ""."""
    parts = ("\n".join(lines[start : start + _LINES]) for start in range(0, len(lines), _LINES))
    return "\n".join(read.data for part in parts for read in SSEClient(iter([f"{part}\n\n".encode()])).events())


def _without_json_line(lines: list[str]) -> tuple[list[str], dict[str, Any] | None]:
    """Return the lines of an event without JSON that stands there without ``data:``, and that JSON, if it is an object."""
    start = next((number for number, line in enumerate(lines) if line.startswith(("{", "[{"))), None)
    if start is None:
        return lines, None
    end = next((number for number in range(start + 1, len(lines)) if _FIELD.match(lines[number])), len(lines))
    found = _parsed("\n".join(lines[start:end]))
    found = _of_list(found)
    return (lines[:start] + lines[end:], found) if isinstance(found, dict) else (lines, None)


def _as_failure(told: str) -> dict[str, Any]:
    """Return a payload that reports a failure, from its JSON or its words."""
    found = _parsed(told)
    if isinstance(found, dict) and found.get("error"):
        return found
    return {"error": told if found is None and told != "null" else found}


def _parsed(text: str) -> Any:
    """Return the value of JSON text; None for other text. Control characters within its strings are read as they are."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _of_list(value: Any) -> Any:
    """Return the failure that a list holds (Gemini), and anything else as it is."""
    return value[0] if isinstance(value, list) and failure(value) is not None else value


def _json_object(data: str) -> dict[str, Any]:
    """Return the JSON object of an event's data."""
    payload = _of_list(_parsed(data))
    if not isinstance(payload, dict):
        raise StreamError(f"The server sent an event that is not a JSON object: {data[:60]!r}.")
    return payload


def in_groups(pieces: Iterable[bytes], begun: Callable[[], bool]) -> Iterator[bytes]:
    """Group `pieces` by twentieths of a second, for an answer that nobody watches.

    Pieces that may be the last are not delayed, and an error loses none.

    Parameters
    ----------
    pieces
        The bytes as they arrive.
    begun
        Whether any of the answer has been read; until then, nothing is delayed either.
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
    """Whether a piece says that some answer goes on and none ends. Pieces that say neither are not delayed."""
    return _NOT_THE_END.search(piece) is not None and _THE_END.search(piece) is None


def whole_events(pieces: Iterable[bytes], buffer: bytearray | None = None) -> Iterator[bytes]:
    r"""Blocks of whole events: ``\n`` line ends, a blank line after each event, valid UTF-8.

    Ends after the terminator, which arrives as ``data: [DONE]``, ``data:[DONE]`` or a bare
    ``[DONE]`` line, and is always an event here. The rest of its line is ignored: no JSON
    begins this way, and a server that keeps the connection open may never send it.

    Parameters
    ----------
    pieces
        The bytes as they arrive; empty pieces are skipped.
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
            raise StreamError(f"The server sent an event of more than {LONGEST // 2**20} MiB or {MOST_LINES:,} lines.")


def _terminator(buffer: bytearray, start: int) -> int:
    """Find the end of the terminator in `buffer`, searching from `start`; 0 if there is none."""
    found = buffer.find(_DONE, start)
    while found >= 0:
        # A longer line is no terminator: scanning it again for each match would be quadratic.
        before = bytes(buffer[max(found - _MARGIN, 0) : found]).rpartition(b"\n")[2]
        if len(before) < _MARGIN and before.strip() in (b"", b"data:"):
            return found + len(_DONE)
        found = buffer.find(_DONE, found + 1)
    return 0


def _closes(line: bytes | bytearray) -> bool:
    """Whether a data line may end an event although no blank line follows.

    The tutorial prints events on consecutive lines, sometimes with comments between. Within one JSON text, `}` is never
    followed by `{`, so JSON that is pretty-printed over several lines is not split.
    """
    return line.rstrip(b" \t").endswith(b"}")


def _apart(block: bytes) -> bytes:
    """Insert a blank line after each event directly followed by another."""
    lines = block.split(b"\n")
    closed: int | None = None  # the last data line, if an event may end there
    for number, line in enumerate(lines):
        if line.startswith(_DATA):
            if closed is not None and _OBJECT_BEGINS.match(line):
                lines[closed] += b"\n"
            closed = number if _closes(line) else None
        elif not line:
            closed = None
    return b"\n".join(lines)


class _LineEnds:
    """Finds where events on consecutive lines end, examining each line once, however many pieces it arrives in.

    Parameters
    ----------
    buffer
        Holds what is not yet a whole event.

    Attributes
    ----------
    count : int
        Examined lines that are still in the buffer.
    """

    def __init__(self, buffer: bytearray) -> None:
        self.count = 0
        self._buffer = buffer
        self._line = 0  # start of the first unexamined line
        self._closed = 0  # end of the last data line if its JSON may end there, else 0

    def last_end(self, end: int, searched: int) -> int:
        """Return the end of the last whole event, or 0.

        Parameters
        ----------
        end
            End of the last blank line, or 0: events before it are in the block anyway.
        searched
            Where the new bytes begin.
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
        """Account for `end` bytes removed from the buffer."""
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
    r"""Replace ``\r\n`` and ``\r`` by ``\n``, without waiting for a ``\n`` that may follow."""
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
    """Fix what sseclient would misread."""
    try:
        block.isascii() or block.decode()
    except UnicodeDecodeError:
        block = block.decode(errors="replace").encode()
    # The usual case: each event is one line followed by a blank one, so no events need separating.
    if block.count(b"\n") == 2 * block.count(_END) and not block.endswith(_DONE):
        return block
    block = _apart(block)
    if block.endswith(_DONE):  # only `_terminator` ends a block this way
        return block[: block.rfind(b"\n") + 1] + b"\ndata: " + _DONE + _END
    return block if block.endswith(_END) else block + b"\n"
