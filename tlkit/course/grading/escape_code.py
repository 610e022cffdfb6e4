"""檻から出ようとする試みのコード。動かし方と名前は `escapes.py` にある。

どれも、出られたら AssertionError を起こす。`host` は、檻の外にあるもの（ファイル、口、プロセス）の名前を持つ。
"""

REFUSED = """
import os, socket, sys, ctypes
def refused(act):
    try:
        act()
    except OSError:
        return True
    return False
"""

READ = """
for path in (host["file"], host["solutions"], "/etc/shadow"):
    assert not os.path.exists(path), path
bare = ("/etc/passwd", "/var", "/run", "/sys")
assert host["driver"] != "bubblewrap" or not any(map(os.path.exists, bare))
for place in bare[1:]:  # コンテナの道具は、空のファイルを置くことがある
    for folder, _, names in os.walk(place):
        for path in (os.path.join(folder, name) for name in names):
            assert os.path.isfile(path) and os.path.getsize(path) == 0, path
if os.path.exists("/etc/passwd"):  # コンテナの道具は、中の利用者の分だけを書いたものを置く
    known = {line.split(":")[0] for line in open("/etc/passwd")}
    assert not known & set(host["users"]), known
"""

WRITE = """
import site
folders = ["/", "/usr", "/dev", "/tree", "/tree/tlkit", sys.prefix, sys.base_prefix, *site.getsitepackages(), "/proc/sys/kernel"]
for folder in folders:
    assert refused(lambda: open(folder + "/escaped", "w")), folder
assert refused(lambda: open("/proc/sys/kernel/core_pattern", "w"))
assert refused(lambda: open("/proc/sysrq-trigger", "w"))
"""

LOCAL_TCP = """
for address in ("127.0.0.1", "::1"):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    assert refused(lambda: socket.socket(family).connect((address, host["port"]))), address
"""

ABSTRACT = """
assert refused(lambda: socket.socket(socket.AF_UNIX).connect(host["abstract"]))
"""

NETWORK = """
assert [name for _, name in socket.if_nameindex()] == ["lo"], socket.if_nameindex()
outside = socket.socket()
outside.settimeout(2)
try:
    outside.connect(("192.0.2.1", 80))
except OSError as error:
    assert not isinstance(error, TimeoutError), "経路がある"
else:
    assert False
assert refused(lambda: socket.getaddrinfo("example.com", 80))
"""

PROCESSES = """
seen = [name for name in os.listdir("/proc") if name.isdecimal()]
assert len(seen) < 10, seen
own = os.getpid()
for target in (host["pid"], os.getppid(), 1):
    if target != own:
        try:
            os.kill(target, 9)
        except OSError:
            pass
"""

SECRETS = """
for pid in (name for name in os.listdir("/proc") if name.isdecimal()):
    for part in ("environ", "cmdline"):
        try:
            with open(f"/proc/{pid}/{part}", "rb") as file:
                text = file.read()
        except OSError:
            continue
        assert host["secret"].encode() not in text, (pid, part)
        assert part == "cmdline" or host["home"].encode() + b"\\0" not in text, pid
"""

NAMESPACES = """
libc = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x10020000, 0x20000000, 0x40000000, 0x00020000):
    child = os.fork()  # スレッドが 1 本のプロセスで試す
    if child == 0:
        os._exit(0 if libc.unshare(flag) else 1)
    assert os.waitpid(child, 0)[1] == 0, hex(flag)
"""

MOUNT = """
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) != 0
assert libc.mount(None, b"/usr", None, 32 | 4096, None) != 0  # 読み書きできるように付け直す
assert libc.umount2(b"/tree/tlkit", 2) != 0
assert libc.chroot(b"/tmp") != 0
"""

PRIVILEGE = """
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
assert status["NoNewPrivs"].strip() == "1"
assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
assert os.getuid() == 1000 or host["driver"] == "docker" and os.getuid() != 0
same = host["driver"] == "docker" and open("/proc/self/uid_map").read().split() == ["0", "0", "4294967295"]  # 番号が、外でも同じ（docker）
assert same or os.stat("/usr").st_uid not in (0, os.getuid())  # 外から見ても root ではない
assert refused(lambda: os.setuid(0))
"""

DEVICES = """
import stat
assert refused(lambda: os.mknod("disk", 0o600 | stat.S_IFBLK, os.makedev(8, 0)))
assert refused(lambda: os.chmod("/dev/null", 0o600))
assert not any(os.path.exists("/dev/" + name) for name in ("mem", "kmem", "kmsg", "sda", "vda", "nvme0n1", "fuse", "kvm"))
assert refused(lambda: open("/proc/kcore", "rb").read(1)) or os.path.getsize("/proc/kcore") == 0
"""

KILL = """
child = os.fork()
if child == 0:
    os.kill(-1, 9)
    os._exit(0)
os.waitpid(child, 0)
"""

LOOP = """
import signal
for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""

FORKS = """
while True:
    try:
        os.fork()
    except OSError:
        pass
"""

MEMORY = """
import time
for _ in range(6):
    if os.fork() == 0:
        held = bytearray(200 * 1024 * 1024)
        for start in range(0, len(held), 4096):
            held[start] = 1
        time.sleep(60)
time.sleep(60)
"""

DISK = """
written = 0
try:
    for number in range(100):
        with open(f"{number}", "wb") as file:
            written += file.write(bytes(1024 * 1024))
except OSError:
    pass
assert written < 20 * 1024 * 1024, written
"""

FILES = """
for number in range(10_000_000):
    open(f"{number}", "w").close()
"""
