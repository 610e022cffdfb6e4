"""採点: 提出されたノートブックを檻の中で動かし、檻の外で判定する。

問題の定義は `checks/` と同じもの（`Question`）を使う。流れは `pipeline.py`、檻は `cage.py` と `inside/` にある。
"""
