"""Errors of other servers, from public reports: what each is taken for, what of it is told, and whether it is waited for."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from urllib3.response import BaseHTTPResponse

import together_nb
from tests.reports import DONE, Report, delta, outcomes
from tests.servers import ScriptedServer, replies
from together_nb.errors import APIConnectionError, APIStatusError, ContextLengthError, NotFoundError, RateLimitError
from together_nb.wire import retry
from together_nb.wire.error_words import is_about_length, is_about_loading, is_about_unknown_model
from together_nb.wire.retry import Retries, listen_to_waits

if TYPE_CHECKING:
    from tests.servers import Exchange

pytestmark = pytest.mark.timeout(60)

GITHUB = "https://github.com"
JSON = {"content_type": "application/json"}


def said(name, source, status, body, want, **more):
    """A report of an error status; `body` is written as JSON unless it is text."""
    part = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return Report(name, source and f"{GITHUB}/{source}", (part,), status, **{"headers": JSON, **more}, want=want)


def openai(message, code=None):
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def told(report, kind, requests=1):
    """The errors that the ways to ask raise, each after one request, or so many, of exactly this class."""
    for outcome in outcomes(report):
        assert type(outcome.error) is kind, outcome.error
        assert outcome.requests == requests
        yield outcome.error


# Too long


LLAMA = {"code": 400, "message": "request (4390 tokens) exceeds it", "type": "exceed_context_size_error", "n_ctx": 4096}
MISTRAL = "Prompt contains 40000 tokens, too large for model with 32768 maximum context length"
OPENROUTER = (
    "This endpoint's maximum context length is 65536 tokens. However, you requested about 92208 tokens (60833 of text "
    "input, 10042 of image input, 21333 in the output)."
)
NESTED = json.dumps(openai("The input token count (3475108) exceeds the maximum number of tokens allowed (1048576)."))
TGI = "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3474 `inputs` tokens"
LM_STUDIO = "Trying to keep the first 6547 tokens when context the overflows. The model is loaded with 4096 tokens"
SGLANG = "The input (61709 tokens) is longer than the model's context length (40960 tokens)."
COHERE = "too many tokens: total number of tokens (prompt and prediction) cannot exceed 2048 - received 6354."
ANTHROPIC = {
    "type": "error",
    "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8 maximum"},
}

TOO_LONG = [
    said("llama.cpp's type", "ggml-org/llama.cpp/issues/19774", 400, {"error": LLAMA}, "(4390 tokens)"),
    said("llama.cpp, 500", "ggml-org/llama.cpp/issues/19774", 500, openai("Context size has been exceeded."), "size"),
    said("a code alone", "OpenHands/OpenHands/issues/1902", 400, openai("No.", "context_length_exceeded"), "No."),
    said("DeepSeek", "evalstate/fast-agent/issues/621", 400, openai("This model's maximum context length is 8"), "8"),
    said("TGI", "huggingface/llm-vscode/issues/94", 422, {"error": TGI, "error_type": "validation"}, "2048"),
    said("Anthropic", "sojohnnysaid/project-guide/issues/2", 400, ANTHROPIC, "9 > 8 maximum"),
    said("Gemini, JSON in JSON", "google-gemini/gemini-cli/issues/4231", 400, openai(NESTED), " The input token count"),
    said("Mistral", "BerriAI/litellm/pull/21647", 400, {"object": "error", "message": MISTRAL}, "40000"),
    said("OpenRouter", "musistudio/claude-code-router/issues/252", 400, openai(OPENROUTER), "92208"),
    said("Cohere", "cohere-ai/sandbox-topically/issues/4", 400, {"message": COHERE}, "6354"),
    said("LM Studio", "lmstudio-ai/lmstudio-bug-tracker/issues/546", 400, {"error": LM_STUDIO}, "6547"),
    said("SGLang", "QwenLM/Qwen3/issues/1321", 400, {"object": "error", "message": SGLANG, "code": 400}, "61709"),
    said("a 502 of a gateway", "", 502, openai("Upstream: prompt too long; exceeded max context length by 9"), "by 9"),
    said("a web page with 413", "", 413, "<html><title>413 Request Entity Too Large</title></html>", "Entity"),
    said("framed, 400", "", 400, f"event: error\ndata: {json.dumps({'error': LLAMA})}\n\n", " request (4390"),
]


@pytest.mark.parametrize("report", TOO_LONG, ids=str)
def test_what_does_not_fit_the_context_is_said_so_whatever_the_status_and_not_sent_again(report):
    together_nb.settings.max_retries = 2
    for error in told(report, ContextLengthError):
        assert report.want in error.message
        assert "{" not in error.message
        assert error.hint.startswith("The prompt is about 1 tokens")
        assert "Shorten the prompt" in error.hint


# The server's words, and the reports that they are from.
LENGTHS = {
    "Please reduce the length of the messages or completion. Current length is 42328": "cline/cline/issues/5140",
    "Input is too long for requested model.": "anthropics/claude-code/issues/8637",
    "Cannot truncate prompt with n_keep (15028) >= n_ctx (7424)": "anomalyco/opencode/issues/11141",
    "The number of tokens to keep from the initial prompt is greater than the context length": "",
    "InternalError.Algo.InvalidParameter: Range of input length should be [1, 204800]": "QwenLM/qwen-code/issues/98",
    "Your request exceeded model token limit: 262144 (requested: 269030)": "MoonshotAI/kimi-cli/issues/2011",
    "model max length exceeded, max length:8192": "MoonshotAI/MoonshotAI-Cookbook/issues/18",
    "This model's maximum prompt length is 500000 but it contains 907154": "chenyme/grok2api/issues/693",
    "Input length 131393 exceeds the maximum allowed input length of 131040": "earendil-works/pi/issues/4943",
    "input length and max_tokens exceed context limit: 170636 + 34048 > 200000": "openclaw/openclaw/pull/20539",
    "Prompt too long: 5152 tokens exceeds max_seq_len 2048": "0xBakeer/inference-atlas/pull/186",
    "Requested tokens exceed context window of 512": "abetlen/llama-cpp-python/issues/120",
    "The maximum tokens you requested exceeds the model limit of 32768": "charmbracelet/crush/issues/946",
    "The total length of all messages is too long.": "BerriAI/litellm/pull/21647",
    "Requested token count exceeds the model's maximum context length of 32768 tokens.": "",
    "`inputs` must have less than 1024 tokens. Given: 1513": "",
    "Your input exceeds the context window of this model.": "",
    "prompt token count of 145000 exceeds the limit of 128000": "",
    "Prompt has 300,000 tokens, but the configured context size is 131,072 tokens": "",
    "model_context_window_exceeded": "",
    "tokens_limit_reached": "",
    "Request body too large for gpt-4o model. Max size: 8000 tokens.": "",
    "Prompt 超长": "",
    "string_above_max_length": "",
    "string_above_max_length Invalid 'messages[1].content': string too long. Expected a maximum length of 9": "",
    "Invalid 'input': string too long. Expected a string with maximum length 1048576": "",
    "Malformed input request: expected maxLength: 2000, actual: 3000, please reformat your input": "",
    "Malformed input request: #/texts/0: expected maxLength: 2048, actual: 2193": "",
}
OF_OTHER_THINGS = {
    "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 14368": "",
    "ThrottlingException: Too many tokens, please wait before trying again.": "jin-bo/agentao/pull/88",
    "You requested up to 65536 tokens, but can only afford 1000: more credits": "can1357/oh-my-pi/issues/9569",
    "Requested sample logprobs of 21, max allowed: 20": "foundation-model-stack/fms-guardrails-orchestrator/pull/436",
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens": "",
    "max_tokens must be at least 1, got 0.": "",
    "Input should be greater than or equal to 0": "",
    "context deadline exceeded": "",
    "The request took too long": "",
    "The input image is too large": "",
    "Your API token has expired": "",
    "Requested prompt logprobs of 21, which is greater than max allowed: 20": "",
    "max prompt logprobs is 20": "",
    "Stop sequence is too long: at most 64 characters.": "",
    "User input exceeds 64 characters for field 'user'": "",
    "Prompt processing exceeded 600 s": "",
    "Prompt processing exceeded the time limit of 600 s": "",
    "Input exceeds the maximum number of items": "",
    "messages[0].name is too long": "",
    "string_above_max_length Invalid 'user': string too long. Expected a string with maximum length 64": "",
    "Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64": "",
    "Malformed input request: #/stopSequences/0: expected maxLength: 100, actual: 120": "",
}


@pytest.mark.parametrize("words", LENGTHS)
def test_words_about_length_are_known_as_such(words):
    assert is_about_length(words)


@pytest.mark.parametrize("words", OF_OTHER_THINGS)
def test_words_that_merely_speak_of_tokens_are_not_about_length(words):
    assert not is_about_length(words)


TPM = openai("Request too large for model `x` on tokens per minute (TPM): Limit 6, Requested 9", "rate_limit_exceeded")


@pytest.mark.parametrize(
    "report",
    [
        said("Groq", "continuedev/continue/issues/10218", 413, TPM, "Requested 9"),
        said("OpenAI", "vanna-ai/vanna-flask/issues/11", 429, TPM, "Requested 9"),
    ],
    ids=str,
)
def test_a_request_larger_than_a_minutes_allowance_is_a_matter_of_rate_that_no_wait_mends(report):
    together_nb.settings.max_retries = 2
    for error in told(report, RateLimitError):
        assert report.want in error.message
        assert "lower max_tokens" in error.hint


@pytest.mark.parametrize(
    "report",
    [
        said("a gateway", "", 403, {"message": "Your token has no permission."}, ""),
        said("an invalid value", "", 400, openai("max_tokens must be at least 1, got 0."), ""),
        said("the prompt repeated", "", 422, {"detail": [{"loc": ["body", "n"], "msg": "bad", "input": TGI}]}, ""),
    ],
    ids=str,
)
def test_other_refusals_are_not_about_length(report):
    for error in told(report, APIStatusError):
        assert "about" not in error.hint


# An unknown model, and an unknown address


LISTED = (200, {"data": [{"id": "qwen3-8b"}, {"id": "deepseek-chat"}, {"id": "deepseek-chat-v3"}]})
UNKNOWN_MODEL = [
    said("OpenRouter", "maxnowack/anthropic-proxy/issues/4", 400, openai("qwen3-8 is not a valid model ID"), "valid"),
    said("DeepSeek", "langbot-app/LangBot/issues/1643", 400, openai("Model Not Exist"), "Not Exist"),
    said("OpenAI", "skorokithakis/sysaidmin/issues/9", 400, openai("No.", "model_not_found"), "No."),
    said("LocalAI", "mudler/LocalAI/issues/68", 500, openai("llama: model does not exist"), "not exist"),
    said(
        "LiteLLM", "BerriAI/litellm/issues/8821", 400,
        {"error": {"message": {"error": "/chat/completions: Invalid model name passed in model=qwen3-8"}}}, "passed in",
    ),
    said("SiliconFlow", "666ghj/BettaFish/issues/313", 400, {"code": 20012, "message": "Model does not exist."}, "exist"),
    said("a 403 by code", "", 403, openai("Project `p` cannot use it", "model_not_found"), "Project"),
]  # fmt: skip


@pytest.mark.parametrize("report", UNKNOWN_MODEL, ids=str)
def test_an_unknown_model_gets_near_names_whatever_the_status_and_is_not_asked_again(report):
    together_nb.settings.max_retries = 2
    for error in told(replace(report, model="qwen3-8", listed=LISTED), APIStatusError):
        assert report.want in error.message
        assert error.hint == "Did you mean qwen3-8b?"


@pytest.mark.parametrize(
    "words",
    [
        "The requested model 'x' does not exist.", "model 'x' not found, try pulling it first", "No such model: x",
        "unknown model x", "The model `x` has been decommissioned and is no longer supported.", "模型不存在",
        "Model not supported", "could not find real modelID for x", "models/x is not found for API version v1main",
        "There is no 'model_name' with this string", "The supported API model names are a or b, but you passed x.",
        "Model x is not available on this server.", "There is no x.", "No endpoints found for x.",
        "Unable to access non-serverless model x.",
    ],
)  # fmt: skip
def test_words_about_an_unknown_model_are_known_as_such(words):
    assert is_about_unknown_model(words, "x")


@pytest.mark.parametrize(
    "words",
    [
        "model x does not support temperature", "'tools' is not supported with this model", "invalid model output",
        "Unsupported value: 'temperature' does not support 0.2 with this model.", "response_format is bad for model x",
        "The model is overloaded. Please try again later.", "Model 'x' supports at most 1 image per prompt.",
        "The model x is not available right now, please retry in a few seconds.", "Model x is not available at the moment",
        "model not available, please retry later", "Model x is not supported in the /v1/completions endpoint.",
        "This is a chat model and not supported in the v1/completions endpoint.", "Model x is not supported with tools", "Model x is currently loading", "x does not support tools",
    ],
)  # fmt: skip
def test_refusals_that_merely_name_the_model_are_not_about_an_unknown_one(words):
    assert not is_about_unknown_model(words, "x")


NO_ADDRESS = [
    said("OpenAI", "harry0703/MoneyPrinterTurbo/issues/57", 404, openai("Invalid URL (POST /v1/chat)"), "Invalid URL"),
    said("FastAPI", "", 404, {"detail": "Not Found"}, "Not Found"),
    said("a web page", "", 404, "<!DOCTYPE html><title>Not here</title><pre>Cannot POST /v1</pre>", "“Not here”"),
    said("plain text", "", 404, "404 page not found", "). 404 page not found"),
    said("Kong", "", 404, {"message": "no Route matched with those values"}, "no Route"),
    said("nothing", "", 404, "", "(HTTP 404 at "),
    said("a code", "", 404, {"error": {"code": "404", "message": "Resource not found"}}, "Resource"),
    said("Apache", "", 404, openai("The requested URL /v1/x was not found on this server."), "URL"),
    said("LM Studio", "", 404, {"error": "Unexpected endpoint or method. (POST /v1/x)"}, "Unexpected"),
    said("a page within words", "", 404, "Upstream: <html><title>404 Not Found</title></html>", "Upstream: “404 Not"),
]


@pytest.mark.parametrize("report", NO_ADDRESS, ids=str)
def test_a_404_suggests_no_other_model_for_one_that_is_listed(report):
    for error in told(replace(report, model="deepseek-chat", listed=LISTED), NotFoundError, requests=2):
        assert report.want in error.message
        assert "Did you mean" not in error.hint
        assert "check the base URL" in error.hint


@pytest.mark.parametrize("status", [400, 404])
def test_a_listed_model_that_the_server_denies_has_no_near_names(status):
    report = said("", "", status, openai("The model `deepseek-chat` does not exist"), "")
    for error in told(
        replace(report, model="deepseek-chat", listed=LISTED), NotFoundError if status == 404 else APIStatusError
    ):
        assert error.hint == "Its list of models has deepseek-chat; your account may not be allowed to use it."


PASSING = [
    said("a model not available now", "", 503, openai("The model m is not available right now, please retry."), "now"),
    said("by its code", "", 503, {"reason": "MODEL_NOT_AVAILABLE", "message": "model not available"}, "not available"),
    said("without words of time", "", 503, openai("No such model: m"), "m"),
    said("a rate", "", 429, openai("model m is not available"), "m"),
    said("a timeout", "", 504, openai("model m is not available"), "m"),
    said("a 500 of the kind", "", 500, openai("model m is not available"), "m"),
    said("a prompt that takes long", "", 500, openai("Prompt processing exceeded 600 s"), "600 s"),
]


@pytest.mark.parametrize("report", PASSING, ids=str)
def test_what_passes_is_asked_again_whatever_it_says_of_the_model(report, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    together_nb.settings.max_retries = 2
    for outcome in outcomes(replace(report, listed=(200, {"data": [{"id": "m"}]}))):
        assert outcome.requests == 3
        assert report.want in outcome.error.message
        assert "un it again" in outcome.error.hint
        assert "account" not in outcome.error.hint


DID_YOU_MEAN = (
    "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?"
)
NO_CHAT = "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use v1/completions?"
RESPONSES = "This model is only supported in v1/responses and not in v1/chat/completions."
INSTEAD = "Model m is not supported in the /v1/completions endpoint. Use /v1/chat/completions instead."
AZURE = {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}
COMPLETIONS = {"options": {"api": "completions"}}
EXPLAINED = [
    said("a chat model", "", 404, openai(DID_YOU_MEAN), "Ask with `--api chat`.", **COMPLETIONS),
    said("a chat model, 400", "", 400, openai(INSTEAD), "Ask with `--api chat`.", **COMPLETIONS),
    said("no chat model", "", 404, openai(NO_CHAT), "Ask with `--api completions`."),
    said("what is asked already", "", 404, openai(DID_YOU_MEAN), ""),
    said("another API", "", 404, openai(RESPONSES), ""),
    said("OpenRouter's policy", "", 404, openai("No endpoints found matching your data policy (Free)."), ""),
    said("OpenRouter's tools", "", 404, openai("No endpoints found that support tool use."), ""),
    said("the model named", "", 404, openai("m: no endpoint of it takes tools."), ""),
    said("Azure", "", 404, AZURE, ""),
]


@pytest.mark.parametrize("report", EXPLAINED, ids=str)
def test_a_refusal_in_the_servers_own_words_blames_neither_the_address_nor_the_account(report):
    for outcome in outcomes(replace(report, listed=(200, {"data": [{"id": "m"}]}))):
        assert outcome.error.hint == report.want
        assert "address" not in outcome.error.message
        assert "did not accept the request" in outcome.error.message or "did not find" in outcome.error.message


# The words


FASTAPI = {"detail": [
    {"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "Input should be less than or equal to 2"},
    {"type": "missing", "loc": ["body", "messages", 0, "content"], "msg": "Field required", "input": {}},
]}  # fmt: skip
ROWS = "temperature: Input should be less than or equal to 2; messages.0.content: Field required"
PYTHON = (
    "[{'type': 'extra_forbidden', 'loc': ('body', 'opts'), 'msg': 'Extra inputs are not permitted', 'input': {}}, "
    "{'type': 'literal_error', 'loc': ('body', 'messages', 0, 'role'), 'msg': \"Input should be 'user'\"}]"
)


def provider(raw, name="Crucible"):
    metadata = {"raw": raw, "provider_name": name}
    return {"error": {"message": "Provider returned error", "code": 400, "metadata": metadata}, "user_id": "user_x"}


INNER = json.dumps({"error": {"message": "At most 1 image.", "code": "x"}})
BOTH = "Provider returned error (Crucible): At most 1 image."
LITELLM = f"litellm.BadRequestError: OpenAIException - {INNER}. Received Model Group=m"

WORDS = [
    said("FastAPI", "superduper-io/superduper/issues/376", 422, FASTAPI, ROWS),
    said("FastAPI in vLLM's error", "", 400, openai(json.dumps(FASTAPI)), ROWS),
    said(
        "rows as Python writes them", "vllm-project/vllm/pull/10463", 400, {"object": "error", "message": PYTHON},
        "opts: Extra inputs are not permitted; messages.0.role: Input should be 'user'",
    ),
    said("a detail that is text", "", 422, {"detail": "It is wrong."}, "It is wrong."),
    said("a detail that is an error", "", 422, {"detail": {"error": "It is wrong."}}, "It is wrong."),
    said("OpenRouter, JSON", "diegosouzapw/OmniRoute/issues/3044", 400, provider(INNER), BOTH),
    said("OpenRouter, text", "open-webui/computer/issues/293", 400, provider("At most 1 image."), BOTH),
    said("OpenRouter, an object", "smixs/iva-agent/pull/18", 400, provider(json.loads(INNER)), BOTH),
    said("OpenRouter, no provider", "", 400, provider("At most 1.", None), "Provider returned error: At most 1."),
    said("OpenRouter, flat", "NousResearch/hermes-agent/pull/94199", 400, provider(INNER)["error"], BOTH),
    said("JSON in a message", "maxnowack/anthropic-proxy/issues/4", 400, {"error": INNER}, "At most 1 image."),
    said(
        "JSON within a message", "entropy-research/Devon/issues/88", 400, openai(LITELLM),
        "litellm.BadRequestError: OpenAIException - At most 1 image.. Received Model Group=m",
    ),
    said("framed as an event", "openclaw/openclaw/pull/76444", 400, f"data: {INNER}\n\n", "At most 1 image."),
    said("framed and ended", "", 400, f"data: {INNER}\n\ndata: [DONE]\n\n", "At most 1 image."),
    said("an error event", "", 400, f": ping\n\nevent: error\ndata: {INNER}\n\n", "At most 1 image."),
    said("an error field", "", 400, f"error: {INNER}\n\n", "At most 1 image."),
    said("an event of text", "", 400, "event: error\ndata: It is wrong.\n\n", "It is wrong."),
    said("lines of JSON", "", 400, f'{{"status": "failed"}}\n{INNER}\n', "At most 1 image."),
    said("two errors in a row", "", 400, INNER + INNER, "At most 1 image."),
    said("a list", "google-gemini/gemini-cli/issues/6678", 400, f"[{INNER}\n]", "At most 1 image."),
    said("an unknown object", "", 400, {"problem": "It is wrong."}, '{"problem": "It is wrong."}'),
    said("control characters", "", 400, "\x1b[31mIt is wrong.", "\\x1b[31mIt is wrong."),
    said("no text at all", "", 400, b"\x00\x01\x02", ""),
]  # fmt: skip


@pytest.mark.parametrize("report", WORDS, ids=str)
def test_the_servers_words_are_found_wherever_they_stand(report):
    for error in told(report, APIStatusError):
        assert error.message.partition(f"(HTTP {report.status}).")[2].strip() == report.want


def test_only_the_places_of_rows_are_fields_of_the_request():
    server = replies(400, {"object": "error", "message": PYTHON.replace("{}", "{'temperature': 1}")})
    with ScriptedServer(server) as running, pytest.raises(APIStatusError) as caught:
        together_nb.complete("Hi", base_url=running.base_url, model="m", api="chat", temperature=1)
    assert caught.value.fields == {"messages"}


# A model that is being loaded


LOADING = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
HELLO = (delta("Hello"), delta(finish="stop"), DONE)


@dataclass(frozen=True)
class Loads(Report):
    """Refuses the first requests with its parts; `loads` of them."""

    loads: int = 7

    def script(self, exchange: Exchange) -> None:
        if len(exchange.server.requests) > self.loads and exchange.request.method == "POST":
            exchange.headers()
            exchange.send("".join(HELLO).encode())
        else:
            super().script(exchange)


def loads(name, source, status, body, **more):
    return Loads(name, source and f"{GITHUB}/{source}", (json.dumps(body),), status, headers=JSON, **more)


@pytest.mark.parametrize(
    "report",
    [
        loads("llama.cpp", "mostlygeek/llama-swap/issues/146", 503, LOADING),
        loads("Hugging Face", "huggingface/transformers/issues/23793", 503,
              {"error": "Model x/y is currently loading", "estimated_time": 0.01}),
        loads("Ollama", "567-labs/instructor/issues/1597", 500,
              openai("unexpected server status: llm server loading model")),
    ],
    ids=str,
)  # fmt: skip
def test_a_model_that_is_loaded_is_waited_for_longer_than_there_are_retries(report, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(retry, "_LOADING_SECONDS", 0.001)
    together_nb.settings.max_retries = 1
    for outcome in outcomes(report):
        assert (outcome.error, outcome.text, outcome.requests) == (None, "Hello", 8)


def test_a_cell_says_that_the_model_is_being_loaded():
    together_nb.settings.max_retries = 1
    report = loads("", "", 503, {"error": "Model x/y is currently loading", "estimated_time": 0.5}, loads=1)
    (outcome,) = outcomes(report, ("%%together",))
    assert "(the model is being loaded; trying again in 1 s" in outcome.shown


def test_a_model_that_is_loaded_is_not_waited_for_without_retries():
    for error in told(loads("", "", 503, LOADING), APIStatusError):
        assert error.message == "The model is being loaded (HTTP 503). Loading model"


@pytest.mark.parametrize(
    ("after", "seconds"),
    [(None, [0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 0.5]), (4.0, [4.0, 4.0, 2.0]), (10.5, [10.0]), (60.5, [])],
)
def test_the_waits_for_a_model_stay_short_and_last_as_long_as_the_timeout(after, seconds, monkeypatch):
    now = 100.0
    monkeypatch.setattr(retry, "monotonic", lambda: now)
    monkeypatch.setattr(retry.random, "random", lambda: 0.0)
    monkeypatch.setattr(retry, "Wait", lambda reason, seconds: seconds)
    error = APIStatusError("The model is being loaded.", status=503)
    error.loading, error.passing, error.retry_after = True, "the model is being loaded", after
    retries, waits = Retries(1, 10.0), []
    while (wait := retries.after(error)) is not None:
        waits.append(wait)
        now += wait
    assert waits == seconds
    assert Retries(0, 10.0).after(error) is None
    error.loading, error.retry_after = False, None  # the waits for the model were none of the retries
    assert [retries.after(error) is None for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    "words",
    ["Failed to load model", "error loading model: out of memory", "Server is busy; please try again later."],
)
def test_a_model_that_cannot_be_loaded_is_not_waited_for(words):
    assert not is_about_loading(words)


def test_a_list_that_is_loading_for_ever_does_not_delay_an_answer():
    together_nb.settings.max_retries = 4
    waits = []
    with listen_to_waits(waits.append):
        for outcome in outcomes(Report("", "", HELLO, listed=(503, LOADING), options={"api": "auto"}), ("complete",)):
            assert (outcome.text, waits) == ("Hello", [])


# An encoding that nobody asked for


def encoded(name, source, encoding, body, status=200):
    return Report(name, source and f"{GITHUB}/{source}", (body,), status, headers={"content_encoding": encoding})


ENCODED = [
    encoded("zstd", "BerriAI/litellm/pull/40028", "zstd", b"(\xb5/\xfd\x00\x01\x02\x03"),
    encoded("br", "robbyt/llm_proxy/issues/39", "br", b"\xff" * 20),
    encoded("in capitals, and after another", "", "gzip, ZSTD", b"(\xb5/\xfd\x00"),
    encoded("gzip that is none", "", "gzip", "".join(HELLO)),
    encoded("deflate that is none", "", "deflate", "".join(HELLO)),
]


@pytest.mark.parametrize("known", [("gzip", "deflate"), None], ids=["with urllib3 alone", "with what is installed"])
@pytest.mark.parametrize("report", ENCODED, ids=str)
def test_a_reply_in_an_encoding_nobody_asked_for_names_it(report, known, monkeypatch):
    if known is not None:
        monkeypatch.setattr(BaseHTTPResponse, "CONTENT_DECODERS", list(known))
    together_nb.settings.max_retries = 2
    for error in told(report, APIConnectionError):
        assert f"(Content-Encoding: {report.headers['content_encoding']}), though together_nb asks" in error.message


@pytest.mark.parametrize("encoding", ["zstd", "br"])
def test_an_error_in_such_an_encoding_names_it_too(encoding):
    for error in told(encoded("", "", encoding, b"(\xb5/\xfd\x00\x01", 400), APIStatusError):
        assert f"Its reason cannot be read (Content-Encoding: {encoding}), though" in error.message


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("utf-8", bytes), ("identity", bytes)])
def test_what_can_be_read_is_read(encoding, pack):
    for outcome in outcomes(encoded("", "", encoding, pack("".join(HELLO).encode()))):
        assert (outcome.error, outcome.text) == (None, "Hello")
