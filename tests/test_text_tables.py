"""Tables fit terminals of any width, and no name in them is ever cut."""

import io
import json
import re

import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.cli.text_tables import Column, print_table
from hubexport.config_files import list_variants, load_variant
from hubexport.consumers.registry import CONSUMERS
from hubexport.verify.checks.registry import select_checks
from tests.checkpoints import network_values
from tests.command import hubexport

_VARIANT = "mobilenet_v2_035_96"
_HANDLE = f"google/imagenet/{_VARIANT}"
_NETWORK = load_variant(_VARIANT).network_for("classification")
_VARIABLES = {variable.name for variable in _NETWORK.variables}
_VARIANTS = {variant.name for variant in list_variants()}
_FILE_CHECKS = {check.name for check in select_checks(["structure", "weights"], "--checks")}
_MODULES = {f"{_HANDLE}/{kind}/5" for kind in ("feature_vector", "classification")}
_DEPLOYMENTS = {f"deployments/{handle}/onnx" for handle in _MODULES}
_KEYS = ("--module", "feature_vector/5", "--module", "classification/5", "--deployment", "onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A module, a checkpoint, and another checkpoint with other numbers."""
    made = tmp_path_factory.mktemp("tables")
    build_modules(load_variant(_VARIANT), ["feature_vector/5"], checkpoint="synthetic", output_dir=made / "modules")
    for name, seed in (("one", 1), ("two", 2)):
        write_bundle(made / name, network_values(seed=seed))
    return made


# The arguments, the names in the table's rows, and whether the table is on stderr.
_TABLES = {
    "list": (["list"], _VARIANTS, False),
    "show-mapping": (["show-mapping", "--to", "keras", "--variant", _VARIANT], _VARIABLES, False),
    "verify": (
        ["verify", f"modules/{_HANDLE}/feature_vector/5", "--checks", "structure,weights"],
        _FILE_CHECKS,
        False,
    ),
    "list of checks": (["verify", "--list-checks"], {check.name for check in select_checks([], "--checks")}, False),
    "release plan": (
        ["release", "--variant", _VARIANT, "--module", "feature_vector/5,classification/5", "--deployment", "onnx"]
        + ["--checkpoint", "synthetic", "--dry-run"],
        _MODULES | _DEPLOYMENTS,
        False,
    ),
    "build": (["build", "--variant", _VARIANT, *_KEYS, "--checkpoint", "synthetic"], _MODULES | _DEPLOYMENTS, True),
    "failing build": (["build", "--variant", _VARIANT, *_KEYS, "--checkpoint", "one"], _MODULES | _DEPLOYMENTS, True),
    "fetch": (["fetch", "--list", "--cache-dir", "cache"], _VARIANTS, False),
    "consumers": (["consumers", "list"], {consumer.name for consumer in CONSUMERS}, False),
    "inspect": (["inspect", "one", "--variables"], _VARIABLES, False),
    "diff": (["diff", "one", "two"], _VARIABLES, False),
}


# What these tables are read for.
_HEADINGS = {
    "verify": {"result", "found"},
    "release plan": {"action", "why"},
    "build": {"result"},
    "failing build": {"result"},
}


def _printed(folder, tmp_path, name, columns):
    """Returns the lines that hold the table."""
    arguments, _, on_stderr = _TABLES[name]
    output_dir = ["--output-dir", tmp_path / "m"] if arguments[0] in ("build", "release") else []
    done = hubexport(*arguments, *output_dir, cwd=folder, columns=columns)
    # The moving display is gone when the cursor is shown again. Errors come before the table.
    text = (done.stderr if on_stderr else done.stdout).rpartition("\x1b[?25h")[2]
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()
    fixes = [number for number, line in enumerate(lines) if line.startswith("  fix: ")]
    return lines[fixes[-1] + 1 :] if fixes else lines


@pytest.mark.parametrize("columns", [60, 80, 100, 120])
@pytest.mark.parametrize("name", _TABLES)
def test_tables_fit_their_terminal(folder, tmp_path, name, columns):
    """No line is wider, but for a name that is wider itself. Every name is whole."""
    lines = _printed(folder, tmp_path, name, columns)
    for line in lines:
        assert len(line) <= columns or len(line.split()) == 1, line
        assert "…" not in line and line == line.rstrip()
    words = {word for line in lines for word in line.split()}
    assert _TABLES[name][1] <= words
    assert _HEADINGS.get(name, set()) <= {word.rstrip(":") for word in words}


@pytest.mark.parametrize("name", _TABLES)
def test_tables_in_files_have_a_line_for_each_row(folder, tmp_path, name):
    """With all columns, aligned. Only long sentences stand below their row."""
    lines = _printed(folder, tmp_path, name, None)
    _, names, _ = _TABLES[name]
    rows = [line for line in lines if re.match(r" \S", line) and line.split()[0] in names]
    assert sorted(row.split()[0] for row in rows) == sorted(names)
    assert all(line == line.rstrip() and "…" not in line for line in lines)
    assert not any(line.startswith("columns left out") for line in lines)
    if name in ("verify", "list of checks", "release plan", "build", "failing build"):
        assert max(map(len, rows)) <= 120
    elif name != "list":  # Which has a table for each family of networks.
        assert len({len(re.match(r" \S+ +", row)[0]) for row in rows}) == 1, "where the second column begins"
    if name == "show-mapping":
        printed = {tuple(re.split(r" {2,}", row.strip()))[:3:2] for row in rows}
        described = json.loads(hubexport(*_TABLES[name][0], "--format", "json").stdout)
        assert printed == {(row["TF-Slim"]["name"], row["Keras .h5"]["name"]) for row in described}


def test_facts_fit_their_terminal(folder):
    """Their texts are wrapped between words, below each other. In a file, each is one line."""
    arguments = ("inspect", f"modules/{_HANDLE}/feature_vector/5")
    whole = hubexport(*arguments, cwd=folder).stdout.splitlines()
    narrow = hubexport(*arguments, cwd=folder, columns=60).stdout.splitlines()
    assert max(map(len, narrow)) <= 60 < max(map(len, whole))
    assert "  handle" in narrow and f"    {_HANDLE}/feature_vector/5" in narrow
    assert [line for line in narrow if len(line) - len(line.lstrip()) == 20]
    assert " ".join(narrow).split() == " ".join(whole).split()


_COLUMNS = [
    Column("name", ["a_name_of_21_characters", "b"]),
    Column("count of things", ["1", "22 of 333"], importance=2, kind="figure"),
    Column("remark", ["some words", "-"], importance=1, kind="words"),
    Column(
        "why",
        ["a short reason", "a reason of more words than fit in the row, or even in a line of a terminal"],
        kind="sentence",
    ),
]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("width", "wanted"),
    [
        pytest.param(
            None,
            [
                " name                     count of things  remark      why",
                " ────────────────────────────────────────────────────────────────────",
                " a_name_of_21_characters                1  some words  a short reason",
                " b                              22 of 333  -",
                "    a reason of more words than fit in the row, or even in a line of a terminal",
                "",
            ],
            id="file",
        ),
        pytest.param(
            80,
            [
                " name                     count of things  remark      why",
                " ────────────────────────────────────────────────────────────────────",
                " a_name_of_21_characters                1  some words  a short reason",
                " b                              22 of 333  -",
                "    a reason of more words than fit in the row, or even in a line of a terminal",
                "",
            ],
            id="80",
        ),
        pytest.param(
            46,
            [
                "                           count of",
                " name                        things  remark",
                "    why",
                " ─────────────────────────────────────────────",
                " a_name_of_21_characters          1  some",
                "                                     words",
                "    a short reason",
                " b                        22 of 333  -",
                "    a reason of more words than fit in the",
                "    row, or even in a line of a terminal",
                "",
            ],
            id="wrapped",
        ),
        pytest.param(
            34,
            [
                "                          count of",
                " name                       things",
                "    why",
                " ─────────────────────────────────",
                " a_name_of_21_characters         1",
                "    a short reason",
                " b                           22 of",
                "                               333",
                "    a reason of more words than",
                "    fit in the row, or even in a",
                "    line of a terminal",
                "columns left out on this terminal:",
                "remark; elsewhere",
                "",
            ],
            id="columns left out",
        ),
        pytest.param(
            20,
            [
                " a_name_of_21_characters",
                "    count of things:",
                "        1",
                "    remark:",
                "        some words",
                "    why:",
                "        a short",
                "        reason",
                " b",
                "    count of things:",
                "        22 of 333",
                "    remark: -",
                "    why:",
                "        a reason of",
                "        more words",
                "        than fit in",
                "        the row, or",
                "        even in a",
                "        line of a",
                "        terminal",
                "",
            ],
            id="blocks",
        ),
    ],
)
def test_a_table_on_narrower_and_narrower_terminals(monkeypatch, width, wanted):
    """First words are wrapped, then columns left out, the least important one first; at last rows become blocks."""
    stream = io.StringIO() if width is None else _Terminal()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    print_table(_COLUMNS, stream, everything="elsewhere")
    assert stream.getvalue().splitlines() == wanted


def test_texts_from_outside_cannot_control_the_terminal(monkeypatch):
    """Nor are brackets markup; wide characters take two columns."""
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    stream = _Terminal()
    print_table([Column("name", ["[red]x\x1b[31m", "漢字"]), Column("n", ["1", "2"], 1, "figure")], stream)
    assert stream.getvalue().splitlines()[2:4] == [" [red]x\\x1b[31m  1", " 漢字            2"]
