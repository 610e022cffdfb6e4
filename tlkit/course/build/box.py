"""演習の箱（目標・目安時間・難易度・配点・ヒントの出し方）を、問題の定義から描く。

隣: 箱の場所の読み取りは `structure.py`、問題の定義は `tlkit/course/checks/`。
"""

from tlkit.course.checks.question import Question

_LEVELS = 3


def exercise_box(question: Question) -> str:
    """問題の箱を markdown で返す。Lab でも本でも同じに見える HTML の囲みを使う。"""
    stars = "★" * question.difficulty + "☆" * (_LEVELS - question.difficulty)
    return "\n".join(
        [
            '<div class="alert alert-info" role="note">',
            "",
            f"- 目標：{question.goal}",
            f"- 目安時間：{question.minutes}分",
            f"- 難易度：{stars}（{_LEVELS}段階の{question.difficulty}）",
            f"- 配点：{question.points}点",
            f'- ヒント：`hint("{question.id}")` を実行すると、方針、式、ほぼコードの順に1段階ずつ出ます。',
            "",
            "</div>",
        ]
    )
