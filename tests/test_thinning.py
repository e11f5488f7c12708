"""thinning: each message is written once, and what comes back is what was written."""

from __future__ import annotations

import copy
import json

import pytest

from together_nb import Conversation, complete, conversations
from together_nb.completion import Completion
from together_nb.request import CompletionRequest
from together_nb.thinning import thinned, whole

ASKED = {"role": "user", "content": "Who was Alan Turing?"}
SAID = {"role": "assistant", "content": "A mathematician."}
MORE = {"role": "user", "content": "And then?"}


def answered(*messages, prompt="", text="yes"):
    request = CompletionRequest(prompt=prompt, model="test/chat", api="chat", messages=messages or None)
    answer = Completion(request=request)
    answer.choices[0].text = text
    return answer


def back(completions):
    rows = json.loads(json.dumps(list(thinned(completions))))
    return [Completion.from_dict(row) for row in whole(rows)]


@pytest.mark.parametrize(
    "completions",
    [
        [],
        [answered(prompt="Once")],
        [answered(ASKED), answered(ASKED, SAID, MORE)],
        [answered(ASKED), answered(ASKED), answered(ASKED, SAID, MORE), answered(ASKED)],  # asked again, and cut
        [answered(ASKED, SAID, MORE), answered(ASKED, MORE, SAID), answered(ASKED, SAID, MORE, SAID)],  # branches
        [answered(ASKED), answered(MORE), answered(prompt="Once"), answered(ASKED, SAID), answered(MORE, SAID)],
        [answered({"role": "user", "content": [{"type": "text", "text": "Hi"}]}), answered({"role": "user"})],
    ],
    ids=["none", "a prompt", "two turns", "asked again", "branches", "two at a time", "parts"],
)
def test_what_comes_back_is_what_was_written(completions):
    assert back(completions) == completions


def test_the_rows_of_answers_that_go_on_from_none_are_as_ever():
    completions = [answered(ASKED), answered(MORE, SAID), answered(prompt="Once")]
    assert list(thinned(completions)) == [completion.to_dict() for completion in completions]


def test_each_message_is_written_once():
    talk = [answered(*[ASKED, SAID][: 1], *[SAID, MORE] * turns) for turns in range(30)]  # fmt: skip
    assert back(talk) == talk
    assert sum(len(row["request"]["messages"]) for row in thinned(talk)) == 1 + 2 * 29


def test_nothing_of_what_is_written_is_changed():
    talk = [answered(ASKED), answered(ASKED, SAID, MORE)]
    before = copy.deepcopy(talk)
    rows = list(thinned(talk))
    copies = copy.deepcopy(rows)
    list(whole(rows))
    assert (talk, rows) == (before, copies)


@pytest.mark.parametrize("after", [0, 7, -1])
def test_a_row_that_goes_on_from_none_that_is_there_is_told(after):
    (row,) = thinned([answered(ASKED)])
    row["request"]["after"] = after
    with pytest.raises(ValueError, match="comes before"):
        list(whole([row]))


def test_the_requests_of_a_conversation_share_its_messages_and_its_file_has_each_once(tmp_path):
    for turn in range(12):
        complete(f"Number {turn}, please.", chat="long", max_tokens=2)
    talk = conversations.pop("long")
    first = talk[0].completion.request.messages[0]
    assert all(turn.completion.request.messages[0] == first for turn in talk)
    assert all(turn.completion.request.messages[1] is talk[1].completion.request.messages[1] for turn in talk[2:])
    talk.save(tmp_path / "talk.json")
    assert (tmp_path / "talk.json").read_text().count('"Number 3, please."') == 2  # as a prompt, and as a message
    assert Conversation.load(tmp_path / "talk.json") == talk
