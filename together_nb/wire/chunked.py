"""Decode HTTP's chunked transfer coding, returning all available bytes at once.

http.client returns one chunk per call, and servers send each token in a chunk of its own. When tokens arrive faster
than they are read, those calls took most of the time.

Source: https://www.rfc-editor.org/rfc/rfc9112#name-chunked-transfer-coding
"""

from __future__ import annotations

from http.client import IncompleteRead

_LONGEST_LINE = 65536  # bytes, as in http.client
_CRLF = b"\r\n"


class Dechunker:
    """Incremental decoder of a chunked body, which accepts bytes cut anywhere.

    Attributes
    ----------
    ended : bool
        Whether the last chunk and any trailer have arrived.
    broken : bool
        Whether the data after the last piece returned is malformed, so that decoding cannot go on.
    """

    def __init__(self) -> None:
        self.ended = self.broken = False
        self._rest = bytearray()  # the unfinished line
        self._left = 0  # bytes still missing from the current chunk
        self._within = False  # whether the current chunk lacks its line end
        self._last = False  # whether the last, empty chunk has arrived
        self._after_last = 0  # bytes of the trailer

    def add(self, data: bytes) -> bytes:
        """Decode more bytes; no bytes mean the end of the connection.

        Parameters
        ----------
        data
            The bytes.

        Returns
        -------
        bytes
            The chunks' content.

        Raises
        ------
        http.client.IncompleteRead
            The connection ended too early, or its data is malformed.
        """
        parts: list[bytes] = []
        try:
            self._take(data, parts)
        except IncompleteRead:
            self.broken = True
            if not parts:  # else return what was decoded first
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
            if size and data[chunk_end : chunk_end + 2] == _CRLF:  # the usual case: a complete chunk
                parts.append(data[at:chunk_end])
                at = chunk_end + 2
            else:
                self._left, self._within, self._last = size, size > 0, size == 0
        self._rest += data[at:]
        self._limit(len(self._rest))

    def _from_its_line(self, data: bytes) -> bytes:
        """Prepend the unfinished line to `data`; empty until it ends, so that it is not copied for each piece."""
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
        """Raise if a line, or the whole trailer, is unreasonably long."""
        if length > _LONGEST_LINE:
            raise IncompleteRead(b"")

    def _blank_or_trailer(self, line: bytes) -> None:
        """Handle the line that ends a chunk, or a trailer line."""
        if self._last:
            self.ended = not line
            self._after_last += len(line)
            self._limit(self._after_last)
        elif line:
            raise IncompleteRead(b"")
        self._within = False


def _size(line: bytes) -> int:
    """Parse the line with the size of a chunk."""
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        size = -1
    if size < 0:
        raise IncompleteRead(b"")
    return size
