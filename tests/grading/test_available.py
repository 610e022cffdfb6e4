import sys

import pytest

from tlkit.course.errors import CourseError
from tlkit.course.grading import available as availability
from tlkit.course.grading import cage
from tlkit.course.grading.available import available

pytestmark = pytest.mark.linux


def test_a_real_trial_says_that_the_cage_works():
    assert available() == availability.Availability(ok=True)


def test_no_bwrap_is_refused_in_japanese_with_a_remedy(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = available()
    assert not found.ok
    assert "bubblewrap" in found.reason and "apt install bubblewrap" in found.reason
    with pytest.raises(CourseError, match="bubblewrap"):
        availability.require()


def test_a_machine_other_than_linux_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "WSL2" in available().reason


@pytest.mark.parametrize(
    ("complaint", "remedy"),
    [
        ("bwrap: setting up uid map: Permission denied", "apparmor_restrict_unprivileged_userns"),
        ("bwrap: No permissions to create new namespace", "apparmor_restrict_unprivileged_userns"),
        ("bwrap: Unknown option --disable-userns", "0.8 以上"),
        ("bwrap: something new", "bwrap --version"),
    ],
)
def test_a_failing_bwrap_is_explained(complaint, remedy, monkeypatch, tmp_path):
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\necho '{complaint}' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(cage, "bwrap", lambda: str(fake))
    found = available()
    assert not found.ok
    assert complaint in found.reason and remedy in found.reason
