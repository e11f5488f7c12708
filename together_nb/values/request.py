"""A request as a value: `CompletionRequest`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from together_nb.errors import InputError
from together_nb.values.from_json import each_in, plain, reader
from together_nb.values.parameters import AUTO, SamplingParams
from together_nb.values.schema import Schema


@dataclass(frozen=True)
class CompletionRequest:
    """One complete request: what a dialect needs to write its payload.

    Parameters
    ----------
    prompt : str
        The text to continue, or the user's turn of a chat.
    model : str
        Model id; "" until one is chosen.
    api : str
        Name of the dialect (such as ``chat``), or ``auto`` until one is chosen.
    system : str or None
        System prompt of a chat.
    messages : tuple of dict or None
        A whole conversation (``{"role": …, "content": …}``), oldest turn first, in place of `prompt`.
    sampling : SamplingParams
        The sampling parameters that are set.
    schema : Schema or None
        The requested form of the answer.
    extra_body : dict or None
        Further fields to send, by name.

    Attributes
    ----------
    set_names : tuple of str
        Names of the sampling parameters and further fields that are set, and ``schema`` if there is one.

    Examples
    --------
    >>> from together_nb import complete
    >>> complete("Alan Turing was", max_tokens=5).request.to_dict()
    {'api': 'completions', 'model': 'local/ngram', 'prompt': 'Alan Turing was', 'sampling': {'max_tokens': 5}}
    """

    prompt: str = ""
    model: str = ""
    api: str = AUTO
    system: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    sampling: SamplingParams = field(default_factory=SamplingParams)
    schema: Schema | None = None
    extra_body: dict[str, Any] | None = None

    @property
    def set_names(self) -> tuple[str, ...]:
        """Names of the sampling parameters and further fields that are set, and ``schema`` if there is one."""
        schema = () if self.schema is None else ("schema",)
        return (*self.sampling.to_dict(), *(self.extra_body or ()), *schema)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict without what is unset.

        Returns
        -------
        dict
            What is set, by name.
        """
        out: dict[str, Any] = {"api": self.api, "model": self.model}
        if self.messages is None:
            out["prompt"] = self.prompt
        else:
            out["messages"] = [dict(message) for message in self.messages]
        if self.system is not None:
            out["system"] = self.system
        if self.schema is not None:
            out["schema"] = self.schema.to_dict()
        if self.extra_body is not None:
            out["extra_body"] = deepcopy(self.extra_body)
        return out | {"sampling": self.sampling.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CompletionRequest:
        """Return the request that `to_dict` wrote.

        Parameters
        ----------
        values : dict
            The result of `to_dict`.

        Returns
        -------
        CompletionRequest
            An equal one, except for the class of a pydantic model.

        Raises
        ------
        InputError
            A sampling parameter is unknown, or has an invalid value.
        ValueError
            It is from a file that holds each message once, and lacks some of its own.
        """
        if "after" in values:
            raise ValueError("These are not all messages: the rest is with the answer before.")
        messages, schema = values.get("messages"), values.get("schema")
        return cls(
            prompt=values.get("prompt", ""),
            model=values["model"],
            api=values["api"],
            system=values.get("system"),
            messages=None if messages is None else tuple(messages),
            sampling=SamplingParams.from_dict(values["sampling"]),
            schema=None if schema is None else Schema(**schema),
            extra_body=values.get("extra_body"),
        )


def checked_extra(extra: Any) -> dict[str, Any]:
    """Return the further fields of a request, as JSON values.

    Raises
    ------
    InputError
        It is not a dict with str keys, or JSON cannot hold it.
    """
    looks = 'It looks like {"top_a": 0.2}.'
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        raise InputError(f"extra_body must be a dict with names as keys, not {type(extra).__name__}.", looks)
    try:
        return dict(plain(json.loads(json.dumps(dict(extra), allow_nan=False))))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"extra_body cannot be written as JSON: {error}.", looks) from None


def read_messages(values: Any) -> Any:
    """Read the messages of a request from JSON; those from `shared_messages.restore_messages` are read already."""
    been_read = isinstance(values, tuple) and all(isinstance(one, dict) for one in values)
    return values if been_read else each_in(reader(dict[str, Any]), tuple)(values)
