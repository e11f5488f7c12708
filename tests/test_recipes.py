"""The same call as text, really pasted: into IPython, into a kernel, into Python, into a shell."""

from __future__ import annotations

import ast
import json
import os
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.kernels import Kernel
from tests.servers import DIALECTS, ScriptedServer, answers
from together_nb import history, options
from together_nb.client import CompletionStream
from together_nb.completion import CompletionRequest
from together_nb.config import LOCAL_MODEL, settings
from together_nb.endpoint import Endpoint
from together_nb.fill import fill
from together_nb.local.server import LocalServer
from together_nb.params import SamplingParams
from together_nb.recipes import NEXT_CELL, as_cell, as_curl, as_python, recipes
from together_nb.resolve import open_stream

KEY = "sk-secret-0123456789"
PROMPTS = [
    "Tell me a story",
    "Tell me a story\n",
    "Tell me a story\n\n",
    "\n\n  Tell me\n\na story",
    "one\n   \n\t\ntwo",
    "ends in blanks  ",
    "ends in a line of blanks\n  ",
    "a\ttab,\\n a \\backslash\\ and a last one \\",
    'it\'s "quoted", \'\'\'thrice\'\'\' and """thrice"""',
    '{hero} {"a": {"b": [1]}} {{x}} {prompt_text} {',
    "%%timeit\n!ls $HOME `pwd` $(date)\n%cd ..",
    "!ls",
    "what?",
    "?",
    ">>> 1 + 1\n2",
    "What does this print?\n\n    >>> for x in 'ab':\n    ...     print(x)",
    "... and then",
    "   ...: and then",
    "In [1]: x\n   ...: y",
    "[ins] In [1]: x",
    "windows\r\nends\rhere",
    "\x00 \x0b \x0c \x1b[31m \x1c \x7f \x85 \u2028 \u2029",
    "Grüße, 你好, 👩\u200d👩\u200d👧, e\u0301, \u202etfel ot thgir\u202c, \ufeff, \xa0!",
    "half a character: \ud83d",
    f"{NEXT_CELL}\n%%together\n-m x --raw",
    "EOF\n' \\\n\" # @file",
    "\n".join(f"A line of prose, number {number}, long enough that two do not fit." for number in range(9)),
    "word " * 60,
    "x" * 300,
]
SYSTEMS = [
    "Be brief.",
    "",
    "You're \"it\"; 'it' is {hero}",
    "It's {brief}",
    '"',
    "'",
    "'\"'\"",
    "-v",
    "--raw",
    "--max_tokens=1",
    "=",
    " both ends ",
    "a\ttab",
    "\\n \\",
    "two\nlines {hero}",
    "a return\r",
    "\xa0",
    "ends in a blank\u3000",
    "what?",
    "# not a comment; $HOME `pwd`",
    "line\u2028separator",
    "next\x85line",
]
STOPS = [
    ["END"],
    ["\n"],
    ["\n\n", "\t", "\r\n", "\\n", "\\"],
    ["'", '"', "'\"", "it's", " ", "  two "],
    ["-", "---", "-1", "--raw", "--stop", "--max_tokens=5", "-h 'x'"],
    ["{hero}", "#", "$x", "\xa0", "你好"],
    ["{", "}", "%", "?", "!"],
]
BEYOND_A_LINE = [["unset"], ["a", "unset"], [], ["\u2028"], ["\x0b", "\x00"], ["\x85"]]
EVERY_PARAMETER = {
    "max_tokens": 7, "temperature": 0.0, "top_p": 0.5, "top_k": -1, "min_p": 0.25, "repetition_penalty": 1.5, "presence_penalty": -1.5,
    "frequency_penalty": -1e-7, "stop": ["\n", "it's"], "seed": 12345678901234567890, "logprobs": 0, "n": 2, "echo": False,
    "logit_bias": {"12": -100, "é\u2028'": 0.5},
}  # fmt: skip


@pytest.fixture
def shell():
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    one = InteractiveShell.instance(config=config)
    one.run_line_magic("load_ext", "together_nb")
    one.user_ns["hero"] = "nobody"
    yield one
    one.run_line_magic("unload_ext", "together_nb")
    InteractiveShell.clear_instance()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    yield one
    one.stop()


@pytest.fixture
def server():
    with ScriptedServer(answers(["The", " answer", "."])) as one:
        settings.base_url = one.base_url
        settings.model = "test/other"  # a recipe names its own
        yield one


def call(prompt="hello", api="chat", **options):
    return open_stream(prompt, model="test/chat", api=api, **options)


def cells(text):
    """The cells that a recipe is to be pasted as."""
    return [text] if text.startswith("%%") else text.split(f"\n{NEXT_CELL}\n", 1)


def paste_into_ipython(shell, text):
    for cell in cells(text):
        shell.run_cell(cell).raise_error()


def paste_into_python(text):
    exec(text, {})


def paste_into_bash(text, **environment):
    done = subprocess.run(
        ["bash", "-c", text], env={**os.environ, **environment}, capture_output=True, timeout=60, check=True
    )
    return done.stdout.decode()


def same(server, opened):
    """Whether what came last is what `opened` sends, at the same place."""
    received = server.requests[-1]
    list(opened)
    sent = server.requests[-1]
    assert sent is not received
    return (received.path, received.json()) == (sent.path, sent.json())


def pasted_everywhere(shell, server, opened):
    """Paste all three; whether each sends the same."""
    texts = recipes(opened, settings.sampling)
    paste_into_ipython(shell, texts["cell"])
    paste_into_python(texts["python"])
    paste_into_bash(texts["curl"])
    assert [one.path for one in server.requests] == [opened.dialect.path] * 3
    assert server.requests[0].json() == server.requests[1].json() == server.requests[2].json()
    return same(server, opened)


@pytest.mark.parametrize("api", DIALECTS.values())
@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_arrives_unchanged(shell, server, api, prompt):
    assert pasted_everywhere(shell, server, call(prompt, api))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("prompt", ["hello", "{hero}\n"])
def test_every_system_prompt_arrives_unchanged(shell, server, prompt, system):
    opened = call(prompt, system=system)
    assert cells(as_cell(opened, settings.sampling))[-1].startswith("%%together ")
    assert pasted_everywhere(shell, server, opened)


@pytest.mark.parametrize("api", DIALECTS.values())
@pytest.mark.parametrize("stop", STOPS)
def test_every_stop_arrives_unchanged(shell, server, api, stop):
    settings.stop = ["standing"]
    opened = call(api=api, stop=stop)
    assert as_cell(opened, settings.sampling).startswith("%%together ")
    assert pasted_everywhere(shell, server, opened)


@pytest.mark.parametrize("api", DIALECTS.values())
def test_every_sampling_parameter_arrives_unchanged(shell, server, api):
    given = EVERY_PARAMETER | ({"reasoning_effort": "low"} if api == "chat" else {})
    assert pasted_everywhere(shell, server, call(api=api, **given))


@pytest.mark.parametrize("messages", [
    [{"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "it's\n\"it\"\r\n"}, {"role": "assistant", "content": ""}, {"role": "user", "content": "Go on. " * 30}],
    [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]}],
])  # fmt: skip
def test_a_conversation_arrives_unchanged_and_its_cell_is_python(shell, server, messages):
    opened = call("", messages=messages, system="Be brief.", temperature=0)
    assert as_cell(opened, settings.sampling).startswith(
        "# A cell holds one prompt, and this is a conversation.\nfrom "
    )
    assert pasted_everywhere(shell, server, opened)


@pytest.mark.parametrize("prompt", [*PROMPTS[:12], "%%together\nhello\n"])
def test_in_a_kernel_the_cell_sends_the_prompt_as_it_is(kernel, server, prompt):
    kernel.run(f"from together_nb import settings; settings.base_url = {server.base_url!r}; hero = 1").wait()
    opened = call(prompt, "completions")
    for cell in cells(as_cell(opened, settings.sampling)):
        assert kernel.run(cell).wait().status == "ok"
    assert server.requests[-1].json()["prompt"] == prompt
    assert same(server, opened)


def test_what_stands_in_the_settings_and_not_in_the_call_is_unset(shell, server):
    settings.temperature, settings.top_k, settings.stop, settings.echo = 0.5, 5, ["a"], True
    opened = call(temperature=None, top_k=3, stop=None, echo=None)
    texts = recipes(opened, settings.sampling)
    assert texts["cell"].splitlines()[0].endswith(" --temperature unset --top-k 3 --stop unset --echo unset")
    assert "    temperature=None,\n    top_k=3,\n    stop=None,\n    echo=None,\n" in texts["python"]
    assert pasted_everywhere(shell, server, opened)
    assert set(server.requests[0].json()) == {"model", "messages", "top_k", "stream"}


def test_the_cell_reads_as_one_would_type_it(server):
    opened = call("Tell me of {hero}.", system="You're brief.", temperature=0.7, stop=["\n", "the end"])
    assert as_cell(opened, settings.sampling) == (
        '%%together -m test/chat --api chat --system "You\'re brief." --temperature 0.7 --stop \\n --stop "the end" --raw\n'
        "Tell me of {hero}."
    )


CARRIED = [
    "Tell me a story",
    "\n\n  Tell me",
    "a\ttab  ",
    "\\n 'it' \"is\" '''",
    '{"a": 1} {hero}',
    "%%timeit\n!ls",
    "what?",
    "Grüße, 你好, 👩\u200d👩\u200d👧\xa0!",
    "well... >>> so",
]


@pytest.mark.parametrize("prompt", CARRIED)
def test_what_a_cell_carries_is_one_cell_with_the_prompt_as_typed(server, prompt):
    raw = " --raw" if "{" in prompt else ""
    assert as_cell(call(prompt), settings.sampling) == f"%%together -m test/chat --api chat{raw}\n{prompt}"


def test_what_a_cell_does_not_carry_is_filled_in_from_the_cell_before_it(server):
    opened = call("{hero}\n", system="One.\nTwo.")
    assert as_cell(opened, settings.sampling) == (
        "system_text = 'One.\\nTwo.'\n"
        "prompt_text = '{hero}\\n'\n"
        "\n"
        "# In the next cell:\n"
        '%%together -m test/chat --api chat --system "{system_text}"\n'
        "{prompt_text}"
    )
    assert "system_text" not in as_cell(call("hello\n"), settings.sampling)


@pytest.mark.parametrize("stop", [*BEYOND_A_LINE, ["--"]])
def test_what_no_line_can_say_is_said_in_python(shell, server, stop):
    settings.stop = ["standing"]
    opened = call(stop=stop)
    text = as_cell(opened, settings.sampling)
    if stop != ["--"]:  # some versions of argparse lose it
        assert text.startswith("# The line of a cell cannot say all of this.\nfrom together_nb import complete\n")
    assert pasted_everywhere(shell, server, opened)


def test_python_has_a_keyword_a_line_and_breaks_what_is_long(server):
    assert as_python(call("Hi", system="Be brief.", stop=["a"]), settings.sampling) == (
        "from together_nb import complete\n"
        "\n"
        "answer = complete(\n"
        "    'Hi',\n"
        "    model='test/chat',\n"
        "    api='chat',\n"
        "    system='Be brief.',\n"
        f"    base_url='{server.base_url}',\n"
        "    stop=['a'],\n"
        ")\n"
        "print(answer.text)"
    )
    assert max(map(len, as_python(call(PROMPTS[-3]), settings.sampling).splitlines())) < 120


def test_curl_is_set_in_lines_and_takes_the_key_from_its_environment(server):
    opened = call("it's 你好", api="completions", api_key=KEY)
    assert as_curl(opened) == (
        f"curl --no-buffer {server.base_url}/v1/completions \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        '  -H "Authorization: Bearer $TOGETHER_API_KEY" \\\n'
        "  -d '{\n"
        '  "model": "test/chat",\n'
        '  "prompt": "it\'"\'"\'s 你好",\n'
        '  "stream": true\n'
        "}'"
    )
    assert paste_into_bash(as_curl(opened), TOGETHER_API_KEY=KEY).endswith("data: [DONE]\n\n")
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_curl_sends_none(server):
    paste_into_bash(as_curl(call()), TOGETHER_API_KEY=KEY)
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("options", [{}, {"system": "Be\nbrief."}, {"stop": []}])
def test_the_key_is_in_none_of_them(server, options):
    settings.api_key = KEY
    prompts = [call(prompt, **options) for prompt in ("hello", "hello\n")]
    conversation = call("", messages=[{"role": "user", "content": "Hi"}])
    for opened in (
        *prompts,
        conversation,
        open_stream("hello", model="m", base_url="https://api.together.xyz", api="chat", api_key=KEY),
    ):
        texts = recipes(opened, settings.sampling)
        assert set(texts) == {"cell", "python", "curl"}
        assert not any(KEY[start : start + 8] in str(texts) for start in range(len(KEY) - 7))


def test_togethers_own_address_is_not_spelled_out_in_python():
    settings.api_key = KEY
    assert "base_url" not in as_python(call(), settings.sampling)
    assert "curl --no-buffer https://api.together.xyz/v1/chat/completions " in as_curl(call())


def test_the_embedded_engine_is_called_by_its_name_and_by_curl_at_one_that_is_started_for_it(shell):
    opened = open_stream("Alan Turing was", max_tokens=5, temperature=0)
    texts = recipes(opened, settings.sampling)
    assert "127.0.0.1" not in texts["cell"] + texts["python"]
    paste_into_ipython(shell, texts["cell"])
    paste_into_python(texts["python"])
    list(opened)
    assert shell.user_ns["_together"].model == LOCAL_MODEL
    assert [one.text for one in history] == [opened.completion.text] * 2
    with LocalServer() as server:
        curl = texts["curl"].replace("http://127.0.0.1:8000", server.base_url)
        events = paste_into_bash(curl).split("\n\n")
    told = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
    assert "".join(one["choices"][0]["text"] for one in told if one["choices"]) == opened.completion.text


def test_a_server_of_ones_own_with_the_embedded_model_is_spelled_out(server):
    opened = open_stream("hello", model=LOCAL_MODEL, api="chat", base_url=server.base_url)
    assert f"base_url='{server.base_url}'" in as_python(opened, settings.sampling)


def read(text):
    """What IPython and %%together make of the cells of a recipe: the request without its model and API."""
    *before, cell = cells(text)
    names = {"hero": "nobody"}
    for one in before:
        exec(TransformerManager().transform_cell(one), names)
    (statement,) = ast.parse(TransformerManager().transform_cell(cell)).body
    _, line, body = map(ast.literal_eval, statement.value.args)
    given = options.parse(line)
    prompt, system = body.removesuffix("\n"), given.system
    if not given.raw:
        prompt, system = fill(prompt, names)[0], None if system is None else fill(system, names)[0]
    return prompt, system, given.sampling


NASTY = st.text(
    st.sampled_from("ab'\"\\ \t\n\r-={}#$?!%>.:[]ntxu\xa0\u3000\x0b\x0c\x1c\x85\u2028é你\ud83d") | st.characters(),
    max_size=12,
)
NASTY_PROMPT = st.lists(
    NASTY
    | st.sampled_from(
        [">>> ", "... ", "In [1]: ", "   ...: ", "[nav] ", "{hero}", "{prompt_text}", "'''", "%%together"]
    ),
    min_size=1,
    max_size=5,
).map("\n".join)


@given(
    prompt=NASTY_PROMPT,
    system=st.none() | NASTY,
    stop=st.none() | st.lists(NASTY.filter(bool), max_size=3),
    bias=st.none() | st.dictionaries(NASTY, st.floats(-100, 100), max_size=2),
    penalty=st.none() | st.floats(-2, 2),
)
@example(prompt="x", system="'\"", stop=["unset"], bias=None, penalty=-1e-7)
def test_what_is_read_from_a_cell_is_what_was_asked(prompt, system, stop, bias, penalty):
    given = SamplingParams(stop=stop, logit_bias=bias, presence_penalty=penalty)
    request = CompletionRequest(prompt, "meta/some-model", "chat", system, sampling=given)
    standing = SamplingParams(stop=["standing"], top_k=1)
    text = as_cell(CompletionStream(request, Endpoint("https://api.together.xyz")), standing)
    if not text.startswith("# The line of a cell cannot say all of this.\n"):
        assert read(text) == (prompt, system, dict.fromkeys(("stop", "top_k")) | given.to_dict())
