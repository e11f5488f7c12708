"""How the public functions are typed. Type checkers read this file and find what each ignored line says; nobody runs it."""

from __future__ import annotations

from typing import assert_type

import together_nb as t

# What is right

answer = assert_type(t.complete("Once", model="a/b", max_tokens=5, temperature=0, stop=["."], seed=None), t.Completion)
assert_type(t.complete("Once", stop=".", logit_bias={"5": 1.5}, extra_body={"top_a": 0.2}, chat="lesson").text, str)
assert_type(t.compare("Once", temperature=[0, 0.5, None], model=["a", "b"], stop=[["."], ["!"]]), list[t.Completion])
assert_type(t.map_prompts(["a", "b"], template="{item}", top_p=0.9), t.BatchResults)
assert_type(t.continue_from(answer, max_tokens=10), t.Completion)
assert_type(t.models("llama")[0].price, tuple[float, float] | None)
assert_type(t.settings.sampling, t.SamplingParams)
assert_type(t.conversations["lesson"].turns, list[t.Turn])
t.settings.temperature = 0.7
t.settings.stop = None
t.settings.model = "a/b"
t.settings.budget = 5
t.settings.api_key = "key"
t.settings.default_headers = {"api-key": "key"}
try:
    t.complete("Once")
except t.TogetherError as error:
    assert_type(error.completion.text if error.completion else "", str)
t.Panel(prompt="Once", model="a/b", temperature=0.7)
with t.stream("Once", n=2, echo=True) as chunks:
    for chunk in chunks:
        assert_type(chunk, t.Chunk)

# What is wrong

t.complete("Once", temprature=1)  # type: ignore[call-arg]
t.complete("Once", temperature="hot")  # type: ignore[arg-type]
t.complete("Once", temperature=[0, 1])  # type: ignore[arg-type]
t.stream("Once", max_token=5)  # type: ignore[call-arg]
t.compare("Once", temperature=["hot"])  # type: ignore[list-item]
t.compare("Once", tempratures=[0])  # type: ignore[call-arg]
t.map_prompts(["a"], max_tokens="5")  # type: ignore[arg-type]
t.continue_from(answer, max_tokns=5)  # type: ignore[call-arg]
t.Panel(temprature=1)  # type: ignore[call-arg]
t.SamplingParams(temprature=1)  # type: ignore[call-arg]
t.complete("Once", extra_body=[1])  # type: ignore[arg-type]
t.complete("Once", default_headers={"api-key": 1})  # type: ignore[dict-item]
t.settings.default_headers = "api-key"  # type: ignore[assignment]
t.settings.temperature = "hot"  # type: ignore[assignment]
t.settings.temprature = 1  # type: ignore[attr-defined]
t.complet("Once")  # type: ignore[attr-defined]
