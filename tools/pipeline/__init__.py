"""`make test` の段階。入口は `tools/stages.py`。

`suites.py` と `notebooks.py` が段階の中身、`commands.py` がコマンドの起動、`junit.py` が pytest の結果の読み取り、
`outcome.py` が結果の形、`report.py` が最後の表。
"""
