"""演習 08-4: エピソードを引く。問題、場面、答えの呼び方を置く。

一つの生成器から続けて引いたエピソードと、同じ種でのやり直し、足りないときの例外を記録する。判定は `sample_episode_judge.py` にある。
"""

from typing import Any

import torch
from torch import Tensor

from tlkit.course.checks.c08.sample_episode_judge import judge
from tlkit.course.checks.question import Question
from tlkit.course.checks.shared_random import snapshot
from tlkit.course.checks.trial import failed, trial

Scene = dict[str, Any]
MANY, FEW = 80, 6  # 続けて引くエピソードの数


def make_inputs(seed: int) -> dict[str, Any]:
    """ラベル、使ってよいクラス、エピソードの大きさに、名前をつけて並べる。"""
    g = torch.Generator().manual_seed(seed)
    known = (torch.randperm(40, generator=g)[:9] + 3).tolist()  # 0 から続かない番号。3 つは使わない
    counts = [24, 8, 8, 8, 8, 8, 10, 10, 2]  # 初めのクラスは画像が多く、使わない最後のクラスは足りない
    labels = _labels(known, counts, g)
    base = {"labels": labels, "classes": tuple(known[:6]), "seed": seed, "episodes": MANY, "sizes": (3, 2, 3)}
    exact = [known[i] for i in (4, 1, 5, 2)]
    return {
        "scenes": {
            "base": base,
            "exact": base | {"classes": exact, "sizes": (4, 3, 5), "episodes": FEW},
            "small": base | {"sizes": (2, 1, 1), "episodes": FEW},
            "other": base | {"sizes": (5, 4, 1), "episodes": FEW, "seed": seed + 1},
        },
        "short": {
            "ways": base | {"sizes": (7, 1, 1)},
            "images": base | {"sizes": (3, 4, 5)},
            "one": base | {"classes": (*known[:6], known[8]), "sizes": (2, 1, 2)},
        },
    }


def _labels(known: list[int], counts: list[int], g: torch.Generator) -> Tensor:
    labels = torch.tensor(known).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=g)]


def probe(answer: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """場面ごとに、一つの生成器から続けて引く。足りない場面では、種を変えて 12 回ずつ呼ぶ。"""
    before = snapshot()
    scenes = {name: trial(_episodes, answer, scene) for name, scene in inputs["scenes"].items()}
    touched = snapshot() != before
    base = inputs["scenes"]["base"] | {"episodes": FEW}
    again = {f"again-{i}": trial(_episodes, answer, base | {"seed": base["seed"] + i}) for i in (0, 1)}
    short = {name: _refusals(answer, scene) for name, scene in inputs["short"].items()}
    return {"scenes": scenes, "touched": touched, "again": again, "short": short}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed % 2**32)


def _call(answer: Any, scene: Scene, generator: torch.Generator) -> Any:
    ways, shots, queries = scene["sizes"]
    return answer(scene["labels"], scene["classes"], ways=ways, shots=shots, queries=queries, generator=generator)


def _episodes(answer: Any, scene: Scene) -> dict[str, Any]:
    generator = _generator(scene["seed"])
    before = generator.get_state()
    found = [_plain(_call(answer, scene, generator)) for _ in range(scene["episodes"])]
    return {"episodes": found, "moved": not torch.equal(before, generator.get_state())}


def _plain(result: Any) -> dict[str, Any]:
    """返り値の型と、中のテンソルの型、形、値。"""
    parts = list(result)[:8] if isinstance(result, tuple | list) else []
    return {"type": type(result).__name__[:60], "parts": [_part(part) for part in parts]}


def _part(part: Any) -> dict[str, Any]:
    if not isinstance(part, Tensor):
        return {"type": type(part).__name__[:60], "shape": [], "value": []}
    value = part.flatten()[:100].tolist() if part.dtype == torch.int64 else []
    return {"type": str(part.dtype).removeprefix("torch."), "shape": list(part.shape), "value": value}


def _refusals(answer: Any, scene: Scene) -> list[dict[str, str]]:
    """断った例外の型と文。断らなければ空。"""
    found = []
    for seed in range(12):
        record = trial(_call, answer, scene | {"seed": seed}, _generator(seed))
        error = record["error"] if failed(record) else {"type": "", "message": ""}
        found.append({"type": error["type"], "message": error["message"][:300]})
    return found


SAMPLE_EPISODE = Question(
    id="08-4",
    points=15,
    title="エピソードを、漏れなく引く",
    goal="クラスの漏れも画像の漏れもないN-way K-shotのエピソードを、渡された乱数だけで引くことができる",
    minutes=25,
    difficulty=2,
    answers=("sample_episode",),
    make_inputs=make_inputs,
    probe=probe,
    judge=judge,
    reference=("fewshot.episodes", "fewshot._pools"),
    hints=(
        "まず、使ってよいクラスごとに、画像の番号を集めます。足りるかどうかを確かめてから、クラスを引き、クラスごとに画像を引きます。"
        "サポートとクエリを別々に引かず、一度に引いてから二つに分けると、重なりません。",
        "torch.randperm(n, generator=generator) は、0 から n − 1 の無作為な並べ替えです。初めの m 個を取れば、重複なく m 個引いたことになります。\n"
        "クラスごとに K + Q 枚を引き、初めの K 枚をサポート、残りの Q 枚をクエリにします。",
        "pools = [torch.nonzero(labels == c).flatten() for c in classes] とします。\n"
        "len(pools) < ways か、どれかの len(pool) が shots + queries より小さければ、ValueError を起こします。\n"
        "torch.randperm(len(pools), generator=generator)[:ways] の順に、クラスの番号 i を取り出します。\n"
        "order = torch.randperm(len(pools[i]), generator=generator) の初めの shots 個をサポート、次の queries 個をクエリにします。\n"
        "ラベルは torch.arange(ways).repeat_interleave(shots) です。",
    ),
)
