"""Going on from where an answer ended: what is asked, both parts as one answer, and what is kept where."""

from __future__ import annotations

from dataclasses import replace

import pytest

import together_nb
from tests.servers import ScriptedServer, answers, replies
from together_nb.errors import APIConnectionError, APIStatusError, ConnectionLostError, InputError
from together_nb.run.continuation import can_continue, continuation_request, join_parts
from together_nb.values.chunk import Choice, Timings, Token, Usage
from together_nb.values.completion import Completion
from together_nb.values.local_models import NGRAM
from together_nb.values.parameters import SamplingParams
from together_nb.values.request import CompletionRequest
from together_nb.wire.dialects import DIALECTS

USER = {"role": "user", "content": "Tell me"}
ASSISTANT = {"role": "assistant", "content": "Once upon"}


def part(text="Once upon", finish="length", *, api="chat", prompt="Tell me", system=None, messages=None, **sampling):
    """An answer, at its limit where nothing else is said."""
    request = CompletionRequest(prompt, "test/m", api, system, messages, SamplingParams(**sampling))
    return Completion(request, [Choice(0, text, "", finish)])


def asked(completion):
    return continuation_request(completion, DIALECTS[completion.api])


@pytest.mark.parametrize(
    ("finish", "facts", "can"),
    [
        ("length", {}, True),
        (None, {"cancelled": True}, True),
        (None, {"error": "connection lost"}, True),
        ("stop", {"cancelled": True}, True),
        *((finish, {}, False) for finish in (None, "", "stop", "eos", "stop_sequence", "tool_calls")),
    ],
)
def test_an_answer_that_was_cut_can_go_on_and_one_that_ended_cannot(finish, facts, can):
    completion = replace(part(finish=finish), **facts)
    assert can_continue(completion) is can
    completion.choices[0] = Choice(0, "", "Hmm", finish)  # thinking alone is no text to go on from
    assert not can_continue(completion)


@pytest.mark.parametrize(("text", "can"), [("Tell", False), ("Tell me", False), ("Tell me, O", True)])
def test_the_prompt_that_is_echoed_is_no_answer_to_go_on_from(text, can):
    assert can_continue(part(text, api="completions", echo=True)) is can


@pytest.mark.parametrize("api", ["completions", "inference"])
@pytest.mark.parametrize(
    ("text", "options", "prompt", "sampling"),
    [
        (", O muse", {"temperature": 0, "max_tokens": 5}, "Tell me, O muse", {"temperature": 0, "max_tokens": 5}),
        ("Tell me, Tell me", {"echo": True, "n": 1, "logprobs": 2}, "Tell me, Tell me", {"logprobs": 2}),
        ("Tell me more", {}, "Tell meTell me more", {}),
    ],
    ids=["plain", "echoed", "begins as its prompt"],
)
def test_a_text_is_continued_as_a_prompt_that_is_neither_sent_nor_wanted_twice(api, text, options, prompt, sampling):
    request = asked(part(text, api=api, **options))
    assert request == CompletionRequest(prompt, "test/m", api, sampling=SamplingParams(**sampling))


@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_a_chat_ends_with_the_answer_so_far_as_the_assistants_own(system):
    request = asked(part(system=system, n=1))
    assert request == CompletionRequest("", "test/m", "chat", system, (USER, ASSISTANT))
    sent = DIALECTS["chat"].payload(request)["messages"]
    assert sent == ([] if system is None else [{"role": "system", "content": system}]) + [USER, ASSISTANT]


BEGUN = {"role": "assistant", "content": "So: ", "name": "bard"}
IN_PARTS = {"role": "assistant", "content": [{"type": "text", "text": "So: "}]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((USER, {"role": "assistant", "content": "No."}, USER), None),
        ((USER, IN_PARTS), None),
        ((USER, BEGUN), (USER, {**BEGUN, "content": "So: Once upon"})),
    ],
    ids=["turns", "in parts", "begun by the request"],
)
def test_a_conversation_goes_on_with_all_its_turns_and_an_answer_that_was_begun_as_one_message(before, after):
    request = asked(part(prompt="", messages=before, system="Be brief."))
    assert request.messages == (after or (*before, ASSISTANT))
    assert request.system == "Be brief."
    assert BEGUN["content"] == "So: "


def parts():
    """Two parts of one answer, each with all that an answer can have."""
    choices = [Choice(0, "Once", "Hm", "length", [Token("Once", -0.5, 7, (("Once", -0.5), ("A", -1.0)))])]
    facts = {"usage": Usage(5, 1, 6, 1, None), "timings": Timings(0.25, 1.0), "chunks": 1, "filled": ("hero",)}
    before = Completion(part(max_tokens=2).request, choices, "test/m-1", "one", **facts)
    choices = [Choice(0, " upon", "m", "stop", [Token(" upon", -0.25)])]
    facts = {"usage": Usage(6, 2, 8, 2, 3), "timings": Timings(0.5, 2.0), "chunks": 2, "price": (1.0, 2.0)}
    return before, Completion(asked(before), choices, "test/m-2", "two", note="a note", **facts)


def test_both_parts_are_one_answer_to_the_first_request_and_what_one_lacks_is_of_the_other_or_unknown():
    before, after = parts()
    whole = join_parts(before, after)
    assert whole == replace(
        after,
        request=before.request,
        choices=[Choice(0, "Once upon", "Hmm", "stop", [*before.tokens, *after.tokens])],
        usage=Usage(11, 3, 14, 3, None),
        timings=Timings(0.25, 3.0),
        chunks=3,
        filled=("hero",),
    )
    assert before.text == "Once"
    assert len(before.tokens) == len(after.tokens) == 1
    assert (
        join_parts(replace(before, usage=None), after).usage
        is join_parts(before, replace(after, usage=None)).usage
        is None
    )
    assert join_parts(replace(before, timings=Timings(None, 1.0)), after).timings == Timings(0.5, 3.0)


@pytest.mark.parametrize("facts", [{"cancelled": True}, {"error": "connection lost"}], ids=["stopped", "lost"])
def test_it_ends_as_the_second_part_did_and_can_go_on_again(facts):
    before, end = parts()
    before.cancelled, before.error = True, "connection lost"
    after = Completion(asked(before), timings=Timings(None, 0.5), **facts)
    whole = join_parts(before, after)
    assert (whole.text, whole.finish_reason, whole.ending) == ("Once", None, after.ending)
    assert (whole.model, whole.id) == ("test/m-1", "one")
    assert can_continue(whole)
    assert asked(whole) == asked(before)
    whole = join_parts(before, end)
    assert whole.ending == ""
    assert not can_continue(whole)


# In Python


def ask(max_tokens=5, **options):
    return together_nb.complete(
        "Alan Turing was", **{"model": NGRAM, "temperature": 0, "max_tokens": max_tokens, **options}
    )


@pytest.mark.parametrize("options", [
    {"api": "completions"},
    {"api": "inference"},
    {"api": "completions", "echo": True},
    {"api": "completions", "logprobs": 2},
    {"api": "chat"},
    {"api": "chat", "system": "Be brief."},
], ids=str)  # fmt: skip
def test_an_answer_that_was_cut_and_goes_on_is_the_answer_that_was_not(options):
    whole, first = ask(10, **options), ask(5, **options)
    assert first.truncated
    both = together_nb.continue_from(first)
    assert both.text == whole.text
    assert len(first.text) < len(both.text)
    assert [token.text for token in both.tokens] == [token.text for token in whole.tokens]
    assert both.usage.completion_tokens == whole.usage.completion_tokens
    assert both.request == first.request


def test_the_whole_takes_its_parts_place_and_may_go_on_again_from_the_last_one():
    whole = ask(9, chat="whole")
    together_nb.history.clear()
    first, other = ask(5, chat="lesson"), ask(2)
    both = together_nb.continue_from(first, max_tokens=2)
    assert together_nb.history == [both, other]
    assert together_nb.conversations["lesson"][0].completion is both
    together_nb.history.pop()
    assert together_nb.continue_from(max_tokens=2).text == whole.text
    assert len(together_nb.history) == 1
    assert together_nb.history[0].usage.completion_tokens == 9


def test_a_lost_answer_goes_on_and_a_request_that_fails_keeps_the_first_part():
    with ScriptedServer(answers(["half"], finish=None, done=False)) as server:
        together_nb.settings.base_url = server.base_url
        with pytest.raises(ConnectionLostError):
            together_nb.complete("Tell", model="test/chat")
        (first,) = together_nb.history
        server.script = replies(500, {"error": "broken"})
        with pytest.raises(APIStatusError):
            together_nb.continue_from()
        assert together_nb.history == [first]
        server.script = answers([" and half"])
        assert together_nb.continue_from().text == "half and half"


def test_what_cannot_go_on_says_why_and_no_older_answer_is_taken_for_it(session):
    with pytest.raises(InputError, match="no answer yet"):
        together_nb.continue_from()
    for completion, why in [
        (part(finish="stop"), "ended by itself"),
        (part(""), "Nothing of the answer came"),
        (ask(2, n=2), "several answers"),
    ]:
        with pytest.raises(InputError, match=why):
            together_nb.continue_from(completion)
    with pytest.raises(APIConnectionError):
        together_nb.complete("Tell", model="m", api="chat", base_url="http://127.0.0.1:9")
    with pytest.raises(InputError, match="Nothing came of the last request"):
        together_nb.continue_from()
    together_nb.complete("Tell", model=NGRAM, max_tokens=3, temperature=0)
    assert together_nb.continue_from() is together_nb.history[-1]
