"""A conversation as a value, and the session's conversations by name."""

import json

import pytest

import together_nb
from tests.servers import ScriptedServer, answers
from together_nb.errors import InputError
from together_nb.run.answers import find_conversation
from together_nb.values.chunk import Choice
from together_nb.values.completion import Completion
from together_nb.values.conversation import Conversation, Turn
from together_nb.values.request import CompletionRequest

REQUEST = CompletionRequest("?", "test/chat", "chat")


def turn(prompt, answer, cell="", system=None, **facts):
    return Turn(prompt, Completion(REQUEST, [Choice(0, answer)], chunks=bool(answer), **facts), system, cell)


@pytest.fixture
def three():
    return Conversation("lesson", [turn("a", "A", "1", "Be brief."), turn("b", "B", "2"), turn("c", "C", "3")])


def said(*texts):
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


def test_each_prompt_is_sent_with_its_answer_as_far_as_it_came_and_the_next_under_the_last_system_prompt(three):
    assert three.asking("d") == said("a", "A", "b", "B", "c", "C", "d")
    assert three.system == "Be brief."
    cut = Conversation("x", [turn("a", "A par", "", "one", cancelled=True), turn("b", "", "", "two", error="failed")])
    assert cut.messages == said("a", "A par")
    assert [one.mark for one in cut] == ["stopped by you", "failed"]
    assert (cut.system, Conversation().system) == ("two", None)


def test_a_cell_that_runs_again_goes_on_from_what_was_before_it_and_takes_its_place_unless_nothing_came(three):
    assert three.before("2").messages == said("a", "A")
    assert three.before("9").messages == three.before("").messages == said("a", "A", "b", "B", "c", "C")
    three.keep(turn("b2", "", "2", error="failed"))
    assert len(three) == 3
    three.keep(turn("b2", "B2", "2"))
    assert three.messages == said("a", "A", "b2", "B2")
    three.keep(turn("d", "", "4", error="failed"))  # the first run of its cell
    assert three[2].mark == "failed"
    three.keep(turn("go on", "A"))  # without a cell's id none is the same
    three.keep(turn("go on", "B"))
    assert len(three) == 5


def test_a_slice_is_a_conversation_of_its_own_a_number_a_turn_and_a_cut_gives_what_was_dropped(three):
    first = three[:2]
    first.cut(0)
    assert (first, len(three), three[-1].prompt) == (Conversation("lesson"), 3, "c")
    assert [one.prompt for one in three.cut(-2)] == ["b", "c"]
    assert three.messages == said("a", "A")


def test_the_whole_answer_takes_the_place_of_its_first_part(three):
    whole = Completion(REQUEST, [Choice(0, "B and more")])
    assert three.put_in_place(three[1].completion, whole)
    assert three[1].completion is whole
    assert three[1].cell == "2"
    assert not three.put_in_place(Completion(REQUEST), whole)


def test_it_round_trips_through_a_file_and_no_file_is_overwritten(three, tmp_path):
    path = tmp_path / "talk.json"
    three.save(path)
    assert Conversation.load(path) == three
    values = three.to_dict()
    assert Conversation.from_dict(json.loads(json.dumps(values))) == three
    with pytest.raises(InputError, match="exists already"):
        three.save(path)
    with pytest.raises(InputError, match="later version"):
        Conversation.from_dict({**values, "version": 99})
    for prompt in ("Hello.", "And then?"):
        together_nb.complete(prompt, chat="own", max_tokens=2)
    with pytest.raises(InputError, match="not all messages"):  # they stand with the turns before
        Turn.from_dict(together_nb.conversations["own"].to_dict()["turns"][1])


def test_it_shows_its_turns_to_the_letter_with_their_marks(three):
    bundle = Conversation("x", [turn("<b>", "*A*", system="S", error="connection lost")]).bundle()
    assert bundle["text/plain"] == "system: S\n[0] you: <b>\nmodel: *A* · connection lost"
    assert "&#60;b&#62;" in bundle["text/markdown"]
    assert "&#42;A&#42;" in bundle["text/markdown"]
    assert Conversation().bundle()["text/plain"] == "(no turns yet)"
    assert repr(three) == "<Conversation lesson: 3 turns>"


def test_the_messages_that_are_handed_out_are_the_callers_own(three):
    before = json.dumps(three.messages)
    three.messages[0]["content"] = "changed"
    three.asking("More.")[0]["content"] = "changed"
    assert json.dumps(three.messages) == before


# By name


@pytest.fixture
def server():
    with ScriptedServer(answers(["answer"])) as one:
        yield one


def say(server, prompt, chat="lesson", **options):
    """Say something in a conversation; gives all texts that were sent with it."""
    together_nb.complete(prompt, base_url=server.base_url, model="test/chat", chat=chat, **options)
    return [turn["content"] for turn in server.requests[-1].json()["messages"]]


def test_each_turn_is_sent_with_those_before_it_and_the_system_prompt_holds_on(server):
    say(server, "one", system="Be brief.")
    assert say(server, "two") == ["Be brief.", "one", "answer", "two"]
    assert say(server, "apart", chat="other") == ["apart"]
    assert {name: len(talk) for name, talk in together_nb.conversations.items()} == {"lesson": 2, "other": 1}


def test_a_conversation_of_ones_own_can_be_cut_and_gone_on_with(server):
    mine = Conversation("mine")
    for prompt in ("one", "two", "three"):
        say(server, prompt, chat=mine)
    assert say(server, "other", chat=mine[:1]) == ["one", "answer", "other"]
    assert (len(mine), together_nb.conversations, len(together_nb.history)) == (3, {}, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "The prompt is empty"),
        ({"messages": [{"role": "user", "content": "x"}]}, "A conversation and messages were given"),
        ({"chat": 3}, "chat must be a conversation's name, not int"),
        ({"api": "completions"}, "The completions API takes one prompt"),
    ],
)
def test_what_cannot_be_a_turn_says_why_and_is_none(server, options, message):
    with pytest.raises(InputError, match=message) as refused:
        say(server, **{"prompt": "x", **options})
    assert refused.value.hint
    assert server.requests == []
    assert not together_nb.conversations.get("lesson")


def test_a_name_that_is_none_gets_the_nearest(server, session):
    say(server, "one")
    with pytest.raises(InputError, match=r"Did you mean lesson\?"):
        find_conversation(session, "leson")
    assert len(find_conversation(session, "lesson")) == 1
    session.conversations.clear()
    with pytest.raises(InputError, match="--chat` begins one"):
        find_conversation(session, "lesson")
