"""Recording at the wire, and playing it back without a key and a network."""

from __future__ import annotations

import gc
import itertools
import json
import re
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import together_nb
from tests.panel.test_panel import held_until, in_turn
from tests.servers import PATIENCE, ScriptedServer, answers, replies, silent_after
from together_nb import errors
from together_nb.config.keys import Key
from together_nb.config.settings import DEFAULT_MODEL
from together_nb.errors import InputError, NotRecordedError, TogetherError
from together_nb.run.resolve import described_defaults
from together_nb.storage import player as replaying
from together_nb.storage.entry import WHOLE, End, Entry
from together_nb.storage.player import Replay
from together_nb.storage.recorder import _decoded
from together_nb.storage.redact import without_key
from together_nb.wire import retry
from together_nb.wire.endpoint import Endpoint

KEY = "tgp_v1_canary-0123456789-abcdefghij"
PORT = re.compile(r"(?<=127\.0\.0\.1):\d+")  # a 404 names the address that was asked
TEXTS = ["Once", " upon", " a — €", " time"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.fixture
def tape(tmp_path):
    return tmp_path / "lesson.jsonl"


def record(tape, script, ask):
    """Record what `ask` asks of a server that does `script`, and stop the server; gives what `ask` gave or raised."""
    with ScriptedServer(script) as server:
        together_nb.settings.base_url, together_nb.settings.model = server.base_url, "test/chat"
        together_nb.record(tape)
        try:
            return ask()
        except TogetherError as error:
            return error
        finally:
            together_nb.stop()
            together_nb.settings.base_url = together_nb.settings.model = None


def tell(**options):
    return together_nb.complete("Tell", api="chat", **options)


def replay(tape, **options):
    return together_nb.replay(tape, **{"speed": 0, **options})


def lines(tape):
    return [json.loads(line) for line in tape.read_text().splitlines()]


def entries(tape, method="POST"):
    return [one for one in lines(tape)[1:] if one["method"] == method]


def entry(payload=None, *, pieces=(), end=None, status=200, **more):
    values = {"method": "POST", "path": "/v1/chat/completions", "loopback": False, "opened": 0.0, **more}
    headers = {"Content-Type": "text/event-stream"}
    end = end or End(WHOLE, 0)
    return Entry(payload=payload, status=status, headers=headers, pieces=list(pieces), end=end, **values)


def event(text, finish=None):
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}, 'finish_reason': finish}]})}\n\n"


YES = entry(CHAT, pieces=[(0, event("Yes", "stop"))])


def write(tape, *exchanges, **head):
    start = {"together_nb": "recording", "version": 1, "recorded": "2026-11-26T10:00:00Z", "model": "m", **head}
    tape.write_text("".join(json.dumps(one) + "\n" for one in (start, *(one.to_dict() for one in exchanges))))


def facts(completion):
    return completion.text, completion.finish_reason, completion.usage, completion.chunks, completion.model


def refuse(words, status, **headers):
    return replies(status, {"error": {"message": f"So it is: {words}"}}, **headers)


@pytest.mark.parametrize("api", ["chat", "completions", "inference", ""])
def test_an_answer_is_played_back_without_a_key_and_a_server(tape, api):
    def script(exchange):
        exchange.chunked().send(b": no text \xff\xe2\x82")
        exchange.send(b"\xac\n\n")
        answers(TEXTS)(exchange)

    local = {"api": "completions", "model": "local/ngram", "max_tokens": 6, "seed": 1}
    options = {"api": api} if api else local
    live = record(tape, script, lambda: together_nb.complete("Tell", temperature=0.5, api_key=KEY, **options))
    replay(tape)
    again = together_nb.complete("Tell", temperature=0.5, **options)
    assert facts(again) == facts(live)
    day = lines(tape)[0]["recorded"][:10]
    assert again.note == " · ".join(filter(None, (live.note, f"a replay of {day} at full speed")))


@pytest.mark.parametrize(("speed", "pace"), [(1, ""), (0, " at full speed"), (1000, " at 1000\N{MULTIPLICATION SIGN}")])
def test_the_note_says_the_day_and_a_pace_other_than_that_of_then(tape, speed, pace):
    write(tape, entry({**CHAT, "temperature": 1}, pieces=YES.pieces))  # 1 and 1.0 are one question
    replay(tape, speed=speed)
    assert together_nb.complete("Hi", api="chat", temperature=1.0) is together_nb.history[-1]
    assert together_nb.history[-1].note == f"a replay of 2026-11-26{pace}"


def test_answers_to_one_request_a_refusal_among_them_come_in_their_order_and_from_the_first_again(tape, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_SECONDS", 0.001)
    together_nb.settings.max_retries = 1
    script = in_turn(refuse("slow down", 429), answers(["one"]), answers(["two"]))
    record(tape, script, lambda: [tell(), tell()])
    assert [one["status"] for one in entries(tape)] == [429, 200, 200]
    replay(tape)
    assert [tell().text, tell().text] == ["one", "two"]
    together_nb.settings.max_retries = 0
    with pytest.raises(errors.RateLimitError):
        tell()
    assert tell().text == "one"


def cut(exchange):
    exchange.chunked().text_events(TEXTS[:2])
    exchange.cut()


@pytest.mark.parametrize(
    ("script", "kind", "how"),
    [
        *((refuse("no", status), errors.APIStatusError, "whole") for status in (400, 401, 403, 404, 503)),
        (refuse("slow down", 429, **{"Retry-After": "70", "X-RateLimit-Limit": "60"}), errors.RateLimitError, "whole"),
        (cut, errors.ConnectionLostError, "broken"),
        (lambda exchange: exchange.cut(reset=True), errors.APIConnectionError, "broken"),
        (lambda exchange: exchange.await_close(), errors.APITimeoutError, "broken"),
    ],
)
def test_an_error_is_played_back_as_the_same_error_in_the_same_words(tape, script, kind, how):
    timeout = 0.05 if kind is errors.APITimeoutError else None
    live = record(tape, script, lambda: tell(api_key=KEY, timeout=timeout))
    assert isinstance(live, kind)
    assert entries(tape)[0]["end"]["how"] == how
    replay(tape)
    with pytest.raises(type(live)) as caught:
        tell(api_key=KEY, base_url="http://127.0.0.1:9")
    for name in ("message", "hint", "passing", "retry_after"):
        played, was = (PORT.sub("", str(getattr(error, name, None))) for error in (caught.value, live))
        assert played == was
    assert facts(caught.value.completion) == facts(live.completion)


def stop_after_one():
    with together_nb.stream("Tell", api="chat") as chunks:
        next(chunks)
        chunks.cancel()
        list(chunks)


def abandon():
    chunks = together_nb.stream("Tell", api="chat")
    next(chunks)
    del chunks
    gc.collect()


@pytest.mark.parametrize("ask", [stop_after_one, abandon])
def test_what_was_stopped_or_abandoned_ends_where_it_did_unless_there_is_a_whole_one(tape, ask):
    record(tape, silent_after(["Once"]), ask)
    assert [one["end"]["how"] for one in entries(tape)] == ["stopped"]
    replay(tape)
    with pytest.raises(errors.ConnectionLostError, match="it was stopped") as caught:
        tell()
    assert caught.value.completion.text == "Once"
    (stopped,) = Replay(tape).entries
    write(tape, stopped, replace(YES, payload=stopped.payload), stopped, model="test/chat")
    replay(tape)
    assert [tell().text for _ in range(2)] == ["Yes", "Yes"]


@given(st.lists(st.binary(max_size=12) | st.text(max_size=6).map(str.encode), max_size=8))
@example([b"\xe2\x82", b"\xac\xff\xed\xa0\x80"])
def test_any_bytes_cut_anywhere_survive(pieces):
    kept = list(_decoded([(float(number), piece) for number, piece in enumerate(pieces)]))
    through = Entry.from_dict(json.loads(json.dumps(entry(pieces=kept).to_dict())))
    assert b"".join(text.encode(errors="surrogateescape") for _, text in through.pieces) == b"".join(pieces)
    assert [seconds for seconds, _ in through.pieces] == sorted(seconds for seconds, _ in through.pieces)


def test_the_key_of_a_call_is_in_nothing_that_is_recorded_nor_are_the_headers_that_hold_one(tape):
    refusal = refuse(KEY, 401, set_cookie="a=b", x_ratelimit_limit=KEY)
    record(tape, refusal, lambda: tell(system=f"My key: {KEY}", api_key=KEY))
    assert KEY[:8] not in tape.read_text()
    assert "authorization" not in tape.read_text().lower()
    assert sorted(entries(tape)[0]["headers"]) == ["Content-Type", "X-Ratelimit-Limit"]


@given(st.lists(st.integers(0, 60), max_size=6), st.text("ab \n", max_size=10), st.text("cd \n", max_size=10))
def test_a_key_cut_anywhere_is_blanked_and_the_rest_is_kept(cuts, before, after):
    whole = before + KEY + after
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [(float(at), whole[begin:end]) for at, (begin, end) in enumerate(itertools.pairwise(places))]
    kept = without_key(pieces, Key(KEY, "a test"))
    assert "".join(text for _, text in kept) == f"{before}…{after}"
    assert [seconds for seconds, _ in kept] == sorted(seconds for seconds, _ in kept)


def test_only_the_pieces_that_hold_the_key_are_merged():
    pieces = [(1.0, "a"), (2.0, f"b{KEY[:20]}"), (3.0, f"{KEY[20:]}c"), (4.0, "d")]
    assert without_key(pieces, Key(KEY, "a test")) == [(1.0, "a"), (3.0, "b…c"), (4.0, "d")]


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on only while somebody sleeps, or when it is set."""
    clock = SimpleNamespace(now=1000.0)

    def sleep(seconds):
        clock.now += seconds

    monkeypatch.setattr(replaying, "monotonic", lambda: clock.now)
    monkeypatch.setattr(replaying, "sleep", sleep)
    return clock


@pytest.mark.parametrize("speed", [0, 0.5, 1, 4])
def test_each_piece_comes_at_its_time_and_never_drifts_or_goes_back(tape, clock, speed):
    times, factor = [0.2, 0.25, 1.0, 3.0, 3.5, 3.2], 1 / speed if speed else 0
    write(tape, entry(CHAT, pieces=[(at, event(f"{at}")) for at in times], opened=0.1, end=End(WHOLE, 5.0)))
    replay(tape, speed=speed)
    assert [at for at, _ in Replay(tape).entries[0].pieces] == [*times[:-1], 3.5]
    exchange = Endpoint(together_nb.session.default.client, "http://h").exchange("POST", "/v1/chat/completions", CHAT)
    exchange.open()
    assert clock.now - 1000 == pytest.approx(0.1 * factor)
    arrivals = []
    for _ in exchange.pieces():
        arrivals.append(clock.now - 1000)
        if len(arrivals) == 3:
            clock.now += 0.5 * factor  # a slow reader: the next piece still comes at its own time
    assert arrivals == pytest.approx([at * factor for at in (*times[:-1], 3.5)])
    assert clock.now - 1000 == pytest.approx(5 * factor)


def test_the_times_that_are_written_are_those_of_the_bytes(tape):
    gate = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(["one"])
        exchange.pause(gate)
        exchange.wait(0.2)
        answers(["two"])(exchange)

    record(tape, script, lambda: [gate.set() for _ in together_nb.stream("Tell", api="chat")])
    (one,) = entries(tape)
    (first, _), (second, _), *_ = one["pieces"]
    assert 0 < one["opened"] <= first <= second - 0.2
    assert second <= one["end"]["seconds"]


@pytest.mark.parametrize("headers", [3600, 0])
def test_a_replayed_wait_is_cancelled_by_any_thread(tape, monkeypatch, headers):
    waits, usual = threading.Event(), replaying.sleep
    monkeypatch.setattr(replaying, "sleep", lambda seconds: (waits.set(), usual(seconds)))
    write(tape, entry(CHAT, pieces=[(3600, event("Yes"))], opened=headers, end=End(WHOLE, 3600)))
    replay(tape, speed=1)
    chunks = together_nb.stream("Hi", api="chat")
    thread = threading.Thread(target=lambda: list(chunks))
    thread.start()
    assert waits.wait(PATIENCE)
    chunks.cancel()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert chunks.completion.cancelled


@pytest.mark.parametrize(("head", "model"), [("m", "m"), ("", "a/b")])
def test_a_request_without_a_model_goes_to_that_of_the_recording_or_of_its_first_exchange(tape, head, model):
    together_nb.settings.api_key = KEY
    together_nb.record(tape)
    assert lines(tape)[0]["model"] == DEFAULT_MODEL
    together_nb.stop()
    together_nb.settings.api_key = None
    write(tape, replace(YES, payload={**CHAT, "model": "a/b"}), YES, model=head)
    replay(tape)
    assert together_nb.complete("Hi", api="chat").request.model == model
    assert described_defaults(together_nb.session.default) == (model, f"a replay of 2026-11-26 at full speed, {tape}")


def test_the_list_and_its_prices_come_from_the_recording_and_cost_nothing_now(tape):
    live = record(tape, answers(TEXTS), lambda: (together_nb.models(), together_nb.complete("Tell", api="auto")))[1]
    assert live.price == (1.0, 2.0)
    replay(tape)
    assert [row.id for row in together_nb.models()] == ["test/chat", "test/base"]
    together_nb.settings.budget = live.cost / 2  # which is spent
    again = together_nb.complete("Tell")
    assert (again.price, again.cost) == (live.price, live.cost)
    assert together_nb.ledger.total().calls == 1
    together_nb.stop()
    assert [row.id for row in together_nb.models()] == ["local/ngram"]


def test_a_list_that_was_known_before_is_asked_for_again_while_recording(tape):
    with ScriptedServer(answers(["Yes"])) as server:
        together_nb.models(base_url=server.base_url)
        together_nb.record(tape)
        together_nb.complete("Tell", model="test/base", base_url=server.base_url)
    assert len(entries(tape, "GET")) == 1
    together_nb.stop()
    replay(tape)
    assert together_nb.complete("Tell", model="test/base").api == "completions"


def test_a_list_that_was_not_recorded_is_missed_by_nobody_and_the_embedded_engines_is_told_from_a_services(tape):
    write(tape, YES)
    replay(tape)
    assert together_nb.complete("Hi").text == "Yes"
    assert together_nb.models() == []
    with pytest.raises(errors.NotFoundError):
        together_nb.models(fresh=True)
    for loopback, name in ((True, "here"), (False, "there")):
        rows = json.dumps([{"id": name, "type": "chat"}])
        one = entry(pieces=[(0, rows)], method="GET", path="/v1/models", loopback=loopback)
        write(tape, *Replay(tape).entries, one)
    replay(tape)
    assert [row.id for row in together_nb.models()] == ["there"]
    assert [row.id for row in together_nb.models(base_url="http://127.0.0.1:9")] == ["here"]


def test_what_was_not_recorded_is_told_with_what_differs(tape):
    near = {**CHAT, "temperature": 0.7}
    write(tape, entry({**CHAT, "messages": [{"role": "user", "content": "Something else"}]}), entry(near))
    replay(tape)
    with pytest.raises(NotRecordedError, match=r"not in lesson\.jsonl") as caught:
        together_nb.complete("Hi", api="chat", temperature=0.5)
    assert caught.value.hint.startswith("In the nearest one that is, temperature was 0.7. ")
    assert "replay off" in caught.value.hint
    assert caught.value.completion.came_to_nothing
    for prompt, options, words in [
        ("Hi!", {"max_tokens": 3}, r"the prompt was “Hi”; max_tokens was not set; temperature was 0\.7"),
        ("Hi", {"api": "completions"}, "the API was chat"),
        ("Hi", {"system": "Be kind"}, r"the messages before the prompt were others; temperature was 0\.7"),
    ]:
        with pytest.raises(NotRecordedError, match=words):
            together_nb.complete(prompt, **{"api": "chat", **options})


def test_an_answer_under_way_is_still_written_to_its_own_recording_and_to_no_other(tape, tmp_path, caplog):
    gate = threading.Event()
    with ScriptedServer(held_until(gate, answers(["two"]), before=["one"])) as server:
        options = {"api": "chat", "model": "m", "base_url": server.base_url}
        together_nb.record(tape)
        first = together_nb.stream("Tell", **options)
        next(first)
        together_nb.record(tmp_path / "other.jsonl")
        second = together_nb.stream("Tell", **options)
        next(second)
        together_nb.record(tmp_path / "other.jsonl", force=True)
        gate.set()
        list(first)
        list(second)
    assert len(entries(tape)) == 1
    assert entries(tmp_path / "other.jsonl") == []
    assert caplog.records == []  # that one is replaced is no failure


def test_one_does_not_record_what_is_played_back_and_what_is_begun_anew_ends_what_was_on(tape, tmp_path):
    assert "ended" not in str(together_nb.record(tmp_path / "a.jsonl"))
    assert f"has ended: {tmp_path / 'a.jsonl'} holds 0 recorded exchanges." in str(together_nb.record(tape))
    unread = together_nb.stream("Unread", model="m", api="chat", base_url="http://127.0.0.1:9")
    with unread, pytest.raises(InputError) as caught:
        together_nb.replay(tape)
    assert "record off" in caught.value.hint
    assert together_nb.stop() == f"The recording has ended: {tape} holds 0 recorded exchanges."
    write(tape, YES)
    replay(tape)
    with pytest.raises(InputError, match="played back") as caught:
        together_nb.record(tmp_path / "b.jsonl")
    assert "replay off" in caught.value.hint
    assert f"The replay of {tape} has ended." in str(replay(tape))
    assert together_nb.stop() == f"The replay of {tape} has ended."
    assert together_nb.stop() is None


@pytest.mark.parametrize("speed", [-1, float("nan"), float("inf"), True, "2", None])
def test_a_speed_is_a_number_from_0(tape, speed):
    write(tape, entry(CHAT))
    with pytest.raises(InputError, match="speed must be a number"):
        together_nb.replay(tape, speed=speed)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"together_nb": "history", "version": 1}', "is no recording"),
        ('{"together_nb": "recording", "version": 2}', "version 2; here only 1"),
        ('{"together_nb": "recording", "version": 1}\n{"cut\n{"cut', "Line 2 of .* is no recorded exchange"),
    ],
)
def test_a_file_that_is_no_recording_is_told_from_one(tape, content, words):
    tape.write_text(content)
    with pytest.raises(InputError, match=words):
        together_nb.replay(tape)
    assert together_nb.session.default._recording is None
