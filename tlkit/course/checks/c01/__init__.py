"""01 章の演習。問題ごとに一つのファイルを置く。"""

from tlkit.course.checks.c01.mmd2 import MMD2

QUESTIONS = (MMD2,)
