"""A conversation as a value: what of it is sent, how it is cut, that it round-trips."""

from __future__ import annotations

import json

import pytest

from together_nb import complete, conversations
from together_nb.completion import Choice, Completion, CompletionRequest
from together_nb.conversation import Conversation, Turn
from together_nb.errors import InputError

REQUEST = CompletionRequest("?", "test/chat", "chat")


def turn(prompt, answer, cell="", system=None, **facts):
    return Turn(prompt, Completion(REQUEST, [Choice(0, answer)], chunks=bool(answer), **facts), system, cell)


def three():
    return Conversation("lesson", [turn("a", "A", "1", "Be brief."), turn("b", "B", "2"), turn("c", "C", "3")])


def said(*pairs):
    return [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=False)
    ]


def test_what_is_sent_is_each_prompt_and_its_answer_and_the_next_prompt():
    assert three().asking("d") == said(("a", "A"), ("b", "B"), ("c", "C"), ("d",))


def test_a_part_of_an_answer_is_sent_and_a_turn_without_one_is_not():
    kept = Conversation("x", [turn("a", "A par", cancelled=True), turn("b", "", error="failed")])
    assert kept.messages == said(("a", "A par"))
    assert [one.mark for one in kept] == ["stopped by you", "failed"]


def test_the_system_prompt_that_was_given_last_holds():
    assert three().system == "Be brief."
    assert Conversation("x", [turn("a", "A", system="one"), turn("b", "B", system="two")]).system == "two"
    assert Conversation().system is None


def test_a_cell_that_runs_again_goes_on_from_what_was_before_it():
    assert three().before("2").messages == said(("a", "A"))
    assert three().before("9").messages == three().messages
    assert three().before("").messages == three().messages


def test_a_cell_that_ran_again_takes_its_place_and_the_later_turns_go():
    kept = three()
    kept.keep(turn("b2", "B2", "2"))
    assert kept.messages == said(("a", "A"), ("b2", "B2"))


def test_cells_without_an_id_are_never_the_same():
    kept = Conversation()
    kept.keep(turn("go on", "A"))
    kept.keep(turn("go on", "B"))
    assert len(kept) == 2


def test_a_run_that_came_to_nothing_takes_nobodys_place_and_is_a_marked_turn_where_it_is_the_first_of_its_cell():
    kept = three()
    kept.keep(turn("b2", "", "2", error="failed"))
    assert kept.messages == three().messages
    kept.keep(turn("d", "", "4", error="failed"))
    assert kept[3].mark == "failed"


def test_a_slice_is_a_conversation_of_its_own_and_a_number_a_turn():
    kept = three()
    first = kept[:2]
    first.cut(0)
    assert isinstance(first, Conversation)
    assert first.name == "lesson"
    assert len(kept) == 3
    assert kept[-1].prompt == "c"


def test_cutting_gives_what_was_dropped():
    kept = three()
    assert [one.prompt for one in kept.cut(-2)] == ["b", "c"]
    assert kept.messages == said(("a", "A"))


def test_the_whole_answer_takes_the_place_of_its_first_part():
    kept = three()
    whole = Completion(REQUEST, [Choice(0, "B and more")])
    assert kept.put_in_place(kept[1].completion, whole)
    assert kept[1].completion is whole
    assert kept[1].cell == "2"
    assert not kept.put_in_place(Completion(REQUEST), whole)


def test_it_round_trips_through_a_file_and_no_file_is_overwritten(tmp_path):
    path = tmp_path / "talk.json"
    three().save(path)
    assert Conversation.load(path) == three()
    assert Conversation.from_dict(json.loads(json.dumps(three().to_dict()))) == three()
    with pytest.raises(InputError, match="exists already"):
        three().save(path)
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(InputError, match="holds no conversation"):
        Conversation.load(tmp_path / "other.json")
    with pytest.raises(InputError, match="cannot be read"):
        Conversation.load(tmp_path / "none.json")


def test_it_shows_its_turns_to_the_letter_with_their_marks():
    bundle = Conversation("x", [turn("<b>", "*A*", system="S", error="connection lost")]).bundle()
    assert bundle["text/plain"] == "system: S\n[0] you: <b>\nmodel: *A* · connection lost"
    assert "&#60;b&#62;" in bundle["text/markdown"]
    assert "&#42;A&#42;" in bundle["text/markdown"]
    assert Conversation().bundle()["text/plain"] == "(no turns yet)"
    assert repr(three()) == "<Conversation lesson: 3 turns>"


def test_the_messages_that_are_handed_out_are_the_callers_own():
    complete("Hello.", chat="own", max_tokens=2)
    talk = conversations.pop("own")
    before = [dict(message) for message in talk.messages]
    talk.messages[0]["content"] = "changed"
    talk.asking("More.")[0]["content"] = "changed"
    assert talk.messages == before


def test_a_conversation_of_a_later_version_is_refused_and_so_is_a_part_of_its_file():
    for prompt in ("Hello.", "And then?"):
        complete(prompt, chat="own", max_tokens=2)
    told = conversations.pop("own").to_dict()
    with pytest.raises(ValueError, match="not all messages"):
        Turn.from_dict(told["turns"][1])
    with pytest.raises(ValueError, match="later version"):
        Conversation.from_dict({**told, "version": 99})
