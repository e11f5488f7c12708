"""The requested form of an answer: sent as ``response_format``, and checked in the answer.

A schema is a JSON Schema (a dict) or a pydantic model, which has its own; pydantic itself is never
imported. The pydantic model checks the answer, or else the package `jsonschema`, which is installed
wherever Jupyter is; this is the only module that imports it.
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
_LONGEST_NAME = 64  # as in OpenAI's API
_LONGEST_REASON = 200  # characters: two lines of the message
_UNCHECKED = "It is JSON; whether it fits the schema was not checked: the package jsonschema is not installed."


class Parsed(NamedTuple):
    """The parsed answer.

    Parameters
    ----------
    value
        The JSON value, or an instance of the pydantic model; None if none fits.
    reason
        Why there is none, in a sentence; "" if there is one.
    note
        A remark about the value; mostly "".
    """

    value: Any = None
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Schema:
    """The requested form of an answer.

    Parameters
    ----------
    name
        Its name in the request.
    definition
        JSON Schema; None asks for any JSON object.
    model
        The pydantic model it was made from, or None.
    """

    name: str = ""
    definition: dict[str, Any] | None = None
    model: Any = None

    @property
    def response_format(self) -> dict[str, Any]:
        """The value sent (togethercomputer/openapi, ``response_format``; the same for OpenAI)."""
        if self.definition is None:
            return {"type": "json_object"}
        name = _NOT_IN_A_NAME.sub("_", self.name)[:_LONGEST_NAME] or "answer"
        return {"type": "json_schema", "json_schema": {"name": name, "schema": self.definition}}

    def parse(self, text: str) -> Parsed:
        """Parse `text`: JSON that fits, alone or in one fenced block."""
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
        """Return a JSON-serializable dict without the pydantic model."""
        return {"name": self.name, "definition": self.definition}

    def _instance(self, value: Any) -> Parsed:
        try:
            return Parsed(self.model.model_validate(value))
        except ValueError as error:  # pydantic's ValidationError is one
            return Parsed(reason=f"It does not fit {self.model.__name__}: {_told_by_pydantic(error)}.")

    @cached_property
    def _validator(self) -> Any:
        """The validator, or None if jsonschema is missing.

        Raises
        ------
        InputError
            The definition is not a JSON Schema.
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
    """Return `value` as a `Schema`.

    Parameters
    ----------
    value
        A JSON Schema (a dict), a pydantic model (a class with ``model_json_schema``), a `Schema`, or
        ``"json"`` for any JSON object.
    name
        Its name; a pydantic model has its own.

    Raises
    ------
    InputError
        It is none of these, or not a valid JSON Schema.
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
    """Check ``uniqueItems``; jsonschema's own check compares all pairs of items."""
    if not wanted or not validator.is_type(value, "array"):
        return
    from jsonschema import ValidationError

    found = {json.dumps(json.loads(json.dumps(one), parse_float=_number), sort_keys=True) for one in value}
    if len(found) < len(value):
        yield ValidationError("it has items that are not unique")


def _number(digits: str) -> float:
    number = float(digits)  # 1 and 1.0 are equal
    return int(number) if number.is_integer() else number


def _worst(validator: Any, value: Any) -> str | None:
    """The worst error in `value`, or None."""
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
    """The first error of pydantic, in a line."""
    errors = getattr(error, "errors", None)
    rows = errors() if callable(errors) else []
    if not rows:
        return shorten(str(error), _LONGEST_REASON)
    more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{_path_in_words(rows[0].get('loc', ()))}{shorten(str(rows[0].get('msg', error)), _LONGEST_REASON)}{more}"
