"""Families of servers: how each is recognised, and how it spells what a request asks for.

All speak OpenAI's dialects, and differ in a few fields. A family is one row of `FAMILIES`. The rows say what was seen on
the server itself (2026-11), but for OpenAI and Ollama, whose rows are from their documentation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from together_nb.base.suggest import suggestion
from together_nb.errors import InputError
from together_nb.values.local_models import NGRAM
from together_nb.values.parameters import AUTO

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

USAGE_FIELD = "stream_options"
_OPENAI = ("chat", "completions")  # the dialects that families share
_PAIR = frozenset({"logprobs", "top_logprobs"})
_CONTINUE = MappingProxyType({"continue_final_message": True, "add_generation_prompt": False})
_NOT_OPENAI = frozenset({"top_k", "min_p", "repetition_penalty", "chat.echo"})


@dataclass(frozen=True)
class Family:
    """One kind of server.

    Parameters
    ----------
    name
        What the user types for it.
    hosts
        Hosts that are of it.
    headers
        Headers of its replies, in title case, and how their values begin.
    owners
        Values of ``owned_by`` in its list of models.
    refusals
        Words that only its refusals contain.
    names
        Its names of parameters that have another one here.
    sends_usage
        Whether it counts tokens in a stream when ``stream_options`` asks for it; others always do, or never.
    usage_per_choice
        Whether each of several answers has a count of its own.
    integer_logprobs
        Whether its chat takes the number of alternatives in ``logprobs``, as Together's does.
    least_logprobs
        The fewest alternatives with which it returns log-probabilities.
    continues
        Fields with which it continues an assistant's last turn; none needed if empty, and None if it cannot.
    ignores, refuses
        Parameters, or ``schema``, without effect, and those it answers with an error. ``chat.echo`` is `echo` in a chat
        alone.
    models
        Models that have rules of their own, by name.
    """

    name: str
    hosts: frozenset[str] = frozenset()
    headers: tuple[tuple[str, str], ...] = ()
    owners: frozenset[str] = frozenset()
    refusals: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    sends_usage: bool = True
    usage_per_choice: bool = False
    integer_logprobs: bool = False
    least_logprobs: int = 0
    continues: Mapping[str, Any] | None = None
    ignores: frozenset[str] = frozenset()
    refuses: frozenset[str] = frozenset()
    models: Mapping[str, Family] = field(default_factory=lambda: MappingProxyType({}))

    def of_model(self, model: str) -> Family:
        """Return the rules for one of its models."""
        return self.models.get(model, self)

    def spell(self, payload: Mapping[str, Any], api: str, refused: Collection[str] = ()) -> dict[str, Any]:
        """Return the body to send.

        Parameters
        ----------
        payload
            The body with what the user set, in the words of the dialect.
        api
            The dialect's name; only OpenAI's are spelled.
        refused
            Fields that this server has refused, which are not added.
        """
        body = dict(payload)
        if api not in _OPENAI:
            return body
        for name, theirs in self.names.items():
            if name in body and theirs not in body and theirs not in refused:
                body = {theirs if key == name else key: value for key, value in body.items()}
        wanted = body.get("logprobs")
        if type(wanted) is int:
            least = max(wanted, self.least_logprobs)
            if api != "chat":
                body["logprobs"] = least
            elif not (self.integer_logprobs or _PAIR.intersection(refused)):
                body["logprobs"] = True
                body.setdefault("top_logprobs", least)
        if self.sends_usage and USAGE_FIELD not in refused:
            body.setdefault(USAGE_FIELD, {"include_usage": True})
        if continues_turn(payload.get("messages")) and self.continues and not self.continues.keys() & set(refused):
            body = {**self.continues, **body}
        return body

    def continues_by(self, body: Mapping[str, Any]) -> bool:
        """Whether a body that ends in an assistant's turn has that turn continued, as far as is known."""
        if self.continues is None:
            return body.items() >= _CONTINUE.items()  # the user's own
        return self.continues.keys() <= body.keys()

    def without_effect(self, name: str, api: str) -> bool:
        """Whether it ignores a parameter."""
        return _holds(self.ignores, name, api)

    def notes(self, names: Iterable[str], payload: Mapping[str, Any], api: str) -> list[str]:
        """Return what to tell the user before a request is sent that sets these parameters."""
        notes = []
        for name in names if api in _OPENAI else ():
            theirs = self.names.get(name)
            if name == "echo" and continues_turn(payload.get("messages")):
                continue  # it returns the turn's beginning
            if theirs is not None and theirs not in payload:
                notes.append(f"{self.name} has no `{name}`; sent as `{theirs}`")
            elif theirs is not None or self.without_effect(name, api):
                notes.append(f"this server ignores `{name}`")
            elif _holds(self.refuses, name, api):
                notes.append(f"this server refuses `{name}`")
        return notes


def _holds(names: Collection[str], name: str, api: str) -> bool:
    """Whether a parameter is one of these, which hold for an API alone if that stands before the name."""
    return name in names or f"{api}.{name}" in names


OTHER = Family("openai-like")
"""The family of a server that was not recognised."""

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "together",
            hosts=frozenset({"api.together.xyz", "api.together.ai"}),
            sends_usage=False, integer_logprobs=True, continues={},
        ),
        Family(
            "local",
            headers=(("Server", "together_nb"),),
            sends_usage=False, integer_logprobs=True, continues={}, ignores=frozenset({"echo", "reasoning_effort"}),
            models={
                NGRAM: Family(
                    "local", sends_usage=False, integer_logprobs=True, continues={}, refuses=frozenset({"schema"})
                )
            },
        ),
        Family(
            "llama.cpp",
            headers=(("Server", "llama.cpp"),), owners=frozenset({"llamacpp"}),
            names=MappingProxyType({"repetition_penalty": "repeat_penalty"}),
            usage_per_choice=True, least_logprobs=1, continues={}, ignores=frozenset({"echo"}),
        ),
        Family(
            "vllm",
            owners=frozenset({"vllm"}),
            continues=_CONTINUE, ignores=frozenset({"chat.echo"}),
        ),
        Family(
            "litellm",
            headers=(("X-Litellm-Version", ""),),
            # It passes these on to the server behind it. Of completions it drops the log-probabilities.
            continues=_CONTINUE, ignores=frozenset({"chat.echo", "completions.logprobs"}),
        ),
        Family(
            "llama-cpp-python",
            owners=frozenset({"me"}),
            names=MappingProxyType({"repetition_penalty": "repeat_penalty"}),
            sends_usage=False, ignores=frozenset({"echo", "n", "reasoning_effort"}), refuses=frozenset({"schema"}),
        ),
        Family(
            "transformers",
            refusals=("Unexpected fields in the request",),
            sends_usage=False,
            ignores=frozenset({"logprobs", "n", "presence_penalty", "reasoning_effort", "completions.echo", "schema"}),
            refuses=_NOT_OPENAI,
        ),
        Family(
            "openai",
            hosts=frozenset({"api.openai.com"}), refusals=("Unrecognized request argument",),
            refuses=_NOT_OPENAI,
        ),
        Family(
            "ollama",
            owners=frozenset({"library"}),
            ignores=frozenset({"top_k", "min_p", "repetition_penalty", "logit_bias", "n", "echo"}),
        ),
        OTHER,
    )
}  # fmt: skip
"""Every family by its name."""


@dataclass(frozen=True)
class Recognition:
    """A server's family, and how it was recognised.

    Parameters
    ----------
    family
        The family.
    reason
        What it was recognised by, in words.
    by_header
        Whether that was a header of its replies.
    """

    family: Family
    reason: str
    by_header: bool = False

    def __str__(self) -> str:
        return f"{self.family.name}, {self.reason}"


UNKNOWN = Recognition(OTHER, "not recognised yet")


def recognise_host(host: str) -> Recognition | None:
    """Return the family that a host is of, or None."""
    found = next((family for family in FAMILIES.values() if host in family.hosts), None)
    return None if found is None else Recognition(found, "by its address")


def recognise_reply(headers: Mapping[str, str], owners: Collection[str] = ()) -> Recognition | None:
    """Return the family that a reply is of, or None.

    Parameters
    ----------
    headers
        The reply's headers, names in title case.
    owners
        The values of ``owned_by``, if it is a list of models.
    """
    for family in FAMILIES.values():
        for name, start in family.headers:
            if name in headers and headers[name].lower().startswith(start):
                return Recognition(family, f"by the header `{name}`", by_header=True)
    for family in FAMILIES.values():
        if owners and set(owners) <= family.owners:
            return Recognition(family, "by its list of models")
    return None


def recognise_refusal(words: str) -> Recognition | None:
    """Return the family that an error message is of, or None."""
    found = (one for one in FAMILIES.values() if any(refusal in words for refusal in one.refusals))
    family = next(found, None)
    return None if family is None else Recognition(family, "by what it refused")


def family_differs(names: Iterable[str], messages: Sequence[Any] | None, api: str) -> bool:
    """Whether families differ in how they take a request with these parameters and messages."""
    if api not in _OPENAI:
        return False
    return continues_turn(messages) or any(_holds(_DIFFERING, name, api) for name in names)


_DIFFERING = frozenset({"logprobs"}).union(
    *({*family.names} | family.ignores | family.refuses for family in FAMILIES.values())
)


def continues_turn(messages: Sequence[Any] | None) -> bool:
    """Whether a chat ends in an assistant's turn, which is to be continued."""
    return messages is not None and len(messages) > 0 and messages[-1].get("role") == "assistant"


def family_name(value: str | None) -> str | None:
    """Return the family's name for a setting; None is automatic.

    Raises
    ------
    InputError
        There is no such family.
    """
    name = (value or AUTO).strip().lower()
    if name == AUTO:
        return None
    if name not in FAMILIES:
        known = (AUTO, *FAMILIES)
        hint = suggestion(name, known) or f"Use one of: {', '.join(known)}."
        raise InputError(f"There is no family of servers called {value!r}.", hint)
    return name
