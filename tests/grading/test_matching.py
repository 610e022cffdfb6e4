"""提出と配布版の照合: 消す、写す、分ける、まとめる、並べ替える、版が違う。"""

import copy
import dataclasses
import re

import pytest
from course_samples import code, text
from hypothesis import given, settings
from hypothesis import strategies as st
from small_release import (
    A1,
    A2,
    C1,
    C2,
    FOLLOW,
    RIGHT1,
    RIGHT2,
    SETUP,
    STUB1,
    cell,
    drop,
    index,
    insert_after,
    release,
    release_document,
    submission,
    to_bytes,
    without_ids,
)

from tlkit.course.grading.matching import Matched, match
from tlkit.course.intake import parse_notebook

RELEASE = release()
JAPANESE = re.compile(r"[ぁ-んァ-ヶ一-龠]")
HEAD = [("c-setup", SETUP, None), ("c-setup2", "SCALE = 3", None)]
PLAIN = [*HEAD, (A1, RIGHT1, "01-1"), (A2, RIGHT2, "01-2")]


def matched(document) -> Matched:
    return match(parse_notebook(to_bytes(document), "x"), RELEASE)


def steps(document) -> list[tuple[str, str, str | None]]:
    found = matched(document)
    assert not found.human, found.human
    return [(step.id, step.source, step.question) for step in found.program]


def values(document) -> dict[str, float]:
    """並びを実際に動かし、問題の答えがそろったところで呼ぶ。"""
    space: dict[str, object] = {}
    seen = {}
    for name, source, question in steps(document):
        exec(compile(source, name, "exec"), space)
        if question == "01-1":
            seen[question] = space["mmd2"](2, 3)
        elif question:
            seen[question] = space["leep"](4, 5)
    return seen


def human(document) -> str:
    found = matched(document)
    assert found.human and not found.program
    assert JAPANESE.search(found.human)
    return found.human


def test_plain_submission_runs_setup_then_answers():
    assert steps(submission()) == PLAIN
    assert matched(submission()).notes == ()
    assert values(submission()) == {"01-1": 5.0, "01-2": 9.0}


def test_untouched_notebook_is_known_and_still_runs():
    found = matched(release_document())
    assert found.untouched == ("01-1", "01-2")
    assert [step.question for step in found.program] == [None, None, "01-1", "01-2"]
    assert matched(submission(two=STUB1.replace("mmd2", "leep"))).untouched == ()  # 雛形と引数が違う


def test_half_done_notebook_has_one_untouched_question():
    half = release_document()
    cell(half, A1)["source"] = RIGHT1
    assert matched(half).untouched == ("01-2",)


def test_empty_notebook_is_untouched():
    empty = release_document() | {"cells": []}
    assert matched(empty).untouched == ("01-1", "01-2")
    nameless = {"cells": [code("", "a")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    assert matched(nameless).untouched == ("01-1", "01-2")


def test_deleted_and_overwritten_check_cells_change_nothing():
    document = drop(submission(), C2)
    cell(document, C1)["source"] = 'print("✅ 01-1 合格")\nimport numpy\nnumpy.testing.assert_allclose = print'
    found = matched(document)
    assert [step.question for step in found.program if step.question] == ["01-1", "01-2"]
    assert any("01-2" in note and "影響しません" in note for note in found.notes)
    assert any("書き換えられ" in note for note in found.notes)
    assert steps(drop(submission(), C1, C2)) == PLAIN


def test_helper_written_into_a_check_cell_still_runs_without_the_check():
    document = submission(two="def leep(a, b):\n    return helper(a, b)")
    cell(document, C1)["source"] = 'def helper(a, b):\n    return a * b\n\ncheck("01-1", mmd2)'
    assert values(document)["01-2"] == 20
    assert not any("check(" in source for _, source, _ in steps(document))


def test_setup_is_restored_and_the_edit_runs_after_it():
    document = submission()
    cell(document, "c-setup")["source"] = "import math\nBASE = 2"
    assert steps(document) == [*HEAD, ("c-setup-2", "import math\nBASE = 2", None), *PLAIN[2:]]
    assert steps(drop(submission(), "c-setup", "c-setup2", "c-follow")) == PLAIN


def test_own_cells_run_at_their_place():
    document = insert_after(submission(), "c-q1", code("helper = 1", "mine"))
    insert_after(document, A2, code("print(leep(1, 2))", "mine"))
    assert steps(document) == [
        *HEAD,
        ("mine", "helper = 1", None),
        *PLAIN[2:],
        ("mine-2", "print(leep(1, 2))", None),
    ]


def test_identical_copies_are_counted_once():
    document = insert_after(submission(), A1, code(RIGHT1 + "\n\n", A1))
    found = matched(document)
    assert [step.id for step in found.program] == ["c-setup", "c-setup2", A1, A2]
    assert any("複製" in note for note in found.notes)


def test_different_cells_with_one_id_need_a_human():
    document = insert_after(submission(), C1, code("def mmd2(x, y, sigma=1.0):\n    return 0", A1))
    assert "01-1" in human(document)
    assert "4、6 番目" in human(document)


def test_grade_id_in_nbgrader_metadata_counts_as_the_id():
    document = submission()
    for one in document["cells"]:
        one["metadata"]["nbgrader"] = {"grade_id": one["id"]}
        one["id"] = "x" + one["id"]
    assert steps(document) == PLAIN
    insert_after(
        document, "x" + A1, code("def mmd2(x, y):\n    return 0", "y", metadata={"nbgrader": {"grade_id": A1}})
    )
    assert "同じ id" in human(document)


def test_pasted_stub_does_not_beat_the_answer():
    document = insert_after(submission(), A1, code(STUB1, "pasted"))
    assert steps(document) == PLAIN
    document = insert_after(release_document(), A1, code(RIGHT1, "mine"))
    found = matched(document)
    assert found.untouched == ("01-2",)
    assert [step.source for step in found.program if step.question == "01-1"] == [RIGHT1]
    assert any("別のセル" in note for note in found.notes)


def test_last_definition_before_the_check_is_the_answer():
    document = insert_after(submission(), "c-q1", code("def mmd2(x, y):\n    return 'draft'", "draft"))
    insert_after(document, C1, code("def mmd2(x, y):\n    return 'later'", "later"))
    found = matched(document)
    assert [step.source for step in found.program if step.question == "01-1"] == [RIGHT1]
    assert any("何度も定義" in note for note in found.notes)
    assert values(document)["01-2"] == "later"  # その後の答えは、ノートブックと同じく後の定義を使う
    assert "違う内容" in human(drop(document, C1))


def test_lost_ids_are_matched_by_name():
    document = without_ids(submission())
    assert steps(document) == PLAIN
    notes = matched(document).notes
    assert any("名前で照合" in note and "01-1、01-2" in note for note in notes)
    assert any("metadata" in note for note in notes)


def test_split_function_is_joined():
    document = submission()
    top, rest = RIGHT1.split("\n", 1)
    middle, end = rest.split("\n", 1)
    cell(document, A1)["source"] = top
    insert_after(document, A1, code(middle, "n1"), code(end, "n2"))
    assert values(document) == {"01-1": 5.0, "01-2": 9.0}
    assert any("分割" in note for note in matched(document).notes)


def test_split_whose_middle_could_run_alone_is_joined_too():
    document = submission(one="def mmd2(x, y, sigma=1.0):\n    a = x")
    insert_after(document, A1, code("    b = y", "n1"), code("    return a + b", "n2"))
    assert values(document)["01-1"] == 5
    assert [name for name, _, _ in steps(document)] == ["c-setup", "c-setup2", A1, A2]


def test_question_with_two_answers_is_asked_after_the_later_cell():
    two = dataclasses.replace(RELEASE.questions[0], answers=("mmd2", "sigma"))
    assignment = dataclasses.replace(RELEASE, questions=(two, RELEASE.questions[1]))
    document = insert_after(submission(), A1, code("sigma = 2.0", "lower"))
    found = match(parse_notebook(to_bytes(document), "x"), assignment)
    assert [step.source for step in found.program if step.question == "01-1"] == ["sigma = 2.0"]
    document = insert_after(submission(), "c-q1", code("sigma = 2.0", "upper"))
    found = match(parse_notebook(to_bytes(document), "x"), assignment)
    assert [step.source for step in found.program if step.question == "01-1"] == [RIGHT1]


def test_split_with_the_id_on_the_lower_half():
    document = submission()
    cell(document, A1)["source"] = "    return total * sigma"
    insert_after(document, "c-q1", code("def mmd2(x, y, sigma=1.0):\n    total = x + y", "upper"))
    assert steps(document) == PLAIN


def test_indented_cell_that_runs_alone_is_not_joined():
    document = insert_after(submission(), A1, code("    after = 1", "n1"))
    assert ("n1", "    after = 1", None) in steps(document)


def test_split_at_the_top_level_probes_after_the_definition():
    document = submission()
    cell(document, A1)["source"] = "def helper(x):\n    return x"
    insert_after(document, A1, code("def mmd2(x, y, sigma=1.0):\n    return helper(x + y)", "lower"))
    assert [(name, question) for name, _, question in steps(document)[2:4]] == [(A1, None), (A1 + "-2", "01-1")]
    assert values(document)["01-1"] == 5


def test_merged_answers_are_probed_one_after_another():
    document = drop(submission(), A2, C2)
    cell(document, A1)["source"] = f'{RIGHT1}\n\n\n{RIGHT2}\n\n\ncheck("01-1", mmd2)\nhint("01-2")'
    found = steps(document)
    assert [question for _, _, question in found[2:]] == ["01-1", "01-2"]
    assert "check(" not in found[2][1] and "hint(" not in found[2][1]
    assert values(document) == {"01-1": 5.0, "01-2": 9.0}


def test_answer_merged_into_the_check_cell():
    document = drop(submission(), A1)
    cell(document, C1)["source"] = f'{RIGHT1}\ncheck("01-1", mmd2)'
    assert values(document) == {"01-1": 5.0, "01-2": 9.0}


def test_reordered_cells_run_in_the_order_of_the_release():
    document = submission()
    document["cells"].reverse()
    assert steps(document) == PLAIN
    assert any("並び" in note for note in matched(document).notes)


def test_helper_moves_with_the_answer_below_it():
    document = drop(submission(), A1)
    helper = code("def helper(x, y):\n    return x + y", "helper")
    insert_after(document, C2, helper, code("def mmd2(x, y, sigma=1.0):\n    return helper(x, y)", A1))
    assert [name for name, _, _ in steps(document)] == ["c-setup", "c-setup2", "helper", A1, A2]
    assert values(document) == {"01-1": 5, "01-2": 9}


@pytest.mark.parametrize("source", [RIGHT1, f"```python\n{RIGHT1}\n```"])
@pytest.mark.parametrize("kind", ["markdown", "raw"])
def test_answer_turned_into_text_is_restored(source, kind):
    document = submission()
    document["cells"][index(document, A1)] = text(source, A1) | {"cell_type": kind}
    assert steps(document) == PLAIN
    assert any("コードに戻し" in note for note in matched(document).notes)
    lost = without_ids(document)
    assert values(lost) == {"01-1": 5.0, "01-2": 9.0}


def test_prose_in_place_of_an_answer_needs_a_human():
    document = submission()
    document["cells"][index(document, A1)] = text("答えは、次の 式です: k(x, y) = …！", A1)
    assert "markdown" in human(document)


def test_stub_turned_into_text_is_untouched():
    document = submission()
    document["cells"][index(document, A1)] = text(STUB1, A1)
    assert matched(document).untouched == ("01-1",)


@pytest.mark.parametrize("source", ["!pip install six", "%pip install six", "%%bash\necho\npython3 -m pip install six"])
def test_a_cell_that_installs_packages_is_told(source):
    found = matched(insert_after(submission(), "c-setup", code(source, "extra")))
    assert any("パッケージを入れようとするセル" in note and "3 番目" in note for note in found.notes), found.notes
    assert not any("パッケージ" in note for note in matched(submission("# pip install\n" + RIGHT1)).notes)


def test_deleted_answer_is_untouched_unless_other_code_could_be_it():
    document = drop(submission(), A2, C2)
    found = matched(document)
    assert found.untouched == ("01-2",)
    assert any("消されている" in note for note in found.notes)
    assert "見つかりません" in human(insert_after(document, C1, code("def my_leep(a, b):\n    return 1", "mine")))
    assert matched(insert_after(drop(submission(), A2), C1, code("print(1)", "mine"))).untouched == ("01-2",)


def test_renamed_function_keeps_its_cell():
    document = submission(one="def my_mmd2(x, y):\n    return 0")
    assert (A1, "def my_mmd2(x, y):\n    return 0", "01-1") in steps(document)


def test_another_exercise_is_named():
    document = submission()
    document["metadata"]["tlkit"]["slug"] = "02_finetuning"
    assert "02_finetuning" in human(document) and "01_basics" in human(document)


def test_chapter_and_unknown_notebooks_need_a_human():
    document = submission()
    document["metadata"]["tlkit"]["kind"] = "chapter"
    assert "章のノートブック" in human(document)
    stranger = {"cells": [code("print(1)", "a")], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    assert "どの演習" in human(stranger)


def test_solution_notebook_is_graded_with_a_note():
    document = submission()
    document["metadata"]["tlkit"] |= {"kind": "solution", "fingerprint": {"cells": "a" * 64}}
    assert steps(document) == PLAIN
    assert any("解答のノートブック" in note for note in matched(document).notes)


def test_old_release_is_graded_only_if_every_answer_is_there():
    document = submission()
    document["metadata"]["tlkit"]["fingerprint"] = {"cells": "0123456789"}
    found = matched(document)
    assert not found.human
    assert any("違う版" in note and "01234567" in note for note in found.notes)
    assert "01-2" in human(drop(document, A2))
    fewer = submission()
    fewer["metadata"]["tlkit"]["questions"] = ["01-1"]
    assert any("違う版" in note for note in matched(fewer).notes)


def test_follow_up_is_not_run_unless_an_answer_needs_its_names():
    assert not any("heavy" in source for _, source, _ in steps(submission()))
    document = submission(two="def leep(a, b):\n    return len(heavy)")
    added = [source for name, source, _ in steps(document) if name == "c-follow"]
    assert len(added) == 1
    assert "heavy =" in added[0] and "ready" not in added[0]
    assert values(document)["01-2"] == 3


def test_answer_that_needs_a_guarded_name_needs_a_human():
    assert "inner" in human(submission(two="def leep(a, b):\n    return inner"))


def test_own_cell_with_a_guard_is_not_run():
    document = insert_after(submission(), C2, code(FOLLOW.replace("heavy", "mine"), "mine"))
    assert steps(document) == PLAIN


def test_broken_answer_stays_in_its_place():
    broken = "def mmd2(x, y:\n    return x"
    assert (A1, broken, "01-1") in steps(submission(one=broken))


def test_magics_and_windows_newlines_are_kept_readable():
    found = steps(submission(one="%%time\n" + RIGHT1, two=RIGHT2.replace("\n", "\r\n")))
    assert found[2][1].startswith("%%time\n")
    assert found[3][1] == RIGHT2


@pytest.mark.parametrize(
    ("source", "told"),
    [("x = 1\n" * 60_000, "長すぎます"), ("-" * 90_000 + "1", ""), ("\n" * 90_000 + "x", ""), ("%\n" * 45_000, "")],
)
def test_monstrous_cells_are_handled_quickly(source, told):
    found = matched(insert_after(submission(), C2, code(source, "big")))
    assert told in found.human
    assert bool(found.human) == bool(told)


def test_too_many_cells():
    document = insert_after(submission(), C2, *[code("1", f"n{number}") for number in range(2_001)])
    assert "多すぎます" in human(document)


@pytest.mark.parametrize(
    "stamp", [None, [], "x", {"slug": 5}, {"slug": "01_basics", "questions": 3, "fingerprint": []}]
)
def test_damaged_metadata_never_raises(stamp):
    document = submission()
    document["metadata"]["tlkit"] = stamp
    assert values(document) == {"01-1": 5.0, "01-2": 9.0}


def test_reasons_show_hostile_text_escaped():
    document = submission()
    document["metadata"]["tlkit"]["slug"] = "01\u202e\nx\x1b[31m" + "長" * 500
    assert len(human(document)) < 300
    assert not set("\u202e\n\x1b") & set(human(document))


PIECES = st.sampled_from(
    [
        RIGHT1,
        RIGHT2,
        STUB1,
        SETUP,
        FOLLOW,
        "",
        "    return 1",
        "def leep(",
        'check("01-1", mmd2)',
        "mmd2 = leep = 1",
        "%%bash\n:",
        "# 節",
    ]
)
CELLS = st.builds(
    lambda source, name, kind: code(source, name) | {"cell_type": kind},
    st.one_of(PIECES, st.text(max_size=40).filter(lambda one: one.isprintable())),
    st.sampled_from([A1, A2, C1, C2, "c-setup", "c-follow", "n1", "n2"]),
    st.sampled_from(["code", "code", "markdown", "raw"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(CELLS, max_size=9), st.booleans(), st.integers(0, 10))
def test_any_cells_give_a_complete_program_or_a_reason(cells, keeps_metadata, kept):
    document = submission()
    document["cells"] = document["cells"][:kept] + copy.deepcopy(cells)
    document["metadata"] = document["metadata"] if keeps_metadata else {}
    found = matched(document)
    if found.human:
        assert JAPANESE.search(found.human)
        return
    assert [(step.id, step.source, step.question) for step in found.program[:2]] == HEAD
    assert sorted(step.question for step in found.program if step.question) == ["01-1", "01-2"]
    assert len({step.id for step in found.program}) == len(found.program)
    assert {*found.untouched} <= {"01-1", "01-2"}
