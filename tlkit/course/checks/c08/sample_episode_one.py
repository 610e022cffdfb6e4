"""演習 08-4 の判定のうち、一つのエピソードの性質。前の性質が成り立つことを、後の性質が使う。"""

from typing import Any

from tlkit.course.checks.findings import Finding

NAMES = ("support", "support_y", "query", "query_y")


class Drawn:
    """一つのエピソード。番号とラベルの列と、元のクラス番号。"""

    def __init__(self, episode: dict[str, Any], scene: dict[str, Any]) -> None:
        self.support, self.support_y, self.query, self.query_y = (part["value"] for part in episode["parts"])
        self.scene, self.total = scene, len(scene["labels"])
        self.ways, self.shots, self.queries = scene["sizes"]

    def real(self, index: list[int]) -> list[int]:
        """画像の、元のクラス番号。"""
        return [int(self.scene["labels"][i]) for i in index]

    @property
    def classes(self) -> list[int]:
        """番号 0、1、… の、元のクラス番号。"""
        return self.real(self.support)[:: self.shots]


def form_findings(episode: dict[str, Any], sizes: tuple[int, int, int]) -> Finding:
    """四つの、1 次元の整数のテンソルか。"""
    ways, shots, queries = sizes
    if len(episode["parts"]) != 4:
        yield (
            "not-four",
            f"返り値が {episode['type']}（要素 {len(episode['parts'])} 個）です。(support, support_y, query, query_y) の四つを返してください。",
        )
    for name, part in zip(NAMES, episode["parts"], strict=False):
        count = ways * (shots if name.startswith("support") else queries)
        if part["type"] != "int64":
            yield "not-int64", f"{name} が {part['type']} です。int64 の torch.Tensor にしてください。"
        if part["shape"] != [count]:
            yield (
                "shape",
                f"ways = {ways}、shots = {shots}、queries = {queries} で、{name} の形が {tuple(part['shape'])} です。({count},) にしてください。",
            )


def episode_findings(one: Drawn) -> Finding:
    """番号の範囲、クラスの漏れ、クラスの数、画像の漏れ、ラベル、並びの順に調べる。"""
    if not all(0 <= i < one.total for i in one.support + one.query):
        yield "index-range", f"画像は {one.total} 枚なのに、0 から {one.total - 1} の外の番号があります。"
        return
    yield from _outside(one)
    yield from _classes(one)
    yield from _repeated(one)
    yield from _labels(one)


def _outside(one: Drawn) -> Finding:
    for title, index in (("サポート", one.support), ("クエリ", one.query)):
        if outside := set(one.real(index)) - set(one.scene["classes"]):
            yield (
                "class-leak",
                f"{title}に、classes にないクラス {min(outside)} の画像が入りました。使ってよいのは、classes のクラスだけです。"
                "メタテストのクラスがメタ訓練に混ざると、「初めて見るクラス」の成績ではなくなります。",
            )


def _repeated(one: Drawn) -> Finding:
    if both := set(one.support) & set(one.query):
        yield (
            "overlap",
            f"サポートとクエリの両方に、同じ画像（{len(both)} 枚）が入りました。手本と同じ画像を問うことになります。"
            "一度に引いてから、二つに分けてください。",
        )
    for title, index in (("サポート", one.support), ("クエリ", one.query)):
        if len(set(index)) < len(index):
            yield "image-repeated", f"{title}に、同じ画像が2回以上入りました。重複なく引いてください。"


def _classes(one: Drawn) -> Finding:
    found = len(set(one.real(one.support)))
    if found < one.ways:
        yield (
            "class-repeated",
            f"ways = {one.ways} なのに、サポートのクラスが {found} 種類です。クラスは、重複なく引いてください。",
        )
    if found > one.ways:
        yield (
            "too-many-classes",
            f"ways = {one.ways} なのに、サポートのクラスが {found} 種類です。まずクラスを引き、その画像だけから引いてください。",
        )
    if set(one.real(one.query)) != set(one.real(one.support)):
        yield "query-classes", "クエリのクラスが、サポートのクラスと違います。手本のあるクラスだけを問うてください。"


def _labels(one: Drawn) -> Finding:
    pairs = (("support", one.support, one.support_y, one.shots), ("query", one.query, one.query_y, one.queries))
    for name, _, labels, _ in pairs:
        if set(labels) != set(range(one.ways)):
            yield (
                "not-relabelled",
                f"ways = {one.ways} で、{name}_y の値が {sorted(set(labels))[:6]} です。0 から {one.ways - 1} に付け直してください。",
            )
    for name, index, labels, _ in pairs:
        if len(set(zip(labels, one.real(index), strict=True))) != one.ways:
            yield (
                "labels-mixed",
                f"{name} で、同じ番号の画像が、違うクラスでした。{name} と {name}_y を、同じ順に並べてください。",
            )
    yield from _same_order(one)
    for name, _, labels, each in pairs:
        if any(labels.count(k) != each for k in range(one.ways)):
            yield "unbalanced", f"{name} の枚数が、クラスによって違います。どのクラスも {each} 枚にしてください。"
        if labels != sorted(labels):
            yield "order", f"{name}_y が {labels[:8]}… です。0 が {each} 個、1 が {each} 個、… の順に並べてください。"


def _same_order(one: Drawn) -> Finding:
    """番号とクラスの対応が、サポートとクエリで同じか。"""
    pairs = ((one.support, one.support_y), (one.query, one.query_y))
    mappings = [dict(zip(labels, one.real(index), strict=True)) for index, labels in pairs]
    if mappings[0] != mappings[1]:
        yield (
            "labels-inconsistent",
            "サポートとクエリで、同じ番号が違うクラスを指しています。番号とクラスの対応は、エピソードの中で一つです。",
        )
