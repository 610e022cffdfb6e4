import contextlib
import sqlite3
import stat
import sys

import pytest
from grading_kit import ASSIGNMENT

from tlkit.course.errors import CourseError
from tlkit.course.grading.model import Feedback, Pace, Result
from tlkit.course.grading.rows import PENDING, Entry, Override, result_from_json, result_to_json
from tlkit.course.grading.store import Store

SLUG = ASSIGNMENT.slug
QUESTIONS = ASSIGNMENT.question_ids
GOOD = Result(
    "graded",
    {"01-1": 5, "01-2": 0},
    5,
    {"01-1": Feedback("passed", "合格"), "01-2": Feedback("sign", "符号")},
    "",
    ("知",),
)
LIMIT = Result("limit", {"01-1": 5, "01-2": None}, None, {}, "時間切れ")
BROKEN = Result("infra_error", reason="檻がありません。")
PACE = Pace((("ex-01-1-answer", 12.5), ("c-setup", 0.1)), (("01-1", 3.0),))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "grades.sqlite"


@pytest.fixture
def store(path):
    with Store(path) as opened:
        yield opened


def enter(store, *keys):
    store.enter(SLUG, [Entry(f"s{n}", f"名{n}", f"s{n}.ipynb", "0" * 64, key) for n, key in enumerate(keys)])


def save(store, key, result, student="s0"):
    store.finish(store.begin(key, student), result, 1.5, 20.0)


def raw(path, query):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(query).fetchall()


def test_a_result_survives_closing_and_opening(path):
    with Store(path) as store:
        save(store, "k1", GOOD)
    with Store(path) as store:
        assert store.lookup("k1") == GOOD
        assert store.lookup("k2") is None
        assert store.problems() == []


def test_the_file_is_safe_against_power_loss(store):
    assert [row[0] for row in store._database.all("PRAGMA journal_mode")] == ["wal"]
    assert [row[0] for row in store._database.all("PRAGMA synchronous")] == [2]


@pytest.mark.skipif(sys.platform == "win32", reason="権限の仕組みが違う")
def test_only_the_owner_can_read_the_grades(store, path):
    save(store, "k1", GOOD)
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}


def test_a_started_attempt_is_not_a_result(store):
    enter(store, "k0", "k1")
    store.begin("k0", "s0")
    save(store, "k1", GOOD, "s1")
    assert store.lookup("k0") is None
    status = store.status(SLUG)
    assert (status.total, status.pending, status.interrupted, dict(status.states)) == (2, 1, 1, {"graded": 1})
    first, second = store.rows(SLUG)
    assert (first.pending, first.result.reason, first.result.total) == (True, PENDING, None)
    assert (second.pending, second.result) == (False, GOOD)


def test_an_attempt_ends_once(store):
    attempt = store.begin("k1", "s0")
    store.finish(attempt, GOOD)
    with pytest.raises(CourseError):
        store.finish(attempt, LIMIT)
    assert store.lookup("k1") == GOOD
    with pytest.raises(CourseError):
        store.finish(attempt + 1, GOOD)


def test_the_ending_and_the_grade_are_written_together(store, path):
    attempt = store.begin("k1", "s0")
    store._database._connection.execute("DROP TABLE grades")
    with pytest.raises(CourseError):
        store.finish(attempt, GOOD)
    assert raw(path, "SELECT count(*) FROM endings") == [(0,)]


def test_every_attempt_is_kept_and_the_last_one_counts(store, path):
    save(store, "k1", LIMIT)
    save(store, "k1", GOOD)
    assert store.lookup("k1") == GOOD
    assert [state for (state,) in raw(path, "SELECT state FROM endings ORDER BY attempt")] == ["limit", "graded"]
    assert raw(path, "SELECT count(*) FROM grades") == [(1,)]


@pytest.mark.parametrize("table", ["attempts", "endings", "overrides", "paces"])
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET at = ''"])
def test_history_cannot_be_rewritten(store, path, table, change):
    enter(store, "k1")
    save(store, "k1", GOOD)
    store.override(ASSIGNMENT, "s0", "01-1", 1, "理由")
    store.keep_pace("p", PACE)
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        raw(path, change.format(table))


def test_a_fault_of_the_grader_is_no_grade_and_is_tried_again(store):
    enter(store, "k0")
    save(store, "k0", BROKEN)
    assert store.lookup("k0") is None
    row = store.rows(SLUG)[0]
    assert (row.pending, row.result) == (False, BROKEN)
    save(store, "k0", GOOD)
    save(store, "k0", BROKEN)
    assert store.rows(SLUG)[0].result == GOOD


def test_rows_follow_the_roster_and_show_who_has_nothing(store):
    entries = [
        Entry("s2", "二", "s2.ipynb", "1" * 64, "k2", notes=("集め方",)),
        Entry("s1", "一", state="missing", reason="提出がありません。"),
        Entry("s3", "三", "x", "", "", "needs_human", "壊れています。", ("知らせ",)),
    ]
    store.enter(SLUG, entries)
    save(store, "k2", GOOD, "s2")
    rows = store.rows(SLUG)
    assert [row.entry for row in rows] == entries
    assert rows[0].result.notes == ("集め方", "知")
    assert rows[1].result == Result("missing", reason="提出がありません。")
    assert rows[2].result == Result("needs_human", reason="壊れています。", notes=("知らせ",))
    assert dict(store.status(SLUG).states) == {"graded": 1, "missing": 1, "needs_human": 1}


def test_entering_again_replaces_the_roster_and_keeps_the_grades(store):
    enter(store, "k0", "k1")
    save(store, "k1", GOOD, "s1")
    store.enter("02_finetuning", [Entry("s9")])
    enter(store, "k1")
    assert [row.entry.key for row in store.rows(SLUG)] == ["k1"]
    assert store.rows(SLUG)[0].result == GOOD
    assert store.slugs() == [SLUG, "02_finetuning"]


def test_overrides_lie_over_the_result_and_survive_regrading(store):
    enter(store, "k0")
    save(store, "k0", GOOD)
    store.override(ASSIGNMENT, "s0", "01-2", 3, "考え方は正しい")
    save(store, "k0", GOOD)
    enter(store, "new-version")
    save(store, "new-version", LIMIT)
    row = store.rows(SLUG)[0]
    assert row.result == LIMIT
    assert row.overrides == {"01-2": Override(3, "考え方は正しい")}
    final = row.final(QUESTIONS)
    assert (final.state, final.points, final.total, final.reason) == ("graded", {"01-1": 5, "01-2": 3}, 8, "")


def test_points_by_hand_give_a_total_only_when_every_question_has_points(store):
    store.enter(SLUG, [Entry("s0", state="needs_human", reason="読めません。")])
    store.override(ASSIGNMENT, "s0", "01-1", 4, "紙で確認")
    half = store.rows(SLUG)[0].final(QUESTIONS)
    assert (half.state, half.points, half.total) == ("needs_human", {"01-1": 4, "01-2": None}, None)
    store.override(ASSIGNMENT, "s0", "01-2", 0, "紙で確認")
    whole = store.rows(SLUG)[0].final(QUESTIONS)
    assert (whole.state, whole.total) == ("graded", 4)


def test_the_last_override_counts_and_can_be_taken_back(store, path):
    enter(store, "k0")
    save(store, "k0", GOOD)
    for points in (1, 2, None):
        store.override(ASSIGNMENT, "s0", "01-2", points, "理由")
    row = store.rows(SLUG)[0]
    assert row.overrides == {}
    assert row.final(QUESTIONS) == GOOD
    assert raw(path, "SELECT count(*) FROM overrides") == [(3,)]


@pytest.mark.parametrize(
    ("student", "question", "points", "why"),
    [
        ("s9", "01-1", 1, "理由"),
        ("s0", "01-9", 1, "理由"),
        ("s0", "01-1", 6, "理由"),
        ("s0", "01-1", -1, "理由"),
        ("s0", "01-1", 1, " \n"),
    ],
)
def test_a_mistaken_override_is_refused(store, student, question, points, why):
    enter(store, "k0")
    with pytest.raises(CourseError):
        store.override(ASSIGNMENT, student, question, points, why)
    assert store.rows(SLUG)[0].overrides == {}


def test_another_programs_database_is_left_alone(path):
    path.parent.mkdir()
    raw(path, "CREATE TABLE precious (x)")
    before = path.read_bytes()
    with pytest.raises(CourseError, match="ほかのプログラム"):
        Store(path)
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_a_newer_format_and_a_text_file_are_refused(path):
    Store(path).close()
    raw(path, "PRAGMA user_version = 99")
    with pytest.raises(CourseError, match="この版"):
        Store(path)
    path.write_text("成績表" * 1000, encoding="utf-8")
    with pytest.raises(CourseError, match="読み書きできません"):
        Store(path)


def test_the_first_time_of_the_solution_is_kept(store, path):
    assert store.pace("p") is None
    assert store.keep_pace("p", PACE) == PACE
    assert store.keep_pace("p", Pace()) == PACE
    store.close()
    with Store(path) as again:
        assert again.pace("p") == PACE


def test_a_store_of_the_first_version_is_taken_over_with_its_grades(path):
    with Store(path) as old:
        enter(old, "k1")
        save(old, "k1", GOOD)
    raw(path, "DROP TABLE paces")
    raw(path, "PRAGMA user_version = 1")
    with Store(path) as store:
        assert store.keep_pace("p", PACE) == PACE
        assert store.rows(SLUG)[0].result == GOOD
    assert raw(path, "PRAGMA user_version") == [(2,)]
    with pytest.raises(sqlite3.DatabaseError, match="append-only"):
        raw(path, "DELETE FROM paces")


def test_two_openers_do_not_lose_each_others_grades(path):
    with Store(path) as one, Store(path) as two:
        for number in range(10):
            save(one, f"a{number}", GOOD)
            save(two, f"b{number}", GOOD)
        assert all(two.lookup(f"a{number}") == GOOD and one.lookup(f"b{number}") == GOOD for number in range(10))


def test_the_text_of_a_result_is_canonical():
    text = result_to_json(GOOD)
    assert result_from_json(text) == GOOD
    turned = Result(
        "graded", dict(reversed(GOOD.points.items())), 5, dict(reversed(GOOD.feedback.items())), "", ("知",)
    )
    assert result_to_json(turned) == text
    assert "合格" in text
