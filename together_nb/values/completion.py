"""The result of a request, as a value: `Completion`, its figures and its display.

`CompletionRequest` → … → `Chunk` → `Completion`. Nothing here talks to a server or draws.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import cache, lru_cache
from typing import Any

from together_nb.base.wording import dollars
from together_nb.errors import InputError
from together_nb.values import hooks
from together_nb.values.chunk import Choice, Timings, Token, Usage
from together_nb.values.from_json import (
    AMOUNT,
    LOGARITHM,
    MOST,
    UnfitError,
    as_input_errors,
    dataclass_reader,
    each_in,
    expect,
    fixed_number,
    or_none,
    plain,
    reader,
    unknown,
    whole_number,
)
from together_nb.values.parameters import AUTO, SamplingParams
from together_nb.values.request import CompletionRequest, read_messages
from together_nb.values.schema import Parsed, Schema, schema_of

LENGTH = "length"
_FINISHED_WELL = frozenset({"stop", "eos", "eos_token", "stop_sequence", "", None})


@dataclass
class Completion:
    """An answer, complete or partial. A notebook displays it; its `str` is its text.

    Parameters
    ----------
    request : CompletionRequest
        The request.
    choices : list of Choice
        The answers, by index; at least one.
    model : str
        Id of the model, as the server gives it.
    id : str
        Id of the answer, as the server gives it.
    usage : Usage or None
        Tokens, as the server counted them, or None; never guessed.
    timings : Timings
        Seconds to the first token and in all.
    chunks : int
        How many pieces of text or thinking arrived; most servers send a token in each.
    cancelled : bool
        Whether the user stopped it.
    error : str
        What cut it short (``connection lost``); "" if nothing did.
    price : tuple of (float, float) or None
        US dollars per million tokens (in, out), from ``GET /v1/models``; None if it gives none.
    note : str
        A sentence for the footer about where the answer comes from.
    filled : tuple of str
        Names filled into the prompt.
    created : str
        When the request was sent, in UTC as ISO 8601 (``2026-11-26T10:20:30Z``); "" if it was not.
    server : str
        Address of the server that it came from; ``embedded`` is the engine on this machine, "" is unknown.
    abrupt : bool
        Whether the server ended it without a reason; it may be whole, and may be continued.
    loaded : bool
        Whether it was read from a file or a dict, so that its server may be one that nobody here chose.

    Attributes
    ----------
    api : str
        The dialect of the request, such as ``chat``.
    asked : str
        The prompt; of a conversation, the last one.
    text : str
        Text of the first choice.
    reasoning : str
        Thinking of the first choice.
    finish_reason : str or None
        Why the first choice ended, from the server (``stop``, ``eos``, ``length``); None if it was cut off.
    tokens : list of Token
        Tokens of the first choice, if log-probabilities were requested.
    refusal : str
        What the model says when it refuses to answer, of the first choice; "" if it does not refuse.
    tool_calls : list of dict
        The tools that the model wants called, of the first choice, as the API has them. They are not run.

        Each is ``{"id", "type", "function": {"name", "arguments"}}``.
    mean_logprob : float or None
        Mean log-probability (natural) of the first choice's tokens; None if none is known.
    perplexity : float or None
        Perplexity of the first choice: e to the mean negative log-probability; None if none is known.
    truncated : bool
        Whether it ended because `max_tokens` or the context was full.
    came_to_nothing : bool
        Whether it was stopped or failed before any of it arrived, and so replaces no earlier answer.
    tokens_per_second : float or None
        Tokens a second from the first token on, by the server's count; None if it did not count.
    cost : float or None
        US dollars, from the server's count and the price list; None if either is unknown.
    cost_told : str
        The cost in words, in US dollars; "" if the model has no price, or is free.

        A stopped answer is counted only in part, so that its cost is a lower bound.
    cut_short : bool
        Whether it was stopped or lost, so that the server may have counted more than it reported.
    parsed : object
        The text parsed by the schema: JSON, or an instance of the pydantic model; else None.
    unparsed : str
        Why nothing is in `parsed`, in a sentence or two; "" if something is, or no schema was given.
    ending : str
        Why it ended early, in words; "" if it did not.

    Examples
    --------
    >>> from together_nb import Completion, complete
    >>> answer = complete("Alan Turing was", max_tokens=8, temperature=0, logprobs=2)
    >>> answer.finish_reason, answer.usage.completion_tokens, answer.cost
    ('length', 8, 0.0)
    >>> "".join(token.text for token in answer.tokens) == answer.text
    True
    >>> Completion.from_dict(answer.to_dict()) == answer
    True
    """

    request: CompletionRequest
    choices: list[Choice] = field(default_factory=lambda: [Choice()])
    model: str = ""
    id: str = ""
    usage: Usage | None = None
    timings: Timings = field(default_factory=lambda: Timings(None, 0.0))
    chunks: int = 0
    cancelled: bool = False
    error: str = ""
    price: tuple[float, float] | None = None
    note: str = ""
    filled: tuple[str, ...] = ()
    created: str = ""
    server: str = ""
    abrupt: bool = False
    loaded: bool = field(default=False, compare=False, repr=False)

    @property
    def api(self) -> str:
        """The dialect of the request, such as ``chat``."""
        return self.request.api

    @property
    def asked(self) -> str:
        """The prompt; of a conversation, the last one."""
        if self.request.messages is None:
            return self.request.prompt
        said = [turn.get("content") for turn in self.request.messages if turn.get("role") == "user"]
        return str(said[-1]) if said else ""

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self.choices[0].text

    @property
    def reasoning(self) -> str:
        """Thinking of the first choice."""
        return self.choices[0].reasoning

    @property
    def finish_reason(self) -> str | None:
        """Why the first choice ended, from the server (``stop``, ``eos``, ``length``); None if it was cut off."""
        return self.choices[0].finish_reason

    @property
    def tokens(self) -> list[Token]:
        """Tokens of the first choice, if log-probabilities were requested."""
        return self.choices[0].tokens

    @property
    def refusal(self) -> str:
        """What the model says when it refuses to answer, of the first choice; "" if it does not refuse."""
        return self.choices[0].refusal

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The tools that the model wants called, of the first choice, as the API has them. They are not run.

        Each is ``{"id", "type", "function": {"name", "arguments"}}``.
        """
        return self.choices[0].tool_calls

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability (natural) of the first choice's tokens; None if none is known."""
        from together_nb.values.likelihood import mean_logprob

        return mean_logprob(self.tokens)

    @property
    def perplexity(self) -> float | None:
        """Perplexity of the first choice: e to the mean negative log-probability; None if none is known."""
        from together_nb.values.likelihood import perplexity

        return perplexity(self.tokens)

    @property
    def truncated(self) -> bool:
        """Whether it ended because `max_tokens` or the context was full."""
        return any(choice.finish_reason == LENGTH for choice in self.choices)

    @property
    def came_to_nothing(self) -> bool:
        """Whether it was stopped or failed before any of it arrived, and so replaces no earlier answer."""
        return not self.chunks and (self.cancelled or bool(self.error))

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second from the first token on, by the server's count; None if it did not count."""
        return self.timings.tokens_per_second(self.usage)

    @property
    def cost(self) -> float | None:
        """US dollars, from the server's count and the price list; None if either is unknown."""
        if self.usage is None or self.price is None:
            return None
        price_in, price_out = self.price
        return (self.usage.prompt_tokens * price_in + self.usage.completion_tokens * price_out) / 1e6

    @property
    def cost_told(self) -> str:
        """The cost in words, in US dollars; "" if the model has no price, or is free.

        A stopped answer is counted only in part, so that its cost is a lower bound.
        """
        if self.price is None or not any(self.price) or self.came_to_nothing:
            return ""
        if self.cost is None:
            return "cost unknown"
        return f"at least {dollars(self.cost)}" if self.cut_short else dollars(self.cost)

    @property
    def cut_short(self) -> bool:
        """Whether it was stopped or lost, so that the server may have counted more than it reported."""
        return self.cancelled or bool(self.error)

    @property
    def parsed(self) -> Any:
        """The text parsed by the schema: JSON, or an instance of the pydantic model; else None."""
        return parse_answer(self).value

    @property
    def unparsed(self) -> str:
        """Why nothing is in `parsed`, in a sentence or two; "" if something is, or no schema was given."""
        return parse_answer(self).reason

    @property
    def ending(self) -> str:
        """Why it ended early, in words; "" if it did not."""
        if self.cancelled:
            return "stopped by you"
        if self.error:
            return self.error
        if self.truncated:
            return "cut at max_tokens" if self.request.sampling.max_tokens is not None else "cut at the model's limit"
        if self.abrupt:
            return "the server gave no reason for the end"
        if self.finish_reason in _FINISHED_WELL:
            return "the model refused" if any(choice.refusal for choice in self.choices) else ""
        return f"ended by {self.finish_reason}"

    def footer(self, *, way_on: bool = False) -> str:
        """One line of plain text: model · tokens · seconds · tokens/s · cost · why it ended · note.

        Parameters
        ----------
        way_on : bool
            Whether to say how to continue an answer that was cut; not for one of several side by side.

        Returns
        -------
        str
            The line; a cost is in US dollars.
        """
        line: str = hooks.footer(self, way_on=way_on)
        return line

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict that `from_dict` reads back, except for the class of a pydantic model.

        Returns
        -------
        dict
            Its parameters by name, as JSON values.
        """
        # `asdict` of the whole would copy a conversation's messages only to replace them.
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "loaded"} | {
            "request": self.request.to_dict(),
            "choices": [asdict(choice) for choice in self.choices],
            "usage": None if self.usage is None else asdict(self.usage),
            "timings": asdict(self.timings),
            "chunks": int(self.chunks),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Completion:
        """Return the completion that `to_dict` wrote, through JSON or not.

        Parameters
        ----------
        values : dict
            The result of `to_dict`.

        Returns
        -------
        Completion
            An equal completion.

        Raises
        ------
        InputError
            A part is missing, unknown, or of the wrong type or size; the message says where.
        """
        with as_input_errors():
            return read_completion(values)

    def bundle(self, show: str = AUTO, *, alone: bool = True) -> dict[str, str]:
        """What a notebook saves: ``text/markdown`` and ``text/plain`` with the footer; with tokens also ``text/html``.

        Parameters
        ----------
        show : str
            ``auto``, ``markdown``, ``text``, ``code``, ``json``, ``tokens`` or ``none``.
        alone : bool
            Whether it is the last answer, and not one of several side by side: then the footer says how to continue
            one that was cut.

        Returns
        -------
        dict of str to str
            Content by MIME type.

        Raises
        ------
        InputError
            There is no such format.
        """
        content: dict[str, str] = hooks.bundle(self, show, alone=alone)
        return content

    def metadata(self) -> dict[str, Any]:
        """Return how it was made, for the output's metadata: no prompt, no key.

        Returns
        -------
        dict
            ``model``, ``api``, ``id``, ``time``, ``parameters``, ``finish_reason``, ``cancelled``, ``error``,
            ``usage`` (tokens), ``cost`` (US dollars) and ``timings`` (seconds).
        """
        usage = None if self.usage is None else {k: v for k, v in asdict(self.usage).items() if v is not None}
        return {
            "model": self.model or self.request.model,
            "api": self.api,
            "id": self.id,
            "time": self.created,
            "parameters": self.request.sampling.to_dict(),
            "finish_reason": self.finish_reason,
            "cancelled": self.cancelled,
            "error": self.error,
            "usage": usage,
            "cost": self.cost,
            "timings": asdict(self.timings),
        }

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        return self.bundle(), {"together_nb": self.metadata()}

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Completion {self.footer()}: {self.text[:60]!r}{'…' if len(self.text) > 60 else ''}>"  # noqa: PLR2004


def may_lack_its_end(completion: Completion) -> bool:
    """Whether an answer was stopped, lost, cut at a limit, or ended without a reason."""
    return completion.cut_short or completion.truncated or completion.abrupt


def parse_answer(completion: Completion) -> Parsed:
    """Parse the text of an answer by its schema; without one, the result is empty."""
    schema = completion.request.schema
    parsed = Parsed() if schema is None else schema.parse(completion.text)
    if parsed.reason and may_lack_its_end(completion):
        return parsed._replace(reason=f"{parsed.reason} The answer was cut.")
    return parsed


def read_completion(values: Any) -> Completion:
    """As `Completion.from_dict`, but raise `UnfitError`."""
    completion: Completion = _reader()(values)
    completion.loaded = True
    return completion


@cache
def _reader() -> Any:
    top = each_in(fixed_number([reader(str), LOGARITHM]), tuple)
    token = dataclass_reader(Token, logprob=or_none(LOGARITHM), id=or_none(whole_number(-MOST)), top=top)
    # Servers number choices as they please.
    choice = dataclass_reader(
        Choice, index=whole_number(-MOST), tokens=each_in(token, list), tool_calls=each_in(_tool_call, list)
    )
    request = dataclass_reader(
        CompletionRequest,
        ("api", "model", "sampling"),
        messages=or_none(read_messages),
        sampling=_sampling,
        schema=or_none(_schema),
        after=_after,
    )
    return dataclass_reader(
        Completion,
        ("choices", "timings"),
        request=request,
        choices=each_in(choice, list, least=1),
        price=or_none(fixed_number([AMOUNT, AMOUNT])),
        loaded=unknown,
    )


def _tool_call(value: Any) -> Any:
    return plain(expect(dict, value))


def _after(_: Any) -> Any:
    raise UnfitError("is there, so these are not all messages: the rest is with the answer before.")


def _sampling(values: Any) -> SamplingParams:
    try:
        return SamplingParams.from_dict(plain(expect(dict, values)))
    except InputError as error:
        raise UnfitError(f"is not fit: {error.message}") from None


def _schema(values: Any) -> Schema:
    found: Schema = dataclass_reader(Schema, ("name", "definition"), model=unknown)(values)
    if found.definition is not None:
        _check_schema(json.dumps(found.definition))
    return found


@lru_cache(64)  # many answers share one schema
def _check_schema(definition: str) -> None:
    try:
        schema_of(json.loads(definition))
    except (InputError, RecursionError) as error:
        raise UnfitError(f"is not fit: {error}") from None
