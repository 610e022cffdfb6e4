"""03 章の演習。問題ごとに一つのファイルを置く。"""

from tlkit.course.checks.c03.adabn import ADAPT_BATCHNORM
from tlkit.course.checks.c03.bound_terms import BOUND_TERMS
from tlkit.course.checks.c03.coral_loss import CORAL_LOSS
from tlkit.course.checks.c03.dann_schedule import DANN_SCHEDULE
from tlkit.course.checks.c03.dann_step import DANN_STEP
from tlkit.course.checks.c03.gradient_reversal import GRADIENT_REVERSAL
from tlkit.course.checks.c03.importance import IMPORTANCE_WEIGHTS
from tlkit.course.checks.c03.label_shift import LABEL_SHIFT
from tlkit.course.checks.c03.mmd_loss import MMD_LOSS
from tlkit.course.checks.c03.pair_batches import PAIR_BATCHES
from tlkit.course.checks.question import Question

QUESTIONS: tuple[Question, ...] = (
    GRADIENT_REVERSAL,
    DANN_SCHEDULE,
    MMD_LOSS,
    CORAL_LOSS,
    DANN_STEP,
    ADAPT_BATCHNORM,
    BOUND_TERMS,
    IMPORTANCE_WEIGHTS,
    LABEL_SHIFT,
    PAIR_BATCHES,
)
