"""The benchmarks: they report what was measured, and every program is fed the same."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.benchmarks.clients import BARE, CLIENTS
from tests.benchmarks.curves import Curves, summed_up
from tests.benchmarks.figures import RESULTS, Check, Row, Series, table
from tests.benchmarks.page import Task, Trace
from tests.benchmarks.run import FIGURES
from tests.benchmarks.server import Feed
from tests.benchmarks.texts import KINDS, tokens
from tests.benchmarks.workers import Worker
from tests.pages import ROOT, shown

HERE = {name: CLIENTS[name] for name in ("together_nb", BARE, "openai", "together")}  # the others are of another extra


@pytest.fixture(scope="module")
def feed():
    with Feed() as feed:
        yield feed


def test_a_series_has_a_median_a_spread_and_the_ratios_of_its_rounds():
    ours, peer = Series([2, 1, 4]), Series([4, 4, 4])
    assert (ours.median, ours.text, Series([3]).text) == (2, "2 (1 to 4)", "3")
    assert peer.over(ours).values == (2, 4, 1)
    assert Series(range(1, 101)).percentile(95) == 95


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (Check("ms", 5, 5), "met"),
        (Check("ms", 6, 5), "missed by 20 %"),
        (Check("times", 4, 4, at_most=False), "met"),
        (Check("times", 3, 4, at_most=False), "missed by 25 %"),
        (Check("ms", 2, 5, better=2), "met"),
        (Check("ms", 3, 5, better=2), "met; the better one missed by 50 %"),
    ],
)
def test_a_check_says_by_how_much_its_target_is_missed(check, verdict):
    assert check.verdict == verdict


def test_a_row_shows_every_peer_and_every_missed_target():
    missed = (Check("ms", 6, 5), Check("s", 1, 2), Check("%", 80, 90, at_most=False))
    row = Row("a|figure", Series([1, 2, 3]), {"this": Series([10]), "that": "does not run"}, missed)
    *_, targets, verdicts = row.cells()
    assert (targets, verdicts) == ("6 ms (≤ 5); 1 s (≤ 2); 80 % (≥ 90)", "ms: missed by 20 %; %: missed by 11 %")
    assert table([row.cells()])[2].startswith("| a\\|figure | 2 (1 to 3) | this 10; that does not run |")
    details = [
        Row("met", "1", checks=(Check("ms", 5, 5),), detail=True),
        Row("missed", "2", checks=missed, detail=True),
    ]
    assert [one["figure"] for one in shown([one.to_dict() for one in details])] == ["missed"]


def test_curves_are_summed_up_by_the_one_that_grows_most():
    curves = Curves()
    for size, ours, peer, total in ((10, 2, 1, 100), (1_000, 9, 3, 1_090), (2_000, 8, 4, 3_090)):
        for more in (0, 0, 1):
            curves.add(size, {"ours": ours + more, "peer": peer})
        curves.add(size, {"total": total})
    assert curves["ours"].beside(curves["peer"]).medians == {10: 2, 1_000: 3, 2_000: 2}
    curves["each"] = curves["total"].each()
    assert curves["each"].medians == {1_000: 1, 2_000: 2}
    first, *details = summed_up("two", curves.rows({"each": "each, s", "ours": "ours, s"}))
    assert first.cells()[3:] == ["4 times at most, of 2 costs (ours, s) (≤ 1.5)", "missed by 167 %"]
    assert [row.checks[0].text for row in details] == ["2 times as at 1,000 (≤ 1.5)", "4 times as at 10 (≤ 1.5)"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_begins_the_same_however_long_it_is(kind):
    assert tokens(kind, 500)[:200] == tokens(kind, 200)
    assert all(tokens(kind, 500))


@pytest.mark.parametrize("name", HERE)
def test_each_client_is_fed_the_same_tokens(feed, name):
    assert "".join(HERE[name](feed.url, "markdown-60-2000")) == "".join(tokens("markdown", 60))


def test_the_server_logs_when_it_sent_each_token_and_when_the_client_left(feed):
    feed.log()  # forget what other tests asked
    assert len(list(HERE[BARE](feed.url, "numbered-20-500"))) == 20 + 1  # the last one says why it ends
    (line,) = feed.log()
    assert (len(line["sent"]), line["closed"]) == (20, None)
    # Never before its time; how late, a busy machine decides.
    assert all(at - line["arrived"] >= number / 500 - 0.001 for number, at in enumerate(line["sent"]))
    answer = HERE[BARE](feed.url, "numbered-3-0-hold")
    assert [next(answer) for _ in range(3)] == list(tokens("numbered", 3))
    answer.close()
    line = feed.next_log(20)
    assert line["sent"][0] < line["closed"]
    assert line["ended"] is None


def test_a_client_in_a_process_of_its_own_reports_what_an_answer_took(feed):
    with Worker("clients", "together_nb", feed.url) as client:
        results = [client.ask(f"prose-{count}-0") for count in (10, 300)]
    assert [one["tokens"] for one in results] == [10, 300]
    assert all(one["wall"] > 0 and one["cpu"] > 0 for one in results)


def test_an_unknown_figure_is_refused():
    command = [sys.executable, "-m", "tests.benchmarks", "speed"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "speed" in done.stderr


def test_the_published_results_have_every_figure():
    assert json.loads(RESULTS.read_text(encoding="utf-8"))["figures"] == list(FIGURES)


def test_a_task_without_processor_time_counts_with_its_length():
    page = {"pid": 1, "tid": 1}
    marks = [{"cat": "blink.user_timing", "name": name, "ts": at} | page for name, at in (("run", 0), ("end", 9000))]
    task = {"cat": "timeline", "name": "RunTask", "ph": "X"} | page
    trace = Trace([*marks, task | {"ts": 1000, "dur": 4000, "tdur": 3000}, task | {"ts": 6000, "dur": 1}])
    assert trace.tasks("run") == [Task(1, 4, 3), Task(6, 0.001, 0.001)]
