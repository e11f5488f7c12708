"""CONTRIBUTING.md: its examples work as they stand, and its map, commands and release are those of the tree."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from pydoc import locate

import pytest

import together_nb
from tests.kernels import PATIENCE, WIDGET, Kernel, environment_without
from tests.readme import README
from tests.servers import ScriptedServer, answers, replies, silent_after
from tests.test_binder import copy_of_the_repository
from tests.test_house import FLOORS, PACKAGE, ROOT
from tests.test_magic import ipython
from together_nb.completion import Completion, CompletionRequest
from together_nb.config import settings
from together_nb.dialects import DIALECTS
from together_nb.formats import FORMATS
from together_nb.session import View

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ADDITION = re.compile(
    r"[Ii]n (?:`([^`\n]+)`, before\s`([^`\n]+)`|a new file, `([^`\n]+)`):\n\n```python\n(.*?)\n```$",
    re.DOTALL | re.MULTILINE,
)


def part(title):
    """What stands under a heading, up to the next one that is no deeper."""
    (level,) = re.findall(rf"^(#+) {re.escape(title)}$", TEXT, re.MULTILINE)
    after = TEXT.partition(f"\n{level} {title}\n")[2]
    return re.split(rf"^#{{1,{len(level)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def shell_of(title):
    """The lines of the one ``sh`` block under a heading."""
    (block,) = re.findall(r"^( *)```sh\n(.*?)^\1```$", part(title), re.DOTALL | re.MULTILINE)
    return textwrap.dedent(block[1])


# How to add

EXAMPLES = {
    "A sampling parameter": ["together_nb/params.py"],
    "A dialect": ["together_nb/dialects.py"] * 2,
    "A way to show an answer": ["together_nb/formats.py"] * 2,
    "A view": ["together_nb/views/sentences.py", "together_nb/views/__init__.py", "together_nb/formats.py"],
}


def additions(title):
    """What an example adds: file, place ("" of a new file) and code of each piece."""
    return [(file or new, place, code) for file, place, new, code in ADDITION.findall(part(title))]


def add(root, file, place, code):
    """Put `code` before the one line that begins with `place`, as far indented as that is; or into a new file."""
    path = root / file
    if not place:
        assert not path.exists()
        path.write_text(f"{code}\n", encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").split("\n")
    (number,) = [number for number, line in enumerate(lines) if line.strip().startswith(place)]
    indent = re.match(" *", lines[number])[0]
    blank = [] if indent else ["", ""]
    lines[number:number] = [*textwrap.indent(code, indent).split("\n"), *blank]
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A copy of the package with all that CONTRIBUTING adds, and what of the folder goes with it."""
    root = tmp_path_factory.mktemp("house")
    shutil.copytree(PACKAGE, root / "together_nb", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    (root / "home").mkdir()
    for name in ("pyproject.toml", "README.md", "tests/readme.py"):
        shutil.copy(ROOT / name, root / name)
    for title in EXAMPLES:
        for file, place, code in additions(title):
            add(root, file, place, code)
    return root


def environment_of(house):
    """Variables with which a Python has that copy for the package."""
    kept = environment_without("TOGETHER_")
    return {
        **kept, "PYTHONPATH": str(house), "IPYTHONDIR": str(house / "home"), "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


def within(house, *command):
    """Run a Python of which that copy is the package; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *command], env=environment_of(house), capture_output=True, text=True, check=False, cwd=house
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def kernel(house):
    one = Kernel(house / "home", PYTHONPATH=str(house))
    one.run("import together_nb; from together_nb import settings; settings.model = 'test/base'").wait()
    assert Path(ast.literal_eval(one.value("together_nb.__file__"))).parent.parent == house
    yield one
    one.stop()


@pytest.fixture
def ask(kernel):
    """Point the kernel at a scripted server and start a cell."""

    def start(server, code, **options):
        kernel.run(f"settings.base_url = {server.base_url!r}").wait()
        return kernel.run(code, **options)

    return start


def completions_of(kernel, line):
    """What the line reads after Tab, each way."""
    kernel.client.complete(line, len(line))
    reply = kernel.client.get_shell_msg(timeout=60)["content"]
    start, end = reply["cursor_start"], reply["cursor_end"]
    return [line[:start] + match + line[end:] for match in reply["matches"]]


def help_of(kernel):
    kernel.client.inspect("%%together", 10)
    return " ".join(kernel.client.get_shell_msg(timeout=60)["content"]["data"]["text/plain"].split())


def test_all_python_that_is_shown_is_an_example_that_is_added():
    assert {title: [file for file, _, _ in additions(title)] for title in EXAMPLES} == EXAMPLES
    assert TEXT.count("```python") == sum(map(len, EXAMPLES.values()))


def test_adding_a_parameter_or_a_format_is_one_statement_and_a_dialect_one_object():
    (parameter,) = additions("A sampling parameter")
    assert len(ast.parse(parameter[2]).body) == 1
    for title in ("A dialect", "A way to show an answer", "A view"):
        row = ast.parse(additions(title)[-1][2]).body
        assert [type(one.value.elts[0]) for one in row] == [ast.Call]


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_has_nothing_to_say_to_the_examples(house, command):
    within(house, "-m", "ruff", *command, "--no-cache", "together_nb")


def test_mypy_has_nothing_to_say_to_the_examples(house):
    # The lowest versions of what we use have other types, of which it may complain elsewhere.
    said = within(
        house, "-c", "import subprocess, sys; subprocess.run([sys.executable, '-m', 'mypy', '--no-incremental'])"
    )
    assert re.search(r"\b(checked|in) \d+ source files", said), said
    changed = tuple(file for files in EXAMPLES.values() for file in files)
    assert [line for line in said.splitlines() if line.startswith(changed)] == []


# Names in what is told around the examples

IN_PLACE = re.compile(r"`(\w+)`\s(?:in\s|in\sits\s|\()`([\w/]+\.py)`")


def prose(*titles):
    """The text under headings, without what is fenced."""
    return re.sub(r"^```.*?^```$", "", "".join(map(part, titles)), flags=re.DOTALL | re.MULTILINE)


def sources():
    """Each module of the package and each piece that an example adds: its path, parsed."""
    for path in PACKAGE.rglob("*.py"):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))
    for title in EXAMPLES:
        for file, _, code in additions(title):
            yield file, ast.parse(code)


def declared(tree, owner=""):
    """Names that a module declares, those within a class also as `Class.name`."""
    for node in ast.iter_child_nodes(tree):
        names = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
        for name in names:
            yield name
            if owner:
                yield f"{owner}.{name}"
        if isinstance(node, ast.ClassDef):
            yield from declared(node, node.name)


def known_names():
    """What a name in the text may stand for."""
    yield from DIALECTS
    for path, tree in sources():
        yield from re.findall(r"\w+", path.removesuffix(".py"))
        yield from declared(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):  # as it is used: `raw.read1`
                yield ".".join(ast.unparse(node).split(".")[-2:])
            elif isinstance(node, ast.arg):
                yield f"{node.arg}="
            elif isinstance(node, ast.AnnAssign):
                yield f"{ast.unparse(node.target)}="


def test_each_name_that_the_text_around_the_examples_tells_is_one_of_the_package():
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose("The house", "How to add"))]
    names = {span.removesuffix("()") for span in spans if re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", span)}
    names = {name for name in names if not name.endswith(".py")}
    keywords = {span.partition("=")[0] + "=" for span in spans if re.match(r"\w+=", span)}
    assert {"Completion.bundle", "_HONOURED", "TerminalView", "view_for", "api="} <= names | keywords
    assert (names | keywords) - set(known_names()) == set()


def test_each_file_that_the_text_around_the_examples_tells_is_one_of_the_tree():
    there = {f"/{path}" for path, _ in sources()}
    there |= {f"/tests/{path.name}" for path in (ROOT / "tests").glob("*.py")}
    there |= {f"{path.rpartition('/')[0]}/" for path in there}
    files = set(re.findall(r"`([\w/]+(?:\.py|/))`", prose("The house", "How to add")))
    assert {"asked.py", "views/tokens.py", "together_nb/local/"} <= files
    assert [file for file in files if not any(path.endswith(f"/{file}") for path in there)] == []


def test_what_is_told_to_be_in_a_file_is_declared_there():
    places = IN_PLACE.findall(prose("The house", "How to add"))
    assert {name for name, _ in places} == {"View", "_HONOURED"}
    for name, file in places:
        assert name in {one for path, tree in sources() if path.endswith(f"/{file}") for one in declared(tree)}


# A sampling parameter

SEEN_EVERYWHERE = """
import contextlib, io, json, sys
from pathlib import Path
import together_nb
assert Path(together_nb.__file__).parent.parent == Path(sys.argv[1]), together_nb.__file__

from IPython.core.interactiveshell import InteractiveShell
from together_nb import options
from together_nb.completion import CompletionRequest
from together_nb.config import settings
from together_nb.dialects import DIALECTS
from together_nb.errors import APIStatusError, InputError
from together_nb.params import SamplingParams

def refusal(action, kind=InputError):
    try:
        action()
    except kind as error:
        return error.message

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "together_nb")
magics = next(one for one in shell.configurables if type(one).__name__ == "TogetherMagics")
seen = {
    "parsed": options.parse("--typical-p 0.5").sampling,
    "unset": options.parse("--typical_p unset").sampling,
    "help": "--typical-p float" in options.help_text() and "as surprising as was to be expected" in " ".join(options.help_text().split()),
    "docstring": "typical_p : float or None" in together_nb.stream.__doc__,
    "refused": refusal(lambda: SamplingParams(typical_p=2)),
    "refused on the line": refusal(lambda: options.parse("--typical-p 2")),
    "payloads": [dialect.payload(CompletionRequest("Hi", "m", sampling=SamplingParams(typical_p=0)))["typical_p"] for dialect in DIALECTS.values()],
    "unsent": [name for name, dialect in DIALECTS.items() if "typical_p" in dialect.payload(CompletionRequest("Hi", "m"))],
    "configurable": "typical_p" in magics.trait_names(config=True),
    "local": refusal(lambda: together_nb.complete("Hi", typical_p=0.5), APIStatusError),
}
shell.run_line_magic("config", "TogetherMagics.typical_p = 0.25")
seen["configured"] = settings.typical_p
with contextlib.redirect_stdout(io.StringIO()) as said:
    shell.run_line_magic("config", "TogetherMagics")
seen["config tells of it"] = "typical_p" in said.getvalue()
seen["default"] = together_nb.stream("Hi").payload["typical_p"]
seen["keyword"] = together_nb.stream("Hi", typical_p=0.5).payload["typical_p"]
seen["keyword refused"] = refusal(lambda: together_nb.stream("Hi", typical_p=2))

import threading
from ipywidgets import HTML, FloatSlider, Tab, Text
from together_nb.panel.parts import within

def the(kind, among):
    (found,) = [one for one in among if isinstance(one, kind)]
    return found

settings.base_url, settings.model = "http://127.0.0.1:9", "m"
panel = together_nb.Panel(prompt="Hi", api="chat")
field = the(Text, [one for one in within(panel.widget) if getattr(one, "description", "") == "typical_p"])
control = list(within(the(object, [one for one in within(panel.widget) if "tnb-parameter" in one._dom_classes and field in within(one)])))
slider, tab = the(FloatSlider, control), the(Tab, within(panel.widget))
seen["field"], seen["slider"] = field.value, [slider.value, slider.min, slider.max, slider.step]
seen["help beside it"] = any("as surprising as was to be expected" in one.value for one in control if isinstance(one, HTML))
field.value = "2"
seen["refused beside it"] = any(one.value == "typical_p must be a number from 0 to 1, not 2." for one in control if isinstance(one, HTML))
slider.value = 0.75
seen["field after its slider"] = field.value
tab.selected_index = [tab.get_title(number) for number in range(len(tab.children))].index("Request")
for thread in threading.enumerate():
    if thread.name.startswith("together_nb "):
        thread.join()
seen["request"] = "&quot;typical_p&quot;: 0.75" in the(HTML, within(tab.children[tab.selected_index])).value
panel.close()
print(json.dumps(seen))
"""
REFUSED = "typical_p must be a number from 0 to 1, not 2."


def test_the_parameter_is_seen_everywhere(house):
    assert json.loads(within(house, "-c", SEEN_EVERYWHERE, str(house)).splitlines()[-1]) == {
        "parsed": {"typical_p": 0.5},
        "unset": {"typical_p": None},
        "help": True,
        "docstring": True,
        "refused": REFUSED,
        "refused on the line": REFUSED,
        "payloads": [0.0] * (len(DIALECTS) + 1),
        "unsent": [],
        "configurable": True,
        "local": "The server did not accept the request (HTTP 400). local/ngram cannot honour typical_p. "
        "Leave it out, or ask one of Together's models.",
        "configured": 0.25,
        "config tells of it": True,
        "default": 0.25,
        "keyword": 0.5,
        "keyword refused": REFUSED,
        "field": "0.25",
        "slider": [0.25, -0.01, 1.0, 0.01],
        "help beside it": True,
        "refused beside it": True,
        "field after its slider": "0.75",
        "request": True,
    }


def test_the_parameter_is_sent_from_a_cell(ask, kernel):
    with ScriptedServer(answers(["Yes"])) as server:
        run = ask(server, "%%together --typical-p 0.9 --api chat\nHi").wait()
    assert run.status == "ok"
    assert server.requests[0].json()["typical_p"] == 0.9
    assert "%%together --typical-p" in completions_of(kernel, "%%together --typ")


def test_the_command_gives_the_readme_its_row(house):
    within(house, "-m", "tests.readme")
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in (README, house / "README.md"))
    (row,) = [line for line in after if line not in before]
    assert row.startswith("| `--typical-p` | a number from 0 to 1 | Choose among the tokens about as surprising")


# A dialect


def llama_event(text, **more):
    return {"index": 0, "content": text, "tokens": [7], "stop": False, "id_slot": 0, **more}


def likely(token):
    other = {"id": 8, "token": " nice", "bytes": [], "logprob": -2.5}
    row = {"id": 7, "token": token, "bytes": [], "logprob": -0.5, "top_logprobs": [{**other, "token": token}, other]}
    return {"completion_probabilities": [row]}


LLAMA_END = llama_event(
    "", stop=True, stop_type="limit", stopping_word="", tokens_predicted=2, tokens_evaluated=5, model="test/base"
)


def llama(exchange):
    """llama.cpp's server, as its documentation has it: no terminator, and counts on the last event."""
    exchange.chunked()
    for text in ("Once", " upon"):
        exchange.event(llama_event(text, **likely(text)))
    exchange.event(LLAMA_END)


def test_the_dialect_streams_into_a_cell(ask, kernel):
    shown = threading.Event()

    def script(exchange):
        exchange.chunked()
        exchange.event(llama_event("Once", **likely("Once")))
        exchange.pause(shown)
        exchange.event(llama_event(" upon", **likely(" upon")))
        exchange.event(LLAMA_END)

    with ScriptedServer(script) as server:
        run = ask(server, "%%together --api llama --max-tokens 2 --logprobs 2 --repetition-penalty 1.1 -o told\nTell")
        run.until(lambda message: "Once" in str(message["content"].get("data")))
        shown.set()
        run.wait()
    assert run.status == "ok"
    (request,) = server.requests
    assert request.path == "/completion"
    assert request.json() == {
        "model": "test/base", "prompt": "Tell", "n_predict": 2, "n_probs": 2, "repeat_penalty": 1.1, "stream": True,
    }  # fmt: skip
    assert run.display["data"]["text/plain"].startswith("Once upon\n\n[test/base")
    assert run.display["metadata"]["together_nb"]["api"] == "llama"
    told = "told.text, told.finish_reason, told.truncated, told.usage.prompt_tokens, told.usage.completion_tokens"
    assert kernel.value(told) == "('Once upon', 'length', True, 5, 2)"
    assert (
        kernel.value("[(one.text, one.logprob) for one in told.choices[0].tokens]")
        == "[('Once', -0.5), (' upon', -0.5)]"
    )
    assert kernel.value("told.choices[0].tokens[1].top") == "((' upon', -2.5), (' nice', -2.5))"


def test_the_dialect_goes_on_from_the_answers_end(ask):
    with ScriptedServer(llama) as server:
        ask(server, "%%together --api llama\nTell").wait()
        ask(server, "%together continue").wait()
    assert [request.json()["prompt"] for request in server.requests] == ["Tell", "TellOnce upon"]


def test_the_dialect_is_compared_asked_for_each_item_recorded_and_replayed(ask, kernel, tmp_path):
    tape = tmp_path / "tape.jsonl"
    with ScriptedServer(llama) as server:
        ask(server, f"%together record {tape}").wait()
        for options, prompt in (("--compare temperature=0,1", "Tell"), ('--for "[1, 2]"', "Tell {item}")):
            run = ask(server, f"%%together --api llama {options} -o told\n{prompt}").wait()
            assert run.status == "ok"
            assert kernel.value("[one.text for one in told]") == "['Once upon', 'Once upon']"
        ask(server, f"%together record off\n%together replay {tape}").wait()
        run = ask(server, "%%together --api llama --temperature 1 -o told\nTell").wait()
        kernel.run("%together replay off").wait()
        assert run.status == "ok"
        assert kernel.value("told.text") == "'Once upon'"
        assert len(server.requests) == 4  # the replay asked nobody


def test_the_same_call_in_the_dialect_is_told_as_a_cell_python_and_curl(ask, kernel):
    with ScriptedServer(llama) as server:
        ask(
            server, "from together_nb.recipes import recipes; opened = together_nb.stream('Tell', api='llama', n=2)"
        ).wait()
        told = ast.literal_eval(kernel.value("recipes(opened, settings.sampling)"))
        assert told["cell"] == "%%together -m test/base --api llama --n 2\nTell"
        assert "api='llama'" in told["python"]
        assert f"{server.base_url}/completion" in told["curl"]
        assert '"n_cmpl": 2' in told["curl"]


def test_an_answer_in_the_dialect_that_has_begun_is_not_asked_for_again(ask, kernel):
    def script(exchange):
        exchange.chunked().event(llama_event("Once"))
        exchange.cut()

    with ScriptedServer(script) as server:
        run = ask(server, "%%together --api llama\nTell").wait()
    assert run.error["ename"] == "ConnectionLostError"
    assert kernel.value("_together.text") == "'Once'"
    assert len(server.requests) == 1


def test_the_dialect_tells_the_servers_errors(ask):
    def script(exchange):
        exchange.chunked().event({"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})

    with ScriptedServer(script) as server:
        run = ask(server, "%%together --api llama\nTell").wait()
    assert run.error["evalue"].startswith("The server broke the answer off with an error: Loading model.")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--system Short", "The llama API takes one prompt: no system prompt and no messages."),
        ("--reasoning-effort low", "reasoning_effort cannot be sent to the llama API."),
    ],
)
def test_what_the_dialect_cannot_say_is_refused_unsent(ask, options, said):
    with ScriptedServer(llama) as server:
        run = ask(server, f"%%together --api llama {options}\nTell").wait()
    assert run.error["evalue"].startswith(said)
    assert server.requests == []


def test_the_dialect_is_offered_and_explained(ask, kernel):
    assert "%%together --api llama" in completions_of(kernel, "%%together --api ll")
    assert "llama: llama.cpp's own API, a text to be continued" in help_of(kernel)
    with ScriptedServer(llama) as server:
        run = ask(server, "%%together --api lama\nTell").wait()
    assert "Did you mean llama?" in run.error["evalue"]


def test_the_dialect_is_there_in_python(ask, kernel):
    with ScriptedServer(llama) as server:
        ask(server, "answer = together_nb.complete('Tell', api='llama', seed=0)").wait()
    assert kernel.value("answer.text") == "'Once upon'"
    assert server.requests[0].json() == {"model": "test/base", "prompt": "Tell", "seed": 0, "stream": True}


PANEL = """
import threading
from ipywidgets import HTML, Dropdown, Tab
from together_nb.panel.parts import within
panel = together_nb.Panel(prompt="Tell", max_tokens=2, shared=False)
(box,) = [one for one in within(panel.widget) if isinstance(one, Dropdown) and one.description == "api"]
box.value = "llama"
panel.generate()
(tab,) = [one for one in within(panel.widget) if isinstance(one, Tab)]
tab.selected_index = [tab.get_title(number) for number in range(len(tab.children))].index("Request")
for thread in threading.enumerate():
    if thread.name.startswith("together_nb "):
        thread.join()
request = "".join(one.value for one in within(tab.children[tab.selected_index]) if isinstance(one, HTML))
text = panel.completion.text
panel.close()
"""


def test_the_dialect_is_in_the_panels_box_and_answers_there(ask, kernel):
    with ScriptedServer(llama) as server:
        run = ask(server, PANEL).wait()
    assert run.status == "ok"
    assert kernel.value("text") == "'Once upon'"
    assert server.requests[0].json() == {"model": "test/base", "prompt": "Tell", "n_predict": 2, "stream": True}
    request = ast.literal_eval(kernel.value("request"))
    assert "/completion" in request
    assert "&quot;n_predict&quot;: 2" in request
    assert "--api llama" in request


def test_another_dialect_of_chat_can_be_asked_for_a_form_too(monkeypatch, capsys):
    monkeypatch.setitem(DIALECTS, "other", replace(DIALECTS["chat"], name="other", path="/other"))
    form = {"type": "object", "properties": {"name": {"type": "string"}}}
    with ScriptedServer(answers([])) as server, ipython() as shell:
        shell.user_ns["form"] = form
        settings.base_url, settings.model = server.base_url, "test/chat"
        for options, sent in (("--show json", "json_object"), ("--schema form", "json_schema")):
            shell.run_cell(f"%%together --api other --dry-run {options}\nHi").raise_error()
            shown = capsys.readouterr().out
            assert "/other" in shown
            assert sent in shown


# A way to show an answer

QUOTED = "> A &#42;line&#42;  \n> &lt;b&gt;".replace("&lt;", "&#60;").replace("&gt;", "&#62;")


def test_the_format_shows_an_answer_live_and_as_it_is_saved(ask):
    with ScriptedServer(answers(["A *line*\n", "<b>"])) as server:
        run = ask(server, "%%together --api chat --show quote\nTell").wait()
    assert run.repaints()[-1][1] == QUOTED
    saved = run.display["data"]
    assert saved["text/markdown"].startswith(f"{QUOTED}\n\n<sub>test/base")
    assert saved["text/plain"].startswith("A *line*\n<b>\n\n[test/base")


def test_the_format_shows_answers_where_nobody_watches_and_side_by_side(ask):
    with ScriptedServer(answers(["A *line*\n", "<b>"])) as server:
        once = ask(server, "%%together --api chat --show quote\nTell", watched=False).wait()
        columns = ask(server, "%%together --api chat --show quote --compare temperature=0,1\nTell").wait()
    assert once.display["data"]["text/markdown"].startswith(f"{QUOTED}\n\n<sub>test/base")
    assert columns.display["data"]["text/markdown"].count(QUOTED) == 2


def test_the_format_is_offered_and_explained(ask, kernel):
    assert "%%together --show quote" in completions_of(kernel, "%%together --show qu")
    assert "quote: as a quotation" in help_of(kernel)
    with ScriptedServer(answers(["Yes"])) as server:
        run = ask(server, "%%together --show quotes\nTell").wait()
    assert "Did you mean quote?" in run.error["evalue"]


# A view

WHOLE = "Once upon a time.\nThere was <b>a</b> \\x1b]52;c;eA==\\x07cat!\nIt slept"
FOOTER = r"\n\[test/base · [^\n]*\]\n"


def told_in_sentences(shown):
    """Half of it, and the rest only when `shown` is set."""

    def script(exchange):
        exchange.chunked().text_events(["Once up", "on a time. Th"])
        exchange.pause(shown)
        answers(["ere was <b>a</b> \x1b]52;c;eA==\x07cat!\n\nIt", " slept"])(exchange)

    return script


def test_the_views_methods_are_those_that_the_text_names_and_the_protocol_has():
    named = part("A view").partition("methods of `View` (`session.py`):")[2].partition(". ")[0]
    protocol = [name for name, value in vars(View).items() if callable(value) and not name.startswith("_")]
    (view,) = [one for one in ast.parse(additions("A view")[0][2]).body if isinstance(one, ast.ClassDef)]
    assert re.findall(r"`(\w+)`", named) == protocol
    assert [one.name for one in view.body if isinstance(one, ast.FunctionDef)] == ["__init__", *protocol]


def test_the_view_writes_a_sentence_before_the_next_has_come_and_leaves_all_with_the_footer(ask, kernel):
    shown = threading.Event()
    with ScriptedServer(told_in_sentences(shown)) as server:
        run = ask(server, "%%together --show sentences -o told\nTell")
        run.until(lambda message: "time" in str(message["content"].get("text")))
        assert run.stdout == "Once upon a time.\n"
        shown.set()
        run.wait()
    assert run.status == "ok"
    assert re.fullmatch(re.escape(WHOLE) + FOOTER, run.stdout)
    assert run.of("display_data", "update_display_data", "comm_open") == []
    assert kernel.value("told.text.count('cat!')") == "1"


def test_the_view_leaves_what_came_where_the_connection_is_lost(ask, kernel):
    def script(exchange):
        exchange.chunked().text_events(["One. Two", " and"])
        exchange.cut()

    with ScriptedServer(script) as server:
        run = ask(server, "%%together --show sentences\nTell").wait()
    assert run.error["ename"] == "ConnectionLostError"
    assert run.stdout.startswith("One.\nTwo and\n[test/base · 2 chunks · ")
    assert run.stdout.endswith(" · connection lost]\n")
    assert kernel.value("_together.text") == "'One. Two and'"


def test_the_view_leaves_what_came_at_ctrl_c(ask, kernel):
    with ScriptedServer(silent_after(["One. Two"])) as server:
        run = ask(server, "%%together --show sentences\nTell")
        run.until(lambda message: "One" in str(message["content"].get("text")))
        kernel.interrupt()
        run.wait()
        assert server.closed.wait(PATIENCE)
    assert run.error["ename"] == "KeyboardInterrupt"
    assert run.stdout.startswith("One.\nTwo\n[test/base · 1 chunk · ")
    assert run.stdout.endswith(" · stopped by you]\n")


def test_the_view_tells_of_a_wait_for_another_try(ask, kernel):
    with ScriptedServer(replies(429, {"error": {"message": "slow down"}}, retry_after=60)) as server:
        run = ask(server, "%%together --show sentences\nTell")
        run.until(lambda message: "rate limited; trying again" in str(message["content"].get("text")))
        kernel.interrupt()
        assert run.wait().error["ename"] == "KeyboardInterrupt"
    assert run.stdout.count("rate limited") == 1


def test_the_view_says_that_the_model_thinks_and_leaves_further_answers_for_the_end(ask):
    def script(exchange):
        thought = exchange.payload("")
        thought["choices"][0]["delta"] = {"reasoning": "Hm. "}
        exchange.chunked().event(thought)
        exchange.event(exchange.payload("Or. Not.", index=1))
        answers(["One. Two"], usage=False)(exchange)

    with ScriptedServer(script) as server:
        run = ask(server, "%%together --show sentences --api chat --n 2\nTell").wait()
    assert re.fullmatch(r"\(thinking …\)\nOne\.\nTwo\n\nAnswer 2:\nOr\. Not\." + FOOTER, run.stdout)


def test_where_the_view_does_not_fit_the_rows_text_is_shown(ask, kernel):
    with ScriptedServer(answers(["One. *Two*"])) as server:
        once = ask(server, "%%together --show sentences\nTell", watched=False).wait()
        columns = ask(server, "%%together --show sentences --compare temperature=0,1\nTell").wait()
        behind = ask(server, "%%together --show sentences --background -o told\nTell").wait()
        ended = kernel.run("print(told.result().text)").wait()
    assert once.display["data"]["text/markdown"].startswith("One. &#42;Two&#42;\n\n<sub>test/base")
    assert columns.display["data"]["text/markdown"].count("One. &#42;Two&#42;") == 2
    assert any(WIDGET in one["content"]["data"] for one in behind.of("display_data"))
    assert [run.stdout for run in (once, columns, behind, ended)] == ["", "", "", "One. *Two*\n"]


IN_A_TERMINAL = """
import sys
from pathlib import Path

import together_nb
from IPython.core.interactiveshell import InteractiveShell

assert Path(together_nb.__file__).parent.parent == Path(sys.argv[1]), together_nb.__file__
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "together_nb")
together_nb.settings.base_url, together_nb.settings.model = sys.argv[2], "test/base"
shell.run_cell("%%together --show sentences\\nTell")
print([one.text for one in together_nb.history])
"""


@contextmanager
def terminal(house, server):
    """An IPython without a kernel that runs one cell, and what it writes."""
    command = [sys.executable, "-c", IN_A_TERMINAL, house, server.base_url]
    with subprocess.Popen(command, env=environment_of(house), stdout=subprocess.PIPE, text=True, cwd=house) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_view_does_the_same_in_a_terminal(house):
    shown = threading.Event()
    with ScriptedServer(told_in_sentences(shown)) as server, terminal(house, server) as process:
        assert process.stdout.readline() == "Once upon a time.\n"
        shown.set()
        rest = process.stdout.read()
        assert process.wait() == 0
    whole = re.escape(WHOLE.partition("\n")[2]) + FOOTER
    assert re.fullmatch(whole + r"\['Once upon a time. There was .*slept'\]\n", rest), rest


def test_the_view_leaves_what_came_at_ctrl_c_in_a_terminal(house):
    with ScriptedServer(silent_after(["One. Two"])) as server, terminal(house, server) as process:
        assert process.stdout.readline() == "One.\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read().splitlines()
        assert server.closed.wait(PATIENCE)
        assert process.wait() == 0
    assert rest[0] == "Two"
    assert rest[1].endswith(" · stopped by you]")
    assert rest[-1] == "['One. Two']"
    assert "KeyboardInterrupt: stopped by you; what came is kept." in rest


def test_the_view_is_offered_and_explained(ask, kernel):
    assert "%%together --show sentences" in completions_of(kernel, "%%together --show se")
    assert "sentences: text, written by whole sentences for a screen reader" in help_of(kernel)
    with ScriptedServer(answers(["Yes"])) as server:
        run = ask(server, "%%together --show sentence\nTell").wait()
    assert "Did you mean sentences?" in run.error["evalue"]


# What is by hand


def listed_by_hand():
    """Where names stand that no declaration puts there: which they are to be, and what stands there."""
    readme = README.read_text(encoding="utf-8")
    for option, table in (("--api", DIALECTS), ("--show", FORMATS)):
        (row,) = re.findall(rf"^\| `{option} ([^`]+)`", readme, re.MULTILINE)
        yield f"the README's row of {option}", table, row.split("\\|")
    for where, table, doc in (
        ("stream", DIALECTS, together_nb.stream.__doc__),
        ("Panel", DIALECTS, together_nb.Panel.__doc__),
        ("CompletionRequest", DIALECTS, CompletionRequest.__doc__),
        ("Completion.api", DIALECTS, Completion.api.__doc__),
        ("Completion.bundle", FORMATS, Completion.bundle.__doc__),
    ):
        yield f"the docstring of {where}", table, re.findall(r"``(\w+)``", doc)


@pytest.mark.parametrize(("where", "table", "names"), [pytest.param(*one, id=one[0]) for one in listed_by_hand()])
def test_every_dialect_and_format_is_named_where_that_is_done_by_hand(where, table, names):
    assert [name for name in table if name not in names] == []


# The house


def floors_drawn():
    """The lines of the map, by the number of the floor."""
    (picture,) = re.findall(r"^```\ntogether_nb/\n(.*?)^```$", part("The house"), re.DOTALL | re.MULTILINE)
    pieces = re.split(r"^ floor (\d)", picture, flags=re.MULTILINE)
    return {int(number): text for number, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def test_the_map_draws_each_module_on_its_floor():
    drawn = floors_drawn()
    assert list(drawn) == list(range(len(FLOORS)))
    for number, modules in enumerate(FLOORS):
        shown = set(re.findall(r"\b(\w+)(?:\.py\b|/)", drawn[number]))
        assert [name for name in modules if name not in shown] == []


def test_the_map_draws_nothing_that_is_not_there():
    there = {path.name for path in PACKAGE.rglob("*.py")} | {
        f"{path.name}/" for path in PACKAGE.rglob("*") if path.is_dir()
    }
    drawn = re.findall(r"\b\w+\.py\b|(?<![\w/])\w+/", "".join(floors_drawn().values()))
    assert [name for name in drawn if name not in there] == []


def test_the_map_draws_each_module_of_the_views():
    line = floors_drawn()[2].partition("  views/")[2]
    assert [path.name for path in (PACKAGE / "views").glob("[!_]*.py") if path.name not in line] == []


# Commands to know


@dataclass
class Command:
    """A command of the block: what is set for it, what is run, with what."""

    variables: list[str]
    program: str
    words: list[str]


def commands():
    for line in shell_of("Commands to know").splitlines():
        for command in line.partition("  #")[0].split("&&"):
            words = re.findall(r'"[^"]*"|\S+', command)
            variables = [word for word in words if re.match(r"\w+=", word)]
            program, *rest = words[len(variables) :]
            yield Command([word.partition("=")[0] for word in variables], program, [word.strip('"') for word in rest])


def programs():
    """The modules and packages of the tests that can be run."""
    modules = {path for path in (ROOT / "tests").glob("*.py") if "\nif __name__ ==" in path.read_text("utf-8")}
    packages = {path.parent for path in (ROOT / "tests").glob("*/__main__.py")}
    return {f"tests.{path.stem}" for path in modules | packages}


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_commands_to_know_name_every_program_of_the_tests():
    assert {
        command.words[1] for command in commands() if command.words[:1] == ["-m"] and "." in command.words[1]
    } == programs()


@pytest.mark.parametrize("command", list(commands()), ids=lambda one: " ".join((one.program, *one.words)))
def test_each_command_to_know_names_what_there_is(command):
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py"))
    for variable in command.variables:
        assert re.search(rf"environ\b.*{variable}", sources), variable
    if command.program == ".ci/run":
        assert os.access(ROOT / ".ci" / "run", os.X_OK)
    elif command.program != ".venv/bin/python":
        tool = command.program.removeprefix(".venv/bin/")
        assert tool in {re.match(r"[\w-]+", line)[0] for line in project()["project"]["optional-dependencies"]["test"]}
    elif command.words[1] != "pytest":
        assert command.words[1] in programs()
    else:
        options = project()["tool"]["pytest"]["ini_options"]
        markers = {line.partition(":")[0] for line in options["markers"]}
        words = command.words[2:]
        expression = words[words.index("-m") + 1] if "-m" in words else ""
        assert set(re.findall(r"\w+", expression)) - {"not", "and", "or"} <= markers
        assert [word for word in words if "/" in word and not (ROOT / word).is_file()] == []


# How to release

NUMBER = r"\d+\.\d+\.\d+"
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}  # Keep a Changelog's


def number(version):
    return tuple(map(int, version.split(".")))


def test_the_changelog_is_one_that_keep_a_changelog_describes():
    first, *released = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert first == "[Unreleased]"
    dated = [re.fullmatch(rf"\[({NUMBER})\] - (\d{{4}}-\d{{2}}-\d{{2}})", title) for title in released]
    assert None not in dated
    order = [(number(title[1]), date.fromisoformat(title[2])) for title in dated]
    assert order == sorted(order, reverse=True)
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= KINDS


def test_the_version_has_its_section_in_the_changelog_or_is_yet_to_be_released():
    released = re.findall(rf"^## \[({NUMBER})\]", CHANGELOG, re.MULTILINE)
    assert re.fullmatch(NUMBER, together_nb.__version__)
    if together_nb.__version__ not in released:
        assert all(number(one) < number(together_nb.__version__) for one in released)
        coming = CHANGELOG.partition("## [Unreleased]")[2].partition("\n## ")[0]
        assert re.search(r"^- \S", coming, re.MULTILINE)


def test_what_is_public_is_where_the_text_says():
    names = re.findall(r"`(together_nb\.[\w.]+)`", part("How to release"))
    assert names
    assert [name for name in names if locate(name) is None] == []


# What was built, used from an empty folder.
USED = """
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "together_nb")
shell.run_cell("%%together --max-tokens 8 -o told\\nOnce upon a time").raise_error()
assert shell.user_ns["told"].usage.completion_tokens == 8
"""


@pytest.mark.install
@pytest.mark.timeout(900)
def test_the_release_is_built_checked_and_used_as_it_stands(tmp_path):
    root, temporary = tmp_path / "repository", tmp_path / "temporary"
    temporary.mkdir()
    copy_of_the_repository(root)
    tracked = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    subprocess.run([sys.executable, "-m", "venv", root / ".venv"], check=True)
    kept = environment_without("TOGETHER_", "PYTHON")
    done = subprocess.run(
        ["bash", "-euc", shell_of("How to release")], cwd=root, env={**kept, "TMPDIR": str(temporary)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    version, said = done.stdout.splitlines()[-1].split(" ", 1)
    assert version == together_nb.__version__
    assert ast.literal_eval(said)[0].strip()
    (source,), (wheel,) = (root / "dist").glob("*.tar.gz"), (root / "dist").glob("*.whl")
    assert wheel.name == f"together_nb-{version}-py3-none-any.whl"
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked - held <= {".gitignore"}
    (python,) = temporary.glob("*/bin/python")
    subprocess.run([python, "-I", "-c", USED], cwd=temporary, env=kept, check=True)
    shutil.rmtree(tmp_path)
