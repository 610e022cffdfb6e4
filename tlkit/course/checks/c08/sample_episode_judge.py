"""演習 08-4 の判定。返り値の形、一つ一つのエピソード、乱数の使い方、引かれ方の偏り、足りないときの順に調べる。

一つのエピソードの性質は `sample_episode_one.py` にある。
"""

from collections import Counter
from typing import Any

from tlkit.course.checks.c08.sample_episode_one import Drawn, episode_findings, form_findings
from tlkit.course.checks.findings import Finding, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.shared_random import SHARED_RANDOM


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    scenes = data["scenes"]
    return (
        first_raised({name: record for name, record in scenes.items() if name != "exact"})
        or first_raised(scenes, "クラスも画像も、ちょうど足りるとき、")
        or first_raised(data["again"])
        or first(_findings(data, inputs))
        or PASSED
    )


def _findings(data: Any, inputs: dict[str, Any]) -> Finding:
    drawn: dict[str, list[Drawn]] = {}
    for name, record in data["scenes"].items():
        for episode in record["value"]["episodes"]:
            yield from form_findings(episode, inputs["scenes"][name]["sizes"])
        drawn[name] = [Drawn(episode, inputs["scenes"][name]) for episode in record["value"]["episodes"]]
    for episodes in drawn.values():
        for one in episodes:
            yield from episode_findings(one)
    yield from _random(data)
    yield from _spread(drawn["base"], inputs["scenes"]["base"])
    for name, refusals in data["short"].items():
        yield from _short(name, refusals)


def _random(data: Any) -> Finding:
    """渡された生成器だけを使い、進めたか。"""
    if data["touched"]:
        yield (
            SHARED_RANDOM[0],
            "渡された generator でない、共有の乱数が使われました。torch.randperm などに、generator=generator を渡してください。",
        )
    base, again, other = (
        data[group][name]["value"] for group, name in (("scenes", "base"), ("again", "again-0"), ("again", "again-1"))
    )
    count = len(again["episodes"])
    if not base["moved"]:
        yield (
            "generator-unused",
            "渡された generator の状態が進んでいません。別の生成器や、決まった番号を使わず、渡された generator から引いてください。",
        )
    if all(episode == base["episodes"][0] for episode in base["episodes"]):
        yield (
            "reseeded",
            "続けて引いたエピソードが、どれも同じです。generator の種を、呼ばれるたびに設定し直していませんか。",
        )
    if base["episodes"][:count] != again["episodes"]:
        yield (
            "not-reproducible",
            "同じ種の generator を渡しても、同じエピソードになりません。乱数は、渡された generator だけから取ってください。",
        )
    if other["episodes"] == again["episodes"]:
        yield (
            "seed-ignored",
            "種の違う generator を渡しても、同じエピソードになりました。渡された状態のまま使ってください。",
        )


def _spread(episodes: list[Drawn], scene: dict[str, Any]) -> Finding:
    """80 個のエピソードでの、クラスと画像の引かれ方。"""
    ranks = [[scene["classes"].index(c) for c in one.classes] for one in episodes]
    numbers = [one.classes for one in episodes]
    if all(row == sorted(row) for row in ranks) or all(row == sorted(row) for row in numbers):
        yield (
            "class-order",
            "80個のエピソードのどれでも、番号の小さいクラスが先に並びました。引いた順に 0、1、… としてください。"
            "並べ替えると、同じクラスがいつも近い番号になり、番号を覚えるだけで当たりやすくなります。",
        )
    seen = Counter(c for one in episodes for c in one.classes)
    ways, total = scene["sizes"][0], len(scene["classes"])
    for c in scene["classes"]:
        share = seen[c] / len(episodes)
        if abs(share - ways / total) > 0.3:
            count = int((scene["labels"] == c).sum())
            yield (
                "class-uneven",
                f"{total}個のクラスから{ways}個を引くのに、画像が {count} 枚のクラスは、80個のエピソードの {share:.0%} に入りました"
                f"（{ways / total:.0%} くらいのはずです）。画像でなく、クラスを同じ確率で引いてください。",
            )
    for title, side in (("サポート", "support"), ("クエリ", "query")):
        used = Counter(i for one in episodes for i in getattr(one, side))
        pool = [i for i, c in enumerate(scene["labels"].tolist()) if c in scene["classes"][1:]]
        missing = [i for i in pool if not used[i]]
        if len(missing) >= len(scene["classes"]) - 1:  # 正しくても、たまたま 1 枚くらいは残る
            yield (
                "image-never",
                f"80個のエピソードで、使ってよい {len(pool)} 枚のうち {len(missing)} 枚が、一度も{title}になりませんでした。"
                "クラスの画像を無作為に並べ替えてから、サポートとクエリに分けてください。",
            )


SHORT = {
    "ways": ("ways-unchecked", "classes が6個で ways = 7 なのに"),
    "images": ("images-unchecked", "画像が8枚のクラスがあるのに、shots + queries = 9 でも"),
    "one": ("one-class-unchecked", "classes の7個のうち1個のクラスに、画像が2枚しかないのに、shots + queries = 3 でも"),
}


def _short(name: str, refusals: list[dict[str, str]]) -> Finding:
    """足りないときの例外。どの種でも、日本語の ValueError になるか。"""
    code, seen = SHORT[name]
    if any(not refusal["type"] for refusal in refusals):
        sometimes = any(refusal["type"] for refusal in refusals)
        tail = (
            "そのクラスが引かれたときにしか、例外が起きません。引く前に、classes のすべてのクラスを確かめてください。"
        )
        yield code, f"{seen}、" + (tail if sometimes else "例外が起きません。ValueError を起こしてください。")
    for refusal in refusals:
        if refusal["type"] != "ValueError":
            yield (
                f"{code}-type",
                f"{seen[:-2]}とき、ValueError でなく {refusal['type']} が起きました。足りるかを先に確かめ、ValueError を起こしてください。",
            )
        if not any("ぁ" <= letter <= "ヿ" or "一" <= letter <= "鿿" for letter in refusal["message"]):
            yield (
                "error-language",
                f"ValueError の文「{refusal['message'][:60]}」を、何がいくつ足りないかの分かる日本語にしてください。",
            )
