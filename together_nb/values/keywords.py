"""The keywords of the public functions that are sampling parameters, for type checkers.

``python -m tests.generate`` writes this module from `SamplingParams`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Sampling(TypedDict, total=False):
    """Sampling parameters; None unsets one."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    stop: str | Sequence[str] | None
    seed: int | None
    logprobs: int | None
    n: int | None
    echo: bool | None
    logit_bias: Mapping[str, float] | None
    reasoning_effort: str | None


class SamplingLists(TypedDict, total=False):
    """Sampling parameters, each with one value or a list of values to compare."""

    max_tokens: int | Sequence[int | None] | None
    temperature: float | Sequence[float | None] | None
    top_p: float | Sequence[float | None] | None
    top_k: int | Sequence[int | None] | None
    min_p: float | Sequence[float | None] | None
    repetition_penalty: float | Sequence[float | None] | None
    presence_penalty: float | Sequence[float | None] | None
    frequency_penalty: float | Sequence[float | None] | None
    stop: str | Sequence[str] | Sequence[Sequence[str] | None] | None
    seed: int | Sequence[int | None] | None
    logprobs: int | Sequence[int | None] | None
    n: int | Sequence[int | None] | None
    echo: bool | Sequence[bool | None] | None
    logit_bias: Mapping[str, float] | None
    reasoning_effort: str | Sequence[str | None] | None


class PanelDefaults(Sampling, total=False):
    """What a panel's controls are set to at first."""

    model: str | None
