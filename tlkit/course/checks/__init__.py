"""演習の確認。

定義は `question.py`、問題の一覧は `registry.py`、各章の問題は `cNN`、呼び出しと判定は `harness.py`、
学習者がノートブックから呼ぶ `check` などは `session.py` にある。
"""
