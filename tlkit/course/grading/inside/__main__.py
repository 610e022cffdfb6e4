"""檻の中の入口。"""

from tlkit.course.grading.inside.frames import take_over
from tlkit.course.grading.inside.runner import run

if __name__ == "__main__":
    run(take_over())
