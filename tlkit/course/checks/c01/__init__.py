"""01 章の演習。問題ごとに一つのファイルを置く。"""

from tlkit.course.checks.c01.cached import CACHED
from tlkit.course.checks.c01.crossover import CROSSOVER
from tlkit.course.checks.c01.leep import LEEP
from tlkit.course.checks.c01.mmd2 import MMD2
from tlkit.course.checks.c01.pairing_gap import PAIRING_GAP
from tlkit.course.checks.c01.proxy_a import PROXY_A
from tlkit.course.checks.c01.rank_agreement import RANK_AGREEMENT

QUESTIONS = (MMD2, LEEP, CACHED, PROXY_A, PAIRING_GAP, CROSSOVER, RANK_AGREEMENT)
