"""The form that an answer is asked to have: sent as ``response_format``, and looked for in what came.

A schema is a JSON Schema (a dict) or a pydantic model, which knows its own; pydantic itself is never
imported. The answer is checked by the package `jsonschema` where there is one, which is wherever
Jupyter is, and by the pydantic model; this is the only module that imports it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from together_nb.base.fences import one_block
from together_nb.base.wording import shorten
from together_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST_NAME = 64  # as OpenAI's API has it
_LONGEST_REASON = 200  # characters: two lines of the message
_UNCHECKED = "It is JSON; whether it fits the schema was not checked: the package jsonschema is not installed."


class Parsed(NamedTuple):
    """What an answer came to.

    Parameters
    ----------
    value
        The JSON value, or an instance of the pydantic model; None where there is none that fits.
    reason
        Why there is none, in a sentence; "" where there is one.
    note
        What is to be said though it came to something; mostly "".
    """

    value: Any = None
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Schema:
    """The form that an answer is asked to have.

    Parameters
    ----------
    name
        What it is called in the request.
    definition
        JSON Schema; None asks for any JSON object.
    model
        The pydantic model that it was made from, or None.
    """

    name: str = ""
    definition: dict[str, Any] | None = None
    model: Any = None

    @property
    def response_format(self) -> dict[str, Any]:
        """What is sent (togethercomputer/openapi, ``response_format``; OpenAI has the same)."""
        if self.definition is None:
            return {"type": "json_object"}
        name = _NOT_IN_A_NAME.sub("_", self.name)[:_LONGEST_NAME] or "answer"
        return {"type": "json_schema", "json_schema": {"name": name, "schema": self.definition}}

    def parse(self, text: str) -> Parsed:
        """What `text` comes to: JSON, alone or in one fenced block, that fits."""
        _, code = one_block(text) or ("", text)
        try:
            value = json.loads(code)
        except RecursionError:
            return Parsed(reason="It is nested too deep to be read.")
        except ValueError as error:
            return Parsed(reason=f"It is not valid JSON: {error}.")
        if self.model is not None:
            return self._instance(value)
        if self.definition is None:
            return Parsed(value)
        validator = self._validator
        if validator is None:
            return Parsed(value, note=_UNCHECKED)
        misfit = _worst(validator, value)
        return Parsed(value) if misfit is None else Parsed(reason=f"It does not fit the schema: {misfit}.")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form; the pydantic model is not in it."""
        return {"name": self.name, "definition": self.definition}

    def _instance(self, value: Any) -> Parsed:
        try:
            return Parsed(self.model.model_validate(value))
        except ValueError as error:  # pydantic's ValidationError is one
            return Parsed(reason=f"It does not fit {self.model.__name__}: {_told_by_pydantic(error)}.")

    @cached_property
    def _validator(self) -> Any:
        """What checks a value, or None where nothing can.

        Raises
        ------
        InputError
            The definition is no JSON Schema.
        """
        try:
            import jsonschema
        except ImportError:
            return None
        kind = jsonschema.validators.validator_for(self.definition, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(self.definition)
        except jsonschema.SchemaError as error:
            raise InputError(
                f"{self.name or 'The schema'} is no JSON Schema: {_path_in_words(error.absolute_path)}{error.message}.",
                'One looks like {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}.',
            ) from None
        return jsonschema.validators.extend(kind, {"uniqueItems": _unique})(self.definition)

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "definition": self.definition, "model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


ANY_JSON = Schema()
"""Any JSON object."""


def schema_of(value: Any, name: str = "") -> Schema:
    """The schema that `value` is.

    Parameters
    ----------
    value
        A JSON Schema (a dict), a pydantic model (a class with ``model_json_schema``), a `Schema`, or
        ``"json"`` for any JSON object.
    name
        What it is called; a pydantic model has its own name.

    Raises
    ------
    InputError
        It is none of these, or no valid JSON Schema.
    """
    if isinstance(value, Schema):
        return value
    if value == "json":
        return ANY_JSON
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        return Schema(value.__name__, value.model_json_schema(), value)
    if not isinstance(value, dict):
        called = f"{name} is" if name else "A schema was given that is"
        raise InputError(
            f"{called} no schema, but of type {type(value).__name__}.",
            "Give a JSON Schema (a dict) or a pydantic model.",
        )
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"The schema cannot be written as JSON: {error}.", "Use texts, numbers, lists and dicts."
        ) from None
    schema = Schema(name or str(value.get("title") or ""), value)
    _ = schema._validator  # noqa: SLF001  (an invalid one is refused before it is sent)
    return schema


def _unique(validator: Any, wanted: Any, value: Any, _: Any) -> Iterator[Any]:
    """As jsonschema's check of ``uniqueItems``, which compares each item with each."""
    if not wanted or not validator.is_type(value, "array"):
        return
    from jsonschema import ValidationError

    found = {json.dumps(json.loads(json.dumps(one), parse_float=_number), sort_keys=True) for one in value}
    if len(found) < len(value):
        yield ValidationError("it has items that are not unique")


def _number(digits: str) -> float:
    number = float(digits)  # 1 and 1.0 are one item
    return int(number) if number.is_integer() else number


def _worst(validator: Any, value: Any) -> str | None:
    """What is most wrong with `value`, or None."""
    from jsonschema.exceptions import best_match

    try:
        error = best_match(validator.iter_errors(value))
    except Exception as failure:  # noqa: BLE001  (a reference that leads nowhere raises what the package pleases)
        return f"the schema could not be followed ({failure})"
    return None if error is None else f"{_path_in_words(error.absolute_path)}{shorten(error.message, _LONGEST_REASON)}"


def _path_in_words(path: Any) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    return f"at {steps}: " if steps else ""


def _told_by_pydantic(error: ValueError) -> str:
    """The first of what pydantic found, in a line."""
    errors = getattr(error, "errors", None)
    rows = errors() if callable(errors) else []
    if not rows:
        return shorten(str(error), _LONGEST_REASON)
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{_path_in_words(rows[0].get('loc', ()))}{shorten(str(rows[0].get('msg', error)), _LONGEST_REASON)}{more}"
