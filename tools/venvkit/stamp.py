"""「もう用意できている」という印。`.venv/tlkit-stamp.json` に置き、すべてが済んだ後にだけ書く。"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from venvkit import venv

NAME = "tlkit-stamp.json"


@dataclass(frozen=True)
class Stamp:
    """何を用意したか。python と root は、Python の更新やフォルダの移動に気づくために持つ。"""

    fingerprint: str
    profile: str
    variant: str
    python: str
    root: str


def read(folder: Path) -> Stamp | None:
    """印を読む。無い、壊れている、古い形、のどれも「無い」とみなす。"""
    try:
        return Stamp(**json.loads((folder / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(folder: Path, stamp: Stamp) -> None:
    """印を書く。途中で切れても半端な印が残らないよう、置き換えで書く。"""
    temporary = folder / (NAME + ".new")
    temporary.write_text(json.dumps(asdict(stamp), ensure_ascii=False, indent=1), encoding="utf-8")
    temporary.replace(folder / NAME)


def erase(folder: Path) -> None:
    """これから手を入れるので、印を消す。"""
    (folder / NAME).unlink(missing_ok=True)


def current(root: Path, folder: Path, fingerprint: str, profile: str, variant: str) -> Stamp:
    """今の状態を表す印を作る。"""
    return Stamp(fingerprint, profile, variant, str(venv.python_of(folder).resolve()), str(root))


def satisfied(stamp: Stamp | None, wanted: Stamp) -> bool:
    """前の印が、今ほしいものを満たすか。dev は lab を含む。Python の実体も残っていること。"""
    if stamp is None or not Path(wanted.python).is_file():
        return False
    profile_ok = stamp.profile in (wanted.profile, "dev")
    same = (stamp.fingerprint, stamp.variant, stamp.python, stamp.root)
    return profile_ok and same == (wanted.fingerprint, wanted.variant, wanted.python, wanted.root)
