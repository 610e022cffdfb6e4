"""08 章の演習。問題ごとに一つのファイルを置く。"""

from tlkit.course.checks.c08.adapt import ADAPT
from tlkit.course.checks.c08.compare_methods import COMPARE_METHODS
from tlkit.course.checks.c08.maml_loss import MAML_LOSS
from tlkit.course.checks.c08.meta_distillation_step import META_DISTILLATION_STEP
from tlkit.course.checks.c08.meta_gradient import META_GRADIENT
from tlkit.course.checks.c08.normalise_task import NORMALISE_TASK
from tlkit.course.checks.c08.prototypical_logits import PROTOTYPICAL_LOGITS
from tlkit.course.checks.c08.sample_episode import SAMPLE_EPISODE
from tlkit.course.checks.question import Question

QUESTIONS: tuple[Question, ...] = (
    META_GRADIENT,
    ADAPT,
    MAML_LOSS,
    SAMPLE_EPISODE,
    PROTOTYPICAL_LOGITS,
    META_DISTILLATION_STEP,
    NORMALISE_TASK,
    COMPARE_METHODS,
)
