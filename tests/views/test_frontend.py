"""`together_nb.views.frontend`: who watches, what is drawn, which cell runs."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from together_nb.views import frontend


def kernel(parent):
    """As much of a kernel's shell as is asked."""
    return SimpleNamespace(kernel=object(), get_parent=lambda: parent)


def message(code="x = 1", metadata=None, **content):
    return {"header": {"msg_id": "7"}, "content": {"code": code, **content}, "metadata": metadata or {}}


NOTHING = ("", "", "", "")


@pytest.mark.parametrize(
    ("parent", "watched", "known"),
    [
        (message(allow_stdin=True), True, ("x = 1", "x = 1", "", "7")),
        (message(allow_stdin=False), False, ("x = 1", "x = 1", "", "7")),
        (message("%%together\nHi \n\n", {"cellId": "a-1"}), True, ("%%together\nHi \n\n", "a-1", "a-1", "7")),
        (message(metadata={"cellId": None}), True, ("x = 1", "x = 1", "", "7")),
        ({"content": None, "metadata": None, "header": None}, True, NOTHING),
        ({}, True, NOTHING),
        (None, True, NOTHING),
    ],
)
@pytest.mark.parametrize("as_attribute", [False, True])  # where some shells keep the message
def test_who_watches_and_which_cell_runs_is_known_from_the_message(parent, watched, known, as_attribute):
    shell = SimpleNamespace(parent_header=parent) if as_attribute else kernel(parent)
    assert frontend.someone_watches(shell) is watched
    asked = frontend.code_as_sent, frontend.cell, frontend.cell_id, frontend.execution
    assert tuple(ask(shell) for ask in asked) == known


def test_a_terminal_is_watched_and_has_neither_kernel_nor_message_unlike_what_has_a_kernel():
    assert frontend.has_kernel(kernel({})) is True
    assert frontend.has_kernel(SimpleNamespace(kernel=None)) is frontend.has_kernel(None) is False
    config = Config()
    config.HistoryManager.enabled = False
    InteractiveShell.clear_instance()
    terminal = InteractiveShell.instance(config=config)
    assert (frontend.has_kernel(terminal), frontend.someone_watches(terminal)) == (False, True)
    assert (frontend.code_as_sent(terminal), frontend.cell(terminal)) == ("", "")
    InteractiveShell.clear_instance()


def test_colab_alone_shows_nothing_that_a_thread_draws(monkeypatch):
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
