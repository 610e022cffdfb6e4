"""採点の報告: JSON（いつも同じバイト列）、CSV（表計算ソフト用）、HTML（教員用の 1 枚）、学生への返却。

`table.py` が記録の行から報告の中身を作り、`as_*.py` がそれぞれの形にし、`writing.py` がファイルに書く。
どの形も点数を作り直さない。点数を決めるのは `judging.py` と、手で直した記録だけである。
"""

from tlkit.course.grading.report.table import Report, build

__all__ = ["Report", "build"]
