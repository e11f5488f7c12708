"""A real JupyterLab and a real browser, for the tests and for looking at what a person sees."""

from __future__ import annotations

import contextlib
import http
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

_OFF = ("gpu", "quic", "background-networking", "component-update", "sync")
CHROMIUM_FLAGS = ("--no-sandbox", "--no-first-run", *(f"--disable-{one}" for one in _OFF))
TOKEN = "a-token-for-tests"
START_SECONDS = 60


def chromium() -> str | None:
    """The browser's path, or None where there is none."""
    named = os.environ.get("TOGETHER_NB_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Server:
    """A server of Jupyter's, in a process of its own, over a folder with the notebooks and all that it writes.

    `command` is what runs it, after the interpreter, but for the port. `environment` is added to its own, and so to the
    kernels'.
    """

    def __init__(
        self, folder: Path, *command: str, environment: dict[str, str] | None = None, python: Any = sys.executable
    ):
        self.folder = folder
        self.runtime = Path(tempfile.mkdtemp(prefix="tnb"))  # a short path: a socket's name has 107 bytes
        self._log = (folder / ".server.log").open("a")
        self._command = [python, *command, "--no-browser", "--ServerApp.port_retries=0", "--Voila.port_retries=0"]
        self._environment = {
            **os.environ,
            **(environment or {}),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / ".lab-settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".lab-workspaces"),
            "JUPYTER_CONFIG_DIR": str(folder / ".jupyter"),
            "JUPYTER_RUNTIME_DIR": str(self.runtime),
            "IPYTHONDIR": str(folder / ".ipython"),
            "JUPYTER_PREFER_ENV_PATH": "1",
        }
        while not self._started():  # a port that was free when it was picked can be another's now
            log = (folder / ".server.log").read_text()
            if not re.search("no available port|is not available", log):
                self.stop()
                raise RuntimeError(f"it did not start:\n{log[-3000:]}")
            self._log.truncate(0)

    def _started(self) -> bool:
        """Start it at a port that is free, and wait for its answer; False where it ended, or gives none."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command, log = [*self._command, f"--port={port}"], {"stdout": self._log, "stderr": subprocess.STDOUT}
        self.process = subprocess.Popen(command, cwd=self.folder, env=self._environment, **log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError, ValueError, LookupError):  # the last two: another one has the port
                self._ask()
                return True
            time.sleep(0.1)
        return False

    def _ask(self) -> None:
        """Raise an error while it does not answer."""
        request = urllib.request.Request(f"{self.url}/api/status?token={TOKEN}")
        with urllib.request.urlopen(request, timeout=START_SECONDS) as reply:
            json.load(reply)["kernels"]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)  # with a page open it may not obey
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        shutil.rmtree(self.runtime)


class Lab(Server):
    """JupyterLab, or Notebook 7, which is made of the same."""

    def __init__(
        self,
        folder: Path,
        *,
        theme: str = "JupyterLab Light",
        environment: dict[str, str] | None = None,
        module: str = "jupyterlab",
        widget_state: bool = False,
    ):
        self.page = "lab/tree" if module == "jupyterlab" else "notebooks"
        quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        written = {
            "@jupyterlab/apputils-extension/notification": quiet,
            "@jupyterlab/apputils-extension/themes": {"theme": theme},
            "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": widget_state},
        }
        for name, values in written.items():
            path = folder / ".lab-settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values))
        options = ["--allow-root", "--ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}"]
        options += ["--KernelManager.transport=ipc"]  # as in `Kernel`
        super().__init__(folder, "-m", module, *options, environment=environment)

    def _kernels(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/api/kernels?token={TOKEN}", timeout=START_SECONDS) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                # While a kernel is being started the list of kernels can be an error 500.
                if error.code != http.HTTPStatus.INTERNAL_SERVER_ERROR or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def shut_kernels_down(self) -> None:
        for kernel in self._kernels():
            address = f"{self.url}/api/kernels/{kernel['id']}?token={TOKEN}"
            with contextlib.suppress(urllib.error.HTTPError):  # it ended meanwhile
                urllib.request.urlopen(urllib.request.Request(address, method="DELETE"), timeout=START_SECONDS).close()

    def wait_connected(self) -> None:
        """Until a page is connected to an idle kernel."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if any(one["connections"] and one["execution_state"] == "idle" for one in self._kernels()):
                return
            time.sleep(0.1)
        raise TimeoutError("no kernel was connected")


class Voila(Server):
    """A notebook as an app."""

    def __init__(self, folder: Path, name: str, *, theme: str = "light", environment: dict[str, str] | None = None):
        super().__init__(folder, "-m", "voila", name, f"--theme={theme}", environment=environment)

    def _ask(self) -> None:
        # Whoever asks for the page has the notebook run.
        socket.create_connection(("127.0.0.1", int(self.url.rsplit(":", 1)[1])), 1).close()


class Notebook:
    """A notebook open in the browser."""

    def __init__(self, page: Any, lab: Lab, name: str):
        self.page = page
        self.lab = lab
        self.path = lab.folder / name
        self.url = f"{lab.url}/{lab.page}/{name}?token={TOKEN}&reset"
        page.goto(self.url)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        # The indicator in the toolbar says idle before the kernel is connected. The status bar does not;
        # where there is none, the server knows.
        if lab.page == "notebooks":
            lab.wait_connected()
            self.wait_idle()
        else:
            page.wait_for_function(
                "document.querySelector('#jp-main-statusbar')?.textContent.includes('| Idle')", timeout=60_000
            )
        page.keyboard.press("Escape")

    def wait_idle(self, seconds: float = 60) -> None:
        self.page.wait_for_selector(
            '.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached", timeout=seconds * 1000
        )

    def cell(self, number: int) -> Any:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def output(self, number: int) -> Any:
        return self.cell(number).locator(".jp-Cell-outputWrapper")

    def run(self, number: int) -> None:
        """Run a cell and do not wait for its end."""
        self.cell(number).locator(".jp-InputPrompt").first.click()
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+Enter")

    def wait_run(self, number: int, seconds: float = 60) -> None:
        """Until a cell has run: its prompt shows a number."""
        self.page.wait_for_function(
            r"""(n) => { const cells = document.querySelectorAll('.jp-Notebook .jp-Cell');
                const p = cells[n].querySelector('.jp-InputPrompt');
                return p && /\[\d+\]/.test(p.textContent); }""",
            arg=number,
            timeout=seconds * 1000,
        )

    def save(self) -> dict[str, Any]:
        """Save, and read the file."""
        self.page.keyboard.press("Escape")
        before = self.path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            # The server writes the file in place: it may be seen changed and still be half there.
            with contextlib.suppress(ValueError):
                if self.path.stat().st_mtime_ns != before:
                    return json.loads(self.path.read_text())
            time.sleep(0.05)
        raise TimeoutError("the notebook was not saved")


def write_notebook(path: Path, *cells: str) -> None:
    from nbformat import v4

    notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(json.dumps(notebook))


def picture(page: Any, name: str) -> None:
    """Leave a picture of the page, where pictures are wanted."""
    folder = os.environ.get("TOGETHER_NB_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
