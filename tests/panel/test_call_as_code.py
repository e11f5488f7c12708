"""The same call as text, really pasted: into IPython, into Python, into a shell."""

from __future__ import annotations

import ast
import json
import os
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

import together_nb
from tests.declared import good
from tests.magic.test_magics import ipython
from tests.servers import DIALECTS, USAGE, ScriptedServer, answers
from together_nb.local.server import LocalServer
from together_nb.panel.call_as_code import NEXT_CELL, all_forms, as_cell, as_curl, as_python
from together_nb.run import options
from together_nb.run.template import fill
from together_nb.values.local_models import NGRAM
from together_nb.values.parameters import PARAMETERS, SamplingParams
from together_nb.values.request import CompletionRequest
from together_nb.wire.endpoint import Client, Endpoint
from together_nb.wire.stream import CompletionStream

KEY = "sk-secret-0123456789"
# One cell carries them.
CARRIED = [
    "Tell me a story", "\n\n  Tell me\n\na story", "ends in blanks  ", "a\ttab,\\n a \\backslash\\ and a last one \\",
    'it\'s "quoted", \'\'\'thrice\'\'\' and """thrice"""', '{hero} {"a": {"b": [1]}} {{x}} {prompt_text} {',
    "%%timeit\n!ls $HOME `pwd` $(date)\n%cd ..", "!ls", "what?", "?", "well... >>> so",
    "Grüße, 你好, 👩\u200d👩\u200d👧, e\u0301, \u202etfel ot thgir\u202c, \ufeff, \xa0!",
    f"{NEXT_CELL}\n%%together\n-m x --raw", "EOF\n' \\\n\" # @file",
    "\n".join(f"A line of prose, number {number}, long enough that two do not fit." for number in range(9)),
    "word " * 60, "x" * 300,
]  # fmt: skip
# A cell would change them: they stand in one of Python before it.
CHANGED = [
    "Tell me a story\n", "Tell me a story\n\n", "one\n   \n\t\ntwo", "ends in a line of blanks\n  ", ">>> 1 + 1\n2",
    "What does this print?\n\n    >>> for x in 'ab':\n    ...     print(x)", "... and then", "   ...: and then",
    "In [1]: x\n   ...: y", "[ins] In [1]: x", "windows\r\nends\rhere", "half a character: \ud83d",
    "\x00 \x0b \x0c \x1b[31m \x1c \x7f \x85 \u2028 \u2029",
]  # fmt: skip
SYSTEMS = [
    "Be brief.", "", "You're \"it\"; 'it' is {hero}", "It's {brief}", '"', "'", "'\"'\"", "-v", "--raw",
    "--max_tokens=1", "=", " both ends ", "a\ttab", "\\n \\", "two\nlines {hero}",
    "a return\r", "\xa0", "ends in a blank\u3000", "what?",
    "# not a comment; $HOME `pwd`", "line\u2028separator", "next\x85line",
]  # fmt: skip
STOPS = [
    ["\n\n", "\t", "\r\n", "\\n", "\\"], ["'", '"', "'\"", "it's", " ", "  two "], ["END"], ["\n"],
    ["-", "---", "-1", "--raw", "--stop", "--max_tokens=5", "-h 'x'"], ["{hero}", "#", "$x", "\xa0", "你好"],
    ["{", "}", "%", "?", "!"],
]  # fmt: skip
BEYOND_A_LINE = [["unset"], ["a", "unset"], [], ["\u2028"], ["\x0b", "\x00"], ["\x85"]]
SPECIAL = {
    "temperature": 0.0, "top_k": -1, "presence_penalty": -1.5, "frequency_penalty": -1e-7, "stop": ["\n", "it's"],
    "seed": 12345678901234567890, "logprobs": 0, "echo": False, "logit_bias": {"12": -100, "é\u2028'": 0.5},
}  # fmt: skip


@pytest.fixture
def shell():
    with ipython() as one:
        one.user_ns["hero"] = "nobody"
        yield one


@pytest.fixture
def server():
    with ScriptedServer(answers(["The", " answer", "."])) as one:
        together_nb.settings.base_url = one.base_url
        together_nb.settings.model = "test/other"  # a recipe names its own
        yield one


def call(prompt="hello", api="chat", **options):
    return together_nb.stream(prompt, model="test/chat", api=api, **options)


def cell_of(stream):
    return as_cell(stream, together_nb.settings.sampling)


def cells(text):
    """The cells that a recipe is to be pasted as."""
    return [text] if text.startswith("%%") else text.split(f"\n{NEXT_CELL}\n", 1)


def paste_into_bash(text, **environment):
    return subprocess.check_output(["bash", "-c", text], env={**os.environ, **environment}, timeout=60).decode()


def assert_the_same_everywhere(shell, server, stream):
    """Paste all three: each sends what `stream` sends, to the same place."""
    texts = all_forms(stream, together_nb.settings.sampling)
    for cell in cells(texts["cell"]):
        shell.run_cell(cell).raise_error()
    exec(texts["python"], {})
    paste_into_bash(texts["curl"])
    list(stream)
    *pasted, sent = [(request.path, request.json()) for request in server.requests]
    assert pasted == [sent] * 3


@pytest.mark.parametrize("prompt", [*CARRIED, *CHANGED])
def test_every_prompt_arrives_unchanged(shell, server, prompt):
    stream = call(prompt)
    if prompt in CARRIED:
        raw = " --raw" if "{" in prompt else ""
        assert cell_of(stream) == f"%%together -m test/chat --api chat{raw}\n{prompt}"
    else:
        assert len(cells(cell_of(stream))) == 2
    assert_the_same_everywhere(shell, server, stream)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("prompt", ["hello", "{hero}\n"])
def test_every_system_prompt_arrives_unchanged(shell, server, prompt, system):
    stream = call(prompt, system=system)
    assert cells(cell_of(stream))[-1].startswith("%%together ")
    assert_the_same_everywhere(shell, server, stream)


@pytest.mark.parametrize("stop", [*STOPS, *BEYOND_A_LINE, ["--"]])
def test_every_stop_arrives_unchanged_where_no_line_can_say_it_in_python(shell, server, stop):
    together_nb.settings.stop = ["standing"]
    stream = call(stop=stop)
    if stop != ["--"]:  # some versions of argparse lose it
        start = "# The line of a cell cannot say all of this.\nfrom " if stop in BEYOND_A_LINE else "%%together "
        assert cell_of(stream).startswith(start)
    assert_the_same_everywhere(shell, server, stream)


@pytest.mark.parametrize("api", DIALECTS.values())
def test_every_sampling_parameter_arrives_unchanged(shell, server, api):
    known = [one for one in PARAMETERS.values() if not one.dialects or api in one.dialects]
    values = {parameter.name: good(parameter)[0] for parameter in known} | SPECIAL
    assert_the_same_everywhere(shell, server, call("{hero}\r", api, **values))


PARTS = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]


@pytest.mark.parametrize("content", ['it\'s\n"it"\r\n', PARTS])
def test_a_conversation_arrives_unchanged_and_its_cell_is_python(shell, server, content):
    said = [("user", content), ("assistant", ""), ("user", "Go on. " * 30)]
    messages = [{"role": role, "content": content} for role, content in said]
    stream = call("", messages=messages, system="Be brief.", temperature=0)
    assert cell_of(stream).startswith("# A cell holds one prompt, and this is a conversation.\nfrom ")
    assert_the_same_everywhere(shell, server, stream)


def test_what_stands_in_the_settings_and_not_in_the_call_is_unset(shell, server):
    (
        together_nb.settings.temperature,
        together_nb.settings.top_k,
        together_nb.settings.stop,
        together_nb.settings.echo,
    ) = 0.5, 5, ["a"], True
    stream = call(temperature=None, top_k=3, stop=None, echo=None)
    texts = all_forms(stream, together_nb.settings.sampling)
    assert texts["cell"].splitlines()[0].endswith(" --temperature unset --top-k 3 --stop unset --echo unset")
    assert "    temperature=None,\n    top_k=3,\n    stop=None,\n    echo=None,\n" in texts["python"]
    assert_the_same_everywhere(shell, server, stream)
    assert set(server.requests[0].json()) == {"model", "messages", "top_k", "stream", *USAGE}


def test_a_cell_reads_as_one_would_type_it(server):
    stream = call("Tell me of {hero}.", system="You're brief.", temperature=0.7, stop=["\n", "the end"])
    assert cell_of(stream) == (
        '%%together -m test/chat --api chat --system "You\'re brief." --temperature 0.7 --stop \\n '
        '--stop "the end" --raw\n'
        "Tell me of {hero}."
    )
    assert cell_of(call("{hero}\n", system="One.\nTwo.")) == (
        "system_text = 'One.\\nTwo.'\n"
        "prompt_text = '{hero}\\n'\n"
        "\n"
        "# In the next cell:\n"
        '%%together -m test/chat --api chat --system "{system_text}"\n'
        "{prompt_text}"
    )
    assert "system_text" not in cell_of(call("hello\n"))


def test_python_has_a_keyword_a_line_and_breaks_what_is_long(server):
    assert as_python(call("Hi", system="Be brief.", stop=["a"]), together_nb.settings.sampling) == (
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
    assert max(map(len, as_python(call(CARRIED[-3]), together_nb.settings.sampling).splitlines())) < 120


def test_curl_is_set_in_lines_and_takes_the_key_from_its_environment(server):
    stream = call("it's 你好", api="completions", api_key=KEY)
    assert as_curl(stream) == (
        f"curl --no-buffer {server.base_url}/v1/completions \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        '  -H "Authorization: Bearer $TOGETHER_API_KEY" \\\n'
        "  -d '{\n"
        '  "model": "test/chat",\n'
        '  "prompt": "it\'"\'"\'s 你好",\n'
        '  "stream": true,\n'
        '  "stream_options": {\n'
        '    "include_usage": true\n'
        "  }\n"
        "}'"
    )
    assert paste_into_bash(as_curl(stream), TOGETHER_API_KEY=KEY).endswith("data: [DONE]\n\n")
    paste_into_bash(as_curl(call()), TOGETHER_API_KEY=KEY)  # a call without a key
    assert [request.headers.get("authorization") for request in server.requests] == [f"Bearer {KEY}", None]


def test_curl_takes_the_values_of_headers_from_its_environment(server):
    given = {"api-key": KEY, "x-portkey-provider": "openai", "odd`id`'$name": "1"}
    together_nb.settings.api_key = "sk-other-0123456789"
    text = as_curl(call(default_headers=given))
    assert '-H "api-key: $API_KEY" ' in text
    values = {"API_KEY": KEY, "X_PORTKEY_PROVIDER": "openai", "ODD_ID___NAME": "1", "TOGETHER_API_KEY": "k"}
    paste_into_bash(text, **values)
    paste_into_bash(as_curl(call(default_headers={"Authorization": f"Basic {KEY}"})), AUTHORIZATION=f"Basic {KEY}")
    first, second = (request.headers for request in server.requests)
    assert {name: first[name] for name in given} == given
    assert [one["authorization"] for one in (first, second)] == ["Bearer k", f"Basic {KEY}"]


@pytest.mark.parametrize("options", [{}, {"system": "Be\nbrief."}, {"stop": []}])
def test_the_key_is_in_none_of_them(server, options):
    together_nb.settings.api_key = KEY
    together_nb.settings.default_headers = {"x-other": KEY}
    streams = [
        *(call(prompt, **options) for prompt in ("hello", "hello\n")),
        call("", messages=[{"role": "user", "content": "Hi"}]),
        together_nb.stream("hello", model="m", base_url="https://api.together.xyz", api="chat", api_key=KEY),
        call(default_headers={"x-gateway": KEY}),
    ]
    for stream in streams:
        texts = all_forms(stream, together_nb.settings.sampling)
        assert set(texts) == {"cell", "python", "curl"}
        assert not any(KEY[start : start + 8] in str(texts) for start in range(len(KEY) - 7))


def test_togethers_own_address_is_not_spelled_out_in_python_and_anothers_is(server):
    stream = together_nb.stream("hello", model=NGRAM, api="chat", base_url=server.base_url)
    assert f"base_url='{server.base_url}'" in as_python(stream, together_nb.settings.sampling)
    together_nb.settings.base_url, together_nb.settings.api_key = None, KEY
    assert "base_url" not in as_python(call(), together_nb.settings.sampling)
    assert "curl --no-buffer https://api.together.xyz/v1/chat/completions " in as_curl(call())


def test_the_embedded_engine_is_called_by_its_name_and_by_curl_at_one_that_is_started_for_it(shell):
    stream = together_nb.stream("Alan Turing was", max_tokens=5, temperature=0)
    texts = all_forms(stream, together_nb.settings.sampling)
    assert "127.0.0.1" not in texts["cell"] + texts["python"]
    shell.run_cell(texts["cell"]).raise_error()
    exec(texts["python"], {})
    list(stream)
    assert shell.user_ns["_together"].model == NGRAM
    assert [one.text for one in together_nb.history] == [stream.completion.text] * 2
    with LocalServer() as server:
        curl = texts["curl"].replace("http://127.0.0.1:8000", server.base_url)
        events = paste_into_bash(curl).split("\n\n")
    payloads = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
    assert "".join(one["choices"][0]["text"] for one in payloads if one["choices"]) == stream.completion.text


def read(text):
    """What IPython and %%together make of the cells of a recipe: the request without its model and API."""
    *before, cell = cells(text)
    names = {"hero": "nobody"}
    for one in before:
        exec(TransformerManager().transform_cell(one), names)
    (statement,) = ast.parse(TransformerManager().transform_cell(cell)).body
    _, line, body = map(ast.literal_eval, statement.value.args)
    parsed = options.parse(line)
    prompt, system = body.removesuffix("\n"), parsed.system
    if not parsed.raw:
        prompt, system = fill(prompt, names)[0], None if system is None else fill(system, names)[0]
    return prompt, system, parsed.sampling


NASTY = st.text(
    st.sampled_from("ab'\"\\ \t\n\r-={}#$?!%>.:[]ntxu\xa0\u3000\x0b\x0c\x1c\x85\u2028é你\ud83d") | st.characters(),
    max_size=12,
)
PROMPT_LIKE = [">>> ", "... ", "In [1]: ", "   ...: ", "[nav] ", "{hero}", "{prompt_text}", "'''", "%%together"]
NASTY_PROMPT = st.lists(NASTY | st.sampled_from(PROMPT_LIKE), min_size=1, max_size=5).map("\n".join)


@given(
    prompt=NASTY_PROMPT,
    system=st.none() | NASTY,
    stop=st.none() | st.lists(NASTY.filter(bool), max_size=3),
    bias=st.none() | st.dictionaries(NASTY, st.floats(-100, 100), max_size=2),
    penalty=st.none() | st.floats(-2, 2),
)
@example(prompt="x", system="'\"", stop=["unset"], bias=None, penalty=-1e-7)
def test_what_is_read_from_a_cell_is_what_was_asked(prompt, system, stop, bias, penalty):
    sampling = SamplingParams(stop=stop, logit_bias=bias, presence_penalty=penalty)
    request = CompletionRequest(prompt, "meta/some-model", "chat", system, sampling=sampling)
    standing = SamplingParams(stop=["standing"], top_k=1)
    text = as_cell(CompletionStream(request, Endpoint(Client(), "https://api.together.xyz")), standing)
    if not text.startswith("# The line of a cell cannot say all of this.\n"):
        assert read(text) == (prompt, system, dict.fromkeys(("stop", "top_k")) | sampling.to_dict())
