"""日本語の検査一式。入口は `lint.py`。

`sources.py` が文章を取り出し、`textlint.py` と `markdown_checks.py` が調べ、`findings.py` が元の位置に戻す。
用語の一覧は `prh.yml`、口語とい抜きは `colloquial.yml`、規則の選び方は `.textlintrc.json`。
"""
