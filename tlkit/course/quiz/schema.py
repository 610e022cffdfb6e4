"""確認クイズの YAML（chapters/quiz/NN_slug.yaml）の形と、その読み込み。

1 ファイルは問題の並び（リスト）である。形の誤りは、ファイル名と問題の番号を添えて日本語で知らせる。
出題の規則（選択肢の長さの釣り合いなど）は形ではないので、tests/quiz/ で検査する。
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from tlkit.course.errors import CourseError
from tlkit.course.paths import course_root

Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
LETTERS = "abcd"


class QuizItem(BaseModel):
    """クイズ 1 問。

    Attributes:
        id: 「q章-番号」。例 "q01-03"。
        scope: シラバスでの範囲。
        skill: 問う技能。
        difficulty: 難易度 1（易）〜 3（難）。
        stem: 問題文（Markdown）。「〜として最も適切なものはどれか。」の形にする。
        choices: 選択肢 4 つ（Markdown）。
        answer: 正しい選択肢の番号。0 から数える。
        why: 選択肢ごとの理由 4 つ。正しい選択肢には、なぜ正しいかを書く。
        computed_by: 正答を計算する Python の式。検査が評価し、選択肢の数値と照らし合わせる。
        syllabus: 対応するシラバスの項目。
        section: 読み返す節の見出し（空白は "-" にする）。
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^q\d{2}-\d{2}$")]
    scope: Literal["出題対象", "オプション", "発展"]
    skill: Literal["概念", "計算", "コード穴埋め", "図表読解"]
    difficulty: Annotated[int, Field(ge=1, le=3)]
    stem: Text
    choices: Annotated[list[Text], Field(min_length=4, max_length=4)]
    answer: Annotated[int, Field(ge=0, le=3)]
    why: Annotated[list[Text], Field(min_length=4, max_length=4)]
    computed_by: Text | None = None
    syllabus: Text | None = None
    section: Annotated[str, Field(pattern=r"^[^\s()<>]+$")] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> "QuizItem":
        if len({choice.strip() for choice in self.choices}) < len(self.choices):
            raise ValueError("choices に同じ選択肢が二つあります")
        return self

    @property
    def letter(self) -> str:
        """正しい選択肢の記号（a〜d）。"""
        return LETTERS[self.answer]


def quiz_file(slug: str) -> Path:
    """章のクイズのファイルの場所。"""
    return course_root() / "chapters" / "quiz" / f"{slug}.yaml"


def load_quiz(path: Path) -> list[QuizItem]:
    """クイズのファイルを読み、形を確かめる。

    Raises:
        CourseError: ファイルがない、YAML として読めない、形が違う、番号が重なっているとき。
    """
    items = [_item(path, number, entry) for number, entry in enumerate(_entries(path), start=1)]
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise CourseError(f"{path.name}: 問題 {item.id} が二つあります。番号を付け直してください。")
        if item.id[1:3] != path.name[:2]:
            raise CourseError(f"{path.name}: 問題 {item.id} の章の番号が、ファイル名の頭 {path.name[:2]} と違います。")
        seen.add(item.id)
    return items


def _entries(path: Path) -> list[Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise CourseError(f"クイズのファイル {path} がありません。chapters/quiz/ に置いてください。") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CourseError(f"{path.name}: YAML として読めません。次の場所の書き方を直してください。\n{error}") from error
    if not isinstance(data, list) or not data:
        raise CourseError(f"{path.name}: 問題の並びではありません。各問を「- id: q01-01」の形で始めてください。")
    return data


def _item(path: Path, number: int, entry: Any) -> QuizItem:
    try:
        return QuizItem.model_validate(entry)
    except ValidationError as error:
        name = entry.get("id") if isinstance(entry, dict) else None
        where = f"{path.name}: {number} 番目の問題" + (f"（{name}）" if name else "")
        raise CourseError("\n".join(f"{where}: {in_japanese(detail)}" for detail in error.errors())) from error


def in_japanese(detail: ErrorDetails) -> str:
    """Pydantic の誤り 1 件を、日本語の文にする。"""
    place = re.sub(r"\.(\d+)", lambda found: f" の {int(found[1]) + 1} 番目", ".".join(map(str, detail["loc"])))
    given, context = detail["input"], detail.get("ctx", {})
    sentences = {
        "missing": f"{place} がありません。書き足してください。",
        "extra_forbidden": f"{place} という項目はありません。綴りを確かめてください。",
        "literal_error": f"{place} に {given!r} が書かれています。{context.get('expected')} のどれかにしてください。",
        "string_type": f"{place} に {given!r}（{type(given).__name__}）が書かれています。引用符で囲んで文字列にしてください。",
        "int_type": f"{place} に {given!r} が書かれています。引用符のない整数にしてください。",
        "string_too_short": f"{place} が空です。文を書いてください。",
        "value_error": f"{context.get('error')}。書き直してください。",
        "model_type": f"{given!r} は項目の並びではありません。「id: q01-01」のように、項目と値を書いてください。",
        "list_type": f"{place} に {given!r} が書かれています。4 つの文の並び（リスト）にしてください。",
    }
    lengths = {"too_short", "too_long"}
    if detail["type"] in lengths:
        return f"{place} が {len(given)} 個あります。ちょうど 4 個にしてください。"
    if detail["type"] == "string_pattern_mismatch":
        return f"{place} に {given!r} が書かれています。{_PATTERNS.get(place, '空白だけでない文')}にしてください。"
    if detail["type"] in {"greater_than_equal", "less_than_equal"}:
        return f"{place} に {given!r} が書かれています。{_RANGES[place]}の整数にしてください。"
    return sentences.get(detail["type"], f"{place}: {detail['msg']}（渡された値 {given!r}）")


_PATTERNS = {"id": "「q01-03」の形", "section": "空白とかっこを含まない見出し（空白は - にする）"}
_RANGES = {"difficulty": "1〜3", "answer": "0〜3（0 から数えた選択肢の番号）"}


class _UniqueKeyLoader(yaml.SafeLoader):
    """同じ項目が二度書かれたら誤りにする読み手。PyYAML は、黙って後のものを採ってしまう。"""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """対応表を作る。"""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"{key} が二度書かれています", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)
