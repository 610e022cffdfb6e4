import os
import threading
import time

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.grading.executors import default_jobs, threads


def test_the_default_number_of_jobs_fits_the_machine():
    assert 2 <= default_jobs() <= os.cpu_count() + 1
    with threads() as pool:
        assert pool.size == default_jobs()


@pytest.mark.parametrize("jobs", [0, -1, 257])
def test_an_impossible_number_of_jobs_is_refused(jobs):
    with pytest.raises(CourseError, match="--jobs"), threads(jobs):
        pass


def test_an_ordinary_end_waits_for_the_running_work():
    done = []
    with threads(1) as pool:
        pool.executor.submit(lambda: (time.sleep(0.2), done.append(1)))
    assert done == [1]


def test_stopping_by_hand_does_not_wait_for_the_running_work():
    release, sent = threading.Event(), []

    def stop_halfway():
        with threads(1) as pool:
            sent.extend(pool.executor.submit(release.wait, 60) for _ in range(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    first, second = sent
    assert second.cancelled() and not first.done()
    release.set()
    assert first.result(10)
