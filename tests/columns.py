"""What columns that stream side by side cost a page: ``python -m tests.columns``.

Columns of the panel's Compare tab in a real JupyterLab, the server pacing each. Printed: what they
put on IOPub in all, the page's longest task, whether all that was sent is there at the end, and how
soon Stop all has closed the connections after the click.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from jupyter_client import BlockingKernelClient

sys.path.insert(0, str(Path(__file__).parents[1]))
from playwright.sync_api import sync_playwright

from tests.lab import CHROMIUM_FLAGS, Lab, Notebook, chromium, write_notebook
from tests.servers import ScriptedServer

COLUMNS = int(sys.argv[1]) if len(sys.argv) > 1 else 4
RATE = 500  # tokens a second each
SECONDS = 10
TOKENS = RATE * SECONDS
WORDS = [
    "The",
    " sea",
    " was",
    " **calm**",
    " that",
    " day",
    ",",
    " and",
    " the",
    " boat",
    " `lay`",
    " still",
    ".",
    "\n\n",
]
LONG_TASKS = """() => { window.longTasks = [];
    new PerformanceObserver(list => window.longTasks.push(...list.getEntries().map(e => [e.startTime, e.duration])))
        .observe({ entryTypes: ['longtask'] }); }"""


def token(number: int) -> str:
    return WORDS[number % len(WORDS)]


def paced(exchange) -> None:
    exchange.chunked()
    begun = time.perf_counter()
    for number in range(TOKENS):
        ahead = begun + number / RATE - time.perf_counter()
        if ahead > 0:
            time.sleep(ahead)
        exchange.event(exchange.payload(token(number)))
    exchange.event(exchange.payload("", finish="stop"))
    exchange.done()


@contextmanager
def heard(folder: Path):
    """Times and sizes of the messages on the IOPub of the one kernel."""
    (connection,) = (folder / ".runtime").glob("kernel-*.json")
    client = BlockingKernelClient(connection_file=str(connection))
    client.load_connection_file()
    client.iopub_channel.start()
    messages: list[tuple[float, int]] = []
    over = threading.Event()

    def listen() -> None:
        socket = client.iopub_channel.socket
        while not over.is_set():
            if socket.poll(50):
                messages.append((time.perf_counter(), sum(len(frame) for frame in socket.recv_multipart())))

    thread = threading.Thread(target=listen)
    thread.start()
    yield messages
    over.set()
    thread.join()
    client.iopub_channel.stop()


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        ScriptedServer(paced) as server,
        sync_playwright() as playwright,
    ):
        folder = Path(name)
        values = ", ".join(str(value) for value in range(1, COLUMNS + 1))
        write_notebook(
            folder / "n.ipynb",
            "%load_ext together_nb",
            f"from together_nb import Panel\np = Panel(prompt='Tell')\np.compare.vary.value = 'seed'\np.compare.values.value = '{values}'\np",
            "[column.completion.text for column in p.compare.columns if column.completion]",
        )
        lab = Lab(folder, environment={"TOGETHER_BASE_URL": server.base_url, "TOGETHER_MODEL": "test/chat"})
        try:
            browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_FLAGS))
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            notebook = Notebook(page, lab, "n.ipynb")
            for cell in (0, 1):
                notebook.run(cell)
                notebook.wait_run(cell)
            panel = page.locator(".together-nb-panel")
            panel.get_by_role("tab", name="Compare").click()
            compare = panel.locator(".tnb-compare-head").get_by_role("button", name="Compare")
            stop = panel.get_by_role("button", name="Stop all")
            page.evaluate(LONG_TASKS)
            page.evaluate("document.addEventListener('click', event => { window.pressed = event.timeStamp; }, true)")
            with heard(folder) as messages:
                begun = time.perf_counter()
                compare.click()
                page.wait_for_function(
                    "n => [...document.querySelectorAll('.tnb-column')].filter(c => c.innerText.includes(' s · ') || c.innerText.includes('chunks/s') || /chunks · [\\d.]+ s$/.test(c.innerText.trim())).length >= n && [...document.querySelectorAll('.tnb-column')].every(c => c.querySelector('button').disabled)",
                    arg=COLUMNS,
                    timeout=120_000,
                )
                took = time.perf_counter() - begun
            tasks = page.evaluate("window.longTasks")
            whole = "".join(map(token, range(TOKENS)))
            shown = page.locator(".tnb-column .tnb-end").all_inner_texts()
            words = " ".join(whole.replace("**", "").replace("`", "").split())
            complete = [" ".join(text.split()) == words for text in shown]
            seconds = range(int(took))
            rates = [sum(1 for at, _ in messages if second <= at - begun < second + 1) for second in seconds]
            sizes = [sum(size for at, size in messages if second <= at - begun < second + 1) for second in seconds]
            print(f"{COLUMNS} columns, {RATE} tokens/s each for {SECONDS} s: ended after {took:.1f} s")
            print(f"IOPub messages a second: worst {max(rates)}, mean {len(messages) / took:.0f}")
            print(
                f"IOPub kB a second: worst {max(sizes) / 1e3:.0f}, mean {sum(size for _, size in messages) / took / 1e3:.0f}"
            )
            print(
                f"browser tasks over 50 ms: {len(tasks)}, worst {max([duration for _, duration in tasks], default=0):.0f} ms"
            )
            print(f"columns whose text on the page is all that was sent: {sum(complete)} of {COLUMNS}")
            latencies = []
            for _ in range(5):
                server.requests.clear()
                server.closed.clear()
                compare.click()
                while len(server.requests) < COLUMNS:
                    time.sleep(0.05)
                time.sleep(2)
                clicked = time.perf_counter()
                stop.click()
                while server.closed_at is None or server.closed_at < clicked:
                    time.sleep(0.01)
                time.sleep(0.5)  # so that the last of them has closed
                # The page's own clock says when the click came: the driver takes its time to click.
                pressed = (
                    page.evaluate("(performance.timeOrigin + window.pressed) / 1000")
                    - time.time()
                    + time.perf_counter()
                )
                latencies.append(1000 * (server.closed_at - pressed))
            print("Stop all, click to the last connection closed, ms:", ", ".join(f"{one:.0f}" for one in latencies))
            browser.close()
        finally:
            lab.stop()


if __name__ == "__main__":
    main()
