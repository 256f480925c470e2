"""The command line: results on stdout, everything else on stderr, exit status 1 for failures, and 2 for mistakes."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios

import pytest

from hubexport.build import build_modules
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.config_files import list_variants
from hubexport.variants import ModuleSpec
from tests.checkpoints import network_values, write_v1
from tests.command import command, environment, hubexport
from tests.data import REPOSITORY

# Prints at exit whether TensorFlow and NumPy were imported.
_SPY = (
    "import atexit, sys\n"
    "atexit.register(lambda: print('tensorflow' in sys.modules, 'numpy' in sys.modules, file=sys.stderr))\n"
    "import runpy\n"
    "sys.argv[1:] = {arguments!r}\n"
    "runpy.run_module('hubexport', run_name='__main__', alter_sys=True)\n"
)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--help"], id="help"),
        pytest.param(["build", "--help"], id="build help"),
        pytest.param(["--helpfull"], id="helpfull", marks=pytest.mark.slow),
        pytest.param(["--version"], id="version", marks=pytest.mark.slow),
        pytest.param(["list"], id="list"),
        pytest.param(["list", "--format", "json"], id="list json", marks=pytest.mark.slow),
        pytest.param([], id="no command"),
        pytest.param(["bild"], id="no such command", marks=pytest.mark.slow),
        pytest.param(["build"], id="no variant", marks=pytest.mark.slow),
        pytest.param(["build", "--variant", "mobilenet_v2_050_95"], id="no such variant"),
        pytest.param(
            ["build", "--variant", "mobilenet_v2_050_96", "--module", "x/1"],
            id="no such module",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["build", "--variant", "mobilenet_v2_050_96", "--checkpoint", "/nowhere"],
            id="no checkpoint",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["build", "--variant", "mobilenet_v2_050_96", "--checkpoint", "synthetic"], id="a build from V2 values"
        ),
        pytest.param(
            ["build", "--variant", "mobilenet_v2_050_96", "--checkpoint", "synthetic", "--module", "feature_vector/5"],
            id="a build of a TF2 SavedModel",
        ),
        pytest.param(
            ["build", "--variant", "bad", "--config-dir", "{configs}"], id="bad config", marks=pytest.mark.slow
        ),
        pytest.param(
            ["build", "--name", "flowers", "--checkpoint", "{checkpoint}", "--image-size", "96"], id="a build by name"
        ),
        pytest.param(["fetch", "--list"], id="fetch list"),
        pytest.param(["convert", "--help"], id="convert help", marks=pytest.mark.slow),
        pytest.param(["convert", "/nowhere", "x.h5", "--to", "keras"], id="nothing to convert", marks=pytest.mark.slow),
        *(
            pytest.param(
                ["convert", "synthetic", name, "--to", to, "--variant", "mobilenet_v2_050_96"],
                id=f"to {to}",
                marks=[] if to in ("keras", "huggingface", "onnx") else pytest.mark.slow,
            )
            for to, name in (
                ("slim", "x"),
                ("keras", "x.h5"),
                ("safetensors", "x"),
                ("huggingface", "x"),
                ("tf2", "x"),
                ("onnx", "x.onnx"),
                ("tfjs", "x"),
            )
        ),
        pytest.param(["inspect", "{checkpoint}", "--variables"], id="inspect"),
        pytest.param(["inspect", "{module}"], id="inspect a module"),
        pytest.param(["diff", "{checkpoint}", "{module}"], id="diff"),
        pytest.param(["show-mapping", "--to", "keras"], id="show-mapping"),
        pytest.param(["verify", "{module}", "--checks", "structure", "--checks", "weights"], id="verify files"),
        pytest.param(["verify", "--list-checks"], id="verify list"),
        pytest.param(["verify", "{module}", "--checks", "numbrs"], id="no such check", marks=pytest.mark.slow),
        pytest.param(["verify", "/nowhere"], id="nothing to verify", marks=pytest.mark.slow),
        pytest.param(["consumers", "list"], id="consumers"),
        pytest.param(["classify", "{module}", "/nowhere.jpg"], id="nothing to classify"),
        pytest.param(["features", "{module}", "/nowhere.jpg", "--output", "x.npy"], id="no features"),
        pytest.param(["evaluate", "{module}", "--data", "/nowhere"], id="nothing to evaluate with"),
        pytest.param(["completion", "bash"], id="completion"),
        pytest.param(["release", "--help"], id="release help", marks=pytest.mark.slow),
        pytest.param(["release", "--checkpoint", "synthetic", "--dry-run"], id="release plan"),
        pytest.param(
            ["release", "--variant", "mobilenet_v2_050_96", "--checkpoint", "synthetic", "--checks", "structure"],
            id="release proved by files",
        ),
        pytest.param(["check", "/nowhere"], id="no release", marks=pytest.mark.slow),
        pytest.param(["serve", "--help"], id="serve help", marks=pytest.mark.slow),
        pytest.param(["serve", "/nowhere"], id="nothing to serve", marks=pytest.mark.slow),
        pytest.param(["serve", "{release}", "--host", "no.such.host.invalid"], id="nowhere to serve"),
        pytest.param(["site", "--help"], id="site help", marks=pytest.mark.slow),
        pytest.param(["site", "{release}"], id="site"),
    ],
)
def test_answers_without_importing_tensorflow(config_dir, small, small_release, arguments):
    """sys.modules shows it when the process ends."""
    (config_dir / "bad.yaml").write_text("network: x\n")
    places = {"configs": config_dir, "checkpoint": config_dir / "c", "module": "", "release": small_release}
    if "{checkpoint}" in arguments:
        write_bundle(places["checkpoint"], network_values())
    if "{module}" in arguments:
        spec = ModuleSpec.parse("feature_vector/5")
        [places["module"]] = build_modules(small, [spec], checkpoint="synthetic", output_dir=config_dir)
    arguments = [argument.format(**places) for argument in arguments]
    code = _SPY.format(arguments=arguments)
    done = subprocess.run(
        [command()[0], "-c", code], env=environment(), capture_output=True, text=True, check=False, cwd=config_dir
    )
    assert done.stderr.splitlines()[-1].startswith("False"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        pytest.param(
            ["list", "--verbosity=loud"],
            [
                "ERROR hubexport: flag --verbosity=loud: not a whole number",
                "  why: an absl flag has an invalid value",
                "  fix: see hubexport --helpfull",
            ],
            id="absl flag",
        ),
        pytest.param(
            ["build", "--variant", "mobilenet_v2_050_96", "--module", "clasification/1"],
            [
                "ERROR unknown module 'clasification/1'",
                "  why: it must be KIND/VERSION with the kind feature_vector or classification "
                "(did you mean 'classification'?)",
                "  fix: use one like feature_vector/3",
            ],
            id="module",
        ),
    ],
)
def test_errors_are_what_why_and_fix_on_stderr(arguments, lines):
    """With nothing on stdout, exit status 2, and no traceback."""
    done = hubexport(*arguments)
    assert done.stderr.splitlines() == lines
    assert done.stdout == ""
    assert done.returncode == 2


def test_prefixes_of_flags_are_not_taken():
    """A new flag could change their meaning."""
    done = hubexport("build", "--vari", "mobilenet_v2_050_96")
    assert done.returncode == 2
    assert "--vari (did you mean '--variant'?)" in done.stderr


def test_build_prints_one_path_per_module_and_the_rest_on_stderr(tmp_path):
    """Without a terminal, stderr has plain lines, and none from TensorFlow."""
    done = hubexport(
        *("build", "--variant", "mobilenet_v2_050_96", "--checkpoint", "synthetic", "--output-dir", tmp_path / "m")
    )
    assert done.returncode == 0, done.stderr
    handle = tmp_path / "m" / "google" / "imagenet" / "mobilenet_v2_050_96"
    assert done.stdout == f"{handle}/classification/1\n{handle}/feature_vector/1\n"
    assert done.stderr.splitlines()[:4] == [
        "making up synthetic values from seed 0",
        "writing google/imagenet/mobilenet_v2_050_96/classification/1",
        "writing google/imagenet/mobilenet_v2_050_96/feature_vector/1",
        "WARNING SYNTHETIC weights: mobilenet_v2_050_96 is UNTRAINED; its modules run, but their outputs mean nothing",
    ]
    assert "2 built, 0 failed" in done.stderr


def test_a_v1_checkpoint_needs_no_tensorflow(config_dir, tmp_path):
    """Although no other program reads this format without it."""
    write_v1(tmp_path / "old.ckpt", network_values())
    options = ("--config-dir", config_dir, "--output-dir", tmp_path / "m")
    done = hubexport("build", "--variant", "small", "--checkpoint", tmp_path / "old.ckpt", *options)
    assert done.stderr.splitlines()[:3] == [
        f"reading {tmp_path / 'old.ckpt'}",
        "weights: raw (the checkpoint has no averages)",
        "writing google/imagenet/small/feature_vector/2",
    ]
    assert done.returncode == 0


def test_startup_messages_stay_off_the_screen():
    """TensorFlow 2.21 writes some lines directly to the file descriptor. Lines after the start are shown again."""
    code = (
        "import os\n"
        "from hubexport.cli.progress_display import shown_progress\n"
        "with shown_progress() as progress:\n"
        "    with progress.tensorflow_starting():\n"
        "        os.write(2, b'chatter')\n"
        "    os.write(2, b'afterwards')\n"
    )
    done = subprocess.run([command()[0], "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr == "starting TensorFlow\nafterwards"


@pytest.mark.parametrize(
    ("level", "verbosity", "shown"),
    [(None, "0", False), ("0", "0", False), ("3", "0", False), ("0", "1", True)],
)
def test_messages_of_tensorflow_are_hidden_unless_asked_for(level, verbosity, shown):
    """By absl's flag: many machines set TF_CPP_MIN_LOG_LEVEL for other programs. TensorFlow reads it when it starts."""
    code = (
        "import os\n"
        "from absl import logging\n"
        "from hubexport.progress import tensorflow_hushed\n"
        f"logging.set_verbosity({verbosity})\n"
        "for start in ('chatter', 'more'):\n"
        "    with tensorflow_hushed():\n"
        "        os.write(2, f'{start} at level {os.environ.get(\"TF_CPP_MIN_LOG_LEVEL\")}, '.encode())\n"
    )
    env = environment({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level})
    done = subprocess.run([command()[0], "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ("chatter at level 0, more at level 0, " if shown else "more at level 3, ")


@pytest.mark.parametrize("ignored", [False, True])
def test_an_interrupt_during_the_imports_ends_the_process_silently(ignored):
    """With the status that shells report after Ctrl-C. Background jobs of scripts ignore the signal."""
    code = (
        "import os, runpy, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'hubexport.cli.fetch':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        f"signal.signal(signal.SIGINT, signal.{'SIG_IGN' if ignored else 'default_int_handler'})\n"
        "sys.meta_path.insert(0, Interrupting)\n"
        "sys.argv[1:] = ['--version']\n"
        "runpy.run_module('hubexport', run_name='__main__', alter_sys=True)\n"
    )
    done = subprocess.run(
        [command()[0], "-c", code], env=environment(), capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert (done.returncode, done.stderr) == ((0, "") if ignored else (130, ""))
    assert done.stdout.startswith("hubexport ") == ignored


def test_a_checkpoint_that_is_read_for_each_module_is_named_once(config_dir, tmp_path):
    """If one module fails, each is built by itself."""
    write_v1(tmp_path / "old.ckpt", network_values(num_classes=5))
    options = ("--config-dir", config_dir, "--output-dir", tmp_path / "m", "--module", "classification/3")
    done = hubexport(
        *("build", "--variant", "small", "--checkpoint", tmp_path / "old.ckpt", "--module", "feature_vector/3"),
        *options,
    )
    assert "it was trained with 5 outputs, not 7" in done.stderr and "1 built, 1 failed" in done.stderr
    assert done.stderr.count(f"reading {tmp_path / 'old.ckpt'}\n") == 1


def test_build_shows_a_moving_display_on_a_terminal(tmp_path):
    """And still prints the result only on stdout."""
    ours, theirs = pty.openpty()
    arguments = ("build", "--variant", "mobilenet_v2_050_96", "--module", "feature_vector/1")
    process = subprocess.Popen(
        command(*arguments, "--checkpoint", "synthetic", "--output-dir", tmp_path / "m"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment({"TERM": "xterm", "COLUMNS": "120"}),
        text=True,
    )
    os.close(theirs)
    shown = b""
    while block := _read_terminal(ours):
        shown += block
    os.close(ours)
    assert process.stdout.read().endswith("/feature_vector/1\n")
    assert process.wait(timeout=60) == 0
    assert b"writing google/imagenet/mobilenet_v2_050_96/feature_vector/1" in shown
    assert b"\x1b[" in shown
    assert b"UNTRAINED" in shown


def _read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux raises this when the other end is closed.
        return b""


def test_flagfile_and_verbosity_work(tmp_path):
    """As in any absl program. The file's flags take the place of --flagfile."""
    (tmp_path / "flags").write_text("--variant=mobilenet_v2_050_96\n--checkpoint=/nowhere\n")
    done = hubexport("build", "--verbosity=0", f"--flagfile={tmp_path / 'flags'}")
    assert "ERROR no checkpoint /nowhere" in done.stderr
    assert done.returncode == 1


def test_helpfull_lists_the_flags_of_absl():
    """And --help does not."""
    assert "--verbosity" in hubexport("--helpfull").stdout
    assert "--verbosity" not in hubexport("--help").stdout


def test_list_as_a_table_has_a_line_per_variant():
    """Lines are complete, so that they can be searched: stdout is not a terminal here."""
    lines = hubexport("list").stdout.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(" ") and len(line.split()) > 1}
    assert {variant.name for variant in list_variants()} <= set(rows)
    assert rows["mobilenet_v2_075_192"] == "0.75 192 153 2.61 68.7 88.9 41.6 2".split()
    assert "MobileNet V2: 22 variants, 1001 classes" in lines
    assert "VGG: 2 variants, images of 224 x 224 pixels, 1000 classes, module versions 3, 5" in lines


@pytest.mark.parametrize(
    ("modules", "versions"),
    [
        ("[feature_vector/5, classification/5]", "version 5"),
        ("[classification/5]", "version 5 (classification)"),
        ("[feature_vector/3, classification/5]", "versions 3 (feature_vector), 5 (classification)"),
    ],
)
def test_list_counts_versions_and_classes(tmp_path, modules, versions):
    """One is no plural."""
    facts = "network: vgg_16, image_size: 224, num_classes: 1, dataset: made up"
    (tmp_path / "mine.yaml").write_text(f"{{{facts}, modules: {modules}}}\n")
    printed = hubexport("list", "mine", "--config-dir", tmp_path).stdout.splitlines()
    assert printed[0] == f"VGG: 1 variant, images of 224 x 224 pixels, 1 class, module {versions}"


def test_list_marks_what_hubexport_counted_and_where_accuracy_was_measured():
    """The counts are those of TF-Slim's own graph, 3,482,257,408 and 25,524,969."""
    lines = hubexport("list", "resnet_v2_50").stdout.splitlines()
    assert [line.split() for line in lines if "resnet_v2_50" in line] == [
        "resnet_v2_50 3482* 25.52* 75.6 at 299 px 92.8 at 299 px".split()
    ]
    assert lines[-1] == "* counted by hubexport: the publishers give no figure"
    assert "counted" not in hubexport("list", "mobilenet_v2_050_96").stdout


def test_list_leaves_out_columns_without_a_figure():
    """Each group has columns of its own."""
    lines = hubexport("list", "resnet_v1_50", "*_edgetpu_*").stdout.splitlines()
    [edgetpu, resnet] = [line.split() for line in lines if line.startswith(" variant")]
    assert edgetpu == "variant depth multiplier MACs (M) params (M)".split()
    assert "No checkpoint to download; build from your own: resnet_v1_50." in lines
    assert resnet == "variant MACs (M) params (M)".split()


def test_list_takes_patterns():
    """Names and patterns, as `build --variant` takes them; in the order of families, each once."""
    described = json.loads(hubexport("list", "vgg*", "mobilenet_v2_0*_96", "vgg_16", "--format", "json").stdout)
    assert [variant["name"] for variant in described] == [
        *("mobilenet_v2_035_96", "mobilenet_v2_050_96", "mobilenet_v2_075_96", "vgg_16", "vgg_19"),
    ]


@pytest.mark.parametrize(
    ("pattern", "near", "why"),
    [
        ("incepton*", "inception*", "matches it"),
        ("vgg_17", "vgg_19", "has this name"),
        ("VGG_19", "vgg_19", "has this name"),
        ("INCEPTION*", "inception*", "matches it"),
        ("*V3_Large*", "*v3_large*", "matches it"),
    ],
)
def test_list_names_what_is_near_to_a_pattern_without_a_match(pattern, near, why):
    """Nothing is listed, even if another pattern matches."""
    done = hubexport("list", "vgg_16", pattern)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no variant {pattern!r} (did you mean {near!r}?)" in done.stderr
    assert f"none of the {len(list_variants())} known variants {why}" in done.stderr


def test_tables_fit_a_real_terminal(monkeypatch):
    """Of the width that the system tells, not one in the environment. tests/test_text_tables.py tries other tables."""
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 60, 0, 0))
    process = subprocess.Popen(
        command("list", "mobilenet_v2_*"), stdout=theirs, stderr=subprocess.PIPE, env=environment({"TERM": "xterm"})
    )
    os.close(theirs)
    shown = b""
    while block := _read_terminal(ours):
        shown += block
    os.close(ours)
    assert process.wait(timeout=60) == 0, process.stderr.read()
    lines = shown.decode().splitlines()
    assert 50 < max(map(len, lines)) <= 60
    assert "mobilenet_v2_035_128" in {line.split()[0] for line in lines if line}
    assert any(line.startswith("columns left out on this terminal: ") for line in lines)


def test_list_as_json_has_everything():
    """For programs."""
    variants = json.loads(hubexport("list", "--format", "json").stdout)
    [variant] = [variant for variant in variants if variant["name"] == "mobilenet_v2_050_96"]
    assert variant["published"]["top1_percent"] == 51.2
    assert variant["modules"] == [
        "google/imagenet/mobilenet_v2_050_96/classification/1",
        "google/imagenet/mobilenet_v2_050_96/feature_vector/1",
    ]
    assert (variant["counted"], variant["depth_multiplier"]) == ({}, 0.5)
    [counted] = [variant["counted"] for variant in variants if variant["name"] == "vgg_16"]
    assert counted == {"macs_millions": 15470, "parameters_millions": 138.36}


def test_list_takes_the_users_configs(config_dir):
    """Beside the built-in ones. Dashes stand for missing published figures."""
    [line] = [line for line in hubexport("list", "--config-dir", config_dir).stdout.splitlines() if " small " in line]
    assert line.split() == "small 0.35 96 7 11* 0.39* - - - 2".split()


def test_a_reader_that_closes_the_pipe_is_not_an_error():
    """As in `hubexport list | head -1`."""
    done = subprocess.run(
        f"{' '.join(command('list'))} | head -1",
        shell=True,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    """The proxy does not exist, so the config's address cannot be reached."""
    env = {"HUBEXPORT_CACHE_DIR": str(tmp_path), "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    done = hubexport("build", "--variant", "mobilenet_v2_075_192", "--output-dir", tmp_path / "m", env=env)
    assert done.returncode == 1
    what, why, fix = done.stderr[done.stderr.index("ERROR") :].splitlines()[:3]
    assert what.startswith("ERROR cannot download https://storage.googleapis.com/mobilenet_v2/")
    assert why == "  why: no connection to the proxy 127.0.0.1, port 9: Connection refused"
    assert "pass it as --checkpoint FILE" in fix
    assert done.stderr.count("ERROR") == 1, "both modules fail in the same way, which is said once"
    assert done.stderr.count("downloading ") == 1, "what cannot be fetched for one is not asked for again for the other"
    assert not (tmp_path / "m").exists()


def test_the_package_imports_without_tensorflow_and_offers_its_names():
    """Each public name is imported on first use."""
    code = (
        "import sys, hubexport\n"
        "names = [getattr(hubexport, name).__name__ for name in hubexport.__all__]\n"
        "assert names == hubexport.__all__ and len(names) > 30, names\n"
        "assert hubexport.__version__ == hubexport.version.__version__\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([command()[0], "-c", code], env=environment(), check=True, cwd=REPOSITORY.parent)
