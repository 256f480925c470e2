"""Many modules in one run: patterns, processes, and failures of single modules."""

import contextlib
import itertools
import json
import os
from pathlib import Path
import pickle
import re
import signal
import socket
import subprocess
import time
import types

import pytest

from hubexport import HubexportError, ModuleSpec
from hubexport import build as hubexport_build
from hubexport import build_modules, list_variants
from hubexport.batch import build_batch
from hubexport.build import BuildOptions, BuildOrder
from hubexport.checkpoints.recognize import AVERAGED_SUFFIX
from hubexport.config_files import select_variants
from hubexport.deployment_spec import deployment_requests, with_deployments
from hubexport.errors import CheckpointError, ConfigError, UsageError
from hubexport.selection import select_modules
from hubexport.system.atomic_output import publish_directory
from hubexport.system.digests import file_sha256, tree_files
from tests.checkpoints import network_values, write_v2
from tests.command import command, environment, hubexport

_CONFIG = """\
network: mobilenet_v2
depth_multiplier: 0.35
image_size: 96
num_classes: {num_classes}
dataset: made up
modules: [feature_vector/3, classification/5]
"""
_MODULES = tuple(map(ModuleSpec.parse, ("feature_vector/3", "classification/5")))


@pytest.fixture
def configs(tmp_path) -> Path:
    """Three variants of the smallest network; `two` has other classes."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for name, num_classes in (("one", 7), ("three", 7), ("two", 5)):
        (folder / f"{name}.yaml").write_text(_CONFIG.format(num_classes=num_classes))
    return folder


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """Values that fit `one` and `three`, and the features of `two`."""
    (tmp_path / "checkpoint").mkdir()
    write_v2(tmp_path / "checkpoint" / "model.ckpt", network_values(num_classes=7))
    return tmp_path / "checkpoint" / "model.ckpt"


def _orders(configs, *names):
    return [BuildOrder(variant, variant.modules) for variant in select_variants(names, configs)]


def _digests(folder):
    return {str(path.relative_to(folder)): file_sha256(path) for path in tree_files(folder)}


def test_variants_are_chosen_by_name_pattern_or_all(configs):
    """Each once, in the order of the names and patterns. The variants of one pattern are sorted."""

    def names(*patterns):
        return [variant.name for variant in select_variants(patterns, configs)]

    assert names("two", "t*", "one") == ["two", "three", "one"]
    assert names("mobilenet_v2_*_96") == [f"mobilenet_v2_{depth}_96" for depth in ("035", "050", "075", "100")]
    assert names("all") == [variant.name for variant in list_variants(configs)]
    assert len(names("mobilenet_v2*")) == 22
    assert len(names("mobilenet*")) == 46
    with pytest.raises(ConfigError, match=r"no variant 'mobilenet_v4_\*'"):
        names("one", "mobilenet_v4_*")


_PUBLISHED = "checkpoint: {url: https://example.invalid/x.tgz, name: x.ckpt}\n"


def _selected(selection):
    return {variant.name: list(map(str, modules)) for variant, modules in selection.modules}


def test_patterns_skip_variants_without_a_checkpoint(configs):
    """Unless a checkpoint is given, or the variant is named."""
    (configs / "two.yaml").write_text(_CONFIG.format(num_classes=5) + _PUBLISHED)
    selection = select_modules(["t*"], config_dir=configs)
    assert _selected(selection) == {"two": ["feature_vector/3", "classification/5"]}
    assert selection.skipped == ("skipping 1 variant without a published checkpoint: three",)
    assert list(_selected(select_modules(["t*", "three"], config_dir=configs))) == ["three", "two"]
    given = select_modules(["t*"], config_dir=configs, published_only=False)
    assert (list(_selected(given)), given.skipped) == (["three", "two"], ())


def test_all_builds_what_each_config_lists(configs):
    """Of all variants with a checkpoint. Many names are cut short."""
    for name in ("four", "five"):
        (configs / f"{name}.yaml").write_text(_CONFIG.format(num_classes=7))
    selection = select_modules(["all"], config_dir=configs)
    published = [variant for variant in list_variants() if variant.checkpoint]
    assert _selected(selection) == {variant.name: list(map(str, variant.modules)) for variant in published}
    lacking = len(list_variants(configs)) - len(published)
    [line] = selection.skipped
    assert line == (
        f"skipping {lacking} variants without a published checkpoint: five, four, mobilenet_edgetpu_075_224, "
        f"mobilenet_edgetpu_100_224 and {lacking - 4} more"
    )


def test_patterns_skip_versions_that_a_family_lacks():
    """The other modules of its variants are built. Only MobileNet V2 and PNASNet large had a version 2."""
    names = ["*_v1_025_*", "*_v2_035_*"]
    selection = select_modules(names, ["feature_vector/2", "classification/3"])
    assert {tuple(specs) for name, specs in _selected(selection).items() if "_v1_" in name} == {("classification/3",)}
    assert {tuple(specs) for name, specs in _selected(selection).items() if "_v2_" in name} == {
        ("feature_vector/2", "classification/3")
    }
    assert selection.skipped == (
        "skipping feature_vector/2 of 4 variants that lack it: mobilenet_v1_025_128, mobilenet_v1_025_160, "
        "mobilenet_v1_025_192, mobilenet_v1_025_224",
    )
    everything = _selected(select_modules(["all"], ["feature_vector/2"]))
    assert list(everything) == [
        variant.name for variant in list_variants() if variant.network in ("mobilenet_v2", "pnasnet_large")
    ]


@pytest.mark.parametrize(
    ("patterns", "modules", "what", "why", "fix"),
    [
        pytest.param(
            ["mobilenet_v1_050_192", "all"],
            ["feature_vector/2"],
            "mobilenet_v1_050_192 has no feature_vector/2",
            "MobileNet V1 modules have version 1, 3, 4 or 5",
            "use feature_vector/5",
            id="named",
        ),
        pytest.param(
            ["mobilenet_v2_035_96", "mobilenet_v1_050_*"],
            ["feature_vector/2"],
            "'mobilenet_v1_050_*' leaves nothing to do",
            "it matches 4 variants without a requested module: mobilenet_v1_050_224 has no feature_vector/2; MobileNet "
            "V1 modules have version 1, 3, 4 or 5",
            "use feature_vector/5",
            id="pattern",
        ),
        pytest.param(
            ["all", "t*"],
            [],
            "'t*' leaves nothing to do",
            "it matches 2 variants without a published checkpoint: three, two",
            "pass your own checkpoint to `hubexport build` with --checkpoint",
            id="no checkpoint",
        ),
        pytest.param(
            ["*_v1_050_192", "o*", "[mo]*_[v1]*[n5]*"],
            ["classification/2"],
            "'*_v1_050_192' leaves nothing to do",
            "it matches 1 variant without a requested module: mobilenet_v1_050_192 has no classification/2; MobileNet "
            "V1 modules have version 1, 3, 4 or 5",
            "use classification/5",
            id="a pattern for one",
        ),
        pytest.param(
            ["all"],
            ["feature_vector/9"],
            "unknown module 'feature_vector/9'",
            "it must be KIND/VERSION with the version 1, 2, 3, 4 or 5",
            "use one like feature_vector/3",
            id="unknown",
        ),
    ],
)
def test_what_is_named_must_be_there_and_patterns_must_leave_something(configs, patterns, modules, what, why, fix):
    """A typing error must not look like success."""
    with pytest.raises(UsageError) as caught:
        select_modules(patterns, modules, configs)
    assert (caught.value.what, caught.value.why, caught.value.fix) == (what, why, fix)


def test_a_pattern_may_lose_variants_for_two_reasons(configs):
    """The error counts both."""
    (configs / "two.yaml").write_text((_CONFIG.format(num_classes=5) + _PUBLISHED).replace("feature_vector/3, ", ""))
    with pytest.raises(UsageError) as caught:
        select_modules(["t*"], ["feature_vector"], configs)
    assert caught.value.why == (
        "it matches 1 without a published checkpoint, and 1 variant without a requested module: --module "
        "feature_vector needs a version; the config of two lists no feature_vector module"
    )


def test_build_says_what_a_pattern_skips(configs, tmp_path):
    """Before it starts. A variant without a checkpoint that is named is an error."""
    (configs / "two.yaml").write_text(
        _CONFIG.format(num_classes=5) + _PUBLISHED.replace("name:", f"sha256: '{'1' * 64}', name:")
    )
    arguments = ("--config-dir", configs, "--output-dir", tmp_path / "m", "--cache-dir", tmp_path / "c", "--offline")
    done = hubexport("build", "--variant", "t*", "--variant", "one", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("skipping 1 variant without a published checkpoint: three\n")
    assert "ERROR x.tgz is not in the cache" in done.stderr
    assert "ERROR no checkpoint for one\n  why: its config does not say where one is published" in done.stderr


def test_variants_with_and_without_averages_build_in_one_run(configs, tmp_path):
    """By default. The manifests tell them apart."""
    averaged = {f"{name}{AVERAGED_SUFFIX}": value for name, value in network_values(num_classes=5, seed=1).items()}
    values = {"one": network_values(num_classes=7), "two": {**network_values(num_classes=5, seed=2), **averaged}}
    for name, stored in values.items():
        write_v2(tmp_path / f"{name}.ckpt", stored)
    arguments = ("--config-dir", configs, "--output-dir", tmp_path / "m", "--module", "feature_vector/3")
    done = hubexport(
        "build", "--variant", "one", "--variant", "two", *arguments, "--checkpoint", f"{tmp_path}/{{variant}}.ckpt"
    )
    assert done.returncode == 0, done.stderr
    assert "weights: raw (the checkpoint has no averages)\n" in done.stderr
    assert "weights: averaged\n" in done.stderr
    manifests = {path.parts[-4]: json.loads(path.read_text()) for path in (tmp_path / "m").rglob("hubexport.json")}
    assert {name: manifest["weights"] for name, manifest in manifests.items()} == {"one": "raw", "two": "averaged"}


def test_a_broken_config_stops_only_those_who_select_it(configs):
    """By its name, or by a pattern that matches it."""
    (configs / "broken.yaml").write_text("network: x\n")
    assert [variant.name for variant in select_variants(["o*"], configs)] == ["one"]
    with pytest.raises(ConfigError, match="broken.yaml:1"):
        select_variants(["all"], configs)


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_modules_failure_stops_no_other(configs, checkpoint, tmp_path, jobs):
    """Not even the other module of its variant. Outcomes are in the order of the orders."""
    options = BuildOptions(str(checkpoint), "raw", tmp_path / "m")
    outcomes = build_batch(_orders(configs, "one", "two", "three"), options, jobs=jobs)
    handles = [f"google/imagenet/{name}/{spec}" for name in ("one", "two", "three") for spec in _MODULES]
    assert [outcome.handle for outcome in outcomes] == handles
    for outcome in outcomes:
        if outcome.handle == "google/imagenet/two/classification/5":
            assert isinstance(outcome.result, CheckpointError)
            assert "it was trained with 7 outputs, not 5" in str(outcome.result)
            assert not (tmp_path / "m" / outcome.handle).exists()
        else:
            assert outcome.result == tmp_path / "m" / outcome.handle
            assert (outcome.result / "hubexport.json").is_file()
            assert outcome.seconds > 0


def test_each_module_has_its_own_time(configs, tmp_path, monkeypatch):
    """Not a share of the variant's, and without the checkpoint. Deployments, too. The clock is the test's."""
    clock = types.SimpleNamespace(now=0.0)
    seconds = {"feature_vector/3": 3, "classification/5": 5, "feature_vector/3/onnx": 7, "classification/5/onnx": 11}
    write, opened = hubexport_build.write_module, hubexport_build.open_and_restore
    publish = hubexport_build.publish_directory

    def slow_write(directory, variant, spec, *args):
        clock.now += seconds[str(spec)]
        write(directory, variant, spec, *args)

    def slow_open(*args):
        clock.now += 100
        return opened(*args)

    def slow_publish(*args, **options):
        clock.now += 0.25
        publish(*args, **options)

    monkeypatch.setattr(hubexport_build, "write_module", slow_write)
    monkeypatch.setattr(hubexport_build, "open_and_restore", slow_open)
    monkeypatch.setattr(hubexport_build, "publish_directory", slow_publish)
    monkeypatch.setattr(hubexport_build, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    [order] = _orders(configs, "one")
    specs = with_deployments(order.variant, order.modules, deployment_requests(["onnx"], {}))
    outcomes = build_batch([BuildOrder(order.variant, specs)], BuildOptions("synthetic", output_dir=tmp_path / "m"))
    assert {str(spec): one.seconds - 0.25 for spec, one in zip(specs, outcomes, strict=True)} == seconds


def test_the_number_of_processes_changes_no_byte(configs, tmp_path):
    """One process and three give the same bytes."""
    orders = _orders(configs, "one", "two", "three")
    for jobs in (1, 3):
        build_batch(orders, BuildOptions("synthetic:3", output_dir=tmp_path / str(jobs)), jobs=jobs)
    assert len(_digests(tmp_path / "1")) == 3 * (5 + 4)
    assert _digests(tmp_path / "1") == _digests(tmp_path / "3")


def test_an_existing_module_fails_and_the_rest_is_built(configs, tmp_path):
    """So an interrupted run can be completed."""
    [order] = _orders(configs, "one")
    build_modules(order.variant, order.modules[:1], checkpoint="synthetic", output_dir=tmp_path / "m")
    before = _digests(tmp_path / "m")
    first, second = build_batch([order], BuildOptions("synthetic", output_dir=tmp_path / "m"))
    assert "already exists" in str(first.result)
    assert second.result == tmp_path / "m" / second.handle
    assert before.items() < _digests(tmp_path / "m").items()


def test_a_module_published_before_a_failure_counts_as_built(configs, tmp_path, monkeypatch):
    """It does not fail with "already exists" when the others are built once more."""

    def full(staged, final, **options):
        if "classification" in str(final):
            raise OSError(28, "No space left on device", str(final))
        publish_directory(staged, final, **options)

    monkeypatch.setattr("hubexport.build.publish_directory", full)
    first, second = build_batch(_orders(configs, "one"), BuildOptions("synthetic", output_dir=tmp_path / "m"))
    assert first.result == tmp_path / "m" / first.handle
    assert "No space left on device" in str(second.result)


def test_each_variant_has_its_own_checkpoint(configs, tmp_path):
    """`{variant}` stands for the variant's name."""
    for name, num_classes in (("one", 7), ("two", 5)):
        (tmp_path / name).mkdir()
        write_v2(tmp_path / name / "model.ckpt", network_values(num_classes=num_classes, seed=num_classes))
    options = BuildOptions(f"{tmp_path}/{{variant}}/model.ckpt", "raw", tmp_path / "m")
    outcomes = build_batch(_orders(configs, "one", "two", "three"), options)
    failed = [outcome.handle for outcome in outcomes if isinstance(outcome.result, HubexportError)]
    assert failed == [f"google/imagenet/three/{spec}" for spec in _MODULES]
    for name, num_classes in (("one", 7), ("two", 5)):
        manifest = json.loads((tmp_path / "m/google/imagenet" / name / "classification/5/hubexport.json").read_text())
        assert manifest["num_classes"] == num_classes


def test_the_command_prints_a_table_and_fails_if_one_module_does(configs, checkpoint, tmp_path):
    """Paths on stdout, errors and the table on stderr, status 1."""
    arguments = ("--variant", "t*", "--variant", "one", "--config-dir", configs, "--weights", "raw", "--jobs", "2")
    done = hubexport("build", *arguments, "--checkpoint", checkpoint, "--output-dir", "m", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "m/google/imagenet/three/feature_vector/3",
        "m/google/imagenet/three/classification/5",
        "m/google/imagenet/two/feature_vector/3",
        "m/google/imagenet/one/feature_vector/3",
        "m/google/imagenet/one/classification/5",
    ]
    assert done.stderr.count("ERROR cannot restore two") == 1
    table = [line.split() for line in done.stderr[done.stderr.index("module ") :].splitlines()]
    results = {line[0]: [*line[2:], *below][0] for line, below in itertools.pairwise(table) if line}
    assert results["google/imagenet/two/feature_vector/3"] == "built"
    assert results["google/imagenet/two/classification/5"] == "FAILED:"
    assert re.search(r"^5 built, 1 failed, in [0-9.]+ s$", done.stderr, re.MULTILINE)


def test_a_usage_error_stops_all_before_anything_is_built(configs, tmp_path):
    """A module that is missing in one of the configs, or an invalid number of processes."""
    (configs / "two.yaml").write_text(_CONFIG.format(num_classes=5).replace("feature_vector/3, ", ""))
    arguments = ("--variant", "one", "--variant", "two", "--config-dir", configs, "--checkpoint", "synthetic")
    done = hubexport("build", *arguments, "--module", "feature_vector", "--output-dir", tmp_path / "m")
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR --module feature_vector needs a version")
    for jobs in ("0", "-1", "many"):
        done = hubexport("build", *arguments, "--jobs", jobs, "--output-dir", tmp_path / "m")
        assert done.returncode == 2
        assert f"--jobs {jobs}: not valid" in done.stderr
    assert not (tmp_path / "m").exists()


def test_warnings_of_other_processes_are_printed(configs, tmp_path):
    """Nobody should mistake synthetic weights for trained ones."""
    arguments = ("--variant", "one", "--variant", "two", "--config-dir", configs, "--checkpoint", "synthetic")
    done = hubexport("build", *arguments, "--jobs", "2", "--output-dir", tmp_path / "m")
    for name in ("one", "two"):
        assert f"WARNING SYNTHETIC weights: {name} is UNTRAINED" in done.stderr
    assert "2 of 2 variants done" in done.stderr


@pytest.mark.faults
def test_a_killed_worker_fails_no_other_variant(configs, tmp_path, monkeypatch):
    """The kernel kills processes when memory runs out. Even a variant with a lost result counts as built."""
    monkeypatch.setattr("hubexport.system.process_pool._start_worker", _die_at_two)
    monkeypatch.setenv("BUILT_BY_ONE", str(tmp_path / "m/google/imagenet/one" / str(_MODULES[-1])))
    outcomes = build_batch(
        _orders(configs, "one", "two", "three"), BuildOptions("synthetic", output_dir=tmp_path / "m"), jobs=2
    )
    assert [outcome.handle for outcome in outcomes] == [
        f"google/imagenet/{name}/{spec}" for name in ("one", "two", "three") for spec in _MODULES
    ]
    failed = {outcome.handle: str(outcome.result) for outcome in outcomes if isinstance(outcome.result, HubexportError)}
    assert set(failed) == {f"google/imagenet/two/{spec}" for spec in _MODULES}
    for error in failed.values():
        assert error.startswith("cannot build two\n  why: its process was killed")
    for outcome in outcomes:
        assert outcome.handle in failed or (outcome.result / "hubexport.json").is_file()


def _die_at_two() -> None:
    """Starts a worker that dies at `two` once `one` is built, but before the result of `one` has arrived."""
    import hubexport.batch

    build = hubexport.batch.build_order
    built = Path(os.environ["BUILT_BY_ONE"])

    def deadly(order, *args):
        variant = order.variant
        while variant.name == "two" and not built.exists():
            time.sleep(0.01)
        if variant.name == "two":
            os.kill(os.getpid(), signal.SIGKILL)
        paths = build(order, *args)
        if variant.name == "one":
            time.sleep(2)
        return paths

    hubexport.batch.build_order = deadly


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.faults
def test_an_interrupted_run_ends_at_once_and_leaves_nothing_half_written(tmp_path, number):
    """It leaves no process, either."""
    arguments = (
        "--variant",
        "mobilenet_v2_*",
        "--checkpoint",
        "synthetic",
        "--jobs",
        "2",
        "--output-dir",
        tmp_path / "m",
    )
    process = subprocess.Popen(
        command("build", *arguments),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "m").rglob("hubexport.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    # Like Ctrl-C, or like `kill`.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in errors, errors
    assert not _left_of_session(process.pid)
    assert not list((tmp_path / "m").rglob(".hubexport-*"))
    for manifest in (tmp_path / "m").rglob("hubexport.json"):
        for name, digest in json.loads(manifest.read_text())["sha256"].items():
            assert file_sha256(manifest.parent / name) == digest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.faults
def test_an_interrupted_run_does_not_wait_for_its_workers(configs, tmp_path, number):
    """Here, both workers wait for a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.tgz"
        # Two archives, because only one worker would download a single one.
        for name, sha256 in (("one", "1" * 64), ("two", "2" * 64)):
            published = f"checkpoint: {{url: {address}, sha256: '{sha256}', name: x.ckpt}}\n"
            (configs / f"{name}.yaml").write_text(_CONFIG.format(num_classes=7) + published)
        arguments = ("--variant", "one", "--variant", "two", "--config-dir", configs, "--jobs", "2")
        process = subprocess.Popen(
            command("build", *arguments, "--output-dir", tmp_path / "m"),
            env=environment({"HUBEXPORT_CACHE_DIR": str(tmp_path / "cache")}),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        server.settimeout(20)
        waiting = [server.accept()[0] for _ in range(2)]
        start = time.monotonic()
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, errors = process.communicate(timeout=30)
        for connection in waiting:
            connection.close()
    assert time.monotonic() - start < 10
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in errors, errors
    assert not _left_of_session(process.pid)


def _left_of_session(session: int) -> list[str]:
    """Returns the processes of a session that still run after some seconds."""
    deadline = time.monotonic() + 10
    while (left := _processes_of_session(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _processes_of_session(session: int) -> list[str]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(") ")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text())
    return found


@pytest.mark.faults
def test_workers_do_not_outlive_a_killed_command(tmp_path):
    """It cannot end them itself any more."""
    arguments = (
        "--variant",
        "mobilenet_v2_*",
        "--checkpoint",
        "synthetic",
        "--jobs",
        "2",
        "--output-dir",
        tmp_path / "m",
    )
    process = subprocess.Popen(
        command("build", *arguments), env=environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "m").rglob("hubexport.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait(timeout=30)
    assert not _left_of_session(process.pid)


def test_errors_travel_between_processes():
    """Complete with class and text."""
    error = CheckpointError("what", why="why", fix="fix", details=["one", "two"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is CheckpointError
    assert str(again) == str(error)
