"""A completion as a stream: whole or not, stopped or broken off, and what is kept of it."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import threading
import time

import pytest

from tests.servers import DIALECTS, PATIENCE, ScriptedServer, answers, endless, replies, silent, silent_after
from tests.test_transport import KINDS
from together_nb import complete, stream
from together_nb.completion import Usage
from together_nb.config import settings
from together_nb.errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    ConnectionLostError,
    InputError,
    StreamError,
)
from together_nb.transport import Exchange

pytestmark = pytest.mark.timeout(40)

KEY = "sk-secret-0123456789abcdef"
TEXTS = ["Once", " upon", " a", " time", " — €"]


def opened(server, prompt="Tell me", **options):
    options = {"model": "test/chat", "api": "chat", "api_key": KEY, "timeout": 30} | options
    return stream(prompt, base_url=server.base_url, **options)


def texts_of(chunks):
    return [chunk.text for chunk in chunks if chunk.text]


def failed(server, kind, **options):
    """The error of a stream that fails; it holds what had come, and the request was sent once."""
    answer = opened(server, **options)
    with pytest.raises(kind) as caught:
        list(answer)
    error = caught.value
    assert type(error) is kind
    assert error.completion.text == answer.completion.text
    assert not answer.cancelled
    assert KEY not in f"{error!r} {error} {error._render_traceback_()} {error.completion!r}"
    assert KEY.encode() not in pickle.dumps(error)
    assert server.arrived.wait(PATIENCE)
    assert len(server.requests) == 1
    return error


@pytest.mark.parametrize("dialect", DIALECTS.values())
@pytest.mark.parametrize("kind", KINDS)
def test_each_token_is_delivered_before_the_next_is_sent(kind, dialect, tls):
    """The server waits until the client has said that it has a token: what buffers, deadlocks."""
    had = [threading.Event() for _ in TEXTS]

    def script(exchange):
        KINDS[kind](exchange).headers()
        for text, event in zip(TEXTS, had, strict=True):
            exchange.text_events([text])
            exchange.pause(event)
        exchange.event(exchange.payload("", finish="stop"))
        exchange.done()

    with ScriptedServer(script, tls=tls) as server:
        got = []
        for chunk in opened(server, api=dialect):
            if chunk.text:
                got.append(chunk.text)
                had[len(got) - 1].set()
    assert got == TEXTS


@pytest.mark.parametrize("dialect", DIALECTS.values())
def test_an_answer_is_what_the_server_sent(dialect):
    with ScriptedServer(answers(TEXTS, finish="length")) as server, opened(server, api=dialect, max_tokens=5) as answer:
        chunks = list(answer)
        completion = answer.completion
    assert texts_of(chunks) == TEXTS
    assert completion.text == "Once upon a time — €"
    assert completion.finish_reason == "length"
    assert completion.truncated
    assert completion.usage == Usage(5, 5, 10)
    assert completion.id == "test-1"
    assert completion.model == ("" if dialect == "inference" else "test/chat")
    assert 0 < completion.timings.first_token <= completion.timings.total
    assert (completion.cancelled, completion.error, completion.chunks) == (False, "", 5)


def test_nothing_is_sent_before_the_first_chunk_is_asked_for():
    with ScriptedServer(answers(TEXTS)) as server:
        with opened(server):
            pass
        assert server.connections == 0


def test_the_request_is_the_dialects_payload_with_the_key():
    with ScriptedServer(answers(TEXTS)) as server:
        list(opened(server, temperature=0, stop=["\n"]))
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json() == {
        "model": "test/chat",
        "messages": [{"role": "user", "content": "Tell me"}],
        "temperature": 0,
        "stop": ["\n"],
        "stream": True,
    }


CANCELLED_WHILE = {
    "it waits for the headers": (silent(), []),
    "it waits for the first token": (silent_after([]), []),
    "it waits in mid-stream": (silent_after(["Once", " upon"]), ["Once", " upon"]),
}


@pytest.mark.parametrize("state", CANCELLED_WHILE)
def test_cancel_from_another_thread_ends_the_iteration_and_keeps_the_part(state, tls):
    script, part = CANCELLED_WHILE[state]
    with ScriptedServer(script, tls=tls) as server:
        answer = opened(server, timeout=300)
        has_part = threading.Event()

        def stop():
            server.arrived.wait(20)
            has_part.wait(20)
            answer.cancel()

        stopper = threading.Thread(target=stop)
        stopper.start()
        got = []
        if not part:
            has_part.set()
        for chunk in answer:
            got += texts_of([chunk])
            if got == part:
                has_part.set()
        stopper.join()
        assert got == part
        assert answer.cancelled
        completion = answer.completion
        assert (completion.text, completion.cancelled, completion.error) == ("".join(part), True, "")
        assert completion.ending == "stopped by you"
        assert completion.finish_reason is None
        assert server.closed.wait(20)
        assert len(server.requests) == 1


def test_cancel_in_the_handshake_ends_the_iteration(certificates):
    with ScriptedServer(silent(), tls=certificates, handshake=False) as server:
        answer = opened(server, timeout=300)
        stopper = threading.Thread(target=lambda: server.arrived.wait(20) and answer.cancel())
        stopper.start()
        assert list(answer) == []
        stopper.join()
        assert answer.completion.cancelled
        assert server.closed.wait(20)


def test_cancel_ends_a_server_that_never_stops_talking(tls):
    with ScriptedServer(endless("word "), tls=tls) as server:
        answer = opened(server)
        got = []
        for chunk in answer:
            got += texts_of([chunk])
            if len(got) == 100:
                stopper = threading.Thread(target=answer.cancel)
                stopper.start()
        stopper.join()
        assert answer.cancelled
        assert answer.completion.text == "word " * len(got)
        assert server.closed.wait(20)


def test_cancel_in_the_thread_that_iterates():
    with ScriptedServer(silent_after(TEXTS)) as server:
        answer = opened(server)
        got = []
        for chunk in answer:
            got += texts_of([chunk])
            if len(got) == 2:
                answer.cancel()
        assert got[:2] == TEXTS[:2]
        assert answer.cancelled
        assert server.closed.wait(20)


def test_what_came_in_one_piece_with_the_token_at_which_it_is_cancelled_is_not_delivered():
    def script(exchange):
        told = [f"data: {json.dumps(exchange.payload(text))}\n\n" for text in TEXTS]
        exchange.chunked().send("".join(told).encode())
        exchange.await_close()

    with ScriptedServer(script) as server:
        answer = opened(server)
        for _ in answer:
            if answer.chunks == 2:
                answer.cancel()
        assert (answer.completion.text, answer.chunks) == ("Once upon", 2)


def test_what_came_in_one_piece_with_what_is_no_chunk_is_kept_and_not_asked_for_again():
    def script(exchange):
        exchange.chunked().headers()
        events = [f"data: {json.dumps(exchange.payload(text))}\n\n".encode() for text in TEXTS[:2]]
        exchange.raw(b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events) + b"no chunk\r\n")
        exchange.cut()

    with ScriptedServer(script) as server:
        error = failed(server, ConnectionLostError)
        assert error.completion.text == "Once upon"


def test_of_an_answer_that_nobody_watches_all_that_had_come_before_a_cancel_is_kept(monkeypatch):
    had, usual = threading.Event(), Exchange.pieces

    def pieces(exchange):
        for piece in usual(exchange):
            yield piece
            if rb"\u20ac" in piece:  # of the last token; the next piece is asked for
                had.set()

    monkeypatch.setattr(Exchange, "pieces", pieces)
    monkeypatch.setattr("together_nb.sse._GROUP_SECONDS", 3600)
    with ScriptedServer(silent_after(TEXTS)) as server:
        answer = opened(server)
        answer.watched = False
        reader = threading.Thread(target=list, args=(answer,))
        reader.start()
        assert had.wait(20)
        answer.cancel()
        reader.join(20)
        assert answer.completion.text == "".join(TEXTS)
        assert answer.completion.ending == "stopped by you"


def test_cancel_before_the_beginning_means_that_nothing_is_sent():
    with ScriptedServer(answers(TEXTS)) as server:
        answer = opened(server)
        answer.cancel()
        assert list(answer) == []
        assert answer.completion.cancelled
        assert server.connections == 0


def test_cancel_after_the_end_changes_nothing():
    with ScriptedServer(answers(TEXTS)) as server:
        answer = opened(server)
        list(answer)
        before = answer.completion
        answer.cancel()
        assert not answer.cancelled
        assert answer.completion == before


def test_leaving_the_block_cancels_and_closes():
    with ScriptedServer(silent_after(TEXTS)) as server:
        with opened(server) as answer:
            next(answer)
        assert answer.cancelled
        assert server.closed.wait(20)
        assert list(answer) == []


def test_leaving_the_block_while_another_thread_iterates_ends_that_too():
    with ScriptedServer(silent_after(["Once"])) as server:
        has_part = threading.Event()
        got = []

        def read(answer):
            for chunk in answer:
                got.append(chunk.text)
                has_part.set()

        with opened(server, timeout=300) as answer:
            reader = threading.Thread(target=read, args=(answer,))
            reader.start()
            assert has_part.wait(20)
        reader.join(20)
        assert not reader.is_alive()
        assert got == ["Once"]
        assert server.closed.wait(20)


def test_ctrl_c_in_the_iteration_keeps_the_part_and_closes():
    def script(exchange):
        exchange.text_events(["Once"])
        while True:  # a signal that comes just before a read is seen when the read returns
            exchange.send(b": ping\n\n")
            exchange.wait(0.02)

    main = threading.get_ident()

    def interrupt():
        while sys._current_frames()[main].f_code.co_name != "readinto":
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    with ScriptedServer(script) as server:
        answer = opened(server, timeout=300)
        assert next(answer).text == "Once"
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt), answer:
            next(answer)
        assert answer.completion.cancelled
        assert answer.completion.text == "Once"
        assert server.closed.wait(20)


def test_a_dropped_iterator_closes_its_connection():
    with ScriptedServer(silent_after(TEXTS)) as server:
        answer = opened(server)
        next(answer)
        answer._chunks.close()  # what the garbage collector does
        assert answer.cancelled
        assert server.closed.wait(20)


def ends(*, finish=None, done=False, reset=False, texts=TEXTS, cut=True):
    """A script that streams, and whose connection then ends."""

    def script(exchange):
        exchange.text_events(texts)
        if finish is not None:
            exchange.event(exchange.payload("", finish=finish))
        if done:
            exchange.done()
        if cut:
            exchange.cut(reset=reset)

    return script


def in_chunks(script):
    return lambda exchange: script(exchange.chunked())


@pytest.mark.parametrize("framing", ["chunked", "unchunked"])
def test_neither_terminator_nor_finish_reason_is_a_lost_connection(framing):
    script = ends()
    with ScriptedServer(in_chunks(script) if framing == "chunked" else script) as server:
        error = failed(server, ConnectionLostError)
    assert error.completion.text == "Once upon a time — €"
    assert error.completion.error == error.completion.ending == "connection lost"
    assert error.message.startswith("The connection was lost before the answer was whole")
    assert error.hint == "What came is kept."


def test_a_stream_ended_in_good_order_without_its_last_message_is_a_lost_connection_too():
    with ScriptedServer(in_chunks(ends(cut=False))) as server:
        assert failed(server, ConnectionLostError).completion.text == "Once upon a time — €"


def test_a_reset_in_mid_stream_is_a_lost_connection():
    had = threading.Event()

    def script(exchange):
        exchange.chunked().text_events(TEXTS)
        exchange.pause(had)
        exchange.cut(reset=True)

    with ScriptedServer(script) as server:
        answer = opened(server)
        for _ in TEXTS:
            next(answer)
        had.set()
        with pytest.raises(ConnectionLostError) as caught:
            next(answer)
        assert caught.value.completion.text == "".join(TEXTS)


@pytest.mark.parametrize("framing", ["chunked", "unchunked"])
def test_with_a_finish_reason_it_is_whole_though_the_connection_broke(framing):
    script = ends(finish="stop")
    with ScriptedServer(in_chunks(script) if framing == "chunked" else script) as server:
        answer = opened(server)
        assert texts_of(answer) == TEXTS
        assert answer.completion.finish_reason == "stop"
        assert answer.completion.ending == ""


def test_with_a_terminator_it_is_whole_though_no_finish_reason_came():
    with ScriptedServer(answers(TEXTS, finish=None)) as server:
        answer = opened(server)
        assert texts_of(answer) == TEXTS
        assert answer.completion.finish_reason is None
        assert answer.completion.ending == ""


def two_choices(*finished):
    def script(exchange):
        for index in (0, 1):
            exchange.event(exchange.payload(f"answer {index}", index=index))
        for index in finished:
            exchange.event(exchange.payload("", index=index, finish="stop"))

    return script


def test_one_of_two_choices_finished_is_not_whole():
    with ScriptedServer(two_choices(0)) as server:
        error = failed(server, ConnectionLostError, n=2)
    assert [choice.text for choice in error.completion.choices] == ["answer 0", "answer 1"]
    assert [choice.finish_reason for choice in error.completion.choices] == ["stop", None]


def test_both_of_two_choices_finished_is_whole():
    with ScriptedServer(two_choices(1, 0)) as server:
        answer = opened(server, n=2)
        list(answer)
        assert [choice.text for choice in answer.completion.choices] == ["answer 0", "answer 1"]


def test_a_tail_cut_in_mid_event_is_not_an_event():
    def script(exchange):
        exchange.chunked().text_events(["Once"])
        exchange.send(b'data: {"choices": [{"index": 0, "delta": {"content": " upon"}}]}')

    with ScriptedServer(script) as server:
        assert failed(server, ConnectionLostError).completion.text == "Once"


def test_a_server_that_holds_the_connection_after_the_terminator_does_not_hold_the_client():
    finished = threading.Event()

    def script(exchange):
        answers(TEXTS, done=False)(exchange)
        exchange.done()
        exchange.pause(finished)

    with ScriptedServer(script) as server:
        answer = opened(server, timeout=300)
        assert texts_of(answer) == TEXTS
        assert not answer.cancelled
        finished.set()
        assert server.closed.wait(20)


def test_the_next_request_goes_over_the_same_connection(tls):
    with ScriptedServer(answers(TEXTS), tls=tls) as server:
        for _ in range(3):
            assert texts_of(opened(server)) == TEXTS
        assert [request.connection for request in server.requests] == [0, 0, 0]


def test_after_a_cancel_the_next_request_goes_over_a_new_connection(tls):
    def script(exchange):
        (silent_after(["a"]) if len(exchange.server.requests) == 1 else answers(TEXTS))(exchange)

    with ScriptedServer(script, tls=tls) as server:
        answer = opened(server)
        next(answer)
        answer.cancel()
        assert list(answer) == []
        assert texts_of(opened(server)) == TEXTS
        assert [request.connection for request in server.requests] == [0, 1]


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_events_larger_than_any_buffer(size):
    text = "€" * size  # six bytes each in JSON
    with ScriptedServer(answers(["a", text, "b"])) as server:
        assert texts_of(opened(server)) == ["a", text, "b"]


def test_what_has_come_can_be_read_from_another_thread_at_any_time():
    words = [f"{number} " for number in range(5000)]
    whole = "".join(words)
    with ScriptedServer(answers(words)) as server:
        answer = opened(server)
        over, seen, wrong = threading.Event(), [], []

        def look():
            try:
                while not over.is_set():
                    completion = answer.completion
                    assert whole.startswith(completion.text)
                    seen.append(len(completion.text))
            except BaseException as error:  # noqa: BLE001
                wrong.append(error)

        looking = threading.Thread(target=look)
        looking.start()
        list(answer)
        over.set()
        looking.join()
        assert wrong == []
        assert seen == sorted(seen)
        assert answer.completion.text == whole


def test_what_has_come_is_told_while_the_stream_goes_on():
    with ScriptedServer(silent_after(["Once", " upon"])) as server, opened(server) as answer:
        assert answer.completion.text == ""
        next(answer)
        assert (answer.completion.text, answer.chunks, answer.cancelled) == ("Once", 1, False)
        next(answer)
        assert answer.completion.text == "Once upon"
        assert answer.seconds > 0


def test_silence_before_the_answer_is_a_time_out():
    with ScriptedServer(silent()) as server:
        error = failed(server, APITimeoutError, timeout=0.3)
        assert error.message == f"{server.base_url} did not begin to answer within 0.3 s."
        assert error.completion.ending == "failed"


def test_silence_in_mid_stream_is_a_lost_connection_that_says_so():
    settings.silence_timeout = 0.3
    with ScriptedServer(silent_after(["Once"])) as server:
        error = failed(server, ConnectionLostError, timeout=None)
        assert error.message.endswith(f"{server.base_url} was silent for 0.3 s in mid-answer.")
        assert error.hint == "What came is kept. Set settings.silence_timeout higher if it needs such pauses."
        assert error.completion.text == "Once"


def test_nothing_there_is_an_error_with_an_empty_completion():
    with ScriptedServer(silent()) as server:
        pass
    answer = opened(server)
    with pytest.raises(APIConnectionError, match="Nothing answers at") as caught:
        list(answer)
    assert caught.value.completion.text == ""


def test_a_web_page_is_not_an_answer():
    page = b"<!DOCTYPE html><html><body>Log in</body></html>"
    with ScriptedServer(replies(200, page, content_type="text/html; charset=utf-8")) as server:
        error = failed(server, APIResponseError)
        assert error.message == (
            f"{server.base_url}/v1/chat/completions answered with text/html, not with a stream of events."
        )
    assert error.hint == "Check the base URL: this looks like a web page or a log-in page, not an API."


def test_a_web_page_that_says_it_is_a_stream_is_not_an_answer_either():
    with ScriptedServer(replies(200, b"\n\n<html></html>", content_type="text/event-stream")) as server:
        failed(server, APIResponseError)


WHOLE = {
    "chat": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "All."}, "finish_reason": "stop"}]},
    "completions": {"choices": [{"index": 0, "text": "All.", "finish_reason": "stop"}]},
    "inference": {"output": {"choices": [{"text": "All."}]}, "status": "finished"},
}


@pytest.mark.parametrize("dialect", WHOLE)
def test_the_text_of_a_reply_in_one_piece_is_kept(dialect):
    with ScriptedServer(replies(200, WHOLE[dialect])) as server:
        error = failed(server, APIResponseError, api=dialect)
    assert error.completion.text == "All."
    assert error.completion.timings.first_token is not None
    assert "in one piece, where a stream was asked for" in error.message
    assert "The answer is kept" in error.hint


@pytest.mark.parametrize("body", [{}, [], {"object": "list"}, {"choices": []}])
def test_json_with_no_text_is_not_an_answer(body):
    with ScriptedServer(replies(200, body)) as server:
        error = failed(server, APIResponseError)
    assert "answered with application/json, not with a stream of events" in error.message
    assert "--api" in error.hint


@pytest.mark.parametrize("body", [{"choices": [None]}, {"choices": "abc"}, {"choices": [{"delta": 3}]}])
def test_a_shape_that_is_not_the_apis_is_an_error_and_no_crash(body):
    with ScriptedServer(replies(200, body)) as server:
        assert "of a shape that is not the chat API's" in failed(server, StreamError).message

    def script(exchange):
        exchange.text_events(["Once"])
        exchange.event(body)

    with ScriptedServer(script) as server:
        error = failed(server, StreamError)
    assert "of a shape that is not the chat API's" in error.message
    assert error.completion.text == "Once"


def test_an_error_as_a_whole_reply_is_told_in_the_servers_words():
    with ScriptedServer(replies(200, {"error": {"message": "out of cards"}})) as server:
        assert "out of cards" in failed(server, StreamError).message


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"error": {"message": "out of memory", "type": "server_error"}}, ": out of memory."),
        ({"error": "out of memory"}, ": out of memory."),
        ({"choices": [{"index": 0, "error": "out of memory", "finish_reason": "error"}]}, ": out of memory."),
        ({"choices": [{"index": 0, "finish_reason": "error"}]}, " and did not say why."),
    ],
)
def test_an_error_in_mid_stream_keeps_what_came(event, words):
    def script(exchange):
        exchange.chunked().text_events(["Once"])
        exchange.event(event)
        exchange.done()

    with ScriptedServer(script) as server:
        error = failed(server, StreamError)
    assert error.message == f"The server broke the answer off with an error{words}"
    assert (error.completion.text, error.completion.ending) == ("Once", "error from the server")


@pytest.mark.parametrize("body", [b"", b": ping\n\n", b"\n\n\n"])
def test_a_reply_with_no_events_is_not_an_answer(body):
    with ScriptedServer(replies(200, body, content_type="text/event-stream")) as server:
        assert "sent no events (text/event-stream)" in failed(server, APIResponseError).message


def test_a_terminator_alone_is_an_empty_answer():
    with ScriptedServer(replies(200, b"[DONE]", content_type="text/event-stream")) as server:
        answer = opened(server)
        assert list(answer) == []
        assert answer.completion.text == ""


def test_a_byte_order_mark_loses_nothing():
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": "Once"}}]}).encode()
    with ScriptedServer(replies(200, b"\xef\xbb\xbfdata: " + event + b"\n\ndata: [DONE]\n\n")) as server:
        assert texts_of(opened(server)) == ["Once"]


def test_content_types_are_not_believed():
    def script(exchange):
        exchange.headers(content_type="text/html")
        answers(TEXTS)(exchange)

    def unchunked(exchange):
        exchange.chunked()
        script(exchange)

    with ScriptedServer(unchunked) as server:
        assert texts_of(opened(server)) == TEXTS


def test_what_the_dialect_cannot_say_is_told_before_anything_is_sent():
    with ScriptedServer(answers(TEXTS)) as server:
        with pytest.raises(InputError, match="no system prompt"):
            opened(server, api="completions", system="Be brief")
        with pytest.raises(InputError, match="There is no API called 'chatt'"):
            opened(server, api="chatt")
        assert server.connections == 0


def test_a_stream_shows_no_key():
    with ScriptedServer(answers(TEXTS)) as server:
        answer = opened(server)
        list(answer)
        completion = answer.completion
        shown = f"{answer!r} {answer} {answer.payload} {answer.endpoint!r} {completion!r} {completion.to_dict()}"
        assert KEY not in shown + str(completion._repr_mimebundle_())
        assert KEY.encode() not in pickle.dumps(completion)
        with pytest.raises(TypeError):
            pickle.dumps(answer)


def test_an_answer_that_said_why_it_ended_is_not_waited_on_for_long(monkeypatch):
    monkeypatch.setattr("together_nb.reader._END_SECONDS", 0.05)

    def script(exchange):
        exchange.chunked().text_events(["whole"])
        exchange.event(exchange.payload("", finish="stop"))
        exchange.await_close()

    with ScriptedServer(script) as server:
        done = complete("hello", base_url=server.base_url, model="test/chat", timeout=60)
        assert server.closed.wait(20)
    assert (done.text, done.error) == ("whole", "")


def test_a_key_that_an_event_repeats_is_not_in_the_error():
    key = "sk-0123456789-abcdefghijkl"

    def script(exchange):
        exchange.chunked().text_events(["part"])
        exchange.event({"error": {"message": f"bad key Bearer {key}, that is {key[:20]}"}})

    with ScriptedServer(script) as server, pytest.raises(StreamError) as caught:
        complete("hello", base_url=server.base_url, model="test/chat", api_key=key)
    assert caught.value.message == "The server broke the answer off with an error: bad key Bearer …, that is …."
    assert key[:12] not in repr(caught.value)
    assert caught.value.completion.text == "part"
