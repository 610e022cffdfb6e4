import subprocess
import sys

import pytest

from tlkit.course.grading import escape_code, escapes

pytestmark = pytest.mark.linux


def test_there_are_at_least_ten_different_attempts():
    attempts = escapes.escape_attempts()
    assert len({attempt.code for attempt in attempts}) == len({attempt.name for attempt in attempts}) >= 10


@pytest.mark.parametrize("attempt", escapes.escape_attempts(), ids=lambda attempt: attempt.name)
def test_every_escape_is_blocked(attempt, monkeypatch):
    monkeypatch.setattr(escapes, "escape_attempts", lambda: [attempt])
    (trial,) = escapes.selftest()
    assert trial.blocked, trial.detail


@pytest.mark.parametrize("name", ["READ", "LOCAL_TCP", "ABSTRACT", "PROCESSES", "SECRETS", "PRIVILEGE"])
def test_the_same_attempt_succeeds_without_a_cage(name, tmp_path):
    """檻の外では出られる（AssertionError になる）。試みが、いつも「止められた」と言うだけのものではない。"""
    code = getattr(escape_code, name).replace("os.kill(target, 9)", "pass")
    with escapes._host() as host:
        script = tmp_path / "attempt.py"
        script.write_text(f"host = {host!r}\n{escape_code.REFUSED}\n{code}", encoding="utf-8")
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "AssertionError" in done.stderr
