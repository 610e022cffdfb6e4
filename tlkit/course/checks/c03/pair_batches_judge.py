"""演習 03-10 の判定。組の形、組の数、先読み、引き直し方、空のローダーの順に調べる。

場面は `pair_batches.py`、記録の取り方は `pair_batches_loaders.py` にある。
"""

from typing import Any

from tlkit.course.checks.findings import Finding, Records, first, first_raised
from tlkit.course.checks.question import PASSED, Verdict
from tlkit.course.checks.trial import failed

Scenes = dict[str, dict[str, Any]]
NAMES = {"source": "ソース", "target": "ターゲット"}


def judge(data: Any, inputs: dict[str, Any]) -> Verdict:
    """probe の記録を判定する。"""
    sizes = inputs["scenes"]
    usual = {name: record for name, record in data.items() if not name.endswith("empty")}
    if verdict := first(_ran_out(usual, sizes)) or first_raised(usual):
        return verdict
    seen = {name: record["value"] for name, record in usual.items()}
    return (
        first(_pairs(seen))
        or first(_counts(seen, sizes))
        or first(_lengths(seen, sizes))
        or first(_read_ahead(seen, sizes))
        or first(_longer(seen, sizes))
        or first(_order(seen, sizes, longer_only=True))
        or first(_shorter(seen, sizes))
        or first(_longer(seen, sizes, equal=True))
        or first(_extra(seen, sizes))
        or first(_order(seen, sizes))
        or first(_empty(data))
        or PASSED
    )


def _ran_out(records: Records, sizes: Scenes) -> Finding:
    """短いほうが尽きた所で、StopIteration がもれた場合（ジェネレータの中では RuntimeError になる）。"""
    for name, record in records.items():
        error = record["error"] if failed(record) else {}
        if error.get("type") == "StopIteration" or "StopIteration" in error.get("message", ""):
            yield (
                "ran-out",
                f"{_told(sizes[name])}、途中で StopIteration がもれて止まりました。短いほうが尽きたら、"
                "そのローダーに新しく iter をかけ、そこから次を取り出してください。",
            )


def _pairs(seen: Scenes) -> Finding:
    for scene in seen.values():
        if not scene["iterable"]:
            yield (
                "not-iterable",
                f"返り値が {scene['type']} で、for で回せません。組を順に返すイテレータにしてください。",
            )
        for pair in scene["pairs"]:
            if pair is None:
                yield (
                    "not-pair",
                    "1回に返るものが、（ソースのバッチ, ターゲットのバッチ）の2つ組ではありません。"
                    "ソースのバッチの中身（入力とラベル）をばらさずに、そのまま組の1つめにしてください。",
                )
            elif None in pair:
                which = NAMES["target" if pair[0] else "source"]
                yield (
                    "changed-batch",
                    f"組の{which}の側に、{which}のローダーが渡したバッチとは違うものが入っています。"
                    "中身を取り出したり、写しを作ったりせずに、渡されたバッチをそのまま組にしてください。",
                )
            elif [part[0] for part in pair] != ["source", "target"]:
                yield (
                    "swapped",
                    "組の順が（ソース, ターゲット）になっていない所があります。どちらのローダーが長くても、ソースを先にしてください。",
                )


def _counts(seen: Scenes, sizes: Scenes) -> Finding:
    """組の数は、いつも長いほうのバッチの数。"""
    for name, scene in seen.items():
        if scene["stuck"] or not scene["ended"]:
            yield (
                "endless",
                f"{_told(sizes[name])}、組が{max(_size(sizes[name]))}個で終わりません。長いほうを1周したら、終わってください。",
            )
    short = {side: all(_stops_at_shorter(seen[n], sizes[n]) for n in _where(sizes, side)) for side in NAMES}
    if all(short.values()):
        yield (
            "truncated",
            f"{_told(sizes['target-short'])}、組が{len(seen['target-short']['pairs'])}個で終わりました。短いほうが尽きた所で止まるので、"
            "長いほうの残りは使われません（zip と同じです）。短いほうを引き直し、長いほうの数だけ組を作ってください。",
        )
    for side, name in (("source", "source-short"), ("target", "target-short")):
        if short[side]:
            yield (
                f"{side}-not-restarted",
                f"{NAMES[side]}のほうが短いと、{NAMES[side]}が尽きた所で終わります（{_told(sizes[name])}、"
                f"組が{len(seen[name]['pairs'])}個）。どちらが短くても、短いほうを引き直してください。",
            )


def _stops_at_shorter(scene: dict[str, Any], size: dict[str, Any]) -> bool:
    return len(scene["pairs"]) == min(_size(size))


def _where(sizes: Scenes, side: str) -> list[str]:
    """side のほうが短い場面。"""
    other = "target" if side == "source" else "source"
    return [name for name, size in sizes.items() if 0 < size[side] < size[other]]


def _lengths(seen: Scenes, sizes: Scenes) -> Finding:
    for name, scene in seen.items():
        want, found = max(_size(sizes[name])), len(scene["pairs"])
        if found != want:
            yield (
                "pair-count",
                f"{_told(sizes[name])}、組が{found}個でした。組の数は、長いほうのバッチの数（{want}個）です。最後のバッチも組にします。",
            )


def _read_ahead(seen: Scenes, sizes: Scenes) -> Finding:
    for name, scene in seen.items():
        for side, count in (scene["after_first"] or {}).items():
            if count > 2:
                yield (
                    "read-ahead",
                    f"{_told(sizes[name])}、1つめの組を受け取った時点で、{NAMES[side]}から{count}個のバッチが取り出されていました。"
                    "バッチをためておくと、データの全部がメモリに載ります。組にする分だけを、その都度取り出してください。",
                )


def _longer(seen: Scenes, sizes: Scenes, *, equal: bool = False) -> Finding:
    for name, scene in seen.items():
        size = sizes[name]
        if (size["source"] == size["target"]) != equal:
            continue
        for place, side in enumerate(NAMES):
            rows = len({pair[place][3] for pair in scene["pairs"]})
            if size[side] == max(_size(size)) > rows:
                yield (
                    "longer-restarted",
                    f"{_told(size)}、{NAMES[side]}の{size[side]}個のうち、組になったのは{rows}個だけで、ほかは同じバッチのくり返しでした。"
                    "引き直すのは、尽きたほうだけです。",
                )


def _shorter(seen: Scenes, sizes: Scenes) -> Finding:
    """短いほうは、最後まで取り出してから、新しい反復を始める。"""
    for name, scene in seen.items():
        size = sizes[name]
        for place, side in enumerate(NAMES):
            length, found = size[side], [pair[place] for pair in scene["pairs"]]
            if length >= max(_size(size)):
                continue
            rounds = [found[start : start + length] for start in range(0, len(found), length)]
            if len(rounds) > 1 and all(part[1] == 0 for part in found):
                yield (
                    "same-batches",
                    f"{_told(size)}、{NAMES[side]}の2周めのバッチが、1周めに取っておいたものでした（itertools.cycle と同じです）。"
                    "順も、データ拡張の結果も、毎回同じになります。尽きたら、ローダーの反復を新しく始めてください。",
                )
            if length > 1 and all(part[2] == 0 for part in found):
                yield (
                    "first-batch-only",
                    f"{_told(size)}、{NAMES[side]}のバッチが、どの組でも「反復を始めて1つめ」でした。組ごとに iter をかけ直しています。"
                    "反復は、尽きるまで続けてください。",
                )
            if any({part[3] for part in one} != set(range(length)) for one in rounds if len(one) == length):
                yield (
                    "round-cut",
                    f"{_told(size)}、{NAMES[side]}を{length}個取り出す間に、同じバッチが重なり、一度も使われないバッチがありました。"
                    "1周を最後まで取り出してから、次の反復を始めてください。",
                )


def _extra(seen: Scenes, sizes: Scenes) -> Finding:
    for name, scene in seen.items():
        for side, drawn in scene["rounds"].items():
            if sum(drawn) > len(scene["pairs"]):
                yield (
                    "extra-batch",
                    f"{_told(sizes[name])}、組は{len(scene['pairs'])}個ですが、{NAMES[side]}からは{sum(drawn)}個のバッチが取り出されました。"
                    "組にしないバッチを読み込むと、時間が無駄になり、引き直しが余分に起きます。zip は、左から順に取り出してから、"
                    "尽きたことに気づきます。空かどうかを調べるために取り出すのも、同じ無駄です（len で分かります）。",
                )


def _order(seen: Scenes, sizes: Scenes, *, longer_only: bool = False) -> Finding:
    for name, scene in seen.items():
        size = sizes[name]
        for place, side in enumerate(NAMES):
            found = [pair[place][2] for pair in scene["pairs"]]
            checked = size[side] > min(_size(size)) or not longer_only
            if checked and found != [k % size[side] for k in range(len(found))]:
                yield (
                    "order",
                    f"{_told(size)}、{NAMES[side]}のバッチの順が、ローダーが渡した順と違います。"
                    "並べ替えはローダーの仕事です。渡された順に組にしてください。",
                )


def _empty(data: Records) -> Finding:
    for name in ("target-empty", "source-empty", "both-empty"):
        record = data[name]
        if failed(record):
            yield (
                "empty-error",
                f"空のローダーがあるとき、{record['error']['type']} が起きました。何が空かを述べる ValueError にしてください。",
            )
        elif record["value"]["stuck"]:
            yield (
                "empty-endless",
                "空のローダーがあるとき、終わらなくなりました。空のローダーは、何度引き直しても空です。"
                "先に len を調べ、0なら ValueError を出してください。",
            )
        elif not record["value"]["refused"]:
            yield (
                "empty-silent",
                f"{_emptied(name)}のローダーが空なのに、ValueError が出ませんでした。黙って終わると、1度も学習していないことに気づけません。",
            )


def _emptied(name: str) -> str:
    return {"target-empty": "ターゲット", "source-empty": "ソース"}.get(name, "両方")


def _size(size: dict[str, Any]) -> tuple[int, int]:
    return size["source"], size["target"]


def _told(size: dict[str, Any]) -> str:
    return f"ソースが{size['source']}バッチ、ターゲットが{size['target']}バッチのとき"
