"""出題の規則。破られたものを日本語の文の並びで返す（空なら合格）。"""

import re
from collections import Counter

from markdown_it import MarkdownIt

from tlkit.course.quiz.render import to_markdown
from tlkit.course.quiz.schema import LETTERS, QuizItem

FORBIDDEN = r"(すべて|全て|いずれも|どれも)(が|を|に)?(正し|誤り|誤って|間違|当てはま|適切)|該当なし|上記"
REVEALS = r"\([a-dａ-ｄ]\)|（[a-dａ-ｄ]）|選択肢\s*[a-dａ-ｄ1-4１-４]|[1-4一二三四]つ目の選択肢|正解は|正答は"


def violations(items: list[QuizItem]) -> list[str]:
    """1 ファイル分の問題を、すべての規則で調べる。"""
    single = [problem for item in items for rule in (wording, reasons, rendering) for problem in rule(item)]
    return [*single, *length_balance(items), *position_spread(items)]


def wording(item: QuizItem) -> list[str]:
    """問い方と、選択肢の言い回し。"""
    found = [f"{item.id}: 選択肢に「{m[0]}」があります" for c in item.choices if (m := re.search(FORBIDDEN, c))]
    if not re.search(r"最も適切なものはどれか。$", item.stem.strip()):
        found.append(f"{item.id}: 問題文が「最も適切なものはどれか。」で終わっていません")
    return found


def reasons(item: QuizItem) -> list[str]:
    """理由は選択肢の記号に触れない（正答を漏らさず、並べ替えても正しい）。"""
    return [f"{item.id}: 理由に「{m[0]}」があります" for why in item.why if (m := re.search(REVEALS, why))]


def rendering(item: QuizItem) -> list[str]:
    """太字にならずに残る ** がないか。数式の $ の数が偶数か。"""
    found = [f"{item.id}: 太字になっていない ** があります: {text}" for text in stray_stars(to_markdown(item))]
    texts = [item.stem, *item.choices, *item.why]
    return found + [f"{item.id}: $ が対になっていません: {text}" for text in texts if text.count("$") % 2]


def stray_stars(markdown: str) -> list[str]:
    """描画した後の文字に残った ** を含む行。"""
    tokens = (child for token in MarkdownIt().parse(markdown) for child in token.children or [])
    return [token.content for token in tokens if token.type == "text" and "**" in token.content]


def length_balance(items: list[QuizItem]) -> list[str]:
    """正しい選択肢だけが最も長い問題は、半分まで（6 問以上の章）。"""
    longest = [item.id for item in items if _is_longest(item)]
    if len(items) >= 6 and len(longest) * 2 > len(items):
        return [f"正しい選択肢が最も長い問題が多すぎます（{len(items)}問中{len(longest)}問: {'、'.join(longest)}）"]
    return []


def position_spread(items: list[QuizItem]) -> list[str]:
    """正しい選択肢の位置は、4 問以上なら一か所に半分まで、8 問以上なら四か所すべてを使う。"""
    counts = Counter(item.letter for item in items)
    found = []
    if len(items) >= 4 and (most := counts.most_common(1)[0])[1] * 2 > len(items):
        found.append(f"正答が {most[0]} に偏っています（{len(items)}問中{most[1]}問）")
    if len(items) >= 8 and set(counts) != set(LETTERS):
        found.append(f"正答が {'、'.join(sorted(set(LETTERS) - set(counts)))} になる問題がありません")
    return found


def _is_longest(item: QuizItem) -> bool:
    lengths = [len(choice) for choice in item.choices]
    return lengths.count(max(lengths)) == 1 and lengths.index(max(lengths)) == item.answer
