"""Each test has a session of its own: no key, no settings, no history; and no proxies."""

import atexit
import gc
import os
import re
import signal
import tempfile
import threading
from pathlib import Path

import hypothesis
import pytest

import together_nb.session
from together_nb.config import environment, keys
from together_nb.config import settings as config
from together_nb.session import Session
from together_nb.wire.accumulator import Accumulator

# A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: it would be a timed assertion. The same examples each time, so that a failure is of the change and not of
# the dice; ``--hypothesis-profile=default`` looks for new ones.
hypothesis.settings.register_profile(
    "together_nb", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("together_nb")


@pytest.fixture(autouse=True)
def session(monkeypatch):
    """The test's own session, whose functions are those of `together_nb`, of cells and of panels."""
    for name in list(os.environ):
        ours = name.startswith("TOGETHER_") and not name.startswith("TOGETHER_NB_")
        if ours or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TOGETHER_NB_MODELS", os.devnull)  # the toy answers, unless a test asks for a real model
    monkeypatch.setattr(environment, "environment", environment.Environment.read())
    monkeypatch.setattr(keys, "_known", [])
    monkeypatch.setattr(config, "settings", config.Settings())
    one = Session(settings=config.settings)
    one.settings.max_retries = 0  # an error is seen at once; retries have tests of their own
    one.settings.local_tokens_per_second = 0
    monkeypatch.setattr(together_nb.session, "default", one)
    return one


@pytest.fixture
def part_read(monkeypatch):
    """An event, set when the client has read a chunk whose text is "part"."""
    event, usual = threading.Event(), Accumulator.add

    def add(accumulator, chunk):
        kept = usual(accumulator, chunk)
        if chunk.text == "part":
            event.set()
        return kept

    monkeypatch.setattr(Accumulator, "add", add)
    return event


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


@pytest.fixture
def start_kernel(tmp_path):
    """Start a real kernel, `start_kernel(TOGETHER_MODEL="m")`; all of them stop with the test."""
    from tests.kernels import Kernel

    kernels = []

    def start(*, loaded=True, **environment):
        kernels.append(Kernel(tmp_path, loaded=loaded, **environment))
        return kernels[-1]

    yield start
    for kernel in kernels:
        kernel.stop()


@pytest.fixture(scope="module")
def kernel(request, tmp_path_factory):
    """A real kernel for a module's tests, which has run the module's `IN_THE_KERNEL`."""
    from tests.kernels import Kernel

    one = Kernel(tmp_path_factory.mktemp("kernel"))
    one.run(request.module.IN_THE_KERNEL).wait()
    yield one
    one.stop()


@pytest.fixture(scope="module")  # while it is open, an event loop counts as running: no other module may see that
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


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory):
    """A JupyterLab for each set of options, `shared_lab(theme="JupyterLab Dark")`, which the tests of a process share."""
    from tests.lab import Lab

    labs = {}

    def get(**options):
        key = tuple(sorted(options.items()))
        if key not in labs:
            labs[key] = Lab(tmp_path_factory.mktemp("lab"), **options)
        return labs[key]

    yield get
    for lab in labs.values():
        lab.stop()


@pytest.fixture
def open_notebook(browser, shared_lab, tmp_path):
    """Open a notebook of these cells, after one that loads the extension, with a kernel of its own.

    `server` is the one that the kernel's requests go to. `own_lab` starts a JupyterLab for it, over `tmp_path`.
    """
    from tests.lab import Lab, Notebook, write_notebook

    labs = []

    def start(*cells, width=1200, server=None, own_lab=False, **options):
        lab = Lab(tmp_path, **options) if own_lab else shared_lab(**options)
        labs.append((lab, own_lab))
        folder = Path(tempfile.mkdtemp(dir=lab.folder))
        load = "%load_ext together_nb"
        if server is not None:
            variables = {"TOGETHER_BASE_URL": server.base_url, "TOGETHER_MODEL": "test/chat"}
            load = f"import os\nos.environ |= {variables}\n{load}"
        write_notebook(folder / "lesson.ipynb", load, *cells)
        page = browser.new_page(viewport={"width": width, "height": 1000})
        return Notebook(page, lab, f"{folder.name}/lesson.ipynb")

    yield start
    for context in browser.contexts:
        context.close()
    for lab, own_lab in labs:
        lab.stop() if own_lab else lab.shut_kernels_down()


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the slow tests too: storms, loads, installs, browsers")


def pytest_collection_modifyitems(config, items):
    """Leave out what is slow, unless ``--all`` or ``-m`` asks for it."""
    if config.option.all:
        return
    left_out = {"slow", "install"} - set(re.findall(r"\w+", config.option.markexpr))
    slow = {item for item in items if left_out & {mark.name for mark in item.iter_markers()}}
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where nothing may be skipped, as in CI, a skip is a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("TOGETHER_NB_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr[2]}"
    return report
