"""Other people's clients on our own server: ``python -m tests.clients`` prints a table of what works.

It makes an environment of its own, with the newest versions, and takes some minutes. The server runs as
``python -m together_nb.local``; the tries run in that environment, where this file is a script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("openai", "litellm", "langchain-openai", "instructor", "llm")
TOY, REAL = "local/ngram", "local/smollm2-135m"
QUESTION = "Name a colour of the sky."
TEXT = "Once upon a time"
# Without an example, the small model copies the schema that instructor puts into the prompt.
AS_JSON = 'Ada is 36 years old. Answer like {"name": "Bob", "age": 20}.'
_TOKENS, _JSON_TOKENS = 12, 60
_SECONDS = 120  # of one call


@dataclass(frozen=True)
class Try:
    """One use of one client; `run` returns the text that came, and raises if it fails."""

    client: str
    name: str
    run: Callable[[str, str], Any]
    writes_json: bool = False  # which the toy cannot


TRIES: list[Try] = []


def tried(client: str, name: str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add a function of the address and the model to `TRIES`; `options` are its keywords."""
    writes_json = options.pop("writes_json", False)

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        TRIES.append(Try(client, name, lambda url, model: function(url, model, **options), writes_json))
        return function

    return add


# openai


def _openai(url: str) -> Any:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key="anything", timeout=_SECONDS, max_retries=0)


def _chat(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": _TOKENS}


def _text(model: str) -> dict[str, Any]:
    return {"model": model, "prompt": TEXT, "max_tokens": _TOKENS}


@tried("openai", "chat, streamed: `chunk.choices[0].delta.content`")
def _commonest_loop(url: str, model: str) -> str:
    text = ""
    for chunk in _openai(url).chat.completions.create(**_chat(model), stream=True):
        text += chunk.choices[0].delta.content or ""
    return text


@tried("openai", "chat, streamed with `include_usage`")
def _with_usage(url: str, model: str) -> str:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = _openai(url).chat.completions.create(**_chat(model), **options)
    assert not last.choices
    assert last.usage.completion_tokens
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@tried("openai", "chat, whole; its message sent back")
def _whole_chat(url: str, model: str) -> str:
    client, asked = _openai(url), _chat(model)
    reply = client.chat.completions.create(**asked)
    assert reply.usage.completion_tokens
    asked["messages"] += [reply.choices[0].message.model_dump(), {"role": "user", "content": "And another?"}]
    return client.chat.completions.create(**asked).choices[0].message.content


@tried("openai", "completions, streamed: `chunk.choices[0].text`")
def _streamed_text(url: str, model: str) -> str:
    chunks = list(_openai(url).completions.create(**_text(model), stream=True))
    assert not any("delta" in chunk.choices[0].model_dump() for chunk in chunks)
    return "".join(chunk.choices[0].text for chunk in chunks)


@tried("openai", "completions, streamed with `include_usage`")
def _streamed_text_with_usage(url: str, model: str) -> str:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = _openai(url).completions.create(**_text(model), **options)
    assert not last.choices
    assert last.usage.completion_tokens
    return "".join(chunk.choices[0].text for chunk in chunks)


@tried("openai", "completions, whole; `prompt` a list of one")
def _whole_text(url: str, model: str) -> str:
    return _openai(url).completions.create(**_text(model) | {"prompt": [TEXT]}).choices[0].text


@tried("openai", "chat at `/v1/v1`")
def _doubled(url: str, model: str) -> str:
    return _openai(f"{url}/v1").chat.completions.create(**_chat(model)).choices[0].message.content


@tried("openai", "`models.list()`")
def _models(url: str, model: str) -> str:
    return next(row.id for row in _openai(url).models.list() if row.id == model)


# litellm


@tried("litellm", "`completion`, streamed", stream=True)
@tried("litellm", "`completion`, whole", stream=False)
def _litellm_chat(url: str, model: str, *, stream: bool) -> str:
    import litellm

    asked = _chat(model) | {"model": f"openai/{model}", "stream": stream}
    reply = litellm.completion(**asked, api_base=url, api_key="anything", timeout=_SECONDS)
    if not stream:
        assert reply.usage.completion_tokens
        return reply.choices[0].message.content
    return "".join(chunk.choices[0].delta.content or "" for chunk in reply)


@tried("litellm", "`text_completion`, streamed", stream=True)
@tried("litellm", "`text_completion`, whole", stream=False)
def _litellm_text(url: str, model: str, *, stream: bool) -> str:
    import litellm

    asked = _text(model) | {"model": f"text-completion-openai/{model}", "stream": stream}
    reply = litellm.text_completion(**asked, api_base=url, api_key="anything", timeout=_SECONDS)
    return "".join(chunk.choices[0].text or "" for chunk in (reply if stream else [reply]))


# langchain-openai


@tried("langchain-openai", "`ChatOpenAI.invoke`", kind="ChatOpenAI")
@tried("langchain-openai", "`OpenAI.invoke`", kind="OpenAI")
def _langchain(url: str, model: str, *, kind: str) -> str:
    return _langchain_text(_langchain_model(kind, url, model).invoke(TEXT if kind == "OpenAI" else QUESTION))


@tried("langchain-openai", "`ChatOpenAI.stream`", kind="ChatOpenAI")
@tried("langchain-openai", "`ChatOpenAI.stream` with `stream_usage`", kind="ChatOpenAI", stream_usage=True)
@tried("langchain-openai", "`OpenAI.stream`", kind="OpenAI")
def _langchain_stream(url: str, model: str, *, kind: str, **options: Any) -> str:
    asked = TEXT if kind == "OpenAI" else QUESTION
    pieces = list(_langchain_model(kind, url, model, **options).stream(asked))
    if options:
        assert any(piece.usage_metadata for piece in pieces)
    return "".join(map(_langchain_text, pieces))


def _langchain_text(answer: Any) -> str:
    return answer if isinstance(answer, str) else answer.content


def _langchain_model(kind: str, url: str, model: str, **options: Any) -> Any:
    import langchain_openai

    made = getattr(langchain_openai, kind)
    return made(base_url=url, api_key="anything", model=model, max_tokens=_TOKENS, max_retries=0, **options)


# instructor


@tried("instructor", "`Mode.JSON`", mode="JSON", writes_json=True)
@tried("instructor", "`Mode.JSON_SCHEMA`", mode="JSON_SCHEMA", writes_json=True)
@tried("instructor", "`Mode.MD_JSON`", mode="MD_JSON", writes_json=True)
def _instructor(url: str, model: str, *, mode: str) -> Any:
    import instructor
    from pydantic import create_model

    person = create_model("Person", name=(str, ...), age=(int, ...))
    client = instructor.from_openai(_openai(url), mode=getattr(instructor.Mode, mode))
    asked = {"model": model, "messages": [{"role": "user", "content": AS_JSON}], "max_tokens": _JSON_TOKENS}
    return client.chat.completions.create(**asked, temperature=0, response_model=person, max_retries=0)


# llm


@tried("llm", "chat, streamed", completion=False, stream=True)
@tried("llm", "chat, `--no-stream`", completion=False, stream=False)
@tried("llm", "completions, streamed", completion=True, stream=True)
@tried("llm", "completions, `--no-stream`", completion=True, stream=False)
def _llm(url: str, model: str, *, completion: bool, stream: bool) -> str:
    row = {"model_id": "ours", "model_name": model, "api_base": url, "completion": completion}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "extra-openai-models.yaml").write_text(json.dumps([row]))  # which is YAML too
        command = [sys.executable, "-m", "llm", "prompt", "-m", "ours", "-o", "max_tokens", str(_TOKENS)]
        command += [TEXT if completion else QUESTION, *([] if stream else ["--no-stream"])]
        done = subprocess.run(
            command,
            env=os.environ | {"LLM_USER_PATH": folder},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr.strip().rpartition("\n")[2]
    return done.stdout


# In their environment


def _outcomes(url: str) -> list[tuple[str, str, str, list[str]]]:
    """The client, its version, what was tried, and how it went with each model."""
    return [
        (one.client, version(one.client), one.name, [_outcome(one, url, model) for model in (TOY, REAL)])
        for one in sorted(TRIES, key=lambda one: PACKAGES.index(one.client))
    ]


def _outcome(one: Try, url: str, model: str) -> str:
    if one.writes_json and model == TOY:
        return "not tried: it writes no JSON"
    try:
        answer = one.run(url, model)
    except Exception as error:  # noqa: BLE001  (whatever it is, the table tells it)
        return f"{type(error).__name__}: {error}"
    return "worked" if str(answer).strip() else "no text came"


# In ours


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, _served() as url:
        venv.create(folder, with_pip=True)
        python = Path(folder, "Scripts" if os.name == "nt" else "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # it would be fetched
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [python, __file__, url], env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=folder
        )
    rows = json.loads(done.stdout.rpartition("\n\n")[2])  # some clients print
    print(f"| client | version | tried | `{TOY}` | `{REAL}` |\n|:--|:--|:--|:--|:--|")
    for client, number, name, outcomes in rows:
        cells = [" ".join(outcome.split())[:200].replace("|", "\\|") for outcome in outcomes]
        print("|", " | ".join([client, number, name, *cells]), "|")


@contextmanager
def _served():
    command = [sys.executable, "-m", "together_nb.local"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline()
            yield line.partition(" at ")[2].split()[0] + "/v1"
        finally:
            server.terminate()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print("\n\n" + json.dumps(_outcomes(sys.argv[1])))
    else:
        main()
