"""02 章の演習。問題ごとに一つのファイルを置く。"""

from tlkit.course.checks.c02.freeze_backbone import FREEZE_BACKBONE
from tlkit.course.checks.c02.keep_best import KEEP_BEST
from tlkit.course.checks.c02.layerwise_groups import LAYERWISE_GROUPS
from tlkit.course.checks.c02.prepare import PREPARE
from tlkit.course.checks.c02.selection import SELECTION
from tlkit.course.checks.c02.slanted import SLANTED
from tlkit.course.checks.c02.unfreeze_top import UNFREEZE_TOP
from tlkit.course.checks.c02.warm_start import WARM_START
from tlkit.course.checks.question import Question

QUESTIONS: tuple[Question, ...] = (
    FREEZE_BACKBONE,
    LAYERWISE_GROUPS,
    SLANTED,
    UNFREEZE_TOP,
    KEEP_BEST,
    WARM_START,
    SELECTION,
    PREPARE,
)
