"""A real JupyterLab and a real browser, for the tests and for looking at what a person sees."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TOKEN = "a-token-for-tests"
START_SECONDS = 60


def chromium() -> str | None:
    """The browser's path, or None where there is none."""
    named = os.environ.get("TOGETHER_NB_CHROMIUM")
    return named or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Lab:
    """A JupyterLab server over a folder."""

    def __init__(self, folder: Path, *, theme: str = "JupyterLab Light", environment: dict[str, str] | None = None):
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        settings = folder / ".lab-settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True, exist_ok=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        (settings / "themes.jupyterlab-settings").write_text(json.dumps({"theme": theme}))
        self._log = (folder / ".lab.log").open("w")
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
        command += [f"--port={self.url.rsplit(':', 1)[1]}", f"--IdentityProvider.token={TOKEN}"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                **(environment or {}),
                "JUPYTERLAB_SETTINGS_DIR": str(folder / ".lab-settings"),
                "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".lab-workspaces"),
                "JUPYTER_CONFIG_DIR": str(folder / ".jupyter"),
                "JUPYTER_RUNTIME_DIR": str(folder / ".runtime"),
                "IPYTHONDIR": str(folder / ".ipython"),
                "JUPYTER_PREFER_ENV_PATH": "1",
            },
        )
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                request = urllib.request.Request(f"{self.url}/api/status?token={TOKEN}")
                with urllib.request.urlopen(request, timeout=5):
                    return
            time.sleep(0.1)
        self.stop()
        raise RuntimeError("JupyterLab did not start:\n" + (self.folder / ".lab.log").read_text()[-3000:])

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


class Notebook:
    """A notebook open in the browser."""

    def __init__(self, page: Any, lab: Lab, name: str):
        self.page = page
        self.path = lab.folder / name
        page.goto(f"{lab.url}/lab/tree/{name}?token={TOKEN}&reset")
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        # The indicator in the toolbar says idle before the kernel is connected; the status bar does not.
        page.wait_for_function(
            "document.querySelector('#jp-main-statusbar')?.textContent.includes('| Idle')", timeout=60_000
        )
        page.keyboard.press("Escape")

    def wait_idle(self, seconds: float = 60) -> None:
        self.page.wait_for_selector(
            '.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached", timeout=seconds * 1000
        )

    def wait_busy(self, seconds: float = 20) -> None:
        self.page.wait_for_selector(
            '.jp-Notebook-ExecutionIndicator[data-status="busy"]', state="attached", timeout=seconds * 1000
        )

    def cell(self, number: int) -> Any:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def output(self, number: int) -> Any:
        return self.cell(number).locator(".jp-Cell-outputWrapper")

    def run(self, number: int) -> None:
        """Run a cell and do not wait for its end."""
        cell = self.cell(number)
        cell.locator(".jp-InputPrompt").first.click()
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
