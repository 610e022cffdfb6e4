"""演習 02-5 の判定のうち、終わった後のモデルがどのエポックの重みを持つかを調べる部分。

途中で止まらない台本で、戻すエポックを確かめる。止まり方は `keep_best_judge.py` が調べる。
"""

import math
from typing import Any

from tlkit.course.checks.findings import Finding

Scenes = dict[str, dict[str, Any]]


def where(scene: dict[str, Any]) -> int | None:
    """パラメータが等しいエポック（1 始まり、0 は学習前）。どれとも違えば None。"""
    return next((epoch for epoch, same in enumerate(scene["parameters"]) if same), None)


def best_epoch(scores: list[float]) -> int | None:
    """検証の値が最大のエポック（1 始まり）。同じなら前のもの。NaN は除く。"""
    numbers = [score for score in scores if not math.isnan(score)]
    return scores.index(max(numbers)) + 1 if numbers else None


def restored(seen: Scenes, scenes: dict[str, Any]) -> Finding:
    """戻した重みは、学習したエポックの中で、検証が最良のものか。"""
    want = {name: best_epoch(scenes[name]["scores"][: scene["trained"]]) for name, scene in seen.items()}
    found = {name: where(scene) for name, scene in seen.items()}
    wrong = {name for name in seen if found[name] != want[name]}
    if any(scene["replaced"] for scene in seen.values()):
        yield (
            "parameters-replaced",
            "モデルのパラメータが、別のオブジェクトに置きかわりました。最適化手法は、もとのパラメータを持ったままです。"
            "model.load_state_dict で、もとのパラメータに値を写してください（assign=True は付けません）。",
        )
    yield from _buffers(seen, want)
    if found["rises"] == 1 and found["falls"] == 5:
        yield "minimised", "検証の値が最小のエポックの重みに戻りました。validate の値は、大きいほど良い値です。"
    yield from _last(seen, found, wrong)
    yield from _which(found, wrong)
    for name in sorted(wrong):
        yield (
            "not-best",
            f"検証の値が {scenes[name]['scores'][: seen[name]['trained']]} のとき、戻すのは {want[name]} 回目の学習の後の重みです。"
            f"ところが、{_epoch(found[name])}の重みでした。",
        )


def _last(seen: Scenes, found: dict[str, int | None], wrong: set[str]) -> Finding:
    """山の後まで学習したのに、最後の重みのままか。"""
    if found["peak"] == 6 and found["falls"] == 5:
        if seen["peak"]["aliased"]:
            yield (
                "alias",
                "最良の重みを戻したはずが、最後のエポックの重みのままです。load_state_dict に渡したテンソルが、モデル自身のパラメータと"
                "同じメモリを指しています。取っておいたのは写しではなく、別名です。",
            )
        yield (
            "not-restored",
            "学習が終わったモデルは、最後のエポックの重みのままです。最良のエポックの重みの写しを取り、最後にモデルへ戻してください。",
        )
    if not {"peak", "falls"} & wrong and found["stop"] == seen["stop"]["trained"]:
        yield (
            "not-restored-on-stop",
            "最後のエポックまで学習すれば戻りますが、途中で止まると、戻らずに終わります。どちらの終わり方でも、最良の重みに戻してください。",
        )


def _which(found: dict[str, int | None], wrong: set[str]) -> Finding:
    """最良の選び方。"""
    if found["peak"] == 3 and found["rises"] == 4:
        yield (
            "saved-too-early",
            "検証が最良のエポックではなく、その一つ前のエポックの重みに戻りました。写しは、そのエポックの学習と検証の後に取ります。",
        )
    if "bumps" in wrong and "peak" not in wrong and found["bumps"] == 4:
        yield (
            "compared-to-previous",
            "検証の値が0.5、0.9、0.6、0.7、0.3のとき、4回目の重みに戻りました。前のエポックではなく、これまでの最良と比べてください。",
        )
    if "negative" in wrong and "peak" not in wrong:
        yield (
            "starts-at-zero",
            "検証の値がすべて負のとき、最良の重みに戻りません。最良の初めの値は、0ではなく −∞ です。",
        )
    if "ties" in wrong and "peak" not in wrong:
        yield (
            "ties-later",
            "検証の最大値が2回現れたとき、後のエポックに戻りました。同じ値なら、先のエポックを残します。",
        )
    if {"nan-first", "nan-middle"} & wrong and "peak" not in wrong:
        yield (
            "nan-best",
            "検証の値に NaN があると、最良のエポックの重みに戻りません。NaN との比較（>、<、==）は、いつも偽になります。"
            "NumPy の argmax は、NaN を最大とみなします。",
        )


def _buffers(seen: Scenes, want: dict[str, int | None]) -> Finding:
    scene, best = seen["peak"], want["peak"] or 0
    kept = scene["parameters"][best], scene["buffers"][best]
    if kept == (True, False):
        yield (
            "buffers-not-restored",
            "パラメータは最良のエポックに戻りましたが、BatchNormの移動統計は戻っていません。別々の時点の組み合わせになり、"
            "検証した時のモデルではありません。parameters() ではなく、state_dict() を写してください。",
        )
    if kept == (False, True):
        yield "parameters-not-restored", "BatchNormの移動統計だけが戻り、パラメータは最良のエポックに戻っていません。"


def _epoch(number: int | None) -> str:
    if number is None:
        return "どのエポックとも違う"
    return f"{number} 回目の学習の後" if number else "学習前"
