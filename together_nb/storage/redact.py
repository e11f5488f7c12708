"""Remove the key from what is written to a file: from values, and from a reply's pieces, however it is cut or escaped.

The names and constant values that a format defines stay. So a file can be read whatever the key is, and a reply
keeps its events and its JSON.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from dataclasses import fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from together_nb.base.secret import GONE, in_json, json_text
from together_nb.config.keys import known_keys
from together_nb.values.chunk import Choice, Timings, Token, Usage
from together_nb.values.completion import Completion
from together_nb.values.local_models import NGRAM, SMOLLM
from together_nb.values.parameters import PARAMETERS
from together_nb.values.request import CompletionRequest
from together_nb.wire.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from together_nb.config.keys import Key

_OURS = (Choice, Completion, CompletionRequest, Timings, Token, Usage)
# Names of 8 or more characters, since shorter words are never taken for a key: of our files,
_OF_FILES = "completion conversation definition loopback together_nb"
# of HTTP, OpenAI's API and Together's,
_OF_APIS = (
    "Content-Type Retry-After add_generation_prompt arguments assistant base_resp bos_token cached_input "
    "chat_template completion_tokens_details context_length continue_final_message description display_name eos_token "
    "error_code finetune finish_reason function_call generated_text include_usage json_schema logit_bias matched_stop "
    "max_completion_tokens max_model_len message_id messages organization owned_by parallel_tool_calls param "
    "parameters permission prompt_token_ids prompt_tokens prompt_tokens_details reasoning_content reasoning_details "
    "reasoning_text repeat_penalty request_id response_format result_type service_tier status_code status_msg "
    "stop_reason stream_options stream_tokens system_fingerprint text_offset thinking token_id token_ids "
    "token_logprobs tool_call_id tool_calls tool_choice top_logprobs warnings"
)
# and of JSON Schema.
_OF_SCHEMAS = (
    "additionalProperties definitions deprecated discriminator examples exclusiveMaximum exclusiveMinimum maxItems "
    "maxLength maxProperties minItems minLength minProperties multipleOf nullable patternProperties prefixItems "
    "properties propertyNames readOnly required uniqueItems writeOnly"
)
_NAMES = frozenset(
    {
        *PARAMETERS,
        *(one.name for kind in _OURS for one in fields(kind)),
        *_OF_FILES.split(),
        *_OF_APIS.split(),
        *_OF_SCHEMAS.split(),
    }
)
_TYPES = "function json_object json_schema language language-model-inference moderation embedding transcribe rerank"
_FIXED = {
    "role": frozenset(("assistant", "developer", "function")),
    "path": frozenset((*(dialect.path for dialect in DIALECTS.values()), "/v1/models")),
    "api": frozenset(DIALECTS),
    "together_nb": frozenset(("recording", "history", "conversation")),
    "finish_reason": frozenset(
        ("tool_calls", "function_call", "eos_token", "stop_sequence", "content_filter", "insufficient_system_resource")
    ),
    "object": frozenset(("chat.completion", "chat.completion.chunk", "text_completion")),
    "type": frozenset(_TYPES.split()),
    "result_type": frozenset(_TYPES.split()),
    "Content-Type": frozenset(("application/json", "text/event-stream", "text/event-stream; charset=utf-8")),
    "model": frozenset((NGRAM, SMOLLM)),
    "id": frozenset((NGRAM, SMOLLM)),
}
_LINE_OF_TEXT = re.compile(r"\ufeff?(?:(?:data|event|id|retry)?:[ \t]*)?(?P<value>[^\r\n]+)")
_LITERAL = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?')
_SPELLED = re.compile(
    r'"(text|content|reasoning|reasoning_content|reasoning_text|thinking|refusal|arguments|token)"'
    r'\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
)
_CHOICE = re.compile(r'"index"\s*:\s*(\d+)')

_GONE_TOKEN: dict[str, Any] = {"text": GONE, "logprob": None, "id": None, "top": []}

Pieces = list[tuple[float, str]]


def keys_to_hide(sent: Key | None) -> list[Key]:
    """The key sent with a request, and all known ones: a prompt to a server without a key may contain them."""
    return [key for key in dict.fromkeys((sent, *known_keys())) if key is not None]


def without_keys(value: Any, sent: Key | None = None) -> Any:
    """Return a JSON value without the keys in its strings."""
    for key in keys_to_hide(sent):
        value = _without(value, key)
    return value


def _without(value: Any, key: Key, name: str = "") -> Any:
    if isinstance(value, str):
        return value if value in _FIXED.get(name, ()) else key.blanked(value)
    if isinstance(value, (list, tuple)):
        spelled = _spelling(value, key) if name == "tokens" else frozenset()
        return [_GONE_TOKEN if number in spelled else _without(one, key) for number, one in enumerate(value)]
    if not isinstance(value, dict):
        return value
    out: dict[Any, Any] = {}
    for called, one in value.items():
        shown = called if called in _NAMES or not isinstance(called, str) else key.blanked(called)
        while shown in out:  # two names may differ only in the key
            shown += GONE
        out[shown] = _without(one, key, called)
    return out


def _spelling(tokens: Sequence[Any], key: Key) -> frozenset[int]:
    """The indices of the tokens that spell out the key."""
    texts = [str(one.get("text") or "") if isinstance(one, dict) else "" for one in tokens]
    ends = list(accumulate(map(len, texts)))
    spelled: set[int] = set()
    for start, end in key.spans("".join(texts)):
        spelled.update(range(bisect_right(ends, start), bisect_right(ends, end - 1) + 1))
    return frozenset(spelled)


def without_logprobs(pieces: Pieces) -> Pieces:
    """Merge `pieces` into one without log-probabilities, which may spell out what was removed from the text."""
    whole = "".join(text for _, text in pieces)
    if "logprobs" not in whole:
        return pieces
    lines = whole.split("\n")
    for number, line in enumerate(lines):
        head, brace, rest = line.partition("{")
        try:
            event = json.loads(brace + rest)
        except (ValueError, RecursionError):
            continue
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                choice.pop("logprobs", None)
                choice.pop("top_logprobs", None)
        lines[number] = head + json.dumps(event)
    return [(pieces[-1][0], "\n".join(lines))]


class _Edit(NamedTuple):
    """A range of a text, and its replacement."""

    start: int
    end: int
    instead: str


def without_key(pieces: Pieces, key: Key) -> Pieces:
    """Remove the key, and long parts of it, from a reply's `pieces` (seconds, text).

    A piece that ends within the key is merged with the next. A model given the key may repeat it token by token:
    the first of these events gets the replacement, and the others lose their parts.
    """
    whole = "".join(text for _, text in pieces)
    edits = [*_spelled_out(whole, key), *_standing(whole, key)]
    return _edited(pieces, _apart(edits))


def _standing(whole: str, key: Key) -> Iterator[_Edit]:
    """Yield the edits where the key is whole."""
    if not key.spans(whole):
        return
    if whole.lstrip()[:1] in ("{", "[") and _is_json(whole):
        yield from _in_json(whole, 0, key)
        return
    for line in _LINE_OF_TEXT.finditer(whole):
        text, at = line["value"], line.start("value")
        spans = key.spans(text)
        if spans and _is_json(text):
            yield from _in_json(text, at, key)
        else:
            yield from (_Edit(at + start, at + end, GONE) for start, end in spans)


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


def _in_json(text: str, at: int, key: Key) -> Iterator[_Edit]:
    """Yield the edits in the strings of valid JSON."""
    name = ""
    for literal in _LITERAL.finditer(text):
        said, is_name = json_text(literal[1]), literal[2] is not None
        if not (said in _NAMES if is_name else said in _FIXED.get(name, ())):
            begin = at + literal.start(1)
            yield from (_Edit(begin + start, begin + end, GONE) for start, end in in_json(literal[1], key.spans(said)))
        name = said if is_name else ""


def _spelled_out(whole: str, key: Key) -> Iterator[_Edit]:
    """Yield the edits where several events spell out the key; the first has the replacement."""
    places: dict[tuple[str, ...], list[re.Match[str]]] = {}
    for line in _LINE_OF_TEXT.finditer(whole):
        index = _CHOICE.search(whole, *line.span())
        seen: dict[str, int] = {}
        for field in _SPELLED.finditer(whole, *line.span()):
            name = field[1]  # an event may repeat a field, so its occurrences are numbered
            seen[name] = seen.get(name, 0) + 1
            places.setdefault((name, str(seen[name]), index[1] if index else ""), []).append(field)
    for events in places.values():
        texts = [json_text(event[2]) for event in events]
        spans = key.spans("".join(texts))
        begins = [0, *accumulate(map(len, texts))] if spans else []
        for start, end in spans:
            instead = GONE
            for number in range(bisect_right(begins, start) - 1, bisect_left(begins, end)):
                within = max(start - begins[number], 0), min(end - begins[number], len(texts[number]))
                ((first, last),) = in_json(events[number][2], [within])
                if last > first:
                    yield _Edit(events[number].start(2) + first, events[number].start(2) + last, instead)
                    instead = ""


def _apart(edits: list[_Edit]) -> list[_Edit]:
    """Sort `edits`, merging those that overlap."""
    out: list[_Edit] = []
    for edit in sorted(edits):
        if out and edit.start < out[-1].end:
            last = out[-1]
            out[-1] = _Edit(last.start, max(last.end, edit.end), last.instead or edit.instead)
        else:
            out.append(edit)
    return out


def _edited(pieces: Pieces, edits: list[_Edit]) -> Pieces:
    """Apply `edits` to `pieces`; a piece that ends within an edit is merged with the next."""
    if not edits:
        return pieces
    whole = "".join(text for _, text in pieces)
    out: Pieces = []
    kept = ""
    done = end = number = 0
    for seconds, text in pieces:
        end += len(text)
        while number < len(edits) and edits[number].end <= end:
            kept += whole[done : edits[number].start] + edits[number].instead
            done = edits[number].end
            number += 1
        if number < len(edits) and edits[number].start < end:
            continue
        kept += whole[done:end]
        done = end
        if kept:
            out.append((seconds, kept))
            kept = ""
    return out
