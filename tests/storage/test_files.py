"""Files are written whole or not at all, keep their modes, follow no links, and are read with bounds."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import together_nb
from together_nb import Conversation
from together_nb.errors import InputError, TogetherError
from together_nb.storage import differences, files
from together_nb.storage.entry import Entry

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and limits of POSIX")
HEAD = '{"together_nb": "recording", "version": 1, "recorded": "2026-11-26T10:00:00Z", "model": "m"}\n'
ENTRY = {
    "method": "POST", "path": "/v1/chat/completions", "payload": {"model": "m"}, "loopback": False, "status": 200,
    "headers": {}, "opened": 0.0, "pieces": [[0.5, "data: [DONE]\n\n"]], "end": {"how": "whole", "seconds": 1.0},
}  # fmt: skip


def record(path, *, force=False):
    together_nb.record(path, force=force)
    together_nb.stop()


def conversation(path, *, force=False):
    Conversation("a").save(path, force=force)


def save(path, *, force=False):
    together_nb.save(path, force=force)


def load(path):
    together_nb.load(path)


def replay(path):
    together_nb.replay(path)


WRITERS = [save, record, conversation]
READERS = [load, replay, Conversation.load]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a"


def names(folder):
    return sorted(one.name for one in folder.iterdir())


@posix
@pytest.mark.parametrize("write", WRITERS)
def test_a_new_file_has_the_usual_mode_and_no_planted_link_is_followed(path, write):
    (path.parent / "victim").write_text("precious")
    planted = (".a.partial", "a.partial", "a.tmp", ".a.tmp")
    for name in planted:
        (path.parent / name).symlink_to("victim")
    before = os.umask(0o027)
    try:
        write(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(path.parent) == sorted(["a", "victim", *planted])
    assert (path.parent / "victim").read_text() == "precious"


@posix
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604])
def test_a_file_that_is_replaced_keeps_its_mode(path, write, mode):
    path.write_text("old")
    path.chmod(mode)
    write(path, force=True)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() != "old"


@posix
@pytest.mark.parametrize("write", WRITERS)
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
    assert names(tmp_path) == ["fifo", "folder", "link", "nowhere", "victim"]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 300, "none/a", "a\ud800", "~nobody-of-this-name/a", "", " ", ".", "..", "a/"]
)
def test_a_name_that_no_file_can_have_is_refused(tmp_path, monkeypatch, write, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError):
        write(name)
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", [*WRITERS, *READERS])
@pytest.mark.parametrize("name", [None, 3, b"a", ["a"], " "])
def test_what_is_no_name_is_refused(call, name):
    with pytest.raises(InputError, match="name is missing"):
        call(name)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), SystemExit()])
@pytest.mark.parametrize("old", [[], ["old"]])
def test_a_failure_in_mid_file_leaves_what_was_there_and_nothing_else(path, error, old):
    for content in old:
        path.write_text(content)

    def lines():
        yield "new" * 10_000
        raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        files.write(path, lines(), force=True)
    assert [one.read_text() for one in path.parent.iterdir()] == old
    together_nb.complete("Once", max_tokens=2)
    for wrong, words in ((3, r"answer\.error must be a text"), ({1, 2}, "cannot be written as JSON")):
        together_nb.history[-1].error = wrong
        with pytest.raises(InputError, match=words):  # what could not be read again
            together_nb.save(path, force=True)
    assert [one.read_text() for one in path.parent.iterdir()] == old


@pytest.mark.parametrize("links", [True, False])
def test_of_many_who_make_one_file_one_does(path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EPERM, "no links")))
    ready = threading.Barrier(8)

    def make(number):
        ready.wait()
        try:
            files.write(path, [number])
        except InputError:
            return ""
        return f"{number}\n"

    with ThreadPoolExecutor(8) as pool:
        assert list(filter(None, pool.map(make, range(8)))) == [path.read_text()]
    assert names(path.parent) == ["a"]


@posix
@pytest.mark.parametrize(
    ("plant", "force"), [(Path.symlink_to, False), (Path.symlink_to, True), (Path.write_text, False)]
)
def test_what_comes_while_a_file_is_written_is_not_overwritten_or_followed(path, plant, force):
    victim = path.parent / "victim"
    victim.write_text("precious")

    def lines():
        yield "mine"
        plant(path, str(victim))

    with pytest.raises(InputError):
        files.write(path, lines(), force=force)
    assert path.read_text() in ("precious", str(victim))
    assert victim.read_text() == "precious"


def test_a_line_that_is_not_whole_is_cut_back_and_one_that_another_left_so_is_ended(path, monkeypatch):
    file, usual = files.write(path, ["head"]), os.write
    with path.open("a") as end:
        end.write("cut")

    def half(number, data):
        if len(data) > 2:
            return usual(number, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        files.append(path, "a line", file)
    assert path.read_text() == '"head"\ncut'
    monkeypatch.setattr(os, "write", usual)
    files.append(path, "whole", file)
    files.append(path, "another", file)
    assert path.read_text() == '"head"\ncut\nwhole\nanother\n'


@posix
@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to, lambda path, _: os.mkfifo(path), Path.write_text])
def test_nothing_is_added_to_another_file_that_took_its_place(path, plant):
    victim = path.parent / "victim"
    file = files.write(path, ["head"])
    victim.write_text("precious\n")
    path.rename(path.parent / "before")
    plant(path, str(victim))
    with pytest.raises(OSError):  # noqa: PT011  (which one depends on the system)
        files.append(path, "a line", file)
    assert victim.read_text() == "precious\n"
    assert not path.is_file() or "a line" not in path.read_text()


@pytest.fixture
def recorder(path):
    together_nb.record(path)
    return together_nb.session.default._recording


@posix
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_processes_that_write_at_once_write_whole_lines(path, recorder):
    def many():
        for _ in range(50):
            recorder.write(Entry.from_dict(ENTRY), None)

    children = [multiprocessing.get_context("fork").Process(target=many) for _ in range(3)]
    with recorder._lock:  # as by another thread while the process is forked
        for child in children:
            child.start()
    many()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    together_nb.stop()
    assert "200 exchanges" in str(together_nb.replay(path))


def test_an_exchange_that_ends_while_another_is_written_is_written_too(path, recorder, monkeypatch):
    """As when the garbage collector closes one in the middle of writing."""
    entry, usual = Entry.from_dict(ENTRY), os.write
    left = [entry]

    def within(number, data):
        if left:
            recorder.write(left.pop(), None)
        return usual(number, data)

    monkeypatch.setattr(os, "write", within)
    recorder.write(entry, None)
    together_nb.stop()
    assert "2 exchanges" in str(together_nb.replay(path))


def test_a_recording_that_cannot_be_written_costs_no_answer_and_is_told_once(path, recorder, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def ask(prompt):
        assert together_nb.complete(prompt, max_tokens=2).text

    ask("Once")
    size = path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        ask("Twice")
        ask("Thrice")
    assert path.stat().st_size == size
    assert [str(path) in one.getMessage() for one in caplog.records] == [True]
    for name in (path.parent, "x" * 300, path.parent / "none" / "b"):  # where no recording can be begun
        for force in (True, False):
            with pytest.raises(InputError):
                together_nb.record(name, force=force)
    ask("Again")
    path.rename(path.parent / "elsewhere")
    ask("Gone")
    assert re.search(r"holds \d recorded exchanges\. .* could not be written: No space", together_nb.stop())
    path = path.parent / "elsewhere"
    payloads = [json.loads(line)["payload"] for line in path.read_text().splitlines()[1:]]
    assert [one["prompt"] for one in payloads if one] == ["Once", "Again"]


@posix
@pytest.mark.parametrize("read", READERS)
def test_only_a_regular_file_of_a_bounded_size_is_read_and_nothing_else_is_waited_for(path, read):
    os.mkfifo(path.parent / "fifo")
    (path.parent / "link").symlink_to("fifo")
    with path.open("wb") as file:
        file.truncate(10**12)  # it takes no space
    none = path.parent / "none"
    for place, words in [
        *((path.parent / name, "no regular file") for name in ("fifo", "link", "/dev/zero", "/dev/null")),
        (path.parent, "a folder|cannot be read"),
        (none, "cannot be read: No such file"),
        (path, "too large"),
    ]:
        with pytest.raises(InputError, match=words):
            read(place)


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
def test_a_file_of_anything_else_is_refused_in_words(path, read, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match=str(path)) as caught:
        read(path)
    assert len(str(caught.value)) < 1000
    assert together_nb.history == []
    assert together_nb.session.default._recording is None


NAN, INFINITE = float("nan"), float("inf")
DEEP = json.loads("[" * 150 + "]" * 150)
END = {"how": "whole", "seconds": 1}


@pytest.mark.parametrize(
    ("place", "named", "values"),
    [
        ("status", "status", [-1, 600, 2.5, True, "200", None, 10**50]),
        ("opened", "opened", [-1, "1", True, None, 1e308, 10**400, NAN, INFINITE]),
        ("method", "method", [3]),
        ("path", "path", [[]]),
        ("loopback", "loopback", [1]),
        ("headers", "headers", [[]]),
        ("headers", "headers.A", [{"A": 3}]),
        ("payload", "payload", [{"a": NAN}, {"a": DEEP}]),
        ("pieces", "pieces", [{}]),
        ("pieces", "pieces[0]", [[[at, "a"]] for at in (-1, 1e308, NAN)] + [[[0, "\ud800"]], [[0]]]),
        ("pieces", "pieces[1]", [[[0, "a"], [1]], [[0, ""], [0, 3]]]),
        ("end", "end", [None]),
        ("end", "end.seconds", [{"how": "whole"}, {**END, "seconds": INFINITE}, {**END, "seconds": 1e300}]),
        ("end", "end.how", [{**END, "how": "never"}]),
        ("end", "end.timeout", [{**END, "how": "broken", "timeout": "yes"}]),
        ("extra", "extra", [1]),
    ],
)
def test_each_value_of_a_recording_is_checked_and_named(path, place, named, values):
    for value in values:
        path.write_text(HEAD + json.dumps(ENTRY) + "\n" + json.dumps({**ENTRY, place: value}) + "\n")
        with pytest.raises(InputError, match=rf"Line 3 of .* is no recorded exchange: {re.escape(named)} "):
            together_nb.replay(path)
    assert together_nb.session.default._recording is None


def test_a_broken_line_costs_only_itself_and_is_named_whatever_ends_its_lines(path):
    line = json.dumps(ENTRY)
    text = f"{HEAD}{line}\n{line[:40]}\n\n{line}\n{line[:30]}{line}\n{line}\n{line[:50]}"
    for content in (text.encode(), b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()):
        path.write_bytes(content)
        said = str(together_nb.replay(path))
        for words in ("3 exchanges", "Lines 3, 6 are broken", "last line was cut"):
            assert words in said


@pytest.mark.parametrize(
    ("limit", "most", "words"),
    [
        ("MOST_VALUES", 16, "too many values"),
        ("MOST_IN_ALL", 58, "too many values"),
        ("MOST_BROKEN", 3, "broken lines"),
    ],
)
def test_a_file_of_too_much_is_refused(path, monkeypatch, limit, most, words):
    """Each line of it is small in the file; each value takes some hundred bytes of memory."""
    path.write_text(HEAD + 3 * (json.dumps(ENTRY) + "\n") + 3 * "{cut\n")
    monkeypatch.setattr(files, limit, most)
    together_nb.replay(path)
    monkeypatch.setattr(files, limit, most - 1)
    with pytest.raises(InputError, match=words):
        together_nb.replay(path)


def test_the_nearest_of_very_many_requests_is_found_without_comparing_all(path, monkeypatch):
    compared, usual = [], differences.SequenceMatcher
    monkeypatch.setattr(
        differences, "SequenceMatcher", lambda *args, **options: compared.append(1) or usual(*args, **options)
    )
    payloads = [{"model": "m", "messages": [{"role": "user", "content": f"Say {n}"}]} for n in range(2_000)]
    path.write_text(HEAD + "".join(json.dumps({**ENTRY, "payload": one}) + "\n" for one in payloads))
    together_nb.replay(path, speed=0)
    with pytest.raises(TogetherError, match="Say 1234"):
        together_nb.complete("Say 1234!", api="chat", model="m")
    assert len(compared) <= 50
