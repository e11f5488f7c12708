"""The models that a server offers, from ``GET /v1/models``."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from together_nb.base.escape import without_surrogates
from together_nb.base.suggest import suggestion

_CONTINUES_TEXT = frozenset({"language", "code"})
# Together and OpenRouter; vLLM; llama.cpp, within `meta`; LM Studio's loaded one and Mistral; Groq; LiteLLM.
_CONTEXT_NAMES = (
    "context_length", "max_model_len", "n_ctx", "loaded_context_length", "max_context_length", "context_window",
    "max_input_tokens",
)  # fmt: skip
_TYPES_WITH_TEXT = _CONTINUES_TEXT | {"chat", ""}


@dataclass(frozen=True)
class Model:
    """A model that a server offers, from ``GET /v1/models``.

    Parameters
    ----------
    id : str
        The id for requests.
    type : str
        ``chat``, ``language``, ``code``, ``image``, …; "" if not given.
    display_name : str
        Its name for people; "" if not given.
    organization : str
        Who made it; "" if not given.
    context_length : int or None
        Tokens of prompt and answer together; None if not given.
    price : tuple of (float, float) or None
        US dollars per million tokens (in, out); None if not priced.

    Attributes
    ----------
    api : str
        The dialect for ``auto``: ``completions`` if its type is ``language`` or ``code``, else ``chat``.
    writes_text : bool
        Whether it answers in text, not in images, sound or vectors.

    Examples
    --------
    >>> from together_nb import models
    >>> model = models()[0]
    >>> model.id, model.type, model.api, model.writes_text
    ('local/ngram', 'language', 'completions', True)
    """

    id: str
    type: str = ""
    display_name: str = ""
    organization: str = ""
    context_length: int | None = None
    price: tuple[float, float] | None = None

    @property
    def api(self) -> str:
        """The dialect for ``auto``: ``completions`` if its type is ``language`` or ``code``, else ``chat``."""
        return "completions" if self.type in _CONTINUES_TEXT else "chat"

    @property
    def writes_text(self) -> bool:
        """Whether it answers in text, not in images, sound or vectors."""
        return self.type in _TYPES_WITH_TEXT


@dataclass(frozen=True)
class ModelList:
    """All rows of one server's list.

    Parameters
    ----------
    models
        The rows, in the server's order.
    owners
        The values of ``owned_by``, which tell a server's family.
    """

    models: tuple[Model, ...] = ()
    owners: frozenset[str] = frozenset()

    @classmethod
    def from_json(cls, body: Any) -> ModelList:
        """Rows from the reply: a bare array (Together) or ``{"data": […]}`` (OpenAI's form)."""
        rows = body.get("data") if isinstance(body, dict) else body
        rows = rows if isinstance(rows, list) else []
        rows = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
        owners = frozenset(row["owned_by"] for row in rows if isinstance(row.get("owned_by"), str))
        return cls(tuple(map(_model, rows)), owners)

    def get(self, model: str) -> Model | None:
        """Return the row of that id, or None."""
        return next((row for row in self.models if row.id == model), None)

    def callable(self) -> list[Model]:
        """Return rows that write text and, if the list has any prices, have one.

        A price of 0 mostly means that the model needs a dedicated endpoint.
        """
        text = [row for row in self.models if row.writes_text]
        return [row for row in text if row.price] or text

    def nearest(self, model: str) -> str:
        """Return a sentence with the nearest callable ids, or ""."""
        return suggestion(model, [row.id for row in self.callable() if row.id != model])


def _model(row: dict[str, Any]) -> Model:
    return Model(
        without_surrogates(row["id"]),
        _text(row.get("type")),
        _text(row.get("display_name")),
        _text(row.get("organization")),
        _context_length(row),
        _price(row.get("pricing")),
    )


def _context_length(row: dict[str, Any]) -> int | None:
    """Return the tokens of prompt and answer together, from where servers put them."""
    for place in (row, row.get("meta"), row.get("top_provider"), row.get("model_info")):
        for name in _CONTEXT_NAMES if isinstance(place, dict) else ():
            tokens = place.get(name)  # type: ignore[union-attr]
            if isinstance(tokens, (int, float)) and not isinstance(tokens, bool) and 0 < tokens < inf:
                return int(tokens)
    return None


def _text(value: Any) -> str:
    return without_surrogates(value) if isinstance(value, str) else ""


def _price(pricing: Any) -> tuple[float, float] | None:
    try:
        # The list carries float noise (0.13999999999999999).
        price = (round(float(pricing.get("input") or 0), 6), round(float(pricing.get("output") or 0), 6))
    except (AttributeError, OverflowError, TypeError, ValueError):  # one odd row must not break the list
        return None
    return price if any(price) and all(map(isfinite, price)) else None
