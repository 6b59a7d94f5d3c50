"""Every command that a page prints works: those of the program are run, the others are held against what they name.

What counts as a command, and which of them run, is in `pages`. In the place of a camera, a film and a network the tests
give the shipped clip and a free port; nothing else of the printed text is changed.
"""

import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from pages import PROGRAM, Command, checkable, runnable, unmarked
from program import ROOT, environment

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
CLIP = ROOT / "stream" / "demo" / "demo.mp4"
LIMIT_S = 100
SUBCOMMAND = re.compile(r"[a-z0-9]+$")


def installed(folder: Path) -> dict[str, str]:
    """A folder as `pip install -e .` leaves it: with .venv/bin/mestream, which is on the path, too, as if activated."""
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "mestream").write_text(f'#!/bin/sh\nexec {sys.executable} -m stream "$@"\n')
    (programs / "mestream").chmod(0o755)
    shutil.copy(CLIP, folder / "interview.mp4")
    environ = environment(folder, MESTREAM_PORT="0")
    return {**environ, "PATH": f"{programs}:{environ['PATH']}"}


def typed(command: Command, folder: Path, environ: dict[str, str]) -> tuple[int, str]:
    """Type it into a shell, and press Ctrl-C once it serves; its exit code and what it wrote to stderr."""
    text = re.sub(r"--camera 0\b", "--source interview.mp4", command.text)
    with subprocess.Popen(
        ["bash", "-c", text], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder, env=environ
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "events and dashboard on" in line:
                process.send_signal(signal.SIGINT)
        return process.wait(LIMIT_S), "".join(lines)


@pytest.mark.slow
@pytest.mark.timeout(3 * LIMIT_S)
@pytest.mark.parametrize(("page", "commands"), runnable().items(), ids=runnable())
def test_the_commands_of_a_page_work_as_printed_one_after_the_other(tmp_path, page, commands):
    environ = installed(tmp_path)
    for command in commands:
        code, wrote = typed(command, tmp_path, environ)
        assert code == 0, f"{page}: {command.text}\n{wrote}"
        for written in re.findall(r"--(?:events|record) (\S+)", command.text):
            assert (tmp_path / written).stat().st_size, f"{page}: {command.text} left no {written}"


@cache
def help_of(*words: str) -> str:
    done = subprocess.run([sys.executable, *words, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3 * LIMIT_S)
@pytest.mark.parametrize("commands", checkable().values(), ids=checkable())
def test_what_needs_data_or_a_machine_names_flags_and_tests_and_extras_that_there_are(commands):
    """Each flag is in the help of the very command; a test that is named is found; an extra can be installed."""
    for command in commands:
        check(command)


def check(command: Command) -> None:
    if match := PROGRAM.search(command.text):
        named, rest = match.group(), command.text[match.end() :].split()
        words = ["-m", "stream"] if "mestream" in named else named.split()[1:]
        if words[1] == "pytest":
            collect = [sys.executable, *words, "--collect-only", "-qq", "-n0", *rest]
            assert subprocess.run(collect, cwd=ROOT, capture_output=True).returncode == 0, command
        elif words[1] != "venv":
            while rest and SUBCOMMAND.match(first := rest[0].split("|")[0]):
                words, rest = [*words, first], rest[1:]
            known = re.findall(r"--[a-z][\w-]*", help_of(*words))
            unknown = [flag for flag in re.findall(r"(?<!\S)\[?(--[\w-]+)", " ".join(rest)) if flag not in known]
            assert unknown == [], command
    elif "python -c" in command.text:
        compile(shlex.split(command.text)[2], command.page, "exec")
    elif command.text.startswith("make "):
        assert subprocess.run(["make", "-n", *command.text.split()[1:]], cwd=ROOT, capture_output=True).returncode == 0
    else:
        extra = re.search(r"pip install -e (?:\.|'\.\[(\w+)\]')$", command.text)
        script = re.match(r"(?:python )?(\S+)", command.text)
        assert extra or (script and (ROOT / script[1]).is_file()), f"{command}: no test knows this kind of command"
        assert extra is None or extra[1] is None or extra[1] in EXTRAS


def test_no_command_stands_where_no_test_looks():
    assert unmarked() == []
    assert {"README.md", "docs/tour.md", "docs/faq.md"} <= runnable().keys()
    assert sum(map(len, checkable().values())) > 40
