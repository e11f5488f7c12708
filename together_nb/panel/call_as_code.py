"""The same call as text: a cell, Python, curl. Pasted, each does the same; none holds the key or a header's value."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import suppress
from pprint import pformat
from typing import TYPE_CHECKING, Any

from together_nb.config.environment import KEY_VARIABLE
from together_nb.errors import InputError
from together_nb.render.formats import JSON
from together_nb.run import options
from together_nb.values.parameters import AUTO, PARAMETERS
from together_nb.values.schema import ANY_JSON

if TYPE_CHECKING:
    from together_nb.values.parameters import SamplingParams
    from together_nb.wire.stream import CompletionStream

NEXT_CELL = "# In the next cell:"
_BARE = re.compile(r"[\w.\\/:-]+")  # a word that needs no quotes on the line
# What editors, clipboards and lines may alter: controls except tab and newline, line separators, lone surrogates.
_FRAGILE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# What IPython changes in a cell's body: whitespace-only lines, text that looks like pasted prompts. Also
# trailing newlines, which some front ends do not send.
_CHANGED = re.compile(
    r"^[^\S\n]+$ | ^[^\S\n]*(?: >>> | \.\.\. | (?:\[\w+\][ ])? In[ ]\[ ) | \n\Z", re.MULTILINE | re.VERBOSE
)


_ESCAPED = r"\\\g<0>"  # in the double quotes of a shell
_PORT = 8000
_SERVE = "# In another terminal: python -m together_nb.local --port {}"


def all_forms(stream: CompletionStream, standing: SamplingParams) -> dict[str, str]:
    """Return every recipe by name: ``cell``, ``python``, ``curl``.

    Parameters
    ----------
    stream
        The call, sent or not.
    standing
        The default sampling parameters where the recipe is pasted (`settings.sampling`): those
        that the call does not set are unset.
    """
    return {"cell": as_cell(stream, standing), "python": as_python(stream, standing), "curl": as_curl(stream)}


def as_cell(stream: CompletionStream, standing: SamplingParams) -> str:
    """The call as a ``%%together`` cell.

    Text that a cell would alter is assigned to a variable in the cell before it, and filled in
    from there; `NEXT_CELL` separates the two. What a cell cannot express is written in Python.

    Parameters
    ----------
    stream, standing
        As for `all_forms`.
    """
    request = stream.request
    if request.messages is not None:
        return f"# A cell holds one prompt, and this is a conversation.\n{as_python(stream, standing)}"
    if request.schema is not None and request.schema != ANY_JSON:
        return f"# A cell names its schema, and this one has no name.\n{as_python(stream, standing)}"
    texts = {"system_text": request.system, "prompt_text": request.prompt}
    plain = not (
        _FRAGILE.search(request.prompt) or _CHANGED.search(request.prompt) or _beyond_a_line(request.system or "")
    )
    system, prompt = request.system, request.prompt
    if not plain:
        system, prompt = None if system is None else "{system_text}", "{prompt_text}"
    meant = options.Options(
        request.model,
        request.api,
        system,
        raw=plain and "{" in f"{system}{prompt}",
        show=JSON if request.schema == ANY_JSON else AUTO,
        sampling=_sampling(stream, standing),
        extra=request.extra_body,
    )
    line = _line(meant)
    if not _is_read_as(line, meant):
        return f"# The line of a cell cannot say all of this.\n{as_python(stream, standing)}"
    cell = f"%%together {line}\n{prompt}"
    if plain:
        return cell
    named = "".join(f"{name} = {_python(text)}\n" for name, text in texts.items() if text is not None)
    return f"{named}\n{NEXT_CELL}\n{cell}"


def as_python(stream: CompletionStream, standing: SamplingParams) -> str:
    """The call as Python.

    Parameters
    ----------
    stream, standing
        As for `all_forms`.
    """
    request, endpoint = stream.request, stream.endpoint
    keywords: dict[str, Any] = {"model": request.model, "api": request.api}
    if request.system is not None:
        keywords["system"] = request.system
    if request.messages is not None:
        keywords["messages"] = list(request.messages)
    if request.schema is not None:
        keywords["schema"] = "json" if request.schema == ANY_JSON else request.schema.definition
    if not endpoint.is_together and not stream.endpoint.embedded:
        keywords["base_url"] = endpoint.root
    if request.extra_body is not None:
        keywords["extra_body"] = request.extra_body
    keywords |= _sampling(stream, standing)
    arguments = [f"{name}={_python(value)}" for name, value in keywords.items()]
    if request.messages is None:
        arguments.insert(0, _python(request.prompt))
    lines = "".join(f"    {one},\n" for one in arguments)
    return f"from together_nb import complete\n\nanswer = complete(\n{lines})\nprint(answer.text)"


def as_curl(stream: CompletionStream) -> str:
    """The call as a POSIX shell command, which takes the key and the values of headers from its environment.

    The embedded engine accepts no other clients, so the command is for a server that is started separately.

    Parameters
    ----------
    stream
        As for `all_forms`.
    """
    body = json.dumps(stream.payload, indent=2, ensure_ascii=False)
    body = _FRAGILE.sub(lambda match: f"\\u{ord(match.group()):04x}", body)
    names = stream.endpoint.headers.names
    key = [f'-H "{re.sub("[$`]", _ESCAPED, name)}: ${re.sub("[^a-z0-9]", "_", name).upper()}"' for name in names]
    if stream.endpoint.key is not None and "authorization" not in names:
        key.insert(0, f'-H "Authorization: Bearer ${KEY_VARIABLE}"')
    url, first = stream.url, ""
    if stream.endpoint.embedded:
        url, first, key = f"http://127.0.0.1:{_PORT}{stream.dialect.path}", f"{_SERVE.format(_PORT)}\n", []
    return first + " \\\n  ".join([
        f"curl --no-buffer {shlex.quote(url)}",
        "-H 'Content-Type: application/json'",
        *key,
        f"-d {shlex.quote(body)}",
    ])  # fmt: skip


def _sampling(stream: CompletionStream, standing: SamplingParams) -> dict[str, Any]:
    """The parameters to set, and None for those to unset."""
    return dict.fromkeys(standing.to_dict()) | stream.request.sampling.to_dict()


def _line(meant: options.Options) -> str:
    """The line that `options.parse` reads as `meant`."""
    given = [("-m", meant.model), ("--api", meant.api), ("--system", meant.system)]
    if meant.show != AUTO:
        given.append(("--show", meant.show))
    if meant.extra is not None:
        given.append(("--extra", json.dumps(meant.extra)))
    for name, value in meant.sampling.items():
        given += [(PARAMETERS[name].option, text) for text in PARAMETERS[name].spell(value)]
    words = [_word(option, text) for option, text in given if text is not None]
    return " ".join([*words, "--raw"] if meant.raw else words)


def _word(option: str, text: str) -> str:
    quotes = shlex.quote if '"' in text else '"{}"'.format  # shell quoting reads worse, but works for any text
    quoted = text if _BARE.fullmatch(text) else quotes(text)
    # As a separate word, it would be read as an option.
    return f"{option}={quoted}" if text.startswith("-") else f"{option} {quoted}"


def _is_read_as(line: str, meant: options.Options) -> bool:
    """Whether the line expresses `meant`; none expresses an empty list, or a stop "unset"."""
    with suppress(InputError):
        return not _beyond_a_line(line) and options.parse(line) == meant
    return False


def _beyond_a_line(text: str) -> bool:
    return "\n" in text or _FRAGILE.search(text) is not None


def _python(value: Any) -> str:
    """The literal of an argument, on several lines if it is long."""
    return pformat(value, width=100, sort_dicts=False).replace("\n", "\n    ")
