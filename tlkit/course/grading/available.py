"""この機械で檻を作れるかを、本当に一つ作って確かめる。作れないときは、理由と直し方を日本語で返す。

設定を読んで推し量ることはしない。名前空間の制限は、版や配布元によって場所も意味も違うためである。
試す順は `drivers.py`、直し方の文は `remedies.py` にある。
"""

import json
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import tlkit
from tlkit.course.errors import CourseError
from tlkit.course.grading import drivers, remedies
from tlkit.course.grading.container_process import ContainerProcess
from tlkit.course.grading.drivers import Driver
from tlkit.course.grading.model import Limits

_SECONDS = 60.0
_CHOSEN: list[Driver] = []
_CHOOSING = threading.RLock()
# 名乗るまで待たせて、その間に外から中の世界を確かめる
_SCRIPT = """
import ctypes, json, os, socket, sys
sys.stdin.readline()
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
def writable(folder):
    try:
        open(folder + "/x", "w")
    except OSError:
        return False
    return True
places = {line.split()[1] for line in open("/proc/mounts")} | {"/", "/dev", "/tree", "/run", "/var/tmp", "/home", "/root"}
child = os.fork()  # スレッドが 1 本のプロセスで試す
if child == 0:
    os._exit(0 if ctypes.CDLL(None).unshare(0x10000000) else 1)
print(json.dumps({
    "user": os.getuid() != 0,
    "rights": int(status["CapBnd"], 16) | int(status["CapEff"], 16) | int(status["CapPrm"], 16),
    "locked": status["NoNewPrivs"].strip(),
    "network": [name for _, name in socket.if_nameindex()],
    "writable": sorted(filter(writable, places)),
    "nested": os.waitpid(child, 0)[1] != 0,
    "world": os.readlink("/proc/self/ns/pid"),
}))
"""
_EXPECTED = {
    "user": True,
    "rights": 0,
    "locked": "1",
    "network": ["lo"],
    "writable": ["/dev/shm", "/tmp"],
    "nested": False,
}


@dataclass(frozen=True)
class Availability:
    """檻を作れるか。

    Attributes:
        ok: 作れるなら True。
        reason: 作れない理由と直し方。作れるなら空。
        driver: 選んだ作り方。作れなければ None。
    """

    ok: bool
    reason: str = ""
    driver: Driver | None = None


def available() -> Availability:
    """檻を一つずつ作り、中で Python を動かしてみる。最初に動いた作り方を選ぶ。"""
    reasons: list[str] = []
    for driver in drivers.candidates():
        reason = trouble(driver)
        if reason is None:
            return Availability(ok=True, driver=driver)
        if reason not in reasons:
            reasons.append(reason)
    if sys.platform != "linux":
        reasons.append(remedies.NOT_LINUX)
    elif not any(map(shutil.which, ("podman", "docker"))):
        reasons.append(remedies.INSTEAD)
    return Availability(ok=False, reason="\n\n".join(reasons))


def require() -> Driver:
    """檻を作れなければ、採点を始めない。作れれば、その作り方に決める。

    Raises:
        CourseError: 檻を作れないとき。理由と直し方を添える。
    """
    found = available()
    if found.driver is None:
        raise CourseError(found.reason)
    _CHOSEN[:] = [found.driver]
    return found.driver


def driver() -> Driver:
    """この機械で使う作り方。決まっていなければ決める。一度決めたら、このプロセスでは変えない。

    Raises:
        CourseError: 檻を作れないとき。理由と直し方を添える。
    """
    with _CHOOSING:
        return _CHOSEN[0] if _CHOSEN else require()


def trouble(driver: Driver) -> str | None:
    """この作り方で檻を作れない理由と直し方。作れれば None。"""
    try:
        with driver.start(package(), Limits(), ("-c", _SCRIPT)) as process:
            world = process.world if isinstance(process, ContainerProcess) else None
            said, complained = process.listen(_SECONDS)
    except CourseError as error:
        return remedies.explain(driver.name, str(error), own=True)
    try:
        seen = json.loads(said)
    except ValueError:
        return remedies.explain(driver.name, (complained + said).decode("utf-8", "replace").strip()[-1000:])
    wrong = {name: seen.get(name) for name, value in _EXPECTED.items() if seen.get(name) != value}
    if world is not None and seen.get("world") != world:
        wrong["world"] = seen.get("world")
    return remedies.leaky(driver.name, wrong) if wrong else None


def package() -> Path:
    """いま動いている tlkit のフォルダ。"""
    return Path(tlkit.__file__).resolve().parent
