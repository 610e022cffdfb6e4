"""実験の結果の読み方: 区間つきの平均、組にした差、誤った読み方の拒否。"""

import json
from pathlib import Path

import pytest

from tlkit import results
from tlkit.course.build import fingerprint
from tlkit.stats import mean_ci

ROWS = [
    {"seed": seed, "n": n, "method": method, "accuracy": base + seed / 100 + (0.1 if method == "pretrained" else 0)}
    for seed in range(4)
    for n, base in ((20, 0.5), (100, 0.8))
    for method in ("scratch", "pretrained")
]
RECORD = {
    "name": "01_toy",
    "title": "模型",
    "seeds": [0, 1, 2, 3],
    "settings": {"lr": 0.1},
    "rows": ROWS,
    "summary": [],
    "command": "python experiments/01_toy.py",
}


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "experiments" / "results"
    folder.mkdir(parents=True)
    (folder / "01_toy.json").write_text(json.dumps(RECORD), encoding="utf-8")
    (folder / "01_other.json").write_text("{", encoding="utf-8")
    monkeypatch.setenv("TLKIT_COURSE", str(tmp_path))
    return tmp_path


def test_table_gives_a_mean_and_an_interval_per_group(course: Path) -> None:
    table = results.load("01_toy").table("accuracy", by=["n", "method"])
    assert list(table) == [(20, "scratch"), (20, "pretrained"), (100, "scratch"), (100, "pretrained")]
    assert table[20, "pretrained"] == mean_ci([row["accuracy"] for row in ROWS if row["n"] == 20][1::2])
    assert results.load("01_toy").where(n=20).table("accuracy", by="method")["scratch"].mean == pytest.approx(0.515)


def test_a_column_may_be_called_value(course: Path) -> None:
    path = course / "experiments" / "results" / "01_toy.json"
    rows = [{"seed": seed, "value": lr, "score": seed * lr} for seed in (1, 3) for lr in (1, 2)]
    path.write_text(json.dumps({**RECORD, "rows": rows}), encoding="utf-8")
    assert {key: ci.mean for key, ci in results.load("01_toy").table("score", by="value").items()} == {1: 2, 2: 4}


def test_paired_difference_forgets_what_the_seeds_share(course: Path) -> None:
    found = results.load("01_toy").difference("accuracy", {"method": "pretrained"}, {"method": "scratch"}, n=20)
    assert found.mean == pytest.approx(0.1)
    assert found.half == pytest.approx(0, abs=1e-12)


def test_a_group_with_two_rows_per_seed_is_refused(course: Path) -> None:
    with pytest.raises(ValueError, match="二つ以上"):
        results.load("01_toy").table("accuracy", by="method")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.where(m=1), "列 .*m.* はありません"),
        (lambda r: r.where(n=21), "合う行がありません.*20, 100"),
        (lambda r: r.by_seed("score", n=20, method="scratch"), "score.* はありません"),
        (lambda r: r.table("accuracy", by="kind"), "kind.* はありません"),
    ],
)
def test_wrong_questions_are_answered_in_japanese(course: Path, ask: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(results.load("01_toy"))


def test_a_missing_name_lists_the_known_ones(course: Path) -> None:
    with pytest.raises(ValueError, match=r"'01_tou' はありません.*01_other、01_toy"):
        results.load("01_tou")


def test_a_broken_file_is_named(course: Path) -> None:
    with pytest.raises(ValueError, match=r"01_other\.json を読めません"):
        results.load("01_other")


def test_the_folder_is_found_from_inside_the_course(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TLKIT_COURSE")
    monkeypatch.setattr(results, "__file__", str(course / "lib" / "site-packages" / "tlkit" / "results.py"))
    (course / "work" / "chapters").mkdir(parents=True)
    monkeypatch.chdir(course / "work" / "chapters")
    assert results.load("01_toy").title == "模型"


def test_a_missing_folder_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLKIT_COURSE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="TLKIT_COURSE"):
        results.load("01_toy")


def test_the_name_in_a_cell_is_an_input_of_the_notebook(course: Path) -> None:
    """章のセルの `results.load("01_toy")` から、build が結果のファイルを見つける。"""
    used = fingerprint._used_assets({"01_toy", "accuracy"}, course)
    assert [path.name for path in used] == ["01_toy.json"]
