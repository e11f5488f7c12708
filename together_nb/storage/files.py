"""Reading and writing of this package's files, which are JSON Lines.

One rule for all: without any key, whole or not at all, regular files only, of bounded size; an existing file is
replaced only if that is asked for.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import os
import re
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from together_nb.base.file_lock import file_lock
from together_nb.errors import InputError
from together_nb.storage.redact import without_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from together_nb.config.keys import Key

LARGEST_FILE = 256 * 2**20
LONGEST_LINE = 64 * 2**20
MOST_VALUES = 4_000_000
"""In a line: each takes up to 100 bytes of memory, but as few as two in the file."""
MOST_IN_ALL = 12_000_000  # values in a file
MOST_BROKEN = 1000  # lines
_LOCKED_FOR = 5.0  # seconds that another process may hold the lock
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?')  # also matches an unterminated one: else this is quadratic
_NAMED = 10  # lines
_SPLIT = "Make several smaller files."
_EXISTS = "Take another name, or add --force (force=True) to replace it."
_NOT_OURS = "It was not written by together_nb."

Identity = tuple[int, int]


def checked_path(path: Any, example: str) -> Path:
    """Return the path that a user names.

    Raises
    ------
    InputError
        It is not one.
    """
    hint = f"For example: {example}"
    if not isinstance(path, (str, Path)) or not str(path).strip():
        raise InputError("A file's name is missing.", hint)
    try:
        os.fsencode(str(path))
        if "\0" not in str(path):
            return Path(path).expanduser()
    except (RuntimeError, ValueError):
        pass  # no such user, or half a character
    raise InputError(f"{str(path)!r} cannot be a file's name.", hint)


def line_of(value: Any, sent: Key | None = None, **clean: Any) -> str:
    """Return a value as a line of JSON without any key, neither a known one nor the one `sent`.

    The fields `clean`, of a dict, hold none any more.

    Strict JSON has no infinity, which a log-probability may be: it is written as a text (``"-Infinity"``).

    Raises
    ------
    TypeError, ValueError, RecursionError
        JSON cannot hold the value.
    """
    value = without_keys(value, sent)
    if clean:
        value |= clean
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    """Replace numbers that JSON lacks by their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value


def write(
    path: Path, rows: Iterable[Any], *, force: bool = False, check: Callable[[Path], object] | None = None
) -> Identity:
    """Write a file atomically: until it is whole, the old one stays.

    Parameters
    ----------
    path
        The file.
    rows
        The JSON value of each line.
    force
        Replace an existing file, which must be a regular one; its mode stays. Otherwise there must be none.
    check
        Reads the file back under a temporary name, and raises if it is not as intended.

    Returns
    -------
    tuple of (int, int)
        Device and inode of the file, which identify it later.

    Raises
    ------
    InputError
        The file exists, is not a regular one, or cannot be written.
    """
    try:
        before = _before(path, force=force)
        partial = path.with_name(f".{secrets.token_hex(8)}.partial")
        file = os.open(
            partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK | _FLAGS, 0o666 if before is None else 0o600
        )
        try:
            with os.fdopen(file, "wb") as stream:
                for row in rows:
                    stream.write(f"{line_of(row)}\n".encode())
                stream.flush()
                if before is not None:
                    _take_over(stream.fileno(), before)
                identity = _identity(os.fstat(stream.fileno()))
            if check is not None:
                _check(partial, path, check)
            if force:
                _before(path, force=True)  # again: writing may take long
                os.replace(partial, path)  # noqa: PTH105  (replaces on Windows too, as Path.replace does)
            else:
                _put(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
    except FileExistsError:
        raise InputError(f"{path} exists already.", _EXISTS) from None
    except RecursionError:
        raise InputError(f"{path} cannot be written: what is in it is nested too deep.") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be written as JSON: {error}.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}.", "The folder must exist; check the name."
        ) from None
    return identity


def _check(partial: Path, path: Path, check: Callable[[Path], object]) -> None:
    try:
        check(partial)
    except InputError as error:
        text = error.message.replace(str(partial), str(path))
        raise InputError(f"It was not written, since it could not be read again: {text}", error.hint) from None


def _before(path: Path, *, force: bool) -> os.stat_result | None:
    """Return the status of the existing file, if it may be replaced."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if not force:
        raise InputError(f"{path} exists already.", _EXISTS)
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is {_kind(found.st_mode)}, and is not replaced.", "Name a file.")
    if not os.access(path, os.W_OK):
        raise InputError(f"{path} is read-only, and is not replaced.", "Take another name.")
    return found


def _take_over(file: int, before: os.stat_result) -> None:
    """Copy the replaced file's owner and mode; if the owner cannot be set, nobody else may read it."""
    if not hasattr(os, "fchmod"):
        return
    mode, now = stat.S_IMODE(before.st_mode) & 0o777, os.fstat(file)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        try:
            os.fchown(file, before.st_uid, before.st_gid)
        except OSError:
            mode &= 0o700
    os.fchmod(file, mode)


def _put(partial: Path, path: Path) -> None:
    """Give a file its name, unless that was taken meanwhile."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without links
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS))
        os.replace(partial, path)  # noqa: PTH105


def append(path: Path, line: str, identity: Identity) -> None:
    """Append a line, whole or not at all, to a file from `write`.

    Parameters
    ----------
    path, identity
        Of the file.
    line
        What `line_of` returned.

    Raises
    ------
    OSError
        It cannot be written, or was replaced by another. The file is unchanged.
    """
    data = f"{line}\n".encode()
    file = os.open(path, os.O_RDWR | _NO_LINK | _FLAGS)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or _identity(found) != identity:
            raise FileNotFoundError(0, "Another file has taken its place")
        with file_lock(file, _LOCKED_FOR):
            end = os.lseek(file, 0, os.SEEK_END)
            if end + len(data) > LARGEST_FILE or len(data) > LONGEST_LINE:
                raise OSError(0, "It would be too large to be read again")
            try:
                if end and os.lseek(file, end - 1, os.SEEK_SET) >= 0 and os.read(file, 1) != b"\n":
                    data = b"\n" + data  # a writer was killed within a line
                while data:
                    data = data[os.write(file, data) :]
            except BaseException:
                os.ftruncate(file, end)
                raise
    finally:
        os.close(file)


class BrokenError(ValueError):
    """A line or a document is not JSON."""


class JsonLines:
    """The lines of a JSON Lines file, in order.

    Iterating yields the number of each line, from 1, and its value; blank lines are skipped.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        It cannot be read, is not a regular file, or is too large; a line is too long, or exceeds another limit.

    Attributes
    ----------
    broken : list of int
        Numbers of the lines that are not JSON, which are left out.
    cut : bool
        Whether the last line is one of them: its writer was stopped.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.broken: list[int] = []
        self.cut = False

    @property
    def left_out(self) -> str:
        """What could not be read, in a sentence or two; "" if nothing."""
        within = self.broken[: -1 if self.cut else None]
        parts = []
        if within:
            numbers = ", ".join(map(str, within[:_NAMED])) + ", …" * (len(within) > _NAMED)
            parts.append(
                f"Line {numbers} is broken, and is left out."
                if len(within) == 1
                else f"Lines {numbers} are broken, and are left out."
            )
        if self.cut:
            parts.append("Its last line was cut, and is left out.")
        return " ".join(parts)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        with _opened(self.path) as file:
            number = values = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if not line.strip():
                    continue
                values += _values(line)
                if values > MOST_IN_ALL:
                    raise InputError(f"{self.path} holds too many values: {MOST_IN_ALL:,} are read at most.", _SPLIT)
                try:
                    value = parsed(line, f"Line {number} of {self.path}")
                except BrokenError:
                    self.broken.append(number)
                    if len(self.broken) > MOST_BROKEN:
                        raise InputError(f"{self.path} has over {MOST_BROKEN} broken lines.", _NOT_OURS) from None
                    self.cut = True
                    continue
                self.cut = False
                yield number, value


def first_value(path: Path) -> Any:
    """Return the JSON of the first line that is not blank, or None if there is none or it is not JSON."""
    with _opened(path) as file:
        while line := file.readline(LARGEST_FILE + 1):
            if line.strip():
                try:
                    return parsed(line, str(path), LARGEST_FILE)
                except BrokenError:
                    return None
    return None


def document(path: Path) -> Any:
    """Read the JSON in a file.

    Raises
    ------
    InputError
        As `JsonLines`.
    BrokenError
        It is not JSON.
    """
    with _opened(path) as file:
        return parsed(file.read(LARGEST_FILE + 1), str(path), LARGEST_FILE)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without blocking on any other kind."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | _FLAGS), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise InputError(f"{path} is {_kind(found.st_mode)}, and is not read.", "Name a file.")
            if found.st_size > LARGEST_FILE:
                raise InputError(f"{path} is too large: {LARGEST_FILE // 2**20} MB are read at most.", _SPLIT)
            yield file
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", "Check the name.") from None


def parsed(data: bytes, where: str, longest: int = LONGEST_LINE) -> Any:
    """Parse the JSON of `data`, after checking its size.

    Raises
    ------
    InputError
        It is too long, has too many values, or exceeds another limit. The message calls it `where`.
    BrokenError
        It is not JSON.
    """
    if len(data) > longest:
        raise InputError(f"{where} is too long: {longest // 2**20} MB are read at most.", _SPLIT)
    if _values(data) > MOST_VALUES < _values(_STRING.sub(b"", data)):
        raise InputError(f"{where} holds too many values: {MOST_VALUES:,} are read at most.", _SPLIT)
    try:
        return json.loads(data.removeprefix(codecs.BOM_UTF8).decode())
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise BrokenError(where) from None
    except RecursionError:
        raise InputError(f"{where} is nested too deep.", _NOT_OURS) from None
    except ValueError:  # a number with thousands of digits
        raise InputError(f"{where} holds a number that is too long.", _NOT_OURS) from None


def _values(data: bytes) -> int:
    """An upper bound on the values in JSON, roughly."""
    return sum(map(data.count, (b"[", b"{", b",")))


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _kind(mode: int) -> str:
    """The kind of a file, in words."""
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a link" if stat.S_ISLNK(mode) else "no regular file"
