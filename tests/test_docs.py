"""README.md and docs/: programs run, output is real, configs build, and tables and links are complete."""

from collections import Counter
from collections.abc import Callable
import configparser
from importlib.metadata import version
import json
import os
from pathlib import Path
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import hubexport as public
from hubexport import ModuleSpec, build_modules, list_variants, load_variant
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.formats.tf1_hub import saved_model_bytes
from hubexport.networks.mobilenet_v2 import mobilenet_v2
from hubexport.networks.ops import BatchNorm
from hubexport.networks.registry import FAMILIES
from hubexport.release.facts import RESULTS
from tests.checkpoints import network_values, write_v2
from tests.command import command, environment, hubexport
from tests.data import DATA, REAL_ARCHIVE, REPOSITORY, needs_data
from tests.environments import NEWEST, python_or_skip
from tests.foreign import write_frozen_graph
from tests.graphs import imported, read_saved_model
from tests.servers import ARCHIVE, SHA256, running_server, serve, serve_some

hub = pytest.importorskip("tensorflow_hub")

_PATHS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
_PAGES = {path.name: path.read_text(encoding="utf-8") for path in _PATHS}
_MODULE = re.compile(r"modules/google/imagenet/(\w+)/(\w+/\d)")
_FLAG_TABLE = re.compile(r"^\| flag of `([\w-]+)` \|.*\n(?:\|.*\n)+", re.MULTILINE)


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _PAGES[page], re.MULTILINE | re.DOTALL)


def _slow_but_readme(pages: list[str]) -> list[object]:
    return [page if page == "README.md" else pytest.param(page, marks=pytest.mark.slow) for page in pages]


def _table(page: str, header: str) -> str:
    text = _PAGES[page]
    return text[text.index(header) :].split("\n\n")[0]


def _build_named_modules(text: str, folder: Path, checkpoint: str) -> None:
    """Builds the modules below `modules/` that a text mentions."""
    for name, spec in sorted(set(_MODULE.findall(text))):
        output_dir = folder / "modules"
        build_modules(load_variant(name), [ModuleSpec.parse(spec)], checkpoint=checkpoint, output_dir=output_dir)


# Python programs

_PYTHON_PAGES = [page for page in _PAGES if _blocks(page, "python")]
_PROGRAMS = [(page, number) for page in _PYTHON_PAGES for number in range(len(_blocks(page, "python")))]

# Importing TensorFlow is slow: one process imports it, and forks for each program.
_RUN_EACH = """
import json, os, sys, traceback
import tensorflow, tensorflow_hub

answers = []
for number, program in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if not child:
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(f"{number}.{name}", os.O_WRONLY | os.O_CREAT), stream)
        status = 1
        try:
            exec(compile(program, f"program {number}", "exec"), {"__name__": "__main__"})
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answers.append({"status": status, **{name: open(f"{number}.{name}").read() for name in ("stdout", "stderr")}})
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def run_programs(tmp_path_factory) -> Callable[..., list[dict]]:
    """A function that runs a page's programs once per interpreter, and returns the status and output of each."""
    answers = {}

    def run(page: str, python: str, *, keras_3: bool = version("keras").startswith("3.")) -> list[dict]:
        if (page, python) not in answers:
            folder = tmp_path_factory.mktemp("programs")
            programs = _blocks(page, "python")
            _build_named_modules("".join(programs), folder, "synthetic")
            (folder / "examples").symlink_to(REPOSITORY / "examples")
            if '"frozen.pb"' in "".join(programs):
                write_frozen_graph(folder / "frozen.pb", network_values())
            done = subprocess.run(
                [python, "-c", _RUN_EACH],
                input=json.dumps(programs),
                cwd=folder,
                env=environment({"TF_USE_LEGACY_KERAS": "1"} if keras_3 else {}),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
            answers[page, python] = json.loads(done.stdout)
        return answers[page, python]

    return run


def _missing(program: str, *, has_module: bool, keras: str) -> str | None:
    """Returns why a program cannot run with this tensorflow_hub and Keras; None if it can."""
    if "hub.Module(" in program and not has_module:
        return "tensorflow-hub 0.15 is the last with hub.Module"
    if "import keras\n" in program and keras.startswith("2."):
        return "Keras 3 comes with TensorFlow 2.16"
    return None


def _check_program(answer: dict) -> None:
    assert answer["status"] == 0, answer["stderr"][-2000:]
    assert answer["stdout"]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "number"), _PROGRAMS)
def test_programs_run(run_programs, page, number):
    """Each runs on its own, and prints something."""
    missing = _missing(_blocks(page, "python")[number], has_module=hasattr(hub, "Module"), keras=version("keras"))
    if missing:
        pytest.skip(missing)
    _check_program(run_programs(page, sys.executable)[number])


@pytest.mark.consumers
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", ["README.md", "modules.md", "keras.md"])
def test_programs_run_on_the_newest_tensorflow(run_programs, page):
    """Programs for Keras 3 and, unchanged, for Keras 2."""
    python = str(python_or_skip(NEWEST))
    for program, answer in zip(_blocks(page, "python"), run_programs(page, python, keras_3=True), strict=True):
        if not _missing(program, has_module=False, keras="3"):
            _check_program(answer)


@pytest.mark.slow
def test_programs_show_their_real_output(run_programs):
    """Comments after `print` in the README show the real output."""
    shown = 0
    for program, answer in zip(_blocks("README.md", "python"), run_programs("README.md", sys.executable), strict=True):
        if not _missing(program, has_module=hasattr(hub, "Module"), keras=version("keras")):
            comments = re.findall(r"print\(.*\)  # (.*)", program)
            assert comments == answer["stdout"].splitlines()
            shown += len(comments)
    assert shown >= 2


# Console sessions


def _arrange_photographs(folder):
    """Puts all in one folder and each in a folder named after its class, and adds a file that is not an image."""
    (folder / "photos").mkdir()
    for name, top3 in json.loads((DATA / "images" / "expected_top3.json").read_text()).items():
        (folder / "classes" / str(top3[0][0])).mkdir(parents=True)
        for place in (folder / "photos", folder / "classes" / str(top3[0][0])):
            (place / name).symlink_to(DATA / "images" / name)
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "examples").symlink_to(REPOSITORY / "examples")


@pytest.fixture
def console_folder(tmp_path):
    """The files that the examples use, and the server that they call models.example. It breaks one connection."""
    (tmp_path / REAL_ARCHIVE.name).symlink_to(REAL_ARCHIVE)
    _arrange_photographs(tmp_path)
    with running_server() as server:
        server.acts = [serve_some(len(ARCHIVE) // 2), serve]
        (tmp_path / "configs_of_mine").mkdir()
        (tmp_path / "configs_of_mine" / "flowers.yaml").write_text(
            "network: mobilenet_v2\ndepth_multiplier: 0.35\nimage_size: 96\nnum_classes: 7\ndataset: made up\n"
            "modules: [feature_vector/5]\n"
            f"checkpoint: {{url: {server.address}/flowers.tgz, sha256: {SHA256}, name: x}}\n"
        )
        yield tmp_path, server.address


def _write_foreign_module(folder: Path) -> None:
    network = tf.keras.applications.MobileNetV2(alpha=0.35, weights=None, classes=7, input_shape=(96, 96, 3))
    tf.saved_model.save(network, str(folder / "written_by_tensorflow_2.15"))


@needs_data
@pytest.mark.parametrize("page", _slow_but_readme([page for page in _PAGES if _blocks(page, "console")]))
def test_examples_show_real_output(console_folder, page):
    """Every line shown is printed, in this order. Without a …, stdout has no other lines."""
    folder, address = console_folder
    session = "".join(_blocks(page, "console"))
    if "written_by_tensorflow_2.15" in session:
        if not tf.__version__.startswith("2.15."):
            pytest.skip("the module that it inspects must be of the TensorFlow that is shown")
        _write_foreign_module(folder)
    if "$ hubexport build" not in session:
        _build_named_modules(session, folder, str(REAL_ARCHIVE))
    examples = re.findall(r"^\$ (\w+) (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)
    assert examples
    for program, arguments, shown in examples:
        if program != "hubexport":
            subprocess.run([program, *shlex.split(arguments)], cwd=folder, check=True)
            continue
        done = hubexport(*shlex.split(arguments), cwd=folder, env={"NO_PROXY": "*"})
        stdout = [line.rstrip() for line in done.stdout.replace(address, "https://models.example").splitlines()]
        stderr = done.stderr.replace(address, "https://models.example").splitlines()
        wanted = shown.splitlines()
        coming = iter([*stderr, *stdout])
        assert all(line == "…" or line in coming for line in wanted), f"{arguments}\n{done.stderr}{done.stdout}"
        if "…" not in wanted:
            assert [line for line in wanted if line not in stderr] == [line for line in stdout if line], arguments


@needs_data
@pytest.mark.slow
def test_one_liners_run(tmp_path):
    """The README's commands that build, convert and inspect run. The flags of the others exist."""
    (tmp_path / REAL_ARCHIVE.name).symlink_to(REAL_ARCHIVE)
    build_modules(load_variant("mobilenet_v2_100_224"), [ModuleSpec.parse("feature_vector/3")], output_dir=tmp_path,
                  checkpoint=str(REAL_ARCHIVE))  # fmt: skip
    shutil.copytree(tmp_path / "google/imagenet/mobilenet_v2_100_224/feature_vector/3", tmp_path / "exported")
    (tmp_path / "exported" / "hubexport.json").unlink()
    lines = re.findall(r"`hubexport ([^`]+)`", _table("README.md", "| I have | I want | Run |"))
    assert len(lines) >= 12
    # The builds read files that the conversions write.
    for number, line in enumerate(sorted(lines, key=lambda line: not line.startswith("convert"))):
        name, *arguments = shlex.split(line)
        offered = hubexport(name, "--help").stdout
        assert all(flag in offered for flag in arguments if flag.startswith("--")), line
        if "flowers_075_192" in line:
            assert f"hubexport {line}\n" in _blocks("variants.md", "sh"), "which another test builds"
        elif name == "build" and "--checkpoint" not in arguments:
            assert "is not in the cache" in hubexport(name, *arguments, "--offline", "--cache-dir", tmp_path).stderr
        elif name in ("build", "convert", "inspect"):
            output_dir = ["--output-dir", f"modules_{number}"] if name == "build" else []
            done = hubexport(name, *arguments, *output_dir, cwd=tmp_path)
            assert done.returncode == 0, f"{line}\n{done.stderr}"


@needs_data
@pytest.mark.slow
def test_the_demo_names_what_is_in_photographs(tmp_path):
    """`make demo` with the real weights, in an existing environment."""
    photographs = DATA / "images"
    done = subprocess.run(
        [command()[0], REPOSITORY / "scripts" / "demo.py", "--real-archive", REAL_ARCHIVE, "--photographs", photographs]
        + ["--output-dir", tmp_path],
        cwd=REPOSITORY,
        env={**environment(), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    labels = (DATA / "imagenet_labels.txt").read_text().splitlines()
    for name, top3 in json.loads((photographs / "expected_top3.json").read_text()).items():
        assert re.search(rf"^  {name} +\d+\.\d%  {labels[top3[0][0]].partition(',')[0]}$", done.stdout, re.MULTILINE)


# Configs and tables


def test_the_users_config_builds(tmp_path):
    """The page's YAML file and the command below it, unchanged."""
    [config] = _blocks("variants.md", "yaml")
    [line] = [line for block in _blocks("variants.md", "sh") for line in block.splitlines() if "flowers" in line]
    (tmp_path / "configs_of_mine").mkdir()
    (tmp_path / "configs_of_mine" / "flowers_075_192.yaml").write_text(config)
    (tmp_path / "configs_of_mine" / "flowers.txt").write_text("daisy\nrose\ntulip\nsunflower\ndandelion\n")
    (tmp_path / "train_dir").mkdir()
    values = network_values(depth_multiplier=0.75, num_classes=5)
    averaged = {f"{name}{AVERAGED_SUFFIX}": value for name, value in values.items()}
    write_v2(tmp_path / "train_dir" / "model.ckpt-20000", {**values, **averaged})
    done = hubexport(*line.removeprefix("hubexport ").split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "modules/me/flowers/flowers_075_192/feature_vector/5",
        "modules/me/flowers/flowers_075_192/classification/5",
    ]
    module = tmp_path / "modules/me/flowers/flowers_075_192/classification/5"
    assert (module / "assets" / "labels.txt").read_text().split()[1] == "rose"
    assert "assets/labels.txt" in json.loads((module / "hubexport.json").read_text())["sha256"]
    images = np.random.RandomState(0).uniform(size=(2, 192, 192, 3)).astype(np.float32)
    logits = hub.load(str(module))(images)
    assert logits.shape == (2, 5)
    network = mobilenet_v2(0.75, 192, 5)
    reference = saved_model_bytes(ModuleSpec.parse("classification/3"), network)
    with imported(read_saved_model(reference)[()], values) as tf1:
        wanted = tf1.run("image_classification", images)["default"]
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-5)


def test_every_key_of_a_config_is_in_its_table(tmp_path):
    """And no other key. The error for an unknown key lists them all."""
    (tmp_path / "wrong.yaml").write_text("no_such_key: 1\n")
    with pytest.raises(public.HubexportError) as caught:
        load_variant("wrong", tmp_path)
    allowed = re.search("known keys: (.*)", caught.value.why)[1].split(", ")
    assert sorted(re.findall(r"^\| `(\w+)` \|", _table("variants.md", "| Key |"), re.MULTILINE)) == sorted(allowed)


@pytest.mark.parametrize(
    ("page", "name"), [(page, match[1]) for page, text in _PAGES.items() for match in _FLAG_TABLE.finditer(text)]
)
def test_every_flag_is_in_its_table(page, name):
    """And no other flag."""
    [table] = [match[0] for match in _FLAG_TABLE.finditer(_PAGES[page]) if match[1] == name]
    shown = {
        flag for row in re.findall(r"^\| (`--.*?) \|", table, re.MULTILINE) for flag in re.findall(r"`(--[\w-]+)", row)
    }
    if name == "release":
        shown |= {"--beam-option"}  # In the row of --runner.
    offered = set(re.findall(r"^  (?:-\w[^,]*, )?(--[\w-]+)", hubexport(name, "--help").stdout, re.MULTILINE)) - {
        "--help"
    }
    assert shown == offered


def test_each_command_has_one_table_of_flags():
    """Except commands whose flags the text describes."""
    names = [match[1] for text in _PAGES.values() for match in _FLAG_TABLE.finditer(text)]
    assert sorted(set(names)) == sorted(names)
    assert {"build", "list", "fetch", "inspect", "convert", "diff", "show-mapping"} <= set(names)


def test_every_error_in_the_table_exists_in_the_code():
    """Word for word, except for placeholders."""
    code = "".join(path.read_text() for path in (REPOSITORY / "hubexport").rglob("*.py"))
    composed = "cannot {verb} module"
    assert composed in code
    code = code.replace(composed, "cannot load module")
    composed_of_results = re.findall(r'f".*RESULTS\[.*"|f"--\{name\}.*"', code)
    assert composed_of_results
    for name, title in RESULTS.items():
        for text in composed_of_results:
            code += re.sub(r"\{RESULTS\[.*?\]\}", title, text).replace("--{name}", f"--{name}")
    errors = re.findall(r"^\| `([^`]*…[^`]*)` \|", _PAGES["errors.md"], re.MULTILINE)
    assert len(errors) >= 27
    for error in errors:
        pieces = [piece.strip() for piece in re.split(r"\S*…\S*", error)]
        assert any(pieces) and all(piece in code for piece in pieces), error


def test_every_family_is_in_its_tables():
    """With its parameters, versions, sizes, paper and number of variants, and what its training defaults are."""
    shipped = Counter(variant.network for variant in list_variants())
    rows = {}
    for family in FAMILIES.values():
        network = family.network(family.published_parameters[-1], 224, 1001)
        parameters = ", ".join(f"`{name}`" for name in family.parameters.model_fields) or "–"
        sizes = "any" if family.size_multiple == 1 else f"multiples of {family.size_multiple}"
        sizes = sizes if family.smallest_size == 1 else f"{family.smallest_size} and more"
        is_open = f"from version {family.open_from_version}" if family.open_from_version else "no"
        versions = ", ".join(map(str, family.versions))
        first = f"| `{family.name}` | {family.title} | {parameters} | {versions} | {sizes} | {is_open} |"
        assert f"{first} {shipped[family.name]} |\n" in _PAGES["networks.md"]
        assert f"]({family.paper.url}) |" in _PAGES["networks.md"]
        decay = f"{max(variable.weight_decay for variable in network.variables):.0e}".replace("e-0", "e-")
        epsilons = {op.epsilon for op in network.ops if isinstance(op, BatchNorm)}
        epsilon = ", ".join(f"{one:g}".replace("e-0", "e-") for one in epsilons) or "–"
        momentum = family.momentum if epsilons else "–"
        keeps = network.dropout.keep_prob if network.dropout else "–"
        rows.setdefault(f"| {epsilon} | {momentum} | {decay} | {keeps} |", []).append(f"`{family.name}`")
    for row, names in rows.items():
        assert f"| {', '.join(names)} {row}" in _PAGES["networks.md"]
    counted = re.findall(r"^\| `.* (?:no|from version \d) \| (\d+) \|$", _PAGES["networks.md"], re.MULTILINE)
    assert sum(shipped.values()) == sum(map(int, counted))


def test_the_tables_of_variants_are_those_of_the_configs():
    """`python scripts/variants_table.py` writes them."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "variants_table.py", "--print"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == _PAGES["variants.md"]
    rows = re.findall(r"^\| `(\w+)` \|", done.stdout.split("<!--")[1], re.MULTILINE)
    assert sorted(rows) == sorted(path.stem for path in (REPOSITORY / "configs").glob("*.yaml"))
    networks = len({variant.network for variant in list_variants()})
    assert f"hubexport knows {len(rows)} variants of [{networks} networks](networks.md)" in done.stdout
    assert f"`hubexport list` shows all {len(rows)}." in _PAGES["README.md"]


def test_every_dependency_has_a_reason():
    """The page on installing lists it in the table of its extra, and lists no other package."""
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    required = {"base install": setup["options"]["install_requires"], **setup["options.extras_require"]}
    introductions = {name: "The base install has:" if " " in name else f"The extra `{name}` has:" for name in required}
    for name in required.keys() - {"all", "dev", "docs"}:
        table = _PAGES["install.md"].split(introductions[name])[1].split("\n\n")[1]
        [_, _, *rows] = re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)
        packages = {package for row in rows for package in row.split(", ")}
        assert packages == set(re.findall(r"^[\w-]+", required[name], re.MULTILINE)), name


def test_every_public_name_is_in_the_reference():
    """In mkdocstrings' syntax."""
    shown = re.findall(r"^::: hubexport\.(\w+)$", _PAGES["api.md"], re.MULTILINE)
    assert sorted({*shown} - {"errors"}) == sorted(public.__all__)
    subclasses = re.findall(r"^        - (\w+)$", _PAGES["api.md"], re.MULTILINE)
    errors = (REPOSITORY / "hubexport" / "errors.py").read_text()
    assert sorted(subclasses) == sorted(set(re.findall(r"^class (\w+)", errors, re.MULTILINE)) - {"HubexportError"})


# README and links


def test_the_readme_is_short():
    """The rest belongs in docs/."""
    assert len(_PAGES["README.md"].splitlines()) <= 200


def _anchors(path: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub and MkDocs generate them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", _PATHS, ids=lambda path: path.name)
def test_links_point_at_something(path):
    """At a file or folder of the repository, and at a heading in it."""
    text = re.sub(r"^```.*?^```", "", _PAGES[path.name], flags=re.MULTILINE | re.DOTALL)
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken
