"""The parser of a request's body, whose errors have Together's status and words."""

from __future__ import annotations

import json
import math
import re
import secrets
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, NoReturn

from together_nb.errors import InputError
from together_nb.local.generation import DEFAULT_MAX_TOKENS
from together_nb.local.vocabulary import tokens_of
from together_nb.values.local_models import NGRAM, SMOLLM
from together_nb.values.parameters import PARAMETERS, SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from together_nb.local.ngram import NgramModel
    from together_nb.local.vocabulary import Generated

INFERENCE, COMPLETIONS, CHAT = "inference", "completions", "chat"

CONTEXT_LENGTH = 131_072
"""The most tokens of a prompt and its answer together. The model itself has no limit."""

_MOST_TOKENS = 8 * CONTEXT_LENGTH  # of all answers to one request, and of its prompt once per answer
_MOST_CHARACTERS = 20 * _MOST_TOKENS
_MOST_STOPS = 32
_LONGEST_STOP = 1000
_MOST_PARTS = 200_000  # commas and brackets of a body
_DEEPEST = 300
_LONGEST_NUMBER = 300  # digits, so that each fits a float too
_STRING = re.compile('"[^"]*"')
_BRACKET = re.compile(r"[\[\]{}]")
_LEVEL = {"[": 1, "{": 1, "]": -1, "}": -1}

# Keys that do not affect the text, besides the parameters and those in `_READ`.
_IGNORED = frozenset({
    "user", "stream_options", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier",
    "prompt_cache_key", "prompt_cache_retention",
})  # fmt: skip
# Values that ask for nothing, of keys that this model cannot honour.
_WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "best_of": (1,),
    "suffix": ("",),
}
# By name, so that a newly declared parameter is refused until it is implemented here.
_HONOURED = frozenset({
    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty",
    "presence_penalty", "frequency_penalty", "stop", "seed", "logprobs", "top_logprobs", "n", "echo", "logit_bias",
})  # fmt: skip
_READ = frozenset({"model", "prompt", "messages", "stream", "stream_tokens", "response_format"})


class RequestError(Exception):
    """An error that is sent instead of a completion.

    Parameters
    ----------
    status
        HTTP status.
    message
        What is wrong and what to do about it.
    param
        The key of the body at fault, or None.
    code
        Together's error code, or None.
    """

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


@dataclass(frozen=True)
class ParsedRequest:
    """One parsed request.

    Parameters
    ----------
    dialect
        `INFERENCE`, `COMPLETIONS` or `CHAT`.
    prompt
        The text to continue.
    prompt_tokens
        How many tokens it has.
    sampling
        The parameters; the seed is always set, so that the answer can report it.
    stream
        Whether to stream the answer.
    openai_logprobs
        Whether log-probabilities are requested as in OpenAI's chat (``logprobs: true``).
    counts_apart
        Whether the token count of a stream comes in a chunk of its own.
    """

    dialect: str
    prompt: str
    prompt_tokens: int
    sampling: SamplingParams
    stream: bool
    openai_logprobs: bool
    counts_apart: bool

    @property
    def choices(self) -> int:
        """The number of answers."""
        return self.sampling.n or 1

    @property
    def echoed(self) -> int:
        """How many of each answer's tokens echo the prompt."""
        return self.prompt_tokens if self.sampling.echo else 0

    def generate(self, model: NgramModel) -> list[Iterator[Generated]]:
        """Return an iterator for each answer; answer i is seeded with the seed plus i.

        Raises
        ------
        RequestError
            `logit_bias` does not fit the model.
        """
        first = self.sampling.seed or 0
        seeded = (replace(self.sampling, seed=first + number) for number in range(self.choices))
        try:
            return [model.generate(self.prompt, sampling) for sampling in seeded]
        except InputError as error:
            raise RequestError(422, _sentence(error), "logit_bias") from None


def parsed(dialect: str, values: dict[str, Any]) -> ParsedRequest:
    """Check a request to the n-gram model.

    Parameters
    ----------
    dialect
        `INFERENCE`, `COMPLETIONS` or `CHAT`.
    values
        The body, from `body_values`.

    Raises
    ------
    RequestError
        400: no prompt, or something this model cannot do; 403: too long; 422: a parameter is of the wrong type or out
        of bounds.
    """
    prompt = _chat_prompt(values.get("messages")) if dialect == CHAT else checked_prompt(values.get("prompt"))
    stream = flag(values, "stream") or flag(values, "stream_tokens")
    openai_logprobs = isinstance(values.get("logprobs"), bool)
    sampling = _sampling(values)
    prompt_tokens = sum(1 for _ in islice(tokens_of(prompt), CONTEXT_LENGTH))
    _check_length(prompt_tokens, sampling)
    # A single token may be of any length.
    if (sampling.n or 1) * len(prompt) > _MOST_CHARACTERS:
        raise RequestError(
            403, f"The prompt's {len(prompt)} characters are too many for {sampling.n} answers. Lower n.", "n"
        )
    apart = counts_apart(dialect, values)
    return ParsedRequest(dialect, prompt, prompt_tokens, sampling, stream, openai_logprobs, apart)


def _check_length(prompt_tokens: int, sampling: SamplingParams) -> None:
    length = DEFAULT_MAX_TOKENS if sampling.max_tokens is None else sampling.max_tokens
    if prompt_tokens + length > CONTEXT_LENGTH:
        raise RequestError(
            403,
            f"The prompt's {prompt_tokens} tokens and max_tokens ({length}) exceed the context of {CONTEXT_LENGTH} "
            "tokens. Shorten the prompt or lower max_tokens.",
            "max_tokens",
        )
    if (sampling.n or 1) * max(prompt_tokens, length) > _MOST_TOKENS:
        raise RequestError(
            403,
            f"{sampling.n} answers of up to {length} tokens to a prompt of {prompt_tokens} are more than {_MOST_TOKENS} "
            "tokens in all. Lower n or max_tokens, or shorten the prompt.",
            "n",
        )


def body_values(body: bytes) -> dict[str, Any]:
    """Return the values of a request's body that are set.

    Raises
    ------
    RequestError
        400: it is no JSON object.
    """
    try:
        text = body.decode("utf-8-sig", "surrogatepass")
        _check_size(text)
        values = json.loads(text, parse_int=_whole, parse_float=_float, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"The body must be JSON: {error!s:.200}.") from None
    if not isinstance(values, dict):
        raise RequestError(400, 'The body must be a JSON object, such as {"model": …, "prompt": …}.')
    return {key: value for key, value in values.items() if value not in (None, [], {})}


def _check_size(text: str) -> None:
    """Check the size of the JSON before it is parsed."""
    bare = text.replace("\\\\", "").replace('\\"', "")  # so that each quotation mark delimits a string
    if bare.count('"') > 2 * _MOST_PARTS:
        raise ValueError("it has too many parts")
    bare = _STRING.sub("", bare)
    if sum(map(bare.count, ",[{")) > _MOST_PARTS or sum(map(bare.count, "]}")) > _MOST_PARTS:
        raise ValueError("it has too many parts")
    if max(accumulate(_LEVEL[each] for each in _BRACKET.findall(bare)), default=0) > _DEEPEST:
        raise ValueError("it nests too deep")


def _whole(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number has more than {_LONGEST_NUMBER} digits")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text:.20} is no number that can be used")


def checked_prompt(prompt: object) -> str:
    """Return a prompt that is a text, or a list of one.

    Raises
    ------
    RequestError
        400: it is empty, several texts, or token ids.
    """
    one = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if isinstance(one, str) and one:
        return one
    problem = "prompt must be a text that is not empty."
    if isinstance(prompt, list) and one != "":
        several = all(isinstance(each, str) for each in prompt)
        problem = (
            f"prompt is a list of {len(prompt)} texts. Send each in a request of its own."
            if several
            else "prompt must be a text. Token ids are not read here: send the text itself."
        )
    raise RequestError(400, problem, "prompt")


def _chat_prompt(messages: object) -> str:
    """The prompt of a conversation: the contents, a blank line after each.

    A partial answer (the last message is the assistant's) is continued without one.
    """
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise RequestError(
            400,
            'messages must be a list of {"role": …, "content": …}, the content a text or a list of '
            '{"type": "text", "text": …}.',
            "messages",
        )
    contents = [_text(message.get("content")) for message in messages]
    prompt = "\n\n".join(content for content in contents if content)
    if not prompt:
        raise RequestError(400, "messages must hold some text.", "messages")
    return prompt if messages[-1]["role"] == "assistant" else prompt + "\n\n"


def _is_message(message: object) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    content = message.get("content")
    if isinstance(content, list):
        return all(
            isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
            for part in content
        )
    # An answer that clients send back may have none: a refusal, for instance.
    return isinstance(content, str) or (content is None and message["role"] == "assistant")


def _text(content: str | list[dict[str, str]] | None) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())


def flag(values: dict[str, Any], name: str) -> bool:
    """Return a value that is true or false; false if it is not there."""
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise RequestError(422, f"{name} must be true or false, not {value!r:.80}.", name)
    return value


def counts_apart(dialect: str, values: dict[str, Any]) -> bool:
    """Whether the token count of a stream is to come in a last chunk without choices, as OpenAI's does if asked."""
    options = values.get("stream_options", {})
    if not isinstance(options, dict):
        raise RequestError(422, f"stream_options must be an object, not {options!r:.80}.", "stream_options")
    options = {name: value for name, value in options.items() if value is not None}
    return flag(options, "include_usage") and dialect != INFERENCE


def _sampling(values: dict[str, Any]) -> SamplingParams:
    for name, value in values.items():
        if name == "response_format" and not (isinstance(value, dict) and value.get("type") == "text"):
            raise RequestError(
                400,
                f"{NGRAM} cannot write JSON by a schema. Use {SMOLLM} (`%together get` fetches it), or one "
                "of Together's models.",
                name,
            )
        if not (name in _READ | _HONOURED | _IGNORED or value in _WITHOUT_EFFECT.get(name, ())):
            raise RequestError(
                400,
                f"{NGRAM} cannot honour {name:.80}. Leave it out, or ask one of Together's models.",
                name[:80],
            )
    valid = checked_parameters(values)
    valid.setdefault("seed", secrets.randbits(31))  # not from `random`, whose state is the user's
    return SamplingParams(**valid)


def checked_parameters(values: dict[str, Any]) -> dict[str, Any]:
    """Return the sampling parameters of a body, under Together's names.

    Raises
    ------
    RequestError
        422: one is of the wrong type or out of bounds.
    """
    given = {name: values[name] for name in _HONOURED if name in values}
    if "max_completion_tokens" in given:
        given.setdefault("max_tokens", given.pop("max_completion_tokens"))
    top = given.pop("top_logprobs", None)
    if isinstance(given.get("logprobs"), bool):
        # OpenAI's chat has a flag, with the count beside it.
        wanted = given.pop("logprobs")
        if wanted:
            given["logprobs"] = 0 if top is None else top
    valid = {name: _validated(name, value) for name, value in given.items()}
    stops = valid.get("stop") or ()
    if len(stops) > _MOST_STOPS or any(len(stop) > _LONGEST_STOP for stop in stops):
        raise RequestError(
            422, f"stop must be at most {_MOST_STOPS} texts of at most {_LONGEST_STOP} characters.", "stop"
        )
    return valid


def _validated(name: str, value: object) -> Any:
    try:
        return PARAMETERS[name].validate(value)
    except InputError as error:
        raise RequestError(422, _sentence(error), name) from None


def _sentence(error: InputError) -> str:
    return f"{error.message} {error.hint}".strip()
