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
def heard(runtime: Path):
    """Times and sizes of the messages on the IOPub of the one kernel."""
    (connection,) = runtime.glob("kernel-*.json")
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


ENDED = """n => { const columns = [...document.querySelectorAll('.tnb-column')];
    return columns.length === n && columns.every(column => column.querySelector('button').disabled); }"""


def streamed(page, compare, runtime: Path) -> None:
    """Let all columns stream to their end, and print what it cost."""
    page.evaluate(LONG_TASKS)
    with heard(runtime) as messages:
        begun = time.perf_counter()
        compare.click()
        page.wait_for_function("n => document.querySelectorAll('.tnb-column').length === n", arg=COLUMNS)
        page.wait_for_function(ENDED, arg=COLUMNS, timeout=120_000)
        took = time.perf_counter() - begun
    tasks = [duration for _, duration in page.evaluate("window.longTasks")]
    words = " ".join("".join(map(token, range(TOKENS))).replace("**", "").replace("`", "").split())
    shown = page.locator(".tnb-column .tnb-end").all_inner_texts()
    whole = sum(" ".join(text.split()) == words for text in shown)
    seconds = [[size for at, size in messages if second <= at - begun < second + 1] for second in range(int(took))]
    print(f"{COLUMNS} columns, {RATE} tokens/s each for {SECONDS} s: ended after {took:.1f} s")
    print(f"IOPub messages a second: worst {max(map(len, seconds))}, mean {len(messages) / took:.0f}")
    total = sum(size for _, size in messages)
    print(f"IOPub kB a second: worst {max(map(sum, seconds)) / 1e3:.0f}, mean {total / took / 1e3:.0f}")
    print(f"browser tasks over 50 ms: {len(tasks)}, worst {max(tasks, default=0):.0f} ms")
    print(f"columns whose text on the page is all that was sent: {whole} of {COLUMNS}")


def stopped(page, compare, stop, server) -> float:
    """Milliseconds from the click on Stop all until the last connection is closed."""
    server.requests.clear()
    compare.click()
    while len(server.requests) < COLUMNS:
        time.sleep(0.05)
    time.sleep(2)
    server.closed_at = None
    stop.click()
    page.wait_for_function(ENDED, arg=COLUMNS)
    # The page's own clock says when the click came: the driver takes its time to click.
    pressed = page.evaluate("(performance.timeOrigin + window.pressed) / 1000") - time.time() + time.perf_counter()
    return 1000 * (server.closed_at - pressed)


def main() -> None:
    values = ", ".join(map(str, range(1, COLUMNS + 1)))
    code = (
        "from together_nb import Panel\np = Panel(prompt='Tell')\n"
        f"p.compare.vary.value = 'seed'\np.compare.values.value = '{values}'\np"
    )
    with tempfile.TemporaryDirectory() as name, ScriptedServer(paced) as server, sync_playwright() as playwright:
        folder = Path(name)
        write_notebook(folder / "n.ipynb", "%load_ext together_nb", code)
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
            page.evaluate("document.addEventListener('click', event => { window.pressed = event.timeStamp; }, true)")
            streamed(page, compare, lab.runtime)
            times = [stopped(page, compare, stop, server) for _ in range(5)]
            print("Stop all, click to the last connection closed, ms:", ", ".join(f"{one:.0f}" for one in times))
            browser.close()
        finally:
            lab.stop()


if __name__ == "__main__":
    main()
