"""What a server's error says, in any of the shapes that servers give it.

Nothing here raises, whatever the server sends. The words behind each pattern are in tests/wire/test_error_reports.py,
with the reports that they are from.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from together_nb.base.escape import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_WORDS = 300  # characters of a server's error message
_DEEPEST = 12  # levels of objects, lists and JSON texts around a message
_MOST_ROWS = 10  # of a list of errors
_SEARCHED = 10_000  # characters of a server's words, from their beginning
# Keys of a message, the plainest first.
MESSAGE_KEYS = (
    "message", "msg", "detail", "error_message", "error_msg", "errorMessage", "error_description", "status_msg",
    "error", "errors", "err", "errmsg", "err_msg", "details", "base_resp", "description", "reason", "title", "text",
)  # fmt: skip
_CODES = ("code", "errorCode", "status_code", "statusCode", "errcode", "err_code", "errno", "ret_code")
_NO_CODE = re.compile("0?|2[0-9][0-9]|ok|success|null|none|false", re.IGNORECASE)
_FAILURES = frozenset(
    {"error", "err", "base_resp", "header", "error_code"}
)  # keys that may tell of one beside an answer
_NEWS = re.compile("warn|info|notice|status|ping", re.IGNORECASE)
_MARKS = ("type", "object", "event", "status")  # keys that may say that an event is an error
_FAILED_STATUS = 400
_ERROR_WORD = re.compile("error|fail", re.IGNORECASE)
# An error framed as server-sent events: its first line, and what is none of its data.
_FRAMED = re.compile(r"(?:data|event|id|retry)?:|error: ?[{\[\"]")
_FRAME = re.compile(r"^(?:(?:event|id|retry)?:.*|(?:data: ?)?\[DONE\]|(?:data|error): ?)", re.MULTILINE)
# FastAPI's rows as Python writes them, as vLLM passes them on.
_PYTHON_ROW = re.compile(r"'loc': \(([^()]*)\), 'msg': (\"[^\"]*\"|'[^']*')")
_PLACE = re.compile(r"""["']loc\\*["']: ?[\[(]([^\])]*)""")
_CODE = re.compile(r'"(?:code|type|error_type|reason|status)\\*": ?\\*"([^"\\]*)')
_ESTIMATE = re.compile(r'"estimated_time\\*": ?(\d{1,9}(?:\.\d{1,20})?)')


def parse_error(text: str) -> Any:
    """Return the JSON value of an error's body, also of one framed as events or given in lines; else its text."""
    text = text.strip()
    if _FRAMED.match(text):
        text = _FRAME.sub("", text).strip()
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        found = list(islice(_values(text), _MOST_ROWS))
    told = (value for value in found if not isinstance(value, dict) or value.keys() & set(MESSAGE_KEYS))
    return next(told, found[0]) if found else text


def _values(text: str) -> Iterator[Any]:
    """Yield the JSON objects and lists that a text begins with."""
    decoder, at = json.JSONDecoder(strict=False), 0
    while text[at : at + 1] in ("{", "["):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield value
        at += len(text[at:]) - len(text[at:].lstrip(" \t\r\n,"))


def error_message(body: Any, levels: int = _DEEPEST) -> str:
    """Return the message in an error, however deep it stands in objects, lists and JSON texts; "" if it has none."""
    if levels <= 0 or body is None:
        return ""
    if isinstance(body, dict):
        return _message_of_object(body, levels)
    if isinstance(body, list):
        rows = (error_message(row, levels - 1) for row in body[:_MOST_ROWS])
        return "; ".join(dict.fromkeys(filter(None, rows)))
    return _unwrapped(body, levels - 1) if isinstance(body, str) else str(body)


def _message_of_object(body: dict[str, Any], levels: int) -> str:
    inner = [body[key] for key in MESSAGE_KEYS if isinstance(body.get(key), (str, list, dict))]
    words = next(filter(None, (error_message(one, levels - 1) for one in inner)), "")
    if isinstance(body.get("loc"), list):
        return _with_place(body["loc"], words)
    if isinstance(body.get("metadata"), dict):
        return _with_provider(body["metadata"], words, levels - 1)
    if not words:
        codes = (body.get(key) for key in ("code", "error", "type"))
        words = next((str(code) for code in codes if isinstance(code, (int, str)) and code and code is not True), "")
    # Of an object with none of the keys all is shown, which is better than nothing.
    return words if words or body.keys() & set(MESSAGE_KEYS) else as_json(body)


def _unwrapped(text: str, levels: int) -> str:
    """Return a text with the error that stands in it as JSON replaced by that error's message."""
    text = without_surrogates(text.strip())
    if text == "[object Object]":  # a JavaScript server lost its own message this way (recorded)
        return ""
    if rows := _PYTHON_ROW.findall(text):
        return "; ".join(_with_place(re.findall(r"\w+", place), message[1:-1]) for place, message in rows[:_MOST_ROWS])
    if _FRAMED.match(text) or text.startswith(("{", "[")):
        value = parse_error(text)
        return (value if isinstance(value, str) else error_message(value, levels)) or text
    before, brace, rest = text.partition("{")
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(brace + rest)
    except (ValueError, RecursionError):
        return text
    # Any other object may be a piece of the request that the server repeats.
    if "error" not in value and not ("message" in value and value.keys() & {"code", "type", "object", "status"}):
        return text
    return f"{before}{error_message(value, levels)}{(brace + rest)[end:]}"


def _with_place(place: list[Any], words: str) -> str:
    """Return FastAPI's message with the field that it is about."""
    name = ".".join(str(part) for part in place[place[:1] == ["body"] :])
    return ": ".join(filter(None, (name, words)))


def _with_provider(metadata: dict[str, Any], words: str, levels: int) -> str:
    """Return OpenRouter's message with the words of the provider behind it, which may be JSON."""
    raw = error_message(metadata.get("raw"), levels)
    if not raw or raw in words:
        return words
    provider = metadata.get("provider_name")
    return f"{words}{f' ({provider})' if provider else ''}: {raw}".lstrip(": ")


def as_json(value: Any) -> str:
    """Write a value as JSON; "" if it is empty or nested too deep."""
    try:
        return without_surrogates(json.dumps(value, ensure_ascii=False)) if value else ""
    except RecursionError:
        return ""


def failure(payload: Any) -> Any:
    """Return what a payload, or the first one of a list, tells of a failure, or None.

    Beside an `error` that is a payload with a code and no part of an answer: ``{code, message}`` (DashScope),
    ``{text, error_code}`` (FastChat), ``{base_resp: {status_code, status_msg}}`` (MiniMax), ``{detail}`` (FastAPI).
    """
    payload = payload[0] if isinstance(payload, list) and payload else payload
    if not isinstance(payload, dict):
        return None
    if payload.get("choices") and not payload.keys() & _FAILURES:  # the usual one
        return None
    output = payload.get("output")
    inner = output.get("error") if isinstance(output, dict) else None
    error = next(filter(tells, (payload.get("error"), payload.get("err"), inner)), None)
    if error is not None:
        return payload if error is True or isinstance(error, (int, float)) else error
    for base in (payload.get("base_resp"), payload.get("header")):  # MiniMax, iFlytek
        if isinstance(base, dict) and (_is_code(base.get("status_code")) or _is_code(base.get("code"))):
            return base
    if _is_code(payload.get("error_code")):
        return payload
    return payload if not (payload.get("choices") or payload.get("output")) and _is_failure(payload) else None


def _is_failure(payload: dict[str, Any]) -> bool:
    """Whether a payload that is no part of an answer has the marks of an error, and tells of it."""
    marked = any(_is_code(payload.get(name)) for name in _CODES) or payload.get("success") is False
    marked = marked or any(_ERROR_WORD.search(str(payload.get(name))) for name in _MARKS)
    kind = str(payload.get("type"))
    marked = marked and (_NEWS.search(kind) is None or _ERROR_WORD.search(kind) is not None)
    marked = marked or (isinstance(payload.get("status"), int) and payload["status"] >= _FAILED_STATUS)
    if not marked:
        return any(tells(payload.get(name)) for name in ("detail", "errors", "error_message", "error_msg"))
    return any(tells(payload.get(name)) for name in MESSAGE_KEYS)


def _is_code(value: Any) -> bool:
    return isinstance(value, (int, str)) and _NO_CODE.fullmatch(str(value)) is None


def tells(error: Any) -> bool:
    """Whether an `error` tells of one: not if it is empty, or if all that it holds is."""
    if isinstance(error, dict):
        return any(_is_code(value) if isinstance(value, (int, str)) else value for value in error.values())
    return bool(error) and (not isinstance(error, str) or _is_code(error))


def error_codes(text: str) -> str:
    """Return the codes and types in the text of an error's body, such as ``context_length_exceeded``."""
    return " ".join(_CODE.findall(text))


def error_places(text: str) -> str:
    """Return the places that FastAPI's error names; what else it says may repeat the whole request."""
    return " ".join(_PLACE.findall(text))


def estimated_seconds(text: str) -> float | None:
    """Return the seconds that Hugging Face expects the loading of a model to take, or None."""
    found = _ESTIMATE.search(text)
    return None if found is None else float(found.group(1))


_SOME = r"(?:(?!\b(?:image|audio|video|file)s?\b)[^.;]){0,60}?"  # of the same sentence, and of text
_TOO_MUCH = r"(?<!took\ )(?<!takes\ )too\ (?:long|large)"
_EXCEEDS = rf"(?:exceed|overflow|(?:longer|larger|greater|more)\ than|{_TOO_MUCH})"
_SIZE = r"context[\s_-]*(?:length|window|size|limit)"
# The prompt itself, and nothing else of a request that has a measure.
_PROMPT = r"""(?<!stop\ )(?<!stop_)\b(?:prompt|inputs?|sequence)\b(?!\ should\ be)
    (?![^.;]{0,120}\b(?:logprobs|processing|evaluation|field|items|elements|time|timeout|(?:milli)?seconds|\d+\ ?m?s)\b)"""
_MEASURE = r"(?:tokens?|length|context|window|size|limit|max(?:imum)?)"
_FIELD = r"'(?:(?:messages|input)[^\s']{0,40}content[^\s']{0,20}|input|prompt|instructions)'"  # of OpenAI's request
_TOO_LONG = re.compile(
    rf"""
      {_SIZE} [\w\s]{{0,30}}? exceed | {_EXCEEDS} {_SOME} {_SIZE} | {_EXCEEDS} [\w\s']{{0,30}} \b context \b
    | exceed_context | context (?:\ the)? \ overflow | context_?(?:length|window)_?exceeded
    | max(?:imum)? [\s_]+ (?:allowed\ )? (?:context|prompt(?!\ logprobs)|(?:model|seq|sequence)[\s_]+len)
    | configured \ context \ size | n_keep .{{0,20}} n_ctx
    | {_PROMPT} {_SOME} {_TOO_MUCH} | {_PROMPT} (?=[^.;]{{0,120}}? \b {_MEASURE} \b) {_SOME} {_EXCEEDS}
    | \b (?:messages|conversation) \b (?!\S{{0,40}}(?:name|role|_id)\b) {_SOME} {_TOO_MUCH}
    | {_FIELD}:\ string\ too\ long | string_above_max_length (?!.{{0,200}}\bInvalid\ (?!{_FIELD}))
    | malformed\ input\ request: \s (?:\#[^\s:]*(?:text|content|prompt)[^\s:]*:\s)? expected\ maxLength
    | (?:prompt|input|context)_(?:is_)?too_(?:long|large)
    | \b tokens? \b {_SOME} exceed | exceed {_SOME} \b token [\s_] limit | \b tokens?_limit_(?:reached|exceeded)
    | \b too \ many \ (?:input\ |prompt\ )? tokens | \b tokens \ in \ request \ more \ than
    | \b (?:request|body) \b {_SOME} too \ large {_SOME} \b (?:model|tokens)
    | tokens`? \ \+ \ `?max_(?:new_)?tokens`? \ must | \b inputs?`? \ must \ have \ less \ than \ \d+ \ tokens
    | reduce \ (?:the|your) \ (?:length|prompt|input|context)
    | input \ length \ should \ be | model \ max \ length \ exceeded
    | (?:上下文|输入|提示|prompt) .{{0,12}} (?:超|过长)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ABOUT_RATE = re.compile(
    r"rate[\s_]?limit|\bper[\s_](?:second|min|minute|hour|day|month)\b|\b[TR]P[MDS]\b|throttl|quota|too many requests"
    r"|please wait|\b(?:daily|monthly)\b|\bcredits?\b|\bafford\b",
    re.IGNORECASE,
)
_ALONE_TOO_MUCH = re.compile(r"request (?:is )?too large", re.IGNORECASE)


def is_about_length(words: str) -> bool:
    """Whether a server's words, or its codes, say that the prompt and the answer do not fit the model's context."""
    return _TOO_LONG.search(words, 0, _SEARCHED) is not None and _ABOUT_RATE.search(words, 0, _SEARCHED) is None


def is_about_rate(words: str) -> bool:
    """Whether they are about what an account may use in a time."""
    return _ABOUT_RATE.search(words, 0, _SEARCHED) is not None


def is_alone_too_much(words: str) -> bool:
    """Whether one request is more than the account may use in a time, so that waiting does not help (Groq, OpenAI)."""
    return is_about_rate(words) and _ALONE_TOO_MUCH.search(words, 0, _SEARCHED) is not None


_NO = r"(?:not|n['\u2019]t|no\ longer)"
_SERVED = r"(?:available|valid|supported|served|installed) (?!\ (?:for|with|by)\ )"
_GONE = rf"(?:{_NO} \ (?:been\ )? (?:found|exist\w*|recogni[sz]ed|a\ valid\ model|{_SERVED}) | (?:been\ )? (?:decommissioned|retired) | invalid\b)"
_IS = r"(?:(?:is|was|does|do|has|could|can)\s?|be\ )*"
_NO_MODEL = r"""
      (?<!of\ )(?<!for\ ) \b model s? (?:[ _](?:id|identifier|name))? [\s:=/]*
      (?:MODEL|[`'"“][^`'"”]{{1,200}}[`'"”])? :? \s* {is_} {gone}
    | (?:^|:\s|[`'"“]) MODEL [`'"”]? \ {is_} {gone}
    | \b (?:no\ such|unknown|invalid|(?:un|not\ )supported|unrecogni[sz]ed|not\ a\ valid|non-?existent)
      [\s_]+ ['"`]? model s? \b (?! [\s_]+(?:output|input|parameter|type|response|config|setting|format))
    | \b no \ ['"`]? model (?:_name)? s? ['"`]? \ (?:named|called|with|found|loaded)
    | \b (?:(?:could|can) \s? (?:not|n['\u2019]t) | failed\ to | unable\ to)
      \ (?:find|access|locate|resolve) \ (?:the\ |real\ |non-serverless\ )? model
    | \b model _? (?:does_)? not _? (?:found|exist|available|supported) | \b invalid_?model | model_decommissioned
    | \b (?:there\ is\ no|no\ such) \ [`'"“]? MODEL (?![\w/-])
    | supported\ (?:api\ )? model\ names?\ are | no\ (?:allowed\ )?(?:endpoints|providers)\ (?:found|available)\ for
    | 模型 .{{0,40}} (?:不存在|未找到|不支持) | 不存在.{{0,6}}模型
"""
_PASSING = re.compile(
    r"temporar|\bre-?try|try again|currently|\bright now\b|at (?:the|this) (?:moment|time)\b|momentar|overload|\bbusy\b"
    r"|capacity|\bload(?:ing)?\b",
    re.IGNORECASE,
)
_AT_ENDPOINT = re.compile(
    r"\b(?:supported|available|valid|served|used|found) (?:in|on|at|via|by|for|with|through|under|from) [^.;,]{0,30}"
    r"(?:completions|responses|embeddings|endpoint)\b",
    re.IGNORECASE,
)
_USE_INSTEAD = re.compile(
    r"\b(?:did you mean(?: to use)?|use|using|try) (?:the )?[`'\"]?(?:POST )?/?(?:v1/)?(chat/)?completions\b",
    re.IGNORECASE,
)


def is_about_unknown_model(words: str, model: str) -> bool:
    """Whether a server's words, or its codes, say that it has no such model, rather than that the model cannot do it."""
    gone = _NO_MODEL.format(is_=_IS, gone=_GONE).replace("MODEL", re.escape(model) if model else "(?!)")
    found = re.search(gone, words[:_SEARCHED], re.IGNORECASE | re.VERBOSE)
    return found is not None and not any(other.search(words, 0, _SEARCHED) for other in (_PASSING, _AT_ENDPOINT))


def api_to_use(words: str) -> str:
    """Return the API that a server's words say to use instead, ``chat`` or ``completions``; "" if they name none."""
    found = _USE_INSTEAD.search(words, 0, _SEARCHED)
    return "" if found is None else "chat" if found[1] else "completions"


# Words of a 404 that are about the address, and not an explanation of the server's own.
_NO_ADDRESS = re.compile(
    r"""
      (?:error | 404 | \W)* | .{0,40} “[^”]*”\. | [{\[].* | method \ not \ allowed\W*
    | (?:请求的)? (?:接口|页面|资源|路径|地址)? (?:不存在|未找到) \W*
    | (?:\b (?:error|http|404|api|the|requested|page|path|route|ur[li]|resource|endpoint|address|file|was|is|could|be)\b | \W)*
      not[\s_]?(?:be\ )?found (?:404 | \W)*
    | .* \b (?: no\ (?:such\ |matching\ )?(?:route|path|url|handler|page) | no\ such\ endpoint | cannot\ (?:GET|POST)
      | (?:invalid|unknown|unrecogni[sz]ed|unexpected|unsupported)\ (?:api\ |request\ )?(?:url|path|route|endpoint)
      | (?:url|path|route|page|address|file|(?:requested|the)\ resource)\b .{0,80} \b (?:not\ (?:be\ )?found|not\ exist)
      ) \b .*
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_about_address(words: str) -> bool:
    """Whether the words of a 404 are none, a web page's, or only that there is nothing at the address."""
    return _NO_ADDRESS.fullmatch(words, 0, _SEARCHED) is not None


_LOADING = re.compile(
    r"\bloading\b.{0,60}\bmodel\b|\bmodel\b.{0,200}\b(?:loading|being loaded|not (?:yet )?(?:loaded|ready)(?: yet)?)\b"
    r"|\b(?:still|currently) (?:loading|starting)|\b(?:is|are) (?:loading|starting up|initiali[sz]ing|warming up)\b"
    r"|\bwarming up\b|\bcold start|^\W*loading\b.{0,40}$",
    re.IGNORECASE,
)
_FAILED = re.compile(r"\bfail|\berrors?\b|\bunable\b|\bcan(?:not|'t)\b|\bcould not\b|\bnot found\b", re.IGNORECASE)


def is_about_loading(words: str) -> bool:
    """Whether a server's words say that it is loading the model."""
    return _LOADING.search(words, 0, _SEARCHED) is not None and _FAILED.search(words, 0, _SEARCHED) is None
