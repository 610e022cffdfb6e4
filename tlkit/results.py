"""複数の種で行った実験の結果（experiments/results/*.json）を読む。

書くのは experiments/ のスクリプトである。ここは読むだけで、平均には必ず区間を添える（`stats.py`）。
章のセルでは、名前を文字列でそのまま書く: `results.load("01_data_amount")`。結果が変わると、build がそれに気づく。
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tlkit.stats import MeanCI, mean_ci

_FOLDER = Path("experiments") / "results"


@dataclass(frozen=True)
class Results:
    """一つの実験の結果。

    Attributes:
        name: 実験の名前。
        title: 何の実験かの日本語。
        seeds: 使った種。
        settings: 固定した設定。
        rows: 測った値。1 行が「一つの種、一つの条件」に当たる辞書。
        summary: 種をまたいで計算した値の行（順位相関など）。ない実験では空。
        meta: そのほかの記録（コマンド、版、機械、かかった秒数など）。
    """

    name: str
    title: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    rows: tuple[dict[str, Any], ...]
    summary: tuple[dict[str, Any], ...]
    meta: Mapping[str, Any]

    def where(self, **conditions: Any) -> "Results":
        """条件に合う行だけを残す。`where(n=20, method="scratch")` のように書く。

        Raises:
            ValueError: 知らない列か、条件に合う行がないとき。
        """
        self._require(conditions)
        rows = tuple(row for row in self.rows if all(row.get(key) == value for key, value in conditions.items()))
        if not rows:
            found = {key: _distinct(row.get(key) for row in self.rows) for key in conditions}
            raise ValueError(f"{conditions} に合う行がありません。{self.name} にある値は {found} です。")
        return replace(self, rows=rows)

    def by_seed(self, value: str, /, **conditions: Any) -> dict[int, float]:
        """条件に合う行の値を、種 → 値 の辞書で返す。

        Raises:
            ValueError: 一つの種に行が二つ以上あるとき（条件が足りない）。
        """
        chosen = self.where(**conditions)
        chosen._require([value])
        rows = [row for row in chosen.rows if row.get(value) is not None]
        seeds = [row["seed"] for row in rows]
        if len(set(seeds)) != len(seeds):
            raise ValueError(
                f"条件 {conditions} では、一つの種に行が二つ以上あります。区別する列を条件に足してください"
                f"（列: {sorted(set().union(*chosen.rows) - {'seed', value})}）。"
            )
        return {row["seed"]: float(row[value]) for row in rows}

    def mean(self, value: str, /, **conditions: Any) -> MeanCI:
        """条件に合う値の、種についての平均と 95 % 信頼区間の半幅。"""
        return mean_ci(list(self.by_seed(value, **conditions).values()))

    def difference(self, value: str, one: Mapping[str, Any], other: Mapping[str, Any], /, **common: Any) -> MeanCI:
        """種ごとに組にした差（one − other）の、平均と 95 % 信頼区間の半幅。

        同じ種は同じ分け方を使うので、組にすると、分け方によるばらつきが消える。

        Raises:
            ValueError: 共通の種が 2 個に満たないとき。
        """
        a, b = self.by_seed(value, **common, **one), self.by_seed(value, **common, **other)
        return mean_ci([a[seed] - b[seed] for seed in a if seed in b])

    def table(self, value: str, by: str | Iterable[str]) -> dict[Any, MeanCI]:
        """`by` の列の値ごとの、平均と 95 % 信頼区間の半幅。

        Args:
            value: 平均する列。
            by: 分ける列の名前。二つ以上なら、鍵は値の組になる。

        Returns:
            鍵は初めて現れた順に並ぶ。
        """
        names = [by] if isinstance(by, str) else list(by)
        self._require(names)
        keys = _distinct(tuple(row.get(name) for name in names) for row in self.rows if row.get(value) is not None)
        found = {key: self.mean(value, **dict(zip(names, key, strict=True))) for key in keys}
        return {key[0]: ci for key, ci in found.items()} if isinstance(by, str) else dict(found)

    def _require(self, columns: Iterable[str]) -> None:
        known = sorted(set().union(*self.rows))
        unknown = [column for column in columns if column not in known]
        if unknown:
            raise ValueError(f"列 {unknown} はありません。{self.name} の列は {known} です。")


def load(name: str) -> Results:
    """実験の結果を名前で読み込む。

    Raises:
        ValueError: その名前の結果がないか、壊れているとき。
        FileNotFoundError: 結果のフォルダが見つからないとき。
    """
    folder = results_folder()
    path = folder / f"{name}.json"
    if not path.is_file():
        known = "、".join(sorted(file.stem for file in folder.glob("*.json"))) or "（まだ一つもありません）"
        raise ValueError(f"実験の結果 {name!r} はありません。使える名前は {known} です。")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Results(
            name=record.pop("name"),
            title=record.pop("title"),
            seeds=tuple(record.pop("seeds")),
            settings=record.pop("settings"),
            rows=tuple(record.pop("rows")),
            summary=tuple(record.pop("summary")),
            meta=record,
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path.name} を読めません（{type(error).__name__}）。壊れているか、書き換えられています。"
            f"`git checkout` で戻すか、experiments/ のスクリプトで作り直してください。"
        ) from error


def results_folder() -> Path:
    """結果のフォルダ。環境変数 TLKIT_COURSE、tlkit の隣、今のフォルダから上、の順に探す。

    Raises:
        FileNotFoundError: 見つからないとき。
    """
    named = os.environ.get("TLKIT_COURSE")
    here = Path.cwd()
    roots = [Path(named).expanduser()] if named else [Path(__file__).resolve().parents[1], here, *here.parents]
    for root in roots:
        if (root / _FOLDER).is_dir():
            return root / _FOLDER
    tried = f"TLKIT_COURSE={named}" if named else f"{roots[0]} と、今のフォルダから上"
    raise FileNotFoundError(
        f"実験の結果のフォルダ {_FOLDER.as_posix()} が見つかりません（探した場所: {tried}）。"
        "教材のフォルダで実行するか、環境変数 TLKIT_COURSE に教材のフォルダを指定してください。"
    )


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


__all__ = ["MeanCI", "Results", "load", "results_folder"]
