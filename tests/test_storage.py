"""Files are written whole or not at all, keep their modes, follow no links, and are read with bounds."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from together_nb import Conversation, complete, history, load, recording, replaying, save, storage
from together_nb.errors import InputError, TogetherError
from together_nb.tape import Entry

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and limits of POSIX")
HINT = "Take another name."
HEAD = '{"together_nb": "recording", "version": 1, "recorded": "2026-11-26T10:00:00Z", "model": "m"}\n'
ENTRY = {
    "method": "POST", "path": "/v1/chat/completions", "payload": {"model": "m"}, "loopback": False, "status": 200,
    "headers": {}, "opened": 0.0, "pieces": [[0.5, "data: [DONE]\n\n"]], "end": {"how": "whole", "seconds": 1.0},
}  # fmt: skip


def record(path, *, force=False):
    recording.record(path, force=force)
    recording.stop()


def conversation(path, *, force=False):
    assert not force
    Conversation("a").save(path)


WRITERS = [save, record, conversation]
REPLACING = [save, record]
READERS = [load, recording.replay, Conversation.load]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


# Writing


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_a_new_file_has_the_usual_mode(tmp_path, write, umask):
    write(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o666 & ~umask
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@posix
@pytest.mark.parametrize("write", REPLACING)
@pytest.mark.parametrize("kept", [0o600, 0o640, 0o604, 0o444])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path, write, kept):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(kept)
    write(path, force=True)
    assert mode(path) == kept
    assert path.read_text() != "old"


@posix
@pytest.mark.parametrize("write", REPLACING)
@pytest.mark.parametrize("force", [False, True])
def test_nothing_but_a_regular_file_is_replaced(tmp_path, write, force):
    (tmp_path / "victim").write_text("precious")
    link, nowhere, folder, fifo = (tmp_path / name for name in ("link", "nowhere", "folder", "fifo"))
    link.symlink_to("victim")
    nowhere.symlink_to("not there")
    folder.mkdir()
    os.mkfifo(fifo)
    for path in (link, nowhere, folder, fifo, Path("/dev/null"), tmp_path, Path("/")):
        with pytest.raises(InputError, match="exists already" if not force else "a link|a folder|no regular file"):
            write(path, force=force)
    assert (tmp_path / "victim").read_text() == "precious"
    assert link.is_symlink()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fifo", "folder", "link", "nowhere", "victim"]


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_a_link_that_is_planted_where_a_partial_file_was_is_not_followed(tmp_path, write):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (".a.partial", "a.partial", "a.tmp", ".a.tmp"):
        (tmp_path / name).symlink_to(victim)
    write(tmp_path / "a")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 300, "none/a", "a\ud800", "~nobody-of-this-name/a", "", " ", ".", "..", "a/"]
)
def test_a_name_that_no_file_can_have_is_told(tmp_path, monkeypatch, write, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError):
        write(name)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", [*WRITERS, *READERS])
@pytest.mark.parametrize("name", [None, 3, b"a", ["a"]])
def test_what_is_no_name_is_told(call, name):
    with pytest.raises(InputError, match="name is missing"):
        call(name)


class Failure(BaseException):
    pass


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), Failure()])
@pytest.mark.parametrize("there", [False, True])
def test_a_failure_in_mid_file_leaves_what_was_there_and_nothing_else(tmp_path, error, there):
    path = tmp_path / "a"
    if there:
        path.write_text("old")

    def lines():
        yield "new\n" * 10_000
        raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        storage.write(path, lines(), force=True, hint=HINT)
    assert [one.read_text() for one in tmp_path.iterdir()] == ["old"] * there


def test_what_cannot_be_read_again_replaces_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    complete("Once", max_tokens=2)
    history[-1].error = 3
    for where in (path, tmp_path / "b"):
        with pytest.raises(InputError, match=r"answer\.error must be a text"):
            save(where, force=True)
    history[-1].error = {1, 2}
    with pytest.raises(InputError, match="cannot be written as JSON"):
        save(path, force=True)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a", "old")]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_who_make_one_file_one_does(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links")))
    ready, made = threading.Barrier(8), []

    def make(number):
        ready.wait()
        try:
            storage.write(tmp_path / "a", [f"{number}\n"], hint=HINT)
        except InputError:
            return
        made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert (tmp_path / "a").read_text() == f"{made[0]}\n"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_file_that_comes_while_one_is_written_is_not_overwritten(tmp_path):
    def lines():
        yield "mine\n"
        (tmp_path / "a").write_text("theirs")

    with pytest.raises(InputError, match="exists already"):
        storage.write(tmp_path / "a", lines(), hint=HINT)
    assert (tmp_path / "a").read_text() == "theirs"


@posix
def test_a_link_that_comes_while_one_is_written_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")

    def lines():
        yield "mine\n"
        (tmp_path / "a").symlink_to(tmp_path / "victim")

    for force in (True, False):
        with pytest.raises(InputError):
            storage.write(tmp_path / "a", lines(), force=force, hint=HINT)
        (tmp_path / "a").unlink()
    assert (tmp_path / "victim").read_text() == "precious"


# Adding lines


def test_a_line_that_is_not_whole_is_cut_back(tmp_path, monkeypatch):
    path = tmp_path / "a"
    file = storage.write(path, ["head\n"], hint=HINT)
    usual = os.write

    def half(number, data):
        if len(data) > 2:
            return usual(number, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        storage.append(path, "a line", file)
    assert path.read_text() == "head\n"
    monkeypatch.setattr(os, "write", usual)
    storage.append(path, "another", file)
    assert path.read_text() == "head\nanother\n"


@posix
def test_a_full_disk_costs_its_answers_and_no_others(tmp_path):
    path = tmp_path / "a.jsonl"
    code = f"""
import logging, resource
from together_nb import complete, recording
recording.record({str(path)!r})
complete("Once", max_tokens=2)
size = __import__("os").path.getsize({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
complete("Twice", max_tokens=2)
complete("Thrice", max_tokens=2)
print(__import__("os").path.getsize({str(path)!r}) == size)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
complete("Again", max_tokens=2)
print(recording.stop())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ended.stdout.splitlines()[0] == "True"
    assert "could not be written" in ended.stdout
    assert ended.stderr.count("lacks an answer") == 1
    payloads = [json.loads(line)["payload"] for line in path.read_text().splitlines()[1:]]
    assert [one["prompt"] for one in payloads if one] == ["Once", "Again"]
    assert "is played back" in recording.replay(path)


def test_after_a_line_that_another_left_unfinished_a_new_one_begins(tmp_path):
    path = tmp_path / "a"
    file = storage.write(path, ["head\n", "unfin"], hint=HINT)
    storage.append(path, "whole", file)
    assert path.read_text() == "head\nunfin\nwhole\n"


@posix
def test_nothing_is_added_to_another_file_that_took_its_place(tmp_path):
    path, victim = tmp_path / "a", tmp_path / "victim"
    file = storage.write(path, ["head\n"], hint=HINT)
    victim.write_text("precious\n")
    for plant in (
        lambda: path.symlink_to(victim), lambda: os.link(victim, path), lambda: os.mkfifo(path), path.mkdir,
    ):  # fmt: skip
        path.rename(tmp_path / "before") if path.exists() and path.stat().st_ino == file[1] else path.unlink()
        plant()
        with pytest.raises(OSError):  # noqa: PT011  (which one depends on the system)
            storage.append(path, "a line", file)
    assert victim.read_text() == "precious\n"


@posix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_processes_that_write_at_once_write_whole_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    recording.record(path)
    recorder = recording.current()
    entry = Entry.from_dict(ENTRY)

    def many():
        for _ in range(50):
            recorder.write(entry, None)

    children = [multiprocessing.get_context("fork").Process(target=many) for _ in range(3)]
    recorder._lock.acquire()  # as by another thread while the process is forked
    for child in children:
        child.start()
    recorder._lock.release()
    many()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    recording.stop()
    assert "200 exchanges" in recording.replay(path)


# Reading


@posix
@pytest.mark.parametrize("read", READERS)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    for path in (tmp_path / "fifo", tmp_path / "link", tmp_path, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(InputError, match=r"a folder|no regular file|cannot be read"):
            read(path)
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none")


@posix
@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path, read):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(10**12)  # it takes no space
    with pytest.raises(InputError, match="too large"):
        read(tmp_path / "a")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n\n", b"\0" * 100, b"\xff\xfe{\0}\0", b"[" * 100_000, b"[" * 300 + b"]" * 300, b"9" * 5_000, b"1e999",
        b"NaN", b"{}", b"[]", b"3", b'"a"', b"null", b'{"together_nb": []}', b'{"together_nb": "history", "version": "2"}',
        b'{"together_nb": "history", "version": [2]}', b'{"together_nb": {}, "version": 2}', b'{"conversation": "a"}',
        b'{"conversation": 3, "turns": []}', b'{"conversation": "a", "turns": {}}', b'{"conversation": "a", "turns": [3]}',
        b'{"conversation": "a", "turns": [], "version": []}', b'{"together_nb": "recording", "version": NaN}',
        b'{"together_nb": "recording", "version": 1, "model": [], "recorded": 3}\n{}',
    ],
)  # fmt: skip
def test_a_file_of_anything_else_is_refused_in_words(tmp_path, read, content):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)) as caught:
        read(path)
    assert len(str(caught.value)) < 1000
    assert history == []
    assert recording.current() is None


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        *(("status", value, "status must be a whole number") for value in (-1, 600, 2.5, True, "200", None, 10**50)),
        *(("opened", value, "opened must be a number") for value in (-1, "1", True, None, 1e308, 10**400)),
        ("opened", float("nan"), "opened must be"),
        ("opened", float("inf"), "opened must be"),
        ("method", 3, "method must be a text"),
        ("path", [], "path must be a text"),
        ("loopback", 1, "loopback must be true or false"),
        ("headers", [], "headers must be an object"),
        ("headers", {"A": 3}, r"headers\.A must be a text"),
        ("payload", {"a": float("nan")}, "payload"),
        ("payload", {"a": json.loads("[" * 150 + "]" * 150)}, "payload.* is nested deeper"),
        ("pieces", {}, "pieces must be a list"),
        ("pieces", [[0, "a"], [1]], r"pieces\[1\] must have 2 parts"),
        ("pieces", [[0, "a"], [float("nan"), "b"]], r"pieces\[1\]"),
        ("pieces", [[-1, "a"]], r"pieces\[0\]"),
        ("pieces", [[1e308, "a"]], r"pieces\[0\]"),
        ("pieces", [[0, "\ud800"]], r"pieces\[0\]"),
        ("pieces", [[0, b"".decode()], [0, 3]], r"pieces\[1\]"),
        ("end", None, "end must be an object"),
        ("end", {"how": "whole", "seconds": float("inf")}, r"end\.seconds"),
        ("end", {"how": "whole", "seconds": 1e300}, r"end\.seconds"),
        ("end", {"how": "never", "seconds": 1}, r"end\.how must be one of"),
        ("end", {"how": "broken", "seconds": 1, "timeout": "yes"}, r"end\.timeout"),
        ("end", {"how": "whole"}, r"end\.seconds is missing"),
        ("extra", 1, "extra is not known"),
    ],
)
def test_each_value_of_a_recording_is_checked_and_named(tmp_path, place, value, words):
    path = tmp_path / "a.jsonl"
    path.write_text(HEAD + json.dumps(ENTRY) + "\n" + json.dumps({**ENTRY, place: value}) + "\n")
    with pytest.raises(InputError, match=f"Line 3 of .* is no recorded exchange: {words}"):
        recording.replay(path)
    assert recording.current() is None


def test_times_that_go_back_are_not_waited_for(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(replaying, "_sleep", lambda _, seconds: waits.append(seconds))
    monkeypatch.setattr(replaying, "monotonic", lambda: sum(waits))
    path = tmp_path / "a.jsonl"
    pieces = [[at, 'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'] for at in (5, 1, 4, 2)]
    path.write_text(HEAD + json.dumps({**ENTRY, "pieces": pieces, "opened": 3}) + "\n")
    recording.replay(path)
    exchange = recording.exchange("POST", "http://h", "/v1/chat/completions", {"model": "m"}, key=None)
    exchange.open()
    assert len(list(exchange.pieces())) == 4
    assert sum(waits) == pytest.approx(5)


def test_a_broken_line_costs_only_itself_and_is_told(tmp_path):
    path = tmp_path / "a.jsonl"
    line = json.dumps(ENTRY)
    path.write_text(f"{HEAD}{line}\n{line[:40]}\n\n{line}\n{line[:30]}{line}\n{line}\n{line[:50]}")
    told = recording.replay(path)
    assert "3 exchanges" in told
    assert "Lines 3, 6 are broken" in told
    assert "last line was cut" in told


def test_a_file_with_windows_line_ends_and_a_mark_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEAD}{json.dumps(ENTRY)}\n".replace("\n", "\r\n").encode())
    assert "1 exchange " in recording.replay(path)


def test_the_nearest_of_very_many_requests_is_found_without_comparing_all(tmp_path, monkeypatch):
    compared = []
    from together_nb import nearest

    usual = nearest.SequenceMatcher
    monkeypatch.setattr(
        nearest, "SequenceMatcher", lambda *args, **options: compared.append(1) or usual(*args, **options)
    )
    path = tmp_path / "a.jsonl"
    payloads = [{"model": "m", "messages": [{"role": "user", "content": f"Say {n}"}]} for n in range(2_000)]
    path.write_text(HEAD + "".join(json.dumps({**ENTRY, "payload": one}) + "\n" for one in payloads))
    recording.replay(path, speed=0)
    with pytest.raises(TogetherError, match="Say 1234"):
        complete("Say 1234!", api="chat", model="m")
    assert len(compared) <= 50


@pytest.mark.parametrize("force", [True, False])
def test_a_recording_goes_on_where_another_cannot_be_begun(tmp_path, force):
    path = tmp_path / "a.jsonl"
    recording.record(path)
    for name in (path.parent, "x" * 300, tmp_path / "none" / "b"):
        with pytest.raises(InputError):
            recording.record(name, force=force)
    complete("Once", max_tokens=2)
    assert recording.stop().startswith("The recording has ended")
    assert "is played back" in recording.replay(path)


def test_an_exchange_that_ends_while_another_is_written_is_written_too(tmp_path, monkeypatch):
    """As when the garbage collector closes one in the middle of writing."""
    path = tmp_path / "a.jsonl"
    recording.record(path)
    recorder, entry, usual = recording.current(), Entry.from_dict(ENTRY), os.write
    left = [entry]

    def within(number, data):
        if left:
            recorder.write(left.pop(), None)
        return usual(number, data)

    monkeypatch.setattr(os, "write", within)
    recorder.write(entry, None)
    recording.stop()
    assert "2 exchanges" in recording.replay(path)


@posix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_does_not_write_what_its_parent_was_asking(tmp_path):
    path = tmp_path / "a.jsonl"
    recording.record(path)
    exchange = recording.exchange("POST", "http://127.0.0.1:9", "/x", {}, key=None, connect_timeout=1, timeout=1)
    exchange._began, exchange._process = 0.0, os.getpid()  # under way
    child = multiprocessing.get_context("fork").Process(target=exchange.close)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    recording.stop()
    assert path.read_text().count("\n") == 1
