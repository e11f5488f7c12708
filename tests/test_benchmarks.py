"""The benchmarks: what they say is what was measured, all are fed the same, and the README shows one whole run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import requires

import pytest

from tests.benchmarks.clients import BARE, CLIENTS, Client
from tests.benchmarks.curves import Curves, summed_up
from tests.benchmarks.figures import RESULTS, Check, Row, Series, table
from tests.benchmarks.run import FIGURES
from tests.benchmarks.server import Feed
from tests.benchmarks.texts import KINDS, tokens
from tests.benchmarks.traces import Task, Trace
from tests.readme import README, shown

ROOT = README.parent
HERE = {name: CLIENTS[name] for name in ("together_nb", BARE, "openai", "together")}  # the others are of another extra


@pytest.fixture(scope="module")
def feed():
    with Feed() as one:
        yield one
        one.log()


@pytest.fixture(autouse=True)
def forgotten(feed):
    feed.log()


def test_a_series_tells_its_median_its_spread_and_the_ratios_of_the_rounds():
    ours, peer = Series.of([2, 1, 4]), Series.of([4, 4, 4])
    assert (ours.median, ours.text) == (2, "2 (1 to 4)")
    assert peer.over(ours).values == (2, 4, 1)
    assert Series.of(range(1, 101)).percentile(95) == 95
    assert Series.of([3]).text == "3"


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (Check("ms", 5, 5), "met"),
        (Check("ms", 6, 5), "missed by 20 %"),
        (Check("times", 4, 4, at_most=False), "met"),
        (Check("times", 3, 4, at_most=False), "missed by 25 %"),
        (Check("ms", 2, 5, better=2), "met"),
        (Check("ms", 3, 5, better=2), "met; the better one missed by 50 %"),
        (Check("times", 9, 4, better=10, at_most=False), "met; the better one missed by 10 %"),
    ],
)
def test_a_check_says_whether_it_is_met_or_by_how_much_it_is_missed(check, verdict):
    assert check.verdict == verdict


def test_a_row_shows_every_peer_and_every_target_that_is_missed():
    row = Row(
        "a|figure", Series.of([1, 2, 3]), {"this": Series.of([10]), "that": "does not run"},
        (Check("ms", 6, 5), Check("s", 1, 2), Check("%", 80, 90, at_most=False)),
    )  # fmt: skip
    assert row.cells() == [
        "a|figure", "2 (1 to 3)", "this 10; that does not run", "6 ms (≤ 5); 1 s (≤ 2); 80 % (≥ 90)",
        "ms: missed by 20 %; %: missed by 11 %",
    ]  # fmt: skip
    lines = table([row.cells()])
    assert len(lines) == 3
    assert lines[2].startswith("| a\\|figure | 2 (1 to 3) |")
    assert json.loads(json.dumps(row.to_dict()))["ours"]["values"] == [1, 2, 3]


def test_the_readme_shows_a_detail_only_where_it_is_not_as_it_is_to_be():
    met, missed = Check("ms", 5, 5), Check("ms", 6, 5)
    rows = [
        Row("figure", "1", checks=(met,)), Row("no target", "2"), Row("met", "3", checks=(met,), detail=True),
        Row("told", "4", detail=True), Row("missed", "5", checks=(met, missed), detail=True),
    ]  # fmt: skip
    assert [row["figure"] for row in shown([row.to_dict() for row in rows])] == ["figure", "no target", "missed"]


def test_curves_are_summed_up_by_the_one_that_grows_most():
    curves = Curves()
    for size, ours, peer, total in ((10, 2, 1, 100), (1_000, 9, 3, 1_090), (2_000, 8, 4, 3_090)):
        for more in (0, 0, 1):
            curves.add(size, {"ours": ours + more, "peer": peer})
        curves.add(size, {"total": total})
    assert curves["ours"].text == "at 10: 2; 1,000: 9; 2,000: 8"
    assert curves["ours"].beside(curves["peer"]).medians == {10: 2, 1_000: 3, 2_000: 2}
    curves["each"] = curves["total"].each()
    assert curves["each"].medians == {1_000: 1, 2_000: 2}
    first, *details = summed_up("two", curves.rows({"each": "each, s", "ours": "ours, s"}))
    assert (first.figure, first.ours, first.detail) == ("two: each, s", "at 1,000: 1; 2,000: 2", False)
    assert first.cells()[3:] == ["4 times at most, of 2 costs (ours, s) (≤ 1.5)", "missed by 167 %"]
    assert [(row.figure, row.checks[0].text, row.detail) for row in details] == [
        ("two, in detail: each, s", "2 times as at 1,000 (≤ 1.5)", True),
        ("two, in detail: ours, s", "4 times as at 10 (≤ 1.5)", True),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_begins_the_same_however_long_it_is(kind):
    assert tokens(kind, 500)[:200] == tokens(kind, 200)
    assert all(tokens(kind, 500))


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("pace", ["0", "2000"])
def test_each_client_is_fed_the_same_tokens(feed, name, pace):
    assert "".join(HERE[name](feed.url, f"markdown-60-{pace}")) == "".join(tokens("markdown", 60))


def test_the_server_tells_when_it_sent_each_token_and_when_the_client_left(feed):
    assert len(list(HERE[BARE](feed.url, "numbered-20-500"))) == 20 + 1  # the last one says why it ends
    (line,) = feed.log()
    assert (line["model"], len(line["sent"]), line["closed"]) == ("numbered-20-500", 20, None)
    # Never before its time; how late, a busy machine decides.
    assert all(at - line["arrived"] >= number / 500 - 0.001 for number, at in enumerate(line["sent"]))
    assert line["arrived"] <= line["sent"][0] <= line["sent"][-1] <= line["ended"]
    answer = HERE[BARE](feed.url, "numbered-3-0-hold")
    assert [next(answer) for _ in range(3)] == list(tokens("numbered", 3))
    answer.close()
    line = feed.next_log(20)
    assert line["sent"][0] < line["closed"]
    assert line["ended"] is None


def test_a_client_in_a_process_of_its_own_tells_what_an_answer_took(feed):
    client = Client("together_nb", feed.url)
    try:
        told = [client.measure(f"prose-{count}-0") for count in (10, 300)]
    finally:
        client.stop()
    assert [one["tokens"] for one in told] == [10, 300]
    assert all(one["wall"] > 0 and one["cpu"] > 0 for one in told)


def test_a_figure_that_there_is_not_is_told():
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "speed"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no figure called speed; there are parsing," in done.stderr


def test_the_extra_names_the_peers():
    wanted = [one for one in requires("together_nb") if one.endswith("extra == 'bench'")]
    assert {re.match(r"[\w-]+", one)[0] for one in wanted} == {
        "chatlas", "httpx-sse", "jupyter-ai-magics", "openai", "together",
    }  # fmt: skip


def test_ci_sees_that_all_of_it_works():
    assert "-m tests.benchmarks --short" in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_table_is_of_one_whole_run_with_date_and_versions():
    told = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert told["figures"] == list(FIGURES)
    assert {"openai", "together", "httpx-sse", "chatlas", "jupyter_ai_magics"} <= set(told["versions"])
    text = README.read_text(encoding="utf-8")
    for row in shown(told["rows"]):
        assert row["cells"][0] in text
    assert told["date"] in text


def test_a_task_whose_processor_time_the_browser_left_out_counts_with_its_length():
    page = {"pid": 1, "tid": 1}
    marks = [{"cat": "blink.user_timing", "name": name, "ts": at} | page for name, at in (("run", 0), ("end", 9000))]
    task = {"cat": "timeline", "name": "RunTask", "ph": "X"} | page
    trace = Trace([*marks, task | {"ts": 1000, "dur": 4000, "tdur": 3000}, task | {"ts": 6000, "dur": 1}])
    assert trace.tasks("run") == [Task(1, 4, 3), Task(6, 0.001, 0.001)]
