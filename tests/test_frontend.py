"""`together_nb.frontend`: who watches, what is drawn, which cell runs."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from together_nb import frontend


@pytest.fixture(scope="module")
def terminal():
    """A real IPython without a kernel."""
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


def kernels(parent):
    """As much of a kernel's shell as is asked."""
    return SimpleNamespace(kernel=object(), get_parent=lambda: parent)


def asked(code="", *, metadata=None, **content):
    return {"content": {"code": code, **content}, "metadata": {} if metadata is None else metadata}


@pytest.mark.parametrize(
    ("parent", "watched"),
    [
        (asked(allow_stdin=True), True),
        (asked(allow_stdin=False), False),
        (asked(), True),
        ({"content": None}, True),
        ({}, True),
        (None, True),
    ],
)
def test_nobody_watches_where_nobody_can_be_asked(parent, watched):
    assert frontend.someone_watches(kernels(parent)) is watched


def test_a_shell_that_keeps_the_message_as_an_attribute_is_understood():
    shell = SimpleNamespace(parent_header=asked("x = 1", allow_stdin=False, metadata={"cellId": "a"}))
    assert frontend.someone_watches(shell) is False
    assert frontend.code_as_sent(shell) == "x = 1"
    assert frontend.cell(shell) == "a"


def test_a_terminal_is_watched_and_has_neither_kernel_nor_message(terminal):
    assert frontend.has_kernel(terminal) is False
    assert frontend.someone_watches(terminal) is True
    assert (frontend.code_as_sent(terminal), frontend.cell(terminal)) == ("", "")


@pytest.mark.parametrize(
    ("shell", "has_one"), [(kernels({}), True), (SimpleNamespace(kernel=None), False), (None, False)]
)
def test_what_has_a_kernel_is_no_terminal(shell, has_one):
    assert frontend.has_kernel(shell) is has_one


def test_colab_alone_shows_nothing_that_a_thread_tells(monkeypatch):
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    assert frontend.draws_from_threads() is True
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    assert frontend.draws_from_threads() is False


@pytest.mark.parametrize(
    ("software", "voila"),
    [("voila/0.5.8", True), ("jupyter_server/2.21", False), ("", False), (None, False), ("not voila/0.5", False)],
)
def test_voila_is_known_by_the_name_of_its_server(monkeypatch, software, voila):
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    if software is not None:
        monkeypatch.setenv("SERVER_SOFTWARE", software)
    assert frontend.is_voila() is voila


def test_the_code_is_that_of_the_message_to_the_letter():
    assert frontend.code_as_sent(kernels(asked("%%together\nHi \n\n"))) == "%%together\nHi \n\n"


@pytest.mark.parametrize("parent", [None, {}, {"content": None, "metadata": None}, {"content": {}}])
def test_without_a_message_there_is_no_code_and_no_cell(parent):
    assert (frontend.code_as_sent(kernels(parent)), frontend.cell(kernels(parent))) == ("", "")


@pytest.mark.parametrize(
    ("metadata", "told"),
    [({"cellId": "a-1"}, "a-1"), ({"cellId": ""}, "x = 1"), ({"cellId": None}, "x = 1"), ({}, "x = 1")],
)
def test_a_cell_is_told_by_its_id_else_by_its_code(metadata, told):
    assert frontend.cell(kernels(asked("x = 1", metadata=metadata))) == told
