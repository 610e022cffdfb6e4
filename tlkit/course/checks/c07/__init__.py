"""07 章の演習。問題ごとに一つのファイルを置く。"""

from tlkit.course.checks.c07.attention_loss import ATTENTION_LOSS
from tlkit.course.checks.c07.distill_step import DISTILL_STEP
from tlkit.course.checks.c07.distillation_loss import DISTILLATION_LOSS
from tlkit.course.checks.c07.fit_hint import FIT_HINT
from tlkit.course.checks.c07.logit_gradient import LOGIT_GRADIENT
from tlkit.course.checks.c07.quantize import QUANTIZE
from tlkit.course.checks.c07.run_grid import RUN_GRID
from tlkit.course.checks.c07.soft_targets import SOFT_TARGETS
from tlkit.course.checks.question import Question

QUESTIONS: tuple[Question, ...] = (
    SOFT_TARGETS,
    DISTILLATION_LOSS,
    LOGIT_GRADIENT,
    FIT_HINT,
    ATTENTION_LOSS,
    DISTILL_STEP,
    RUN_GRID,
    QUANTIZE,
)
