"""仮想環境を用意する手順の全体。ここを上から読めば、何が起きるかが分かる。

印が合えば何もしない → 仮想環境を確かめる → 空き容量を確かめる → 大きなものを一つずつ → 残り → 動作の確認 → 印を書く。
"""

import errno
import subprocess
import sys
from pathlib import Path

from venvkit import disk, guard, plan, project, stamp, venv
from venvkit.messages import BootstrapError, Progress, say
from venvkit.pip import Pip

VERIFY = (
    "import torch, torchvision; b = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]]);"
    "assert torchvision.ops.nms(b, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]"
)


def run(root: Path, profile: str, cpu: str) -> int:
    """入口。終了コードを返す。"""
    folder = root / ".venv"
    try:
        if profile == "clean":
            return clean(folder)
        if is_ready(root, folder, profile, cpu):
            return 0
        with guard.exclusive(root):
            if not is_ready(root, folder, profile, cpu):  # 待っている間に、別の make が済ませたかもしれない
                prepare(root, folder, profile, cpu)
    except KeyboardInterrupt:
        say("\n途中まで保存しました。同じコマンドで続きから再開します。")
        return 130
    except BootstrapError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\n{explain_os_error(error)}", file=sys.stderr)
        return 1
    return 0


def clean(folder: Path) -> int:
    """仮想環境を消す。"""
    venv.remove(folder)
    say(f"{folder.name} を消しました。作り直すには make lab か make test を実行してください。")
    return 0


def explain_os_error(error: OSError) -> str:
    """書き込みなどの失敗を日本語にする。"""
    if error.errno == errno.ENOSPC:
        return "ディスクがいっぱいになりました。空きを増やしてから、同じコマンドをもう一度実行してください。続きから再開します。"
    return (
        f"ファイルの読み書きに失敗しました: {error}\n権限と空き容量を確かめて、同じコマンドをもう一度実行してください。"
    )


def is_ready(root: Path, folder: Path, profile: str, cpu: str) -> bool:
    """前に用意したものが、そのまま使えるか。毎回通るので、ファイルを数個読むだけにする。"""
    mark = stamp.read(folder)
    if mark is None:
        return False
    variant, _ = plan.choose_variant(cpu, sys.platform, mark.variant)
    wanted = stamp.current(root, folder, project.fingerprint(root), profile, variant)
    return stamp.satisfied(mark, wanted)


def prepare(root: Path, folder: Path, profile: str, cpu: str) -> None:
    """仮想環境を、要るところだけ用意する。"""
    pins = project.read_lock(root)
    before = stamp.read(folder)
    if before and before.profile == "dev":
        profile = "dev"  # 検査まで入れた人の環境を、lab に縮めない
    facts = healthy(root, folder, pins, before)
    stamp.erase(folder)
    for name in venv.sweep(facts.purelib):
        say(f"途中で切れていた {name} を入れ直します。")
    present = venv.installed(facts.purelib)
    variant, note = plan.choose_variant(cpu, facts.platform, plan.existing_variant(present))
    if note:
        say(note)
    work = plan.make(facts, profile, variant, present)
    disk.check(folder, work, disk.cache_folder(folder))
    announce(work)
    install(root, folder, facts, work)
    result = plan.existing_variant(
        venv.installed(facts.purelib)
    )  # 利用者の索引の設定しだいで、頼まなくても +cpu が入る
    stamp.write(folder, stamp.current(root, folder, project.fingerprint(root), profile, result))
    say("用意ができました。")


def healthy(root: Path, folder: Path, pins: list[project.Pin], before: stamp.Stamp | None) -> venv.Facts:
    """使える仮想環境にする。無ければ作り、壊れていれば（自分のものに限り）作り直す。"""
    if venv.is_absent(folder):
        venv.create(folder)
    elif not venv.is_ours(folder):
        venv.remove(folder)  # 仮想環境でないものは、ここで断られる
    facts = venv.inspect(folder, pins)
    moved = before is not None and before.root != str(root)
    if facts is None or not (3, 11) <= facts.version <= (3, 13) or moved:
        say("教材のフォルダが移されたので、" if moved else "仮想環境が途中で壊れているか、Python が替わったので、")
        venv.create(folder)
        facts = venv.inspect(folder, pins)
    if facts is None:
        raise BootstrapError(
            f"作ったばかりの仮想環境の pip が動きません（{folder}）。別の Python で試してください: make lab PYTHON=..."
        )
    return facts


def announce(work: plan.Plan) -> None:
    """これから受け取る量と、かかる時間の目安を伝える。"""
    slow = work.download_mb * 8 / 100 / 60  # 100 Mbps の回線
    say(
        f"これから約 {work.download_mb / 1000:.1f} GB を受け取り、約 {work.unpacked_mb / 1000:.1f} GB に展開します。\n"
        f"目安は、速い回線で 2〜3 分、100 Mbps の回線で約 {slow + 2:.0f} 分です。途中で Ctrl-C を押しても、続きから再開できます。"
    )


def install(root: Path, folder: Path, facts: venv.Facts, work: plan.Plan) -> None:
    """実際に入れて、動くことを確かめる。"""
    progress = Progress(len(work.big) + 3)
    pip = Pip(root, folder, progress.detail)
    progress.begin("pip と setuptools")
    tools = [f"{pin.name}=={pin.version}" for pin in facts.pins if pin.name in plan.TOOLS]
    pip.install(*tools)
    progress.end()
    for pin in work.big:
        install_one(pip, progress, facts, work, pin)
    progress.begin("教材と、残りの小さなパッケージ")
    pip.install("--progress-bar", "off", "--editable", ".[lab,dev]" if work.profile == "dev" else ".[lab]")
    unneeded = plan.leftovers(work.variant, venv.installed(facts.purelib))
    if unneeded:
        pip.run("uninstall", "--yes", *unneeded)
    progress.end()
    progress.begin("動作の確認")
    verify(folder, pip)
    progress.end()


def install_one(pip: Pip, progress: Progress, facts: venv.Facts, work: plan.Plan, pin: project.Pin) -> None:
    """大きなパッケージを一つ入れる。もう入っていれば飛ばす。"""
    version = plan.wanted_version(pin, work.variant)
    present = venv.installed(facts.purelib)
    progress.begin(f"{pin.name} {version}")
    if plan.in_place(pin, work.variant, present):
        progress.end("導入済み")
        return
    swap = pin.name in plan.PAIR and present.get(pin.name, "").endswith("+cpu") and work.variant == "default"
    if swap:  # `==` は +cpu も満たすとみなすので、末尾の無い版だけを指す `===` で替える
        pip.install_big("--force-reinstall", f"{pin.name}==={version}")
    else:
        pip.install_big(f"{pin.name}=={version}")
    progress.end()


def verify(folder: Path, pip: Pip) -> None:
    """依存の食い違いが無いことと、torch と torchvision が組として動くことを確かめる。"""
    pip.run("check")
    done = subprocess.run(venv.command(folder, "-c", VERIFY), capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        tail = "\n".join(f"  | {line}" for line in done.stderr.strip().splitlines()[-6:])
        raise BootstrapError(
            "torch と torchvision が組として動きません（nms を CPU で実行できませんでした）。\n"
            f"{tail}\n"
            "make clean-venv で仮想環境を消し、もう一度実行してください。PIP_FIND_LINKS や pip.conf の追加の索引が、\n"
            "別の作り方の torch を配っていないかも確かめてください。"
        )
