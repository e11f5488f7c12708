"""`together_nb.values.shared_messages`: each message is written once, and what comes back is what was written."""

import copy
import json

import pytest

import together_nb
from together_nb import Conversation
from together_nb.values.completion import Completion
from together_nb.values.request import CompletionRequest
from together_nb.values.shared_messages import restore_messages, share_messages

ASK = {"role": "user", "content": "Who was Alan Turing?"}
ANSWER = {"role": "assistant", "content": "A mathematician."}
MORE = {"role": "user", "content": "And then?"}


def answered(*messages, prompt=""):
    return Completion(CompletionRequest(prompt=prompt, model="test/chat", api="chat", messages=messages or None))


@pytest.mark.parametrize(
    ("completions", "written"),
    [
        ([], 0),
        ([answered(prompt="Once")], 0),
        ([answered(ASK), answered(ASK, ANSWER, MORE)], 3),
        ([answered(ASK), answered(ASK), answered(ASK, ANSWER, MORE), answered(ASK)], 4),  # sent again, and cut
        ([answered(ASK, ANSWER, MORE), answered(ASK, MORE, ANSWER), answered(ASK, ANSWER, MORE, ANSWER)], 10),
        ([answered(ASK), answered(MORE), answered(prompt="Once"), answered(ASK, ANSWER), answered(MORE, ANSWER)], 4),
        ([answered({"role": "user", "content": [{"type": "text", "text": "Hi"}]}), answered({"role": "user"})], 2),
        ([answered(ASK, *[ANSWER, MORE] * turns) for turns in range(30)], 1 + 2 * 29),
    ],
    ids=["none", "a prompt", "two turns", "sent again", "branches", "two at a time", "parts", "long"],
)
def test_each_message_is_written_once_and_what_comes_back_is_what_was_written(completions, written):
    before = copy.deepcopy(completions)
    rows = list(share_messages(completions))
    assert sum(len(row["request"].get("messages", ())) for row in rows) == written
    for copied in (json.loads(json.dumps(rows)), copy.deepcopy(rows)):
        unread = copy.deepcopy(copied)
        assert [Completion.from_dict(row) for row in restore_messages(copied)] == completions
        assert copied == unread
    assert completions == before


def test_rows_of_answers_that_go_on_from_none_are_as_ever():
    completions = [answered(ASK), answered(MORE, ANSWER), answered(prompt="Once")]
    assert list(share_messages(completions)) == [completion.to_dict() for completion in completions]


@pytest.mark.parametrize("after", [0, 7, -1])
def test_a_row_that_goes_on_from_none_that_is_there_is_refused(after):
    (row,) = share_messages([answered(ASK)])
    row["request"]["after"] = after
    with pytest.raises(ValueError, match="comes before"):
        list(restore_messages([row]))


def test_requests_of_a_conversation_share_their_messages_and_its_file_has_each_once(tmp_path):
    for turn in range(12):
        together_nb.complete(f"Number {turn}, please.", chat="long", max_tokens=2)
    talk = together_nb.conversations.pop("long")
    messages = [turn.completion.request.messages for turn in talk]
    assert all(one[0] == messages[0][0] for one in messages)
    assert all(one[1] is messages[1][1] for one in messages[2:])
    talk.save(tmp_path / "talk.json")
    assert (tmp_path / "talk.json").read_text().count('"Number 3, please."') == 2  # as a prompt, and as a message
    assert Conversation.load(tmp_path / "talk.json") == talk
