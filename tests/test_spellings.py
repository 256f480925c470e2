"""The vocabulary of the command line: one spelling for each thing, old ones with a warning, and hints at mistakes."""

import argparse
import json
import tarfile

import pytest

from hubexport.cli.main import new_parser
from hubexport.cli.old_spellings import todays_words
from hubexport.errors import UsageError
from tests.checkpoints import network_values, write_v2
from tests.command import hubexport
from tests.data import REPOSITORY

_COMMANDS = next(action for action in new_parser()._actions if isinstance(action, argparse._SubParsersAction)).choices


def _parsed(command, words):
    """Returns what a command makes of words: its values, or the error."""
    try:
        args, left = new_parser().parse_known_args([command, *words])
    except UsageError as error:
        return str(error)
    return {name: value for name, value in vars(args).items() if name not in ("run", "parser")}, left


def _flags():
    for command, parser in _COMMANDS.items():
        for flag in parser._option_string_actions:
            if "-" in flag[2:]:
                yield command, flag


@pytest.mark.parametrize(("command", "flag"), list(_flags()))
def test_underscores_are_hyphens(command, flag):
    """In each flag of each command, as it was spelled before."""
    assert "_" not in flag
    old = flag.replace("-", "_").replace("__", "--", 1)
    for value in ([], ["1"], ["1", "2"]):
        for form in (lambda name: [name, *value], lambda name: [f"{name}={value[0]}" if value else name]):
            wanted = _parsed(command, form(flag))
            assert _parsed(command, form(old)) == wanted
            assert "no flag" not in str(wanted)


def test_flags_of_absl_keep_their_underscores():
    """And -v is absl's."""
    assert hubexport("list", "vgg_16", "--log_dir=/nowhere", "-v=1").returncode == 0
    assert hubexport("list", "vgg_16", "-v", "1").returncode == 0
    done = hubexport("list", "vgg_16", "--log-dir=/nowhere")
    assert done.returncode == 2 and "did you mean '--log_dir'?" in done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("release --variants a b* --url U", "release --variant a,b* --url U"),
        ("release --variants=a --modules x/1 y", "release --variant a --module x/1,y"),
        ("release --verify structure weights -q", "release --checks structure,weights -q"),
        ("release --check dist --format json", "check dist --format json"),
        ("release --format json --check=dist", "check --format json dist"),
        ("verify m --check weights --check structure", "verify m --checks weights --checks structure"),
        ("verify --check weights m", "verify --checks weights m"),
        ("convert a b --endpoints x y", "convert a b --outputs x,y"),
        ("build --outputs --softmax", "build --outputs all --softmax"),
        ("build --endpoints", "build --outputs all"),
        ("list --format table", "list --format text"),
        ("consumers list --format=table", "consumers list --format text"),
    ],
)
def test_old_spellings_are_rewritten(old, new):
    """With one warning for each that names the new one."""
    words, warnings = todays_words(old.split(), _COMMANDS)
    assert words == new.split()
    changed = [word for word in new.split() if word.startswith("--") and word not in old.split()]
    assert warnings and all(warning.count("is an old spelling: write `") == 1 for warning in warnings)
    assert all(any(flag in warning for warning in warnings) for flag in changed)
    assert todays_words(new.split(), _COMMANDS) == (new.split(), [])


def test_words_after_two_hyphens_stay():
    """They are names of files."""
    assert todays_words(["verify", "--", "--check"], _COMMANDS) == (["verify", "--", "--check"], [])


def test_an_old_command_line_does_what_the_new_one_does(tmp_path):
    """The warnings go to stderr."""
    common = ["--checkpoint", "synthetic", "--format", "json"]
    names, specs = ["mobilenet_v2_035_96", "vgg_16"], ["feature_vector/3", "classification/5"]
    old = hubexport("release", "--dry_run", "--variants", *names, "--modules", *specs, *common, cwd=tmp_path)
    new = hubexport(
        "release", "--dry-run", "--variant", ",".join(names), "--module", specs[0], "--module", specs[1], *common,
        cwd=tmp_path,
    )  # fmt: skip
    assert (old.returncode, new.returncode) == (0, 0)
    assert old.stdout == new.stdout and len(json.loads(new.stdout)) == 4
    assert "WARNING" not in new.stderr
    assert [line for line in old.stderr.splitlines() if line.startswith("WARNING")] == [
        "WARNING `--variants mobilenet_v2_035_96 vgg_16` is an old spelling: write "
        "`--variant mobilenet_v2_035_96,vgg_16`",
        "WARNING `--modules feature_vector/3 classification/5` is an old spelling: write "
        "`--module feature_vector/3,classification/5`",
    ]


def test_old_spellings_in_a_flag_file(tmp_path):
    """absl reads it before the words are rewritten."""
    (tmp_path / "flags").write_text("--variants=vgg_16\n--dry_run\n--checkpoint=synthetic\n")
    done = hubexport("release", f"--flagfile={tmp_path / 'flags'}", cwd=tmp_path)
    assert done.returncode == 0 and "write `--variant vgg_16`" in done.stderr
    assert "google/imagenet/vgg_16/feature_vector/5" in done.stdout


def test_a_line_of_a_flag_file_is_one_word(tmp_path):
    """With an equals sign before the value."""
    (tmp_path / "flags").write_text("--variant vgg_16\n")
    done = hubexport("build", f"--flagfile={tmp_path / 'flags'}")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "  fix: write --variant=vgg_16")


def test_a_list_of_words_goes_on_working_where_it_is_unambiguous():
    """Only `--consumers` and `--outputs` kept their names. A word that can be the module is the module."""
    done = hubexport("verify", "nowhere", "--consumers", "tf1.15", "tf2.15")
    assert "WARNING `--consumers tf1.15 tf2.15` is an old spelling: write `--consumers tf1.15,tf2.15`" in done.stderr
    assert "no flag" not in done.stderr and "unknown argument" not in done.stderr
    args, left = new_parser().parse_known_args(["verify", "--consumers", "tf1.15", "m"])
    assert (args.consumers, args.module, left) == (["tf1.15"], "m", [])


@pytest.mark.parametrize(
    ("words", "what", "why", "fix"),
    [
        ("list --variant X", "no flag --variant", "names and patterns are arguments", "hubexport list X`"),
        ("list --variant=X", "no flag --variant", "names and patterns are arguments", "hubexport list X`"),
        ("convert --checkpoint F", "no flag --checkpoint", "SOURCE is an argument", "hubexport convert F TARGET`"),
        ("convert a b -o c", "no flag -o", "TARGET is an argument", "hubexport convert SOURCE c`"),
        ("fetch --output_dir d", "no flag --output_dir", "in a cache", "--cache-dir d"),
        (
            "verify M --checks structure weights",
            "--checks structure weights: more",
            "commas",
            "--checks structure,weights",
        ),
        ("verify --checks a b M", "--checks a b: more than one value", "commas separate", "--checks a,b"),
        ("build --variant a b c", "--variant a b c: more than one value", "commas separate", "--variant a,b,c"),
        ("serve d --variant x", "no flag --variant", "flag of `build`, `fetch`, `convert`", "serve --help"),
        ("diff a b --tolernce 1", "no flag --tolernce (did you mean '--tolerance'?)", "", "diff --help"),
        ("diff a b c", "unknown argument c", "takes A B and flags", "leave it out"),
        ("build x y", "unknown argument x y", "takes only flags", "--variant x,y"),
        ("check d x", "unknown argument x", "takes DIR and flags", "leave it out"),
        ("-q list", "-q stands before the command", "flags follow it", "`hubexport list … -q`"),
        (
            "--variant x build",
            "--variant stands before the command",
            "flags follow it",
            "`hubexport build … --variant`",
        ),
        ("list -v", "--verbosity without a value", "it takes N", "write --verbosity N"),
        ("--foo", "no flag --foo", "no flag of this name", "hubexport --help"),
        ("list --verbosity=some", "flag --verbosity=some: not a whole number", "absl flag", "--helpfull"),
        ("biuld", "no command biuld (did you mean 'build'?)", "there are build, fetch,", "hubexport --help"),
        ("consumers lst", "no action lst (did you mean 'list'?)", "list, create and remove", "consumers --help"),
        ("convert", "no SOURCE and no TARGET", "needs them", "`hubexport convert SOURCE TARGET`"),
        ("evaluate m", "no --data", "needs it", "`hubexport evaluate MODULE --data PATH`"),
        ("build --jobs 0", "--jobs 0: not valid", "must be a whole number, at least 1", "--jobs N"),
        ("build --jobs", "--jobs without a value", "takes N", "--jobs N"),
        (
            "classify m i --image-size 3",
            "--image-size without its 2 values",
            "HEIGHT WIDTH",
            "--image-size HEIGHT WIDTH",
        ),
        ("build --opset x", "--opset x: not a whole number", "takes a whole number", "--opset N"),
        ("build --overwrite=1", "--overwrite=1: a value", "takes none", "write --overwrite"),
        ("build --variant a,,b", "--variant a,,b: not valid", "commas between them", "--variant NAME[,...]"),
        (
            "convert a b --to keras3",
            "--to keras3: no such choice (did you mean 'keras'?)",
            "takes slim, keras",
            "one of",
        ),
        ("build", "no --variant and no --name", "what to build", "hubexport build --variant NAME"),
    ],
)
def test_mistakes_are_understood(words, what, why, fix):
    """Each error says how to write it. The exit status is 2, as for other programs."""
    done = hubexport(*words.split())
    first, second, third = done.stderr.splitlines()
    assert first.startswith("ERROR hubexport") and first.partition(": ")[2].startswith(what), done.stderr
    assert second.startswith("  why: ") and why in second
    assert third.startswith("  fix: ") and fix in third
    assert (done.returncode, done.stdout) == (2, "")


def test_each_hint_is_for_a_flag_that_the_command_lacks():
    """And for a command that exists."""
    from hubexport.cli.flag_hints import _HINTS

    for command, flag in _HINTS:
        assert flag not in _COMMANDS[command]._option_string_actions, (command, flag)


def test_without_arguments_there_is_help():
    """On stdout, as for `--help`."""
    done = hubexport()
    assert (done.returncode, done.stderr, done.stdout) == (0, "", hubexport("--help").stdout)
    assert "{" not in done.stdout.splitlines()[0]


def test_version_tells_what_is_installed():
    """The first line is for scripts."""
    import tensorflow as tf

    lines = hubexport("--version").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["hubexport", "Python", "NumPy", "TensorFlow"]
    assert lines[3].split()[1].split("-")[0] == tf.__version__.split("-")[0]


def test_quiet_prints_warnings_alone_on_stderr(config_dir, tmp_path):
    """Stdout stays the same."""
    build = ("build", "--variant", "small,mobilenet_v2_035_96", "--module", "feature_vector/5", "--overwrite")
    build += ("--config-dir", config_dir, "-o", tmp_path / "m")
    loud = hubexport(*build, "--checkpoint", "synthetic")
    quiet = hubexport(*build, "--checkpoint", "synthetic", "-q")
    assert loud.returncode == quiet.returncode == 0
    assert quiet.stdout == loud.stdout and len(quiet.stdout.splitlines()) == 2
    assert "2 built" in loud.stderr and len(loud.stderr.splitlines()) > 5
    assert [line.partition(":")[0] for line in quiet.stderr.splitlines()] == ["WARNING SYNTHETIC weights"] * 2
    refused = hubexport(*build, "--checkpoint", "/nowhere", "--quiet")
    assert refused.returncode == 1 and refused.stderr.startswith("ERROR no checkpoint /nowhere")


@pytest.mark.parametrize("command", ["build", "release", "fetch"])
def test_variants_are_selected_in_the_same_way(command):
    """Repeated or after commas, and with the same help."""
    args, left = new_parser().parse_known_args([command, "--variant", "a,b*", "--variant", "c"])
    assert (args.variant, left) == (["a", "b*", "c"], [])
    assert "--variant NAME[,...]" in hubexport(command, "--help").stdout


def test_build_takes_a_directory_of_archives(config_dir, tmp_path):
    """Each named like the published one or its variant, as for a release. What is missing is an error of its own."""
    folder = tmp_path / "archives"
    folder.mkdir()
    write_v2(tmp_path / "model.ckpt", network_values())
    config = (config_dir / "small.yaml").read_text()
    for variant, published, archive in (("one", "p", "p.tgz"), ("two", "p2", "two.tar.gz"), ("three", "p3", None)):
        (config_dir / f"{variant}.yaml").write_text(config.replace("/small.tgz", f"/{published}.tgz"))
        if archive:
            with tarfile.open(folder / archive, "w:gz") as written:
                for path in tmp_path.glob("model.ckpt.*"):
                    written.add(path, path.name)
    options = ("--module", "feature_vector/5", "--config-dir", config_dir, "--checkpoint", folder)
    done = hubexport("build", "--variant", "one,two,three", *options, "--output-dir", tmp_path / "m")
    assert done.returncode == 1
    assert [line.rsplit("/", 3)[-3] for line in done.stdout.splitlines()] == ["one", "two"]
    assert f"ERROR no checkpoint for three in {folder}" in done.stderr
    assert "none named p3.tgz, three.tgz or three.tar.gz" in done.stderr
    single = hubexport("build", "--variant", "one", *options, "--output-dir", tmp_path / "single")
    assert single.returncode == 0, single.stderr


@pytest.mark.parametrize(
    ("target", "to", "status", "said"),
    [
        ("x.onnx", (), 0, ""),
        pytest.param("x.keras", (), 0, "", marks=pytest.mark.slow),
        pytest.param("x.weights.h5", (), 0, "", marks=pytest.mark.slow),
        pytest.param("x.safetensors", (), 0, "", marks=pytest.mark.slow),
        ("x", (), 2, "no --to, and the name x does not tell the format"),
        ("x.onnx", ("--to", "keras"), 2, "--to keras and the name x.onnx contradict each other"),
        ("x.h5", ("--to", "tfjs"), 2, "fix: write --to keras, or use another name"),
        ("x.ONNX", (), 2, "fix: use a name that ends in .onnx"),
        ("x.Tflite", (), 2, "fix: use a name that ends in .tflite"),
        ("x.KERAS", (), 2, "or in .keras for a whole model of Keras 3"),
        ("x.ONNX", ("--to", "tfjs"), 2, "fix: write --to onnx, or use another name"),
        pytest.param("x.SAFETENSORS", (), 0, "", marks=pytest.mark.slow),
        pytest.param("x.other", ("--to", "slim"), 0, "", marks=pytest.mark.slow),
    ],
)
def test_convert_goes_by_the_name_of_the_target(tmp_path, target, to, status, said):
    """What it writes is what `--to` would write."""
    source = ("synthetic", "--variant", "mobilenet_v2_035_96")
    done = hubexport("convert", *source, target, *to, cwd=tmp_path)
    assert done.returncode == status and said in done.stderr, done.stderr
    if status == 0:
        found = hubexport("inspect", target, cwd=tmp_path)
        assert found.returncode == 0, found.stderr
    else:
        assert not list(tmp_path.iterdir())


def test_a_part_of_a_name_is_no_pattern():
    """`list` and `--variant` select alike, and the error says how to write it."""
    done = hubexport("list", "v2_035")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no variant 'v2_035' (did you mean '*v2_035*'?)" in done.stderr
    assert len(json.loads(hubexport("list", "*v2_035*", "--format", "json").stdout)) == 5


def test_metavars_are_one_vocabulary():
    """The same thing has the same name in all commands."""
    allowed = {"DIR", "FILE", "PATH", "NAME", "URL", "N", "SOURCE", "KEY", "FORMAT", "PREFIX", "ADDRESS"}
    allowed |= {"KIND/VERSION", "KIND[/VERSION]", "NAME[=VALUE]"}
    for command, parser in _COMMANDS.items():
        for action in parser._actions:
            if action.option_strings and isinstance(action.metavar, str) and action.help != argparse.SUPPRESS:
                assert action.metavar.removesuffix("[,...]") in allowed, (command, action.option_strings)


def test_no_text_of_hubexport_spells_a_flag_with_underscores():
    """Help, errors and pages of a release."""
    flags = {flag.replace("-", "_").replace("__", "--", 1) for _, flag in _flags()}
    for path in sorted((REPOSITORY / "hubexport").rglob("*")):
        if path.suffix in (".py", ".md", ".html", ".js"):
            text = path.read_text(encoding="utf-8")
            assert not [flag for flag in flags if flag in text and path.name != "parser.py"], path
