"""Each test begins as a new process would: no key, no settings, no history, no proxies."""

from __future__ import annotations

import atexit
import gc
import json
import os
import re
import signal

import hypothesis
import pytest

from together_nb import chats, endpoint, environment, recording, resolve, session
from together_nb.config import settings
from together_nb.spending import ledger

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: it would be a timed assertion. The same examples each time, so that a failure is of the change and not of
# the dice; ``--hypothesis-profile=default`` looks for new ones.
hypothesis.settings.register_profile(
    "together_nb", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("together_nb")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch):
    for name in list(os.environ):
        ours = name.startswith("TOGETHER_") and not name.startswith("TOGETHER_NB_")
        if ours or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    for name, trait in settings.traits().items():
        setattr(settings, name, trait.default())
    settings.api_key = None
    settings._known.clear()
    environment.environment = environment.Environment.read()
    recording.stop()
    settings.max_retries = 0  # an error is seen at once; retries have tests of their own
    settings.local_tokens_per_second = 0
    session.history.clear()
    session.unanswered.clear()
    endpoint._catalogs.clear()
    endpoint._visited.clear()
    resolve._asked_for_prices.clear()
    ledger.clear()
    chats.conversations.clear()


@pytest.fixture
def environ(monkeypatch):
    """Set variables of the environment, as if together_nb had been imported after it."""

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(environment, "environment", environment.Environment.read())

    return set_variables


@pytest.fixture(autouse=True, scope="session")
def _shells_end_with_their_tests():
    """At the end of the process each shell that a test made would clear up for itself: minutes for some hundred of them."""
    yield
    from IPython.core.interactiveshell import InteractiveShell

    for one in gc.get_objects():
        if issubclass(type(one), InteractiveShell):
            atexit.unregister(one.atexit_operations)


@pytest.fixture
def certificates(monkeypatch, tmp_path):
    """The authority of test certificates, trusted while the test runs."""
    from tests.servers import authority

    authority().cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    return authority()


@pytest.fixture(params=["plain", "TLS"])
def tls(request):
    """Each test with it runs over plain http and over TLS."""
    return request.getfixturevalue("certificates") if request.param == "TLS" else None


@pytest.fixture(scope="session")
def browser():
    from tests.lab import CHROMIUM_FLAGS, chromium

    path = chromium()
    if path is None:
        pytest.skip("no chromium on this machine; install the distribution's, or name one in TOGETHER_NB_CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def open_notebook(browser, tmp_path):
    """Open a notebook in a server of its own: cells after one that loads the extension, or those of a file."""
    from tests.lab import Lab, Notebook, write_notebook

    labs = []

    def start(*cells, notebook=None, width=1200, server=None, environment=None, **options):
        name = "lesson.ipynb"
        if notebook is None:
            write_notebook(tmp_path / name, "%load_ext together_nb", *cells)
        else:
            document = json.loads(notebook.read_text())
            for cell in document["cells"]:  # so that what is seen was not there before
                cell.update({"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {})
            (tmp_path / name).write_text(json.dumps(document))
        environment = dict(environment or {})
        if server is not None:
            environment |= {"TOGETHER_BASE_URL": server.base_url, "TOGETHER_MODEL": "test/chat"}
        labs.append(Lab(tmp_path, environment=environment, **options))
        page = browser.new_page(viewport={"width": width, "height": 1000})
        return Notebook(page, labs[-1], name)

    yield start
    for lab in labs:
        lab.stop()
    for context in browser.contexts:
        context.close()


def pytest_collection_modifyitems(config, items):
    """What takes minutes is left out, not skipped, unless ``-m`` speaks of it; the browser comes last, when little else runs."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
    if re.search(r"\blong\b", config.option.markexpr):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where nothing may be skipped, as in CI, a skip is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("TOGETHER_NB_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr[2]}"
    return report
