"""Going on from where an answer ended: what is asked, and both parts as one answer."""

from __future__ import annotations

import json

import pytest

from together_nb import complete
from together_nb.client import CompletionStream
from together_nb.completion import Choice, Completion, CompletionRequest, Timings, Token, Usage
from together_nb.config import LOCAL_MODEL
from together_nb.continuation import can_go_on, continuation, joined
from together_nb.dialects import DIALECTS
from together_nb.params import SamplingParams
from together_nb.resolve import open_request

USER = {"role": "user", "content": "Tell me"}
ASSISTANT = {"role": "assistant", "content": "Once upon"}


def part(text="Once upon", finish="length", *, api="chat", prompt="Tell me", system=None, messages=None, **sampling):
    """An answer, at its limit where nothing else is said."""
    request = CompletionRequest(prompt, "test/m", api, system, messages, SamplingParams(**sampling))
    return Completion(request, [Choice(0, text, "", finish)])


def asked(completion):
    return continuation(completion, DIALECTS[completion.api])


@pytest.mark.parametrize(
    ("finish", "facts", "can"),
    [
        ("length", {}, True),
        (None, {"cancelled": True}, True),
        (None, {"error": "connection lost"}, True),
        ("stop", {"cancelled": True}, True),
        (None, {}, False),
        ("", {}, False),
        ("stop", {}, False),
        ("eos", {}, False),
        ("stop_sequence", {}, False),
        ("tool_calls", {}, False),
    ],
)
def test_an_answer_that_was_cut_can_go_on_and_one_that_ended_cannot(finish, facts, can):
    completion = part(finish=finish)
    for name, value in facts.items():
        setattr(completion, name, value)
    assert can_go_on(completion) is can
    completion.choices[0].text = ""
    assert not can_go_on(completion)


def test_thinking_alone_is_no_text_to_go_on_from():
    completion = part("")
    completion.choices[0].reasoning = "Hmm"
    assert not can_go_on(completion)


def test_of_several_answers_none_goes_on():
    completion = part(n=2)
    completion.choices.append(Choice(1, "A dark", "", "length"))
    assert not can_go_on(completion)


@pytest.mark.parametrize(("text", "can"), [("Tell", False), ("Tell me", False), ("Tell me, O", True)])
def test_the_prompt_that_is_echoed_is_no_answer_to_go_on_from(text, can):
    assert can_go_on(part(text, api="completions", echo=True)) is can


@pytest.mark.parametrize("api", ["completions", "inference"])
def test_a_text_is_continued_as_a_prompt(api):
    request = asked(part(", O muse", api=api, temperature=0, max_tokens=5))
    assert request == CompletionRequest(
        "Tell me, O muse", "test/m", api, sampling=SamplingParams(temperature=0, max_tokens=5)
    )


@pytest.mark.parametrize("api", ["completions", "inference"])
def test_a_prompt_that_was_echoed_is_not_sent_twice_and_not_wanted_again(api):
    request = asked(part("Tell me, Tell me", api=api, echo=True, n=1, logprobs=2))
    assert request.prompt == "Tell me, Tell me"
    assert request.sampling.to_dict() == {"logprobs": 2}


def test_an_answer_that_begins_as_its_prompt_is_whole_where_nothing_was_echoed():
    assert asked(part("Tell me more", api="completions")).prompt == "Tell meTell me more"


@pytest.mark.parametrize("system", [None, "", "Be brief."])
def test_a_chat_ends_with_the_answer_so_far_as_the_assistants_own(system):
    request = asked(part(system=system, n=1))
    assert request == CompletionRequest("", "test/m", "chat", system, (USER, ASSISTANT))
    sent = DIALECTS["chat"].payload(request)["messages"]
    assert sent == ([] if system is None else [{"role": "system", "content": system}]) + [USER, ASSISTANT]


def test_a_conversation_goes_on_with_all_its_turns():
    turns = (USER, {"role": "assistant", "content": "No."}, {"role": "user", "content": "Please"})
    request = asked(part(prompt="", messages=turns, system="Be brief."))
    assert request.messages == (*turns, ASSISTANT)
    assert request.system == "Be brief."
    assert len(turns) == 3


def test_an_answer_that_the_request_began_goes_on_as_one_message():
    begun = {"role": "assistant", "content": "So: ", "name": "bard"}
    request = asked(part(prompt="", messages=(USER, begun)))
    assert request.messages == (USER, {"role": "assistant", "content": "So: Once upon", "name": "bard"})
    assert begun["content"] == "So: "
    in_parts = {"role": "assistant", "content": [{"type": "text", "text": "So: "}]}
    assert asked(part(prompt="", messages=(USER, in_parts))).messages == (USER, in_parts, ASSISTANT)


def parts():
    """Two parts of one answer, each with all that an answer can have."""
    before = part(max_tokens=2)
    before.choices = [Choice(0, "Once", "Hm", "length", [Token("Once", -0.5, 7, (("Once", -0.5), ("A", -1.0)))])]
    before.model, before.id, before.chunks = "test/m-1", "one", 1
    before.usage = Usage(5, 1, 6, 1, None)
    before.timings = Timings(0.25, 1.0)
    before.filled = ("hero",)
    after = Completion(
        asked(before),
        [Choice(0, " upon", "m", "stop", [Token(" upon", -0.25)])],
        "test/m-2",
        "two",
        Usage(6, 2, 8, 2, 3),
        Timings(0.5, 2.0),
        chunks=2,
        price=(1.0, 2.0),
        note="a note",
    )
    return before, after


def test_both_parts_are_one_answer_to_the_first_request():
    before, after = parts()
    assert joined(before, after) == Completion(
        request=before.request,
        choices=[Choice(0, "Once upon", "Hmm", "stop", [*before.tokens, *after.tokens])],
        model="test/m-2",
        id="two",
        usage=Usage(11, 3, 14, 3, None),
        timings=Timings(0.25, 3.0),
        chunks=3,
        price=(1.0, 2.0),
        note="a note",
        filled=("hero",),
    )
    assert before.text == "Once"
    assert len(before.tokens) == len(after.tokens) == 1


@pytest.mark.parametrize("lacks", [0, 1])
def test_a_count_that_lacks_a_part_is_none(lacks):
    both = parts()
    both[lacks].usage = None
    assert joined(*both).usage is None


def test_the_first_piece_may_be_of_the_second_part():
    before, after = parts()
    before.timings = Timings(None, 1.0)
    assert joined(before, after).timings == Timings(0.5, 3.0)


@pytest.mark.parametrize("facts", [{"cancelled": True}, {"error": "connection lost"}], ids=["stopped", "lost"])
def test_it_ends_as_the_second_part_did_and_can_go_on_again(facts):
    before, _ = parts()
    after = Completion(asked(before), timings=Timings(None, 0.5), **facts)
    whole = joined(before, after)
    assert (whole.text, whole.finish_reason, whole.ending) == ("Once", None, after.ending)
    assert (whole.model, whole.id) == ("test/m-1", "one")
    assert can_go_on(whole)
    assert asked(whole) == asked(before)


def test_one_that_ended_by_itself_goes_on_no_more_though_its_first_part_was_cut():
    before, after = parts()
    before.cancelled, before.error = True, "connection lost"
    whole = joined(before, after)
    assert whole.ending == ""
    assert not can_go_on(whole)


def test_the_whole_survives_json():
    whole = joined(*parts())
    assert Completion.from_dict(json.loads(json.dumps(whole.to_dict()))) == whole
    assert Completion.from_dict(whole.to_dict()) == whole


def went_on(first):
    """The answer with its continuation by the embedded engine."""
    assert can_go_on(first)
    with open_request(asked(first)) as opened:
        assert isinstance(opened, CompletionStream)
        list(opened)
    return joined(first, opened.completion)


@pytest.mark.parametrize("options", [
    {"api": "completions"},
    {"api": "inference"},
    {"api": "completions", "echo": True},
    {"api": "completions", "logprobs": 2},
    {"api": "chat"},
    {"api": "chat", "system": "Be brief."},
], ids=str)  # fmt: skip
def test_an_answer_that_was_cut_and_goes_on_is_the_answer_that_was_not(options):
    def ask(max_tokens):
        return complete("Alan Turing was", model=LOCAL_MODEL, temperature=0, max_tokens=max_tokens, **options)

    whole, first = ask(10), ask(5)
    assert first.truncated
    both = went_on(first)
    assert both.text == whole.text
    assert len(first.text) < len(both.text)
    assert [token.text for token in both.tokens] == [token.text for token in whole.tokens]
    assert both.usage.completion_tokens == whole.usage.completion_tokens
    assert both.request == first.request


def test_an_answer_can_go_on_more_than_once():
    def ask(max_tokens):
        turns = [{"role": "user", "content": "Who was Alan Turing?"}]
        return complete(messages=turns, model=LOCAL_MODEL, api="chat", temperature=0, max_tokens=max_tokens)

    assert went_on(went_on(ask(4))).text == ask(12).text
