"""The build's surroundings: rights, programs, space, leftovers, and what a person is told when something fails."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swarm.console import Screen, Talk
from swarm.errors import ImageError, Unfit
from swarm.images import build, builder, recipe
from swarm.images.sources import Sources
from swarm.paths import ROOT

RECIPE = recipe.Recipe("debian", "12", "bookworm")


def program(folder: Path, name: str, text: str) -> None:
    """Write an executable shell script."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_as_root_is_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root needs nobody's help."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert build.as_root(["id", "-u"]) == ["id", "-u"]


def test_as_root_by_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Others go through sudo, which is told to keep what says where the package mirror is."""
    program(tmp_path, "sudo", "")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert build.as_root(["id", "-u"]) == ["sudo", "id", "-u"]
    monkeypatch.setenv("http_proxy", "http://me:secret@proxy")
    assert build.as_root(["id"]) == ["sudo", "--preserve-env=http_proxy", "id"]


def test_no_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no sudo, the error says what can be done instead."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unfit, match="there is no sudo here") as caught:
        build.as_root(["id"])
    assert "published image" in str(caught.value.hint)


def test_programs_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Missing programs are named all at once, by the packages that bring them, before anything starts."""
    monkeypatch.setattr(
        "shutil.which", lambda name, **_: None if name in {"mmdebstrap", "mcopy"} else f"/bin/{name}"
    )
    with pytest.raises(Unfit, match="needs mmdebstrap, mtools\n") as caught:
        build.build(RECIPE, tmp_path, Talk(Screen()))
    assert caught.value.hint == "apt-get install mmdebstrap mtools"


def test_no_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without enough space nothing is started."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": build.SPACE - 1}))
    with pytest.raises(Unfit, match=r"needs 4 GiB of space, and .* has 4\.0 GiB free"):
        build.build(RECIPE, tmp_path, Talk(Screen()))
    assert list(tmp_path.iterdir()) == []


def test_sudo_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sudo that says no is named as the cause, and nothing is built."""
    program(tmp_path, "sudo", 'test "$1" = --validate && exit 1; touch started')
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(Unfit, match="sudo refused"):
        build.build(RECIPE, tmp_path, Talk(Screen()))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('echo \'{"error": "it broke", "hint": "mend it"}\'', "^it broke$"),
        ("echo python: not permitted >&2; exit 1", "was interrupted: python: not permitted$"),
        ("kill -9 $$", "was interrupted$"),
    ],
)
def test_builder_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str) -> None:
    """However the builder ends, the user gets a message: its own, or the last output before it."""
    program(tmp_path, "python", script)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(build, "SPACE", 0)
    with pytest.raises(ImageError) as caught:
        build.build(RECIPE, tmp_path, Talk(Screen()))
    assert re.search(message, caught.value.message)
    assert caught.value.hint


def test_run_passes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a program says is passed on line by line, from both its outputs, cut to a line's length."""
    builder.Builder(tmp_path).run(["sh", "-c", f"echo one; echo; echo two >&2; echo {'x' * 300}"])
    assert [json.loads(line)["line"] for line in capsys.readouterr().out.splitlines()] == [
        "one",
        "two",
        "x" * 100,
    ]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("E: No space left on device", "make room"),
        ("E: Temporary failure resolving 'mirror'", "network and DNS"),
        ("something else", "the lines above tell where"),
    ],
)
def test_run_fails(tmp_path: Path, said: str, hint: str) -> None:
    """A failing program is named with its last lines and, where the cause is known, what to do."""
    with pytest.raises(ImageError, match="sh failed with exit code 7; its last output:") as caught:
        builder.Builder(tmp_path).run(["sh", "-c", 'seq 100; echo "$1"; exit 7', "sh", said])
    assert caught.value.message.endswith(f"\n    99\n    100\n    {said}")
    assert "\n    50" not in caught.value.message
    assert hint in str(caught.value.hint)


def test_workspace(tmp_path: Path) -> None:
    """A workspace is gone afterwards, also after an error."""

    def build() -> None:
        with builder.workspace(tmp_path) as work:
            (work / "root/deep").mkdir(parents=True)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        build()
    assert list(tmp_path.iterdir()) == []


def test_leftovers(tmp_path: Path) -> None:
    """The leftovers of builders that died are removed; what a living builder is working in is not."""
    for name in (".build-dead", ".build-alive", ".build-barely"):
        (tmp_path / name / "root").mkdir(parents=True)
    for name in (".build-dead", ".build-alive"):
        (tmp_path / name / "lock").touch()
    old, young = tmp_path / ".built-old.qcow2.new", tmp_path / ".built-young.qcow2.new"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 5000,) * 2)
    with (tmp_path / ".build-alive/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with builder.workspace(tmp_path):
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".build-alive", young.name]


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    """Start the half that runs as root in `folder`. It runs `script`, with the workspace as $work."""
    program(folder, "unshare", f'for work; do :; done; echo $$ >"{folder}/pid"; {script}')
    (folder / "cache").mkdir(exist_ok=True)
    argv = [
        sys.executable,
        "-m",
        "swarm.images.builder",
        str(folder / "cache/image"),
        f"{os.geteuid()}:{os.getegid()}",
    ]
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)


def result(process: subprocess.Popen[str]) -> str:
    """Return all that it says, keeping its stdin open meanwhile."""
    assert process.stdout
    said = process.stdout.read()
    process.communicate(timeout=20)
    return said


def test_finished(tmp_path: Path) -> None:
    """A finished image gets its name at the end, readable by all, and only it is left."""
    process = start(tmp_path, 'umask 077; echo image >"$work/image.qcow2"; mkdir "$work/root"')
    assert result(process) == '{"done": true}\n'
    image = tmp_path / "cache/image"
    assert (image.read_text(), image.stat().st_mode & 0o777) == ("image\n", 0o644)
    assert list(image.parent.iterdir()) == [image]


def test_failed(tmp_path: Path) -> None:
    """After a failure nothing is left, and the failure's words are the last."""
    process = start(tmp_path, 'echo "{\\"error\\": \\"no\\"}"; echo half >"$work/image.qcow2"; exit 1')
    assert result(process) == '{"error": "no"}\n'
    assert process.returncode == 1
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("how", ["its starter is gone", signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped(tmp_path: Path, how: str | signal.Signals) -> None:
    """A stopped build ends what it runs. Leftovers go at once, or after kill -9 with the next build."""
    process = start(tmp_path, 'touch "$work/image.qcow2"; exec sleep 50')
    while (
        not (tmp_path / "pid").exists()
        or "sleep" not in Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/cmdline").read_text()
    ):
        time.sleep(0.02)
    if isinstance(how, signal.Signals):
        process.send_signal(how)
    if how == signal.SIGKILL:
        os.kill(
            int((tmp_path / "pid").read_text()), signal.SIGKILL
        )  # the real one does it when its stdin ends
    process.communicate(timeout=20)
    assert process.returncode != 0
    if how == signal.SIGKILL:
        start(tmp_path, "exit 1").communicate(timeout=20)
    else:
        assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert list((tmp_path / "cache").iterdir()) == []


def test_ends_with_its_starter(tmp_path: Path) -> None:
    """What runs in the namespaces ends at once when the process outside of them is gone, whatever it is doing."""
    code = "import time; from swarm.images import builder; builder.Builder = lambda _: time.sleep(60); "
    code += f"builder.inside(builder.Path('{tmp_path}'))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    program(tmp_path, "mount", "exit 1")
    process.communicate(timeout=20)  # closes its stdin
    assert process.returncode != 0


def test_stage(tmp_path: Path) -> None:
    """The recipe's files are staged with modes of their own, whatever the checkout's umask was."""
    stage = builder.Builder(tmp_path).stage()
    modes = {
        str(path.relative_to(stage)): path.stat().st_mode & 0o777
        for path in stage.rglob("*")
        if path.is_file()
    }
    assert modes.keys() == recipe.files().keys()
    assert modes.pop("etc/initramfs-tools/hooks/swarm") == 0o755
    assert set(modes.values()) == {0o644}


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_folders_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    """Everybody may enter the folders that the recipe brings into the image, and only root may write there."""
    modes = set[int]()

    def staged(work: Path) -> bool:
        stage = builder.Builder(work).stage()
        modes.update(path.stat().st_mode & 0o777 for path in (stage, *stage.rglob("*")) if path.is_dir())
        return False

    monkeypatch.setattr(builder, "_build_inside", staged)
    before = os.umask(umask)
    try:
        builder.main([str(tmp_path / "image"), f"{os.getuid()}:{os.getgid()}"])
    finally:
        os.umask(before)
    assert modes == {0o755}


def test_bootstrap_command(tmp_path: Path) -> None:
    """Mmdebstrap gets the machine's own sources and suite, and no address as an argument: one may hold a password."""
    apt = Sources("deb x\n", "Types: deb\n", (), ('Acquire::http::Proxy "http://proxy"',), ())
    argv = builder.Builder(tmp_path).bootstrap(RECIPE, apt, tmp_path / "root")
    assert argv[-4:] == [
        "bookworm",
        str(tmp_path / "root"),
        str(tmp_path / "machine.list"),
        str(tmp_path / "machine.sources"),
    ]
    assert (tmp_path / "machine.list").read_text() == "deb x\n"
    assert f"--aptopt={tmp_path}/apt.conf" in argv
    assert (tmp_path / "apt.conf").read_text() == 'Acquire::http::Proxy "http://proxy";\n'
    assert (tmp_path / "apt.conf").stat().st_mode & 0o077 == 0
    assert not any("://" in word for word in argv)


def test_settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that must be each guest's own, or is this machine's, stays in the image."""
    root, key = tmp_path / "root", tmp_path / "keys/mirror.gpg"
    for name in (
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        "etc/ssh/sshd_config",
        "etc/apt/apt.conf.d/99mmdebstrap",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    for name in ("etc/machine-id", "etc/hostname", "var/log/apt/history.log"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(os.uname().nodename)
    key.parent.mkdir()
    key.write_text("key")
    ran: list[list[str]] = []
    work = builder.Builder(tmp_path)
    monkeypatch.setattr(work, "run", ran.append)
    work.settle(root, Sources("", "", (key,), (), ('Acquire::Check-Valid-Until "false"',)))
    assert [path.name for path in (root / "etc/ssh").iterdir()] == ["sshd_config"]
    assert (root / "etc/machine-id").read_text() == ""
    assert (root / "etc/hostname").read_text() == "localhost\n"
    assert (root / key.relative_to("/")).read_text() == "key"
    assert {path.name: path.read_text() for path in (root / "etc/apt/apt.conf.d").iterdir()} == {
        "90machine": 'Acquire::Check-Valid-Until "false";\n'
    }
    assert not (root / "var/log/apt/history.log").exists()
    assert ["chroot", str(root), "passwd", "--quiet", "--lock", "root"] in ran
