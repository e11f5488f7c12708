"""Recording at the wire, and playing it back without a key and a network."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.kernels import Kernel
from tests.servers import PATIENCE, ScriptedServer, answers, replies, silent_after
from together_nb import complete, models, recording, replaying, retry, stream
from together_nb.config import DEFAULT_MODEL, Key, settings
from together_nb.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    ConnectionLostError,
    InputError,
    NotFoundError,
    NotRecordedError,
    RateLimitError,
    TogetherError,
)
from together_nb.keyless import without_key
from together_nb.recorder import _decoded
from together_nb.replaying import Replay
from together_nb.resolve import standing
from together_nb.session import history
from together_nb.spending import ledger
from together_nb.tape import STOPPED, WHOLE, End, Entry
from together_nb.wiretap import Wiretap

KEY = "tgp_v1_canary-0123456789-abcdefghij"
TEXTS = ["Once", " upon", " a — €", " time"]


@pytest.fixture
def tape(tmp_path):
    return tmp_path / "lesson.jsonl"


def record(tape, script, ask, **options):
    """Record what `ask` asks of a server that does `script`, which is gone afterwards; the error it ends with, if any."""
    with ScriptedServer(script, **options) as server:
        settings.base_url, settings.model = server.base_url, "test/chat"
        recording.record(tape)
        try:
            return ask()
        except TogetherError as error:
            return error
        finally:
            recording.stop()
            settings.base_url = settings.model = None


def in_turn(*scripts):
    left = list(scripts)

    def script(exchange):
        left.pop(0)(exchange)

    return script


def replay(tape, **options):
    return recording.replay(tape, **{"speed": 0, **options})


def lines(tape):
    return [json.loads(line) for line in tape.read_text().splitlines()]


def entries(tape, method="POST"):
    return [one for one in lines(tape)[1:] if one["method"] == method]


def entry(payload=None, *, pieces=(), end=None, status=200, **more):
    values = {"method": "POST", "path": "/v1/chat/completions", "loopback": False, "opened": 0.0, **more}
    headers = {"Content-Type": "text/event-stream"}
    return Entry(
        payload=payload, status=status, headers=headers, pieces=list(pieces), end=end or End(WHOLE, 0), **values
    )


def write(tape, *told, **head):
    start = {"together_nb": "recording", "version": 1, "recorded": "2026-11-26T10:00:00Z", "model": "m", **head}
    tape.write_text("".join(json.dumps(one) + "\n" for one in (start, *(one.to_dict() for one in told))))


def event(text, finish=None):
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}, 'finish_reason': finish}]})}\n\n"


CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def told(completion):
    return completion.text, completion.finish_reason, completion.usage, completion.chunks, completion.model


# What is played back is what was


@pytest.mark.parametrize("api", ["chat", "completions", "inference"])
def test_an_answer_is_played_back_without_a_key_and_a_server(tape, api):
    live = record(tape, answers(TEXTS), lambda: complete("Tell", api=api, api_key=KEY, temperature=0.5))
    replay(tape)
    again = complete("Tell", api=api, temperature=0.5)
    assert live.text == "".join(TEXTS)
    assert told(again) == told(live)
    day = lines(tape)[0]["recorded"][:10]
    assert live.note == ""
    assert again.footer().endswith(f" · a replay of {day} at full speed")


def test_the_embedded_engine_is_played_back_too(tape):
    recording.record(tape)
    live = complete("Once upon", max_tokens=6, seed=1)
    recording.stop()
    replay(tape, speed=1000)
    again = complete("Once upon", max_tokens=6, seed=1)
    assert told(again) == told(live)
    assert again.footer().endswith(
        f"%together login · a replay of {lines(tape)[0]['recorded'][:10]} at 1000\N{MULTIPLICATION SIGN}"
    )
    with pytest.raises(NotRecordedError, match="is not in"):
        complete("Twice upon", max_tokens=6, seed=1)


def test_at_the_pace_of_then_the_note_says_only_the_day(tape):
    write(tape, entry(CHAT, pieces=[(0, event("Yes", "stop")), (0, "data: [DONE]\n\n")]))
    replay(tape, speed=1)
    assert complete("Hi", api="chat").note == "a replay of 2026-11-26"


@pytest.mark.parametrize(
    ("status", "headers"),
    [(400, {}), (401, {}), (403, {}), (404, {}), (429, {"Retry-After": "70", "X-RateLimit-Limit": "60"}), (503, {})],
)
def test_an_error_reply_is_played_back_as_the_same_error(tape, status, headers):
    script = replies(status, {"error": {"message": f"So it is: {status}"}}, **headers)
    live = record(tape, script, lambda: complete("Tell", api="chat", api_key=KEY))
    replay(tape)
    with pytest.raises(type(live)) as caught:
        complete("Tell", api="chat", api_key=KEY, base_url="http://127.0.0.1:9")
    assert isinstance(live, APIStatusError)
    assert str(caught.value) == str(live)
    assert (caught.value.passing, caught.value.retry_after) == (live.passing, live.retry_after)


def test_a_refusal_and_its_retry_are_played_in_order_and_from_the_first_again(tape, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    settings.max_retries = 1
    record(
        tape,
        in_turn(replies(429, {"error": {"message": "slow down"}}), answers(["Yes"])),
        lambda: complete("Tell", api="chat"),
    )
    assert [one["status"] for one in entries(tape)] == [429, 200]
    replay(tape)
    assert complete("Tell", api="chat").text == "Yes"
    settings.max_retries = 0
    with pytest.raises(RateLimitError):
        complete("Tell", api="chat")
    assert complete("Tell", api="chat").text == "Yes"


def test_several_answers_to_one_request_come_in_their_order(tape):
    record(
        tape,
        in_turn(answers(["one"]), answers(["two"])),
        lambda: [complete("Tell", api="chat") for _ in range(2)],
    )
    replay(tape)
    assert [complete("Tell", api="chat").text for _ in range(3)] == ["one", "two", "one"]


def _cut(exchange):
    exchange.chunked().text_events(TEXTS[:2])
    exchange.cut()


def _no_reply(exchange):
    exchange.cut(reset=True)


@pytest.mark.parametrize(("script", "kind"), [(_cut, ConnectionLostError), (_no_reply, APIConnectionError)])
def test_a_broken_connection_breaks_again_in_the_same_words(tape, script, kind):
    live = record(tape, script, lambda: complete("Tell", api="chat", api_key=KEY))
    assert entries(tape)[0]["end"]["how"] == "broken"
    replay(tape)
    with pytest.raises(kind) as caught:
        complete("Tell", api="chat")
    assert str(caught.value) == str(live)
    assert caught.value.passing == live.passing
    assert told(caught.value.completion) == told(live.completion)


def test_a_time_out_is_one_again(tape):
    settings.timeout = 0.05
    live = record(tape, lambda exchange: exchange.await_close(), lambda: complete("Tell", api="chat"))
    replay(tape)
    with pytest.raises(APITimeoutError) as caught:
        complete("Tell", api="chat")
    assert str(caught.value) == str(live)


def stop_after_one():
    with stream("Tell", api="chat") as opened:
        next(opened)
        opened.cancel()
        list(opened)


def abandon():
    opened = stream("Tell", api="chat")
    next(opened)
    del opened
    gc.collect()


def fail_within():
    with contextlib.suppress(ZeroDivisionError), stream("Tell", api="chat") as opened:
        for _ in opened:
            raise ZeroDivisionError


@pytest.mark.parametrize("ask", [stop_after_one, abandon, fail_within])
def test_what_was_stopped_or_abandoned_ends_where_it_did(tape, ask):
    record(tape, silent_after(["Once"]), ask)
    assert [one["end"]["how"] for one in entries(tape)] == ["stopped"]
    replay(tape)
    with pytest.raises(
        ConnectionLostError, match=r"The recording of this answer ends here: it was stopped\."
    ) as caught:
        complete("Tell", api="chat")
    assert caught.value.completion.text == "Once"


def test_a_stopped_answer_is_passed_over_where_there_is_a_whole_one(tape):
    stopped = entry(CHAT, pieces=[(0, event("Ye"))], end=End(STOPPED, 0))
    write(tape, stopped, entry(CHAT, pieces=[(0, event("Yes", "stop"))]), stopped)
    replay(tape)
    assert [complete("Hi", api="chat").text for _ in range(2)] == ["Yes", "Yes"]


def test_what_is_never_sent_is_not_written(tape):
    recording.record(tape)
    with stream("Tell", api="chat", model="m", base_url="http://127.0.0.1:9"):
        pass
    assert entries(tape) == []


def test_the_lines_of_the_stream_are_those_of_then(tape):
    def tapped():
        opened = stream("Tell", api="chat")
        opened.wiretap = Wiretap()
        list(opened)
        return [line.text for line in opened.wiretap.since(0)]

    live = record(tape, answers(TEXTS), tapped)
    replay(tape)
    assert tapped() == live
    assert live[-2:] == ["data: [DONE]", ""]


PIECES = st.lists(st.binary(max_size=12) | st.text(max_size=6).map(str.encode), max_size=8)


@given(PIECES)
@example([b"\xe2\x82", b"\xac\xff\xed\xa0\x80"])
def test_any_bytes_cut_anywhere_survive(pieces):
    kept = list(_decoded([(float(number), piece) for number, piece in enumerate(pieces)]))
    through = Entry.from_dict(json.loads(json.dumps(entry(pieces=kept).to_dict())))
    assert b"".join(text.encode(errors="surrogateescape") for _, text in through.pieces) == b"".join(pieces)
    assert [seconds for seconds, _ in through.pieces] == sorted(seconds for seconds, _ in through.pieces)


def test_bytes_that_are_no_text_are_played_back(tape):
    def script(exchange):
        data = event("a€b", "stop").replace("\\u20ac", "€").encode().replace(b"b", b"\xffb") + b"data: [DONE]\n\n"
        for at in range(0, len(data), 3):
            exchange.send(data[at : at + 3])

    live = record(tape, script, lambda: complete("Tell", api="chat"))
    written = "".join(text for _, text in entries(tape)[0]["pieces"])
    assert b"a\xe2\x82\xac\xffb" in written.encode(errors="surrogateescape")
    replay(tape)
    assert complete("Tell", api="chat").text == live.text


def test_two_threads_are_recorded_and_played_at_once(tape):
    ready = threading.Barrier(2)

    def script(exchange):
        ready.wait(PATIENCE)  # both have been asked
        answers([exchange.request.json()["messages"][0]["content"]] * 50)(exchange)

    def both():
        found = {}
        threads = [
            threading.Thread(target=lambda name=name: found.update({name: complete(name, api="chat").text}))
            for name in ("one", "two")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        return found

    wanted = {name: name * 50 for name in ("one", "two")}
    assert record(tape, script, both) == wanted
    replay(tape)
    assert both() == wanted


# The key


def _repeats_the_key(exchange):
    exchange.chunked()
    whole = event(f"You said {KEY} to me").encode()
    for at in range(0, len(whole), 5):
        exchange.send(whole[at : at + 5])
    for at in range(0, len(KEY), 4):
        exchange.event(exchange.payload(KEY[at : at + 4]))
    exchange.event(exchange.payload(".", finish="stop"))
    exchange.done()


def test_the_key_is_in_nothing_that_is_recorded(tape):
    live = record(tape, _repeats_the_key, lambda: complete(f"My key: {KEY}", api="chat", api_key=KEY))
    assert live.text == f"You said {KEY} to me{KEY}."  # it was there to be written
    written = tape.read_text()
    for at in range(len(KEY) - 7):
        assert KEY[at : at + 8] not in written
    assert "authorization" not in written.lower()
    replay(tape)
    assert complete(f"My key: {KEY}", api="chat", api_key=KEY).text == "You said … to me…."


def test_the_key_in_a_prompt_to_a_server_that_is_sent_none_is_not_recorded(tape):
    settings.api_key = KEY
    recording.record(tape)
    live = complete(f"My key: {KEY}", model="local/ngram", max_tokens=3, seed=1, echo=True)
    recording.stop()
    assert live.text.startswith(f"My key: {KEY}")
    assert KEY[:8] not in tape.read_text()
    replay(tape)
    again = complete(f"My key: {KEY}", model="local/ngram", max_tokens=3, seed=1, echo=True)
    assert again.text == live.text.replace(KEY, "…")


def test_the_key_is_not_in_a_recorded_refusal(tape):
    script = replies(401, {"error": {"message": f"Wrong key: {KEY}"}}, set_cookie="a=b", x_ratelimit_limit=KEY)
    record(tape, script, lambda: complete("Tell", api="chat", api_key=KEY))
    assert KEY[:8] not in tape.read_text()
    assert sorted(entries(tape)[0]["headers"]) == ["Content-Type", "X-Ratelimit-Limit"]


@given(st.lists(st.integers(0, 60), max_size=6), st.text("ab \n", max_size=10), st.text("cd \n", max_size=10))
def test_a_key_cut_anywhere_is_blanked_and_the_rest_is_kept(cuts, before, after):
    whole = before + KEY + after
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [(float(at), whole[begin:end]) for at, (begin, end) in enumerate(itertools.pairwise(places))]
    found = without_key(pieces, Key(KEY, "a test"))
    assert "".join(text for _, text in found) == f"{before}…{after}"
    assert [seconds for seconds, _ in found] == sorted(seconds for seconds, _ in found)


def test_only_the_pieces_that_hold_the_key_are_merged():
    pieces = [(1.0, "a"), (2.0, f"b{KEY[:20]}"), (3.0, f"{KEY[20:]}c"), (4.0, "d")]
    assert without_key(pieces, Key(KEY, "a test")) == [(1.0, "a"), (3.0, "b…c"), (4.0, "d")]


# Time


class Clock:
    """A clock that goes on only while somebody sleeps, or when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(replaying, "monotonic", lambda: self.now)
        monkeypatch.setattr(replaying, "_sleep", self.sleep)

    def sleep(self, _, seconds):
        self.now += seconds


@pytest.mark.parametrize("speed", [0.5, 1, 4])
def test_each_piece_comes_at_its_time_and_never_drifts(tape, monkeypatch, speed):
    clock = Clock(monkeypatch)
    times = [0.2, 0.25, 1.0, 3.0, 3.5]
    write(tape, entry(CHAT, pieces=[(at, event(f"{at}")) for at in times], opened=0.1, end=End(WHOLE, 5.0)))
    replay(tape, speed=speed)
    exchange = recording.exchange("POST", "http://h", "/v1/chat/completions", CHAT, key=None)
    exchange.open()
    assert clock.now - 1000 == pytest.approx(0.1 / speed)
    came = []
    for _ in exchange.pieces():
        came.append(clock.now - 1000)
        if len(came) == 3:
            clock.now += 0.5 / speed  # who draws takes its time: the next one comes when it would have
    assert came == pytest.approx([at / speed for at in times])
    assert clock.now - 1000 == pytest.approx(5 / speed)


def test_at_speed_0_nothing_is_waited_for(tape, monkeypatch):
    clock = Clock(monkeypatch)
    write(tape, entry(CHAT, pieces=[(3600, event("Yes", "stop"))], opened=1800, end=End(WHOLE, 7200)))
    replay(tape)
    assert complete("Hi", api="chat").text == "Yes"
    assert clock.now == 1000


def test_the_times_that_are_written_are_those_of_the_bytes(tape):
    gate = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["one"])
        exchange.pause(gate)
        exchange.wait(0.2)
        exchange.event(exchange.payload("two", finish="stop"))
        exchange.done()

    def ask():
        for _ in stream("Tell", api="chat"):
            gate.set()

    record(tape, script, ask)
    (one,) = entries(tape)
    first, second = one["pieces"][0][0], one["pieces"][1][0]
    assert 0 < one["opened"] <= first
    assert second - first >= 0.2
    assert second <= one["end"]["seconds"]


@pytest.mark.parametrize(("opened", "first"), [(3600, 3600), (0, 3600)])
def test_a_replayed_wait_is_cancelled_by_any_thread(tape, monkeypatch, opened, first):
    waits = threading.Event()
    usual = replaying._sleep
    monkeypatch.setattr(replaying, "_sleep", lambda until, seconds: (waits.set(), usual(until, seconds)))
    write(tape, entry(CHAT, pieces=[(first, event("Yes"))], opened=opened, end=End(WHOLE, 3600)))
    replay(tape, speed=1)
    opened_stream = stream("Hi", api="chat")
    thread = threading.Thread(target=lambda: list(opened_stream))
    thread.start()
    assert waits.wait(PATIENCE)
    opened_stream.cancel()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert opened_stream.completion.cancelled


# What is chosen, and the list of models


def test_a_request_without_a_model_goes_to_that_of_the_recording(tape):
    settings.api_key = KEY
    recording.record(tape)
    assert lines(tape)[0]["model"] == DEFAULT_MODEL
    recording.stop()
    settings.api_key = None
    write(tape, entry({**CHAT, "model": "a/b"}, pieces=[(0, event("Yes", "stop"))]), model="a/b")
    replay(tape)
    assert complete("Hi", api="chat").text == "Yes"
    assert standing() == ("a/b", f"a replay of 2026-11-26 at full speed, {tape}")


def test_where_the_recording_names_no_model_it_is_the_first_ones(tape):
    write(tape, entry(CHAT, pieces=[(0, event("Yes", "stop"))]), model="")
    replay(tape)
    assert complete("Hi", api="chat").request.model == "m"


def test_the_list_and_its_prices_come_from_the_recording_and_stay_there(tape):
    live = record(tape, answers(TEXTS), lambda: (models(), complete("Tell", api="auto")))[1]
    assert live.price == (1.0, 2.0)
    replay(tape)
    assert [row.id for row in models()] == ["test/chat", "test/base"]
    again = complete("Tell")
    assert (again.price, again.cost) == (live.price, live.cost)
    recording.stop()
    assert [row.id for row in models()] == ["local/ngram"]


def test_a_list_that_was_known_before_is_asked_for_again_while_recording(tape):
    with ScriptedServer(answers(["Yes"])) as server:
        models(base_url=server.base_url)
        recording.record(tape)
        complete("Tell", model="test/base", base_url=server.base_url)
    assert len(entries(tape, "GET")) == 1
    recording.stop()
    replay(tape)
    assert complete("Tell", model="test/base").api == "completions"


def test_a_list_that_was_not_recorded_is_missed_by_nobody(tape):
    write(tape, entry(CHAT, pieces=[(0, event("Yes", "stop"))]))
    replay(tape)
    assert complete("Hi").text == "Yes"
    assert models() == []
    with pytest.raises(NotFoundError):
        models(fresh=True)


def test_the_embedded_engines_list_is_told_from_a_services(tape):
    for loopback, name in ((True, "here"), (False, "there")):
        rows = json.dumps([{"id": name, "type": "chat"}])
        one = entry(pieces=[(0, rows)], method="GET", path="/v1/models", loopback=loopback)
        write(tape, *(Replay.read(tape).entries if tape.exists() else ()), one)
    replay(tape)
    assert [row.id for row in models()] == ["there"]
    assert [row.id for row in models(base_url="http://127.0.0.1:9")] == ["here"]


# What is not in the file


def test_what_was_not_recorded_is_told_with_what_differs(tape):
    near = {**CHAT, "temperature": 0.7}
    write(tape, entry({**CHAT, "messages": [{"role": "user", "content": "Something else"}]}), entry(near))
    replay(tape)
    with pytest.raises(NotRecordedError) as caught:
        complete("Hi", api="chat", temperature=0.5)
    assert caught.value.message == "This request is not in lesson.jsonl."
    assert caught.value.hint == (
        "In the nearest one that is, temperature was 0.7. `%together replay off` ends the replay."
    )
    with pytest.raises(NotRecordedError, match=r"the prompt was “Hi”; max_tokens was not set; temperature was 0\.7"):
        complete("Hi!", api="chat", max_tokens=3)
    with pytest.raises(NotRecordedError, match="the API was chat"):
        complete("Hi", api="completions")
    with pytest.raises(NotRecordedError, match=r"the messages before the prompt were others; temperature was 0\.7"):
        complete("Hi", api="chat", system="Be kind")
    assert caught.value.completion.came_to_nothing


def test_a_whole_number_is_found_however_it_is_written(tape):
    write(tape, entry({**CHAT, "temperature": 1}, pieces=[(0, event("Yes", "stop"))]))
    replay(tape)
    assert complete("Hi", api="chat", temperature=1.0).text == "Yes"


# Files, and what may not be on at once


def test_a_file_that_exists_is_kept_unless_forced(tape):
    tape.write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        recording.record(tape)
    assert tape.read_text() == "precious"
    assert recording.current() is None
    recording.record(tape, force=True)
    assert lines(tape)[0]["together_nb"] == "recording"


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        recording.record(tmp_path / "none" / "a.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        recording.replay(tmp_path / "a.jsonl")
    for call in (recording.record, recording.replay):
        with pytest.raises(InputError, match="name is missing"):
            call(" ")


def test_recording_anew_ends_the_first_and_says_so(tmp_path):
    assert "ended" not in recording.record(tmp_path / "a.jsonl")
    said = recording.record(tmp_path / "b.jsonl")
    assert f"The recording before has ended: {tmp_path / 'a.jsonl'} holds 0 recorded exchanges." in said
    assert recording.stop() == f"The recording has ended: {tmp_path / 'b.jsonl'} holds 0 recorded exchanges."
    assert recording.stop() is None


def test_an_answer_under_way_is_still_written_to_its_own_recording_and_to_no_other(tape, tmp_path):
    gate = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["one"])
        exchange.pause(gate)
        answers(["two"])(exchange)

    with ScriptedServer(script) as server:
        recording.record(tape)
        first = stream("Tell", api="chat", model="m", base_url=server.base_url)
        next(first)
        recording.record(tmp_path / "other.jsonl")
        second = stream("Tell", api="chat", model="m", base_url=server.base_url)
        next(second)
        recording.record(tmp_path / "other.jsonl", force=True)
        gate.set()
        list(first)
        list(second)
    assert len(entries(tape)) == 1
    assert entries(tmp_path / "other.jsonl") == []


def test_one_does_not_record_what_is_played_back(tape, tmp_path):
    recording.record(tape)
    with pytest.raises(InputError, match="being recorded") as caught:
        recording.replay(tape)
    assert "record off" in caught.value.hint
    recording.stop()
    write(tape, entry(CHAT))
    replay(tape)
    with pytest.raises(InputError, match="played back") as caught:
        recording.record(tmp_path / "b.jsonl")
    assert "replay off" in caught.value.hint
    assert f"The replay of {tape} has ended." in replay(tape)
    assert recording.stop() == f"The replay of {tape} has ended."


@pytest.mark.parametrize("speed", [-1, float("nan"), float("inf"), True, "2", None])
def test_a_speed_is_a_number_from_0(tape, speed):
    write(tape, entry(CHAT))
    with pytest.raises(InputError, match="speed must be a number"):
        recording.replay(tape, speed=speed)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no recording"),
        (b"\xff\xfe", "is no recording"),
        (b"[]\n", "is no recording"),
        (b'{"together_nb": "history", "version": 1}\n', "is no recording"),
        (b'{"together_nb": "recording", "version": 2}\n', "version 2; here only 1"),
        (b'{"together_nb": "recording", "version": 1}\n', "holds no exchange"),
        (b'{"together_nb": "recording", "version": 1}\n{}\n{}\n', "Line 2 of .* is no recorded exchange"),
        (b'{"together_nb": "recording", "version": 1}\n{"end": 3}\n', "Line 2 of .* is no recorded exchange"),
        (b'{"together_nb": "recording", "version": 1}\n{"cut\n{"cut', "Line 2 of .* is no recorded exchange"),
    ],
)
def test_a_file_that_is_no_recording_is_told_from_one(tape, content, words):
    tape.write_bytes(content)
    with pytest.raises(InputError, match=words):
        recording.replay(tape)
    assert recording.current() is None


def test_a_last_line_that_was_cut_costs_only_itself(tape):
    write(tape, entry(CHAT, pieces=[(0, event("Yes", "stop"))]), entry(CHAT, pieces=[(0, event("No", "stop"))]))
    tape.write_text(tape.read_text()[:-40])
    assert "1 exchange of 2026-11-26. Its last line was cut, and is left out." in replay(tape)
    assert complete("Hi", api="chat").text == "Yes"


def test_a_recording_that_is_taken_away_costs_no_answer(tape, caplog):
    def ask():
        tape.unlink()
        return [complete("Tell", api="chat").text for _ in range(2)]

    assert record(tape, answers(["Yes"]), ask) == ["Yes", "Yes"]
    assert not tape.exists()
    assert [one.getMessage()[:33] for one in caplog.records] == ["The recording lacks an answer. " + str(tape)[:2]]


def test_what_is_played_back_tells_what_it_cost_then_and_costs_nothing_now(tape):
    live = record(tape, answers(TEXTS), lambda: (models(), complete("Tell"))[1])
    assert live.cost > 0
    replay(tape)
    settings.budget = live.cost / 2  # which is spent
    assert complete("Tell").cost == live.cost
    assert ledger.total().calls == 1


def test_history_keeps_what_is_played_back(tape):
    write(tape, entry(CHAT, pieces=[(0, event("Yes", "stop"))]))
    replay(tape)
    complete("Hi", api="chat")
    assert history[-1].note == "a replay of 2026-11-26 at full speed"


# A lesson


def test_a_teacher_records_with_a_key_and_a_class_replays_without_one(tape, tmp_path):
    kernels = []

    def kernel(**environment):
        kernels.append(Kernel(tmp_path, **environment))
        return kernels[-1]

    cell = "%%together --temperature 0.5 -o answer\nTell"
    try:
        with ScriptedServer(answers(TEXTS)) as server:
            teacher = kernel(TOGETHER_API_KEY=KEY, TOGETHER_BASE_URL=server.base_url, TOGETHER_MODEL="test/chat")
            teacher.run(f"from together_nb import recording; recording.record({str(tape)!r})").wait()
            assert teacher.run(cell).wait().status == "ok"
            teacher.manager.shutdown_kernel(now=True)
            asked = len(server.requests)
        assert KEY not in tape.read_text()
        student = kernel()
        student.run(f"from together_nb import recording; recording.replay({str(tape)!r})").wait()
        run = student.run(cell).wait()
        assert run.status == "ok"
        assert student.value("answer.text") == repr("".join(TEXTS))
        day = lines(tape)[0]["recorded"][:10]
        assert run.display["data"]["text/plain"].endswith(f" · a replay of {day}]")
        assert run.display["metadata"]["together_nb"]["model"] == "test/chat"
        missing = student.run("%%together\nSomething else").wait()
        assert missing.error["ename"] == "NotRecordedError"
        assert asked == 1
    finally:
        for one in kernels:
            one.stop()
