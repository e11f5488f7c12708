"""A body that HTTP sends in chunks → the bytes that are in them, all of those that have come.

http.client hands over one chunk at a call, and servers put each token into a chunk of its own: where tokens come
faster than they are taken, most of the time went into those calls.

Source: https://www.rfc-editor.org/rfc/rfc9112#name-chunked-transfer-coding
"""

from __future__ import annotations

from http.client import IncompleteRead

_LONGEST_LINE = 65536  # bytes, as in http.client
_CRLF = b"\r\n"


class Dechunker:
    """Takes the bytes of a body in chunks, cut anywhere, and gives those that are in the chunks.

    Attributes
    ----------
    ended : bool
        Whether the last chunk and what may follow it have come.
    broken : bool
        Whether what has come after the last piece that was given is not in chunks: nothing more is to be taken.
    """

    def __init__(self) -> None:
        self.ended = self.broken = False
        self._rest = bytearray()  # of a line that has no end yet
        self._left = 0  # bytes that are still to come of the chunk that has begun
        self._within = False  # whether a chunk has begun whose line end has not come
        self._last = False  # whether the last chunk has come, which is empty
        self._after_last = 0  # bytes of what follows it

    def add(self, data: bytes) -> bytes:
        """Take what has come; nothing is the end of the connection.

        Parameters
        ----------
        data
            The bytes.

        Returns
        -------
        bytes
            What was in the chunks.

        Raises
        ------
        http.client.IncompleteRead
            The connection ended too early, or what it brings is not in chunks.
        """
        parts: list[bytes] = []
        try:
            self._take(data, parts)
        except IncompleteRead:
            self.broken = True
            if not parts:  # else what had come before it is given first
                raise
        return b"".join(parts)

    def _take(self, data: bytes, parts: list[bytes]) -> None:
        if self.broken:
            raise IncompleteRead(b"")
        if not data:
            if not self._last:
                raise IncompleteRead(b"")
            self.ended = True
        data, at = self._from_its_line(data), 0
        while at < len(data) and not self.ended:
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at, self._left = at + len(part), self._left - len(part)
                continue
            line_end = data.find(b"\n", at)
            if line_end < 0:
                break
            line, at = data[at:line_end], line_end + 1
            if self._within or self._last:
                self._blank_or_trailer(line.rstrip(b"\r"))
                continue
            size = _size(line)
            chunk_end = at + size
            if size and data[chunk_end : chunk_end + 2] == _CRLF:  # the usual case: all of it is here
                parts.append(data[at:chunk_end])
                at = chunk_end + 2
            else:
                self._left, self._within, self._last = size, size > 0, size == 0
        self._rest += data[at:]
        self._limit(len(self._rest))

    def _from_its_line(self, data: bytes) -> bytes:
        """`data` after the beginning of its line; nothing while the line has no end: it is not copied for each piece."""
        if not self._rest:
            return data
        self._rest += data
        if b"\n" not in data:
            return b""
        data = bytes(self._rest)
        self._rest.clear()
        return data

    @staticmethod
    def _limit(length: int) -> None:
        """Raise where a line, or all that follows the last chunk, is longer than there is sense in."""
        if length > _LONGEST_LINE:
            raise IncompleteRead(b"")

    def _blank_or_trailer(self, line: bytes) -> None:
        """Take the line that ends a chunk, or one of those after the last chunk."""
        if self._last:
            self.ended = not line
            self._after_last += len(line)
            self._limit(self._after_last)
        elif line:
            raise IncompleteRead(b"")
        self._within = False


def _size(line: bytes) -> int:
    """The size that a line before a chunk tells."""
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        size = -1
    if size < 0:
        raise IncompleteRead(b"")
    return size
