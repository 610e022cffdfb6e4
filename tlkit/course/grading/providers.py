"""問題の答えが、提出のどのセルに書かれているかを決める。決められなければ人に回す。

順番は、grade id（セルの id）、答えの名前の定義、markdown に変えられたセル、である。
同じ名前が違う内容で何度も定義されていれば、確認のセルの直前のものを採る。学習者の画面の合否と同じ決め方である。
"""

from dataclasses import dataclass, field

from tlkit.course.checks.question import Question
from tlkit.course.grading.assignment import Assignment, ReleaseCell
from tlkit.course.grading.origin import NeedsHumanError, Origin
from tlkit.course.grading.parts import Part, normal, same, unfenced
from tlkit.course.grading.snippets import facts


@dataclass
class Choice:
    """選んだ結果。

    Attributes:
        parts: 動かす候補のセル。捨てたものを除き、補ったものを足してある。
        providers: 問題の id → その答えを定義するセル。
        untouched: 配布版のひな形のままの問題。
        notes: 採点者への知らせ。
        by_name: id がなく、名前で見つけた問題。
        evidence: 学習者のセルから見つかった答えが一つでもあるか。
    """

    parts: list[Part]
    providers: dict[str, list[Part]] = field(default_factory=dict)
    untouched: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    by_name: list[str] = field(default_factory=list)
    evidence: bool = False


def choose(parts: list[Part], assignment: Assignment, came: Origin) -> Choice:
    """すべての問題の答えのセルを選ぶ。

    Args:
        parts: 提出のセル。
        assignment: 配布版。
        came: もとの演習と版。違う版なら、足りない答えのセルをひな形で補わない。

    Raises:
        NeedsHumanError: どのセルを採点すればよいか決まらないとき。
    """
    choice = Choice(list(parts))
    lost = [one for question in assignment.questions for one in _fill(choice, question, assignment)]
    if parts and not came.known and not choice.evidence:
        raise NeedsHumanError(
            f"どの演習のノートブックか分かりません（演習の名前も、{assignment.slug} の答えのセルもありません）。"
            "ノートブックを開いて確かめてください。"
        )
    _supply(choice, lost, old=came.old)
    choice.untouched = [name for name, found in choice.providers.items() if all(map(_is_stub, found))]
    if choice.by_name:
        choice.notes.append(f"答えのセルの id が失われているので、名前で照合しました: {'、'.join(choice.by_name)}")
    return choice


def _fill(choice: Choice, question: Question, assignment: Assignment) -> list[tuple[Question, ReleaseCell]]:
    """一つの問題の答えのセルを選ぶ。見つからなかった答えの、配布版のセルを返す。"""
    found = choice.providers.setdefault(question.id, [])
    lost: list[tuple[Question, ReleaseCell]] = []
    for name in question.answers:
        home = assignment.answer_cell(question, name)
        part = _find(choice, question, name, home)
        if part is None:
            lost.append((question, home))
        elif part not in found:
            found.append(part)
    return lost


def _find(choice: Choice, question: Question, name: str, home: ReleaseCell) -> Part | None:
    code = [part for part in choice.parts if part.is_code]
    own = [part for part in code if part.home is home]
    naming = [part for part in code if name in part.names]
    copies = [part for part in [*own, *naming] if same(part.source, home.source)]
    written = [part for part in own if part not in copies]
    if len({normal(part.source) for part in written}) > 1:
        raise NeedsHumanError(_ambiguous(question, name, written, "同じ id の"))
    real = [part for part in naming if part not in copies] or written
    real = real or _restored(choice, question, name, home)
    if not real and not copies:
        return None
    choice.evidence = True
    chosen = _latest(choice, question, name, real) if real else copies[0]
    _drop(choice, [part for part in copies if part is not chosen])
    if chosen.home is None:
        chosen.home = home
        _tell_place(choice, question, chosen, own)
    return chosen


def _tell_place(choice: Choice, question: Question, chosen: Part, own: list[Part]) -> None:
    if own:
        choice.notes.append(f"{question.id} の答えは、ひな形とは別のセル（上から {chosen.number} 番目）にあります。")
    elif question.id not in choice.by_name:
        choice.by_name.append(question.id)


def _latest(choice: Choice, question: Question, name: str, real: list[Part]) -> Part:
    first = real[0]
    if len(real) == 1:
        return first
    places = "、".join(str(part.number) for part in real)
    if len({normal(part.source) for part in real}) == 1:
        _drop(choice, real[1:])
        choice.notes.append(
            f"{question.id} の答えのセルが複製されています（上から {places} 番目、同じ内容）。一つだけ採点します。"
        )
        return first
    checks = [part.number for part in choice.parts if part.is_code and question.id in part.facts.checks]
    before = [part for part in real if part.number <= max(checks, default=0)]
    if not before:
        raise NeedsHumanError(_ambiguous(question, name, real, ""))
    chosen = max(before, key=lambda part: part.number)
    choice.notes.append(
        f"{question.id} の {name} が何度も定義されています（上から {places} 番目）。"
        f"確認のセルの直前にある {chosen.number} 番目を採点します。"
    )
    return chosen


def _ambiguous(question: Question, name: str, parts: list[Part], which: str) -> str:
    places = "、".join(str(part.number) for part in parts)
    return (
        f"{question.id} の {which}答えのセルが、違う内容でいくつもあります（{name}、上から {places} 番目）。"
        "どれを採点するかを決め、ほかを消してから採点し直してください。"
    )


def _restored(choice: Choice, question: Question, name: str, home: ReleaseCell) -> list[Part]:
    """markdown や raw に変えられた答えを、コードに戻す。"""
    texts = [part for part in choice.parts if not part.is_code]
    own = [part for part in texts if part.home is home]
    loose = [part for part in texts if part.home is None and name in _names_of(part)]
    found = own or loose
    for part in found:
        code = unfenced(part.source)
        if not facts(code).parses:
            raise NeedsHumanError(
                f"{question.id} の答えのセル（上から {part.number} 番目）が markdown に変えられていて、"
                "Python として読めません。ノートブックを開いて確かめてください。"
            )
        part.source, part.is_code = code, True
        choice.notes.append(
            f"{question.id} の答えのセルが markdown に変えられていたので、コードに戻しました（上から {part.number} 番目）。"
        )
    return found


def _names_of(part: Part) -> frozenset[str]:
    found = facts(unfenced(part.source))
    return found.names if found.parses else frozenset()


def _supply(choice: Choice, lost: list[tuple[Question, ReleaseCell]], *, old: bool) -> None:
    """答えのセルごと消された問題。ほかに答えらしいコードがなければ、未着手として配布版のひな形を置く。"""
    chosen = [part for found in choice.providers.values() for part in found]
    spare = [part for part in choice.parts if part.is_code and part.home is None and part not in chosen]
    spare = [part for part in spare if part.runnable.strip() and (part.names or not part.facts.parses)]
    names = "、".join(dict.fromkeys(question.id for question, _ in lost))
    if lost and (old or spare):
        why = "版も違います。" if old else f"それらしいコードが、上から {spare[0].number} 番目などのセルにあります。"
        raise NeedsHumanError(f"{names} の答えのセルが見つかりません。{why}ノートブックを開いて確かめてください。")
    for question, home in lost:
        stub = next((part for part in choice.parts if part.home is home), None)
        if stub is None:
            stub = Part(0, home.id, home.source, True, home)
            choice.parts.append(stub)
        if stub not in choice.providers[question.id]:
            choice.providers[question.id].append(stub)
    if lost:
        choice.notes.append(f"{names} の答えのセルが消されているので、未着手として扱います。")


def _is_stub(part: Part) -> bool:
    return part.home is not None and part.home.role == "answer" and part.unchanged


def _drop(choice: Choice, parts: list[Part]) -> None:
    used = [part for found in choice.providers.values() for part in found]
    choice.parts = [part for part in choice.parts if part in used or part not in parts]
