"""`hubexport completion`: real shells complete commands, flags and values with the script, without starting Python."""

import os
from pathlib import Path
import pty
import select
import shutil
import signal
import subprocess
import time

import pytest

from hubexport.config_files import list_variants
from tests.command import hubexport

_OF_140 = "mobilenet_v2_140_224"
_OF_035 = {variant.name for variant in list_variants() if variant.name.startswith("mobilenet_v2_035")}
# A line as it is typed, and what it can go on with.
_LINES = [
    ("hubexport relea", {"release"}),
    ("hubexport consumers ", {"list", "create", "remove"}),
    ("hubexport consumers create tf2.2", {"tf2.21"}),
    ("hubexport build --vari", {"--variant"}),
    ("hubexport build --output-d", {"--output-dir"}),
    ("hubexport build --variant mobilenet_v2_035", _OF_035),
    ("hubexport build --variant vgg_16,mobilenet_v2_14", {f"vgg_16,{_OF_140}"}),
    ("hubexport list mobilenet_v2_14", {_OF_140}),
    ("hubexport convert a b --to on", {"onnx"}),
    ("hubexport release --checks rebuild,weights.eq", {"rebuild,weights.equal"}),
    ("hubexport build --deployment onnx,tflite-i", {"onnx,tflite-int8"}),
    ("hubexport verify a_mod", {"a_module"}),
    ("hubexport build --output-dir a_fol", {"a_folder"}),
    ("hubexport list --format json x --form", {"--format"}),
    ("hubexport build --jobs ", set()),
]


def _script(shell: str, folder: Path) -> Path:
    done = hubexport("completion", shell)
    assert done.returncode == 0 and done.stderr == ""
    (folder / "a_module").touch()
    (folder / "a_folder").mkdir()
    path = folder / f"script.{shell}"
    path.write_text(done.stdout)
    return path


def _shell(name: str) -> str:
    if not (found := shutil.which(name)):
        pytest.skip(f"{name} is not installed")
    return found


# Nothing but the shell itself is on the path: completion starts no program.
_ALONE = {"PATH": "/nowhere"}


def test_bash_completes(tmp_path):
    """It asks the script's function, as at a tab."""
    script = _script("bash", tmp_path)
    lines = [f"source {script}"]
    for line, _ in _LINES:
        words = line.split(" ")
        array = " ".join(f"'{word}'" for word in words)
        lines.append(f"COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; COMPREPLY=(); _hubexport")
        lines.append('echo "${COMPREPLY[*]}"')
    done = subprocess.run(
        [_shell("bash"), "--norc", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=_ALONE,
    )
    assert done.stderr == ""
    assert [set(line.split()) for line in done.stdout.splitlines()] == [wanted for _, wanted in _LINES]


def test_bash_completes_a_value_after_an_equals_sign(tmp_path):
    """bash makes three words of `--to=on`."""
    script = _script("bash", tmp_path)
    asked = "COMP_WORDS=(hubexport convert --to = on); COMP_CWORD=4; _hubexport; echo ${COMPREPLY[*]}"
    done = subprocess.run(
        [_shell("bash"), "-c", f"source {script}; {asked}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "onnx\n"


def test_fish_completes(tmp_path):
    """It is asked for the completions of a line."""
    script = _script("fish", tmp_path)
    fish = _shell("fish")
    for line, wanted in _LINES:
        done = subprocess.run(
            [fish, "--no-config", "-c", f"source {script}; complete -C '{line}'"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        found = {word.partition("\t")[0].removesuffix("/") for word in done.stdout.splitlines()}
        assert found == wanted, (line, done.stderr)


def test_zsh_completes(tmp_path):
    """On a terminal: the line after a tab, where only one word goes on."""
    script = _script("zsh", tmp_path)
    _shell("zsh")
    single = [(line, *wanted) for line, wanted in _LINES if len(wanted) == 1]
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        os.environ["TERM"] = "dumb"
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        # ^T writes the line to a file, and ^U clears it.
        _type(terminal, f"autoload -Uz compinit; compinit -u -D; source {script}; zle -N dump; bindkey '^T' dump\n")
        _type(terminal, "dump() { print -r -- $BUFFER >> lines; BUFFER= }; touch ready\n")
        _wait(terminal, lambda: (tmp_path / "ready").exists())
        for count, (line, _) in enumerate(single, start=1):
            _type(terminal, f"{line}\t\x14")
            lines = tmp_path / "lines"
            _wait(terminal, lambda: lines.exists() and len(lines.read_text().splitlines()) == count)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    found = [line.rstrip(" =,/") for line in (tmp_path / "lines").read_text().splitlines()]
    assert found == [" ".join([*line.split(" ")[:-1], word]) for line, word in single]


def _type(terminal: int, keys: str) -> None:
    os.write(terminal, keys.encode())


def _wait(terminal: int, condition) -> None:
    """Reads what the shell shows until a condition holds."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the shell does not answer"
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 65536)
