"""確認クイズ。chapters/quiz/NN_slug.yaml が唯一の源である。

- `schema.py`  YAML の形と読み込み
- `render.py`  章のノートブックのセルにする（build が呼ぶ）
- `mark.py`    学習者の答えの採点（`from tlkit.course import quiz`）
"""
