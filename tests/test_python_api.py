"""The Python API: the names that it shows, the arguments that it takes, and the errors for all others."""

import ast
import doctest
import gc
import json
from pathlib import Path
import pickle
import shutil
import subprocess
import tempfile

from PIL import Image
import numpy as np
import pytest
import tensorflow as tf

import hubexport
from hubexport import (
    BuildOrder,
    ModuleSpec,
    build_modules,
    classify,
    evaluate,
    extract_features,
    load_variant,
    verify_module,
)
from hubexport.errors import ConfigError, DataError, DownloadError, ImageError, ModuleError, OutputError, UsageError
from hubexport.runtime.image_module import opened_image_module
from hubexport.verify.checks.registry import select_checks
from tests.archives import member, tgz
from tests.command import command, environment
from tests.data import REPOSITORY
from tests.ear import Ear

_VARIANT = "mobilenet_v2_035_96"
_SIZE = 96
_SPECS = (ModuleSpec(kind="feature_vector", version=2), ModuleSpec(kind="classification", version=5))
_TEXTS = ["feature_vector/2", "classification/5"]


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Returns the paths of untrained modules by kind and version; `packed` is classification/5 as a gzipped tar."""
    folder = tmp_path_factory.mktemp("modules")
    names = ["classification/3", "classification/5", "feature_vector/3", "feature_vector/5"]
    paths = build_modules(load_variant(_VARIANT), names, checkpoint="synthetic:1", output_dir=folder)
    built = dict(zip(names, paths, strict=True))
    source = built["classification/5"]
    files = [path for path in source.rglob("*") if path.is_file()]
    built["packed"] = folder / "packed.tar.gz"
    built["packed"].write_bytes(tgz(*(member(str(path.relative_to(source)), path.read_bytes()) for path in files)))
    return built


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with three images of the modules' size."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, [_SIZE, _SIZE, 3], dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def logits(modules, photos):
    """The logits that TensorFlow itself computes for these images."""
    pictures = [np.asarray(Image.open(path), np.float32) / 255 for path in sorted(photos.iterdir())]
    return tf.saved_model.load(str(modules["classification/5"]))(np.stack(pictures)).numpy()


def test_dir_lists_the_public_names_and_imports_nothing():
    """Neither NumPy, TensorFlow nor Pydantic."""
    code = (
        "import hubexport, sys\n"
        "assert set(dir(hubexport)) == {'__version__', *hubexport.__all__}, dir(hubexport)\n"
        "assert {'classify', 'extract_features', 'evaluate', 'Classification', 'Evaluation'} < set(dir(hubexport))\n"
        "assert not {'numpy', 'tensorflow', 'pydantic'} & set(sys.modules)\n"
    )
    subprocess.run([command()[0], "-c", code], env=environment(), check=True, cwd=REPOSITORY.parent)


def test_no_public_name_is_that_of_a_module():
    """Python would put the module in its place as soon as anything imports it."""
    assert not set(hubexport.__all__) & {path.stem for path in Path(hubexport.__file__).parent.iterdir()}


@pytest.mark.parametrize("name", ["build_modules", "classify", "evaluate", "extract_features", "recognize_variant"])
def test_examples_in_docstrings_are_true(modules, photos, tmp_path, monkeypatch, name):
    """Each runs unchanged in a folder with the modules and images that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path / "cache"))
    if name != "build_modules":
        (tmp_path / "modules").symlink_to(modules["classification/5"].parents[4])
    for place in (tmp_path / "photos", tmp_path / "classes" / "7"):
        place.mkdir(parents=True)
        (place / "cat.png").symlink_to(photos / "0.png")
    [test] = doctest.DocTestFinder(recurse=False).find(getattr(hubexport, name), name, globs={"hubexport": hubexport})
    test.globs["numpy"] = np
    failures = []
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=failures.append)
    assert results.attempted and not results.failed, "".join(failures)


def test_module_specs_may_be_text(small, tmp_path):
    """In builds, orders, handles and verifications."""
    assert (BuildOrder(small, _TEXTS), BuildOrder(small, _SPECS).modules) == (BuildOrder(small, list(_SPECS)), _SPECS)
    assert BuildOrder(small, [*_TEXTS, _SPECS[0]]).modules == _SPECS
    assert pickle.loads(pickle.dumps(BuildOrder(small, _TEXTS))) == BuildOrder(small, _SPECS)
    assert small.handle(_TEXTS[0]) == small.handle(_SPECS[0]) == "google/imagenet/small/feature_vector/2"
    paths = build_modules(small, [_TEXTS[0], _SPECS[1], _SPECS[0]], checkpoint="synthetic", output_dir=tmp_path)
    assert paths == [tmp_path / small.handle(spec) for spec in _SPECS]
    options = {"variant": small, "checks": ["structure.ops"], "checkpoint": "synthetic"}
    (paths[0] / "hubexport.json").unlink()
    assert verify_module(paths[0], spec=_TEXTS[0], **options).path == str(paths[0])


def test_an_order_without_modules_is_for_all_modules_of_the_config(small):
    """Like a call of `build_modules` without them."""
    assert BuildOrder(small).modules == BuildOrder(small, []).modules == small.modules


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("feature/2", "the kind feature_vector or classification"),
        ("feature_vectors/2", "(did you mean 'feature_vector'?)"),
        ("feature_vector/6", "the version 1, 2, 3, 4 or 5"),
        ("feature_vector", "the version 1, 2, 3, 4 or 5"),
        (None, "the kind feature_vector or classification"),
    ],
)
def test_a_module_that_does_not_exist_is_refused_at_once(small, tmp_path, module, why):
    """Before anything is read or written. The error says what is allowed."""
    calls = [
        lambda: BuildOrder(small, ["feature_vector/2", module]),
        lambda: small.handle(module),
        lambda: build_modules(small, [module], checkpoint="nowhere", output_dir=tmp_path),
    ]
    if module is not None:  # None is the default there.
        calls.append(lambda: verify_module(tmp_path / "nowhere", spec=module))
    for call in calls:
        with pytest.raises(UsageError) as raised:
            call()
        assert raised.value.what == f"unknown module {module!r}"
        assert raised.value.why.startswith("it must be KIND/VERSION with the") and why in raised.value.why
        assert raised.value.fix == "use one like feature_vector/3"


def test_a_string_is_not_taken_for_a_list_of_letters(small, tmp_path):
    """The error shows the list to pass instead."""
    for call in (BuildOrder, build_modules):
        with pytest.raises(UsageError) as raised:
            call(small, "feature_vector/2")
        assert raised.value.fix == "pass ['feature_vector/2']"


def _indices(found):
    return [[score.index for score in one.top] for one in found]


@pytest.mark.parametrize(
    "module",
    ["classification/3", *(pytest.param(each, marks=pytest.mark.slow) for each in ("packed", "classification/5"))],
)
def test_classify_takes_modules_and_images_by_path(modules, photos, logits, module):
    """As text or as `Path`. Images may be a file, folders and patterns."""
    best = np.argsort(-logits, axis=1)[:, :5].tolist()
    probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
    found = list(classify(str(modules[module]), photos, batch_size=2))
    assert [one.path for one in found] == sorted(photos.iterdir())
    assert _indices(found) == best
    assert [score.probability for score in found[0].top] == pytest.approx(probabilities[best[0]], rel=1e-3)
    assert _indices(classify(modules[module], str(photos / "1.png"), top=1)) == [best[1][:1]]
    assert _indices(classify(modules[module], (photos / "2.png", f"{photos}/[01].png"))) == [best[2], *best[:2]]


def test_classify_names_classes(modules, photos, tmp_path):
    """By a list, by a file, or by the labels in the module."""
    names = [f"name {number}" for number in range(1001)]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    with opened_image_module(modules["classification/5"]) as opened:
        for labels in (names, tmp_path / "labels.txt", str(tmp_path / "labels.txt")):
            [one] = classify(opened, photos / "0.png", labels=labels)
            assert [score.label for score in one.top] == [names[score.index] for score in one.top]
        [one] = classify(opened, photos / "0.png")
        inside = (modules["classification/5"] / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines()
        assert [score.label for score in one.top] == [inside[score.index] for score in one.top]
        assert opened.run(np.zeros([1, _SIZE, _SIZE, 3], np.float32))["default"].shape == (1, 1001), "it is closed"


@pytest.mark.slow
def test_two_simultaneous_classifications_do_not_change_tensorflows_state(modules, photos, logits):
    """No TF1 module's graph becomes the default graph, whichever classification ends first."""
    first, second = (classify(modules["classification/3"], photos, top=1, batch_size=1) for _ in range(2))
    for one, other in zip(first, second):
        assert one == other
        assert tf.executing_eagerly() and tf.constant(1).numpy() == 1
    first.close()
    assert tf.executing_eagerly() and not tf.compat.v1.get_default_session()
    assert list(second) == []


@pytest.mark.slow
def test_an_unfinished_classification_leaves_no_files(modules, photos, tmp_path, monkeypatch):
    """A packed module is unpacked into a temporary folder, which disappears with the generator."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for taken in (0, 1):
        found = classify(modules["packed"], photos, batch_size=1)
        for _ in range(taken):
            next(found)
        assert list(tmp_path.iterdir())
        del found
        gc.collect()
        assert not list(tmp_path.iterdir())


def _extract(module, images, folder, **options):
    return extract_features(module, images, folder / "f.npy", **options)


def _classify(module, images, folder, **options):
    return list(classify(module, images, **options))


@pytest.mark.slow
@pytest.mark.parametrize("function", [_classify, _extract])
def test_unreadable_images_cause_warnings(modules, photos, tmp_path, function):
    """They are also passed to `unreadable`. If no image can be read, that is an error."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    ear, skipped = Ear(), []
    options = {"unreadable": lambda path, error: skipped.append((path, error.why)), "progress": ear}
    with opened_image_module(modules["classification/5"]) as opened:
        function(opened, [bad, photos], tmp_path, **options)
        [(path, why)] = skipped
        assert path == bad
        assert ear.warnings == [f"skipped {bad}: {why}", "1 of 4 images skipped"]
        with pytest.raises(ImageError, match="no image can be read"):
            function(opened, bad, tmp_path / "none")
    assert not list(tmp_path.glob("none/*"))


@pytest.mark.parametrize("module", ["feature_vector/5", pytest.param("feature_vector/3", marks=pytest.mark.prove)])
@pytest.mark.slow
def test_extract_features_takes_modules_and_images_by_path(modules, photos, tmp_path, module):
    """It returns the files that it has written."""
    output = tmp_path / "f.npy"
    assert extract_features(str(modules[module]), str(photos), str(output)) == [output, tmp_path / "f.npy.names.txt"]
    pictures = [np.asarray(Image.open(path), np.float32) / 255 for path in sorted(photos.iterdir())]
    wanted = tf.saved_model.load(str(modules["feature_vector/5"]))(np.stack(pictures)).numpy()
    np.testing.assert_allclose(np.load(output), wanted, atol=1e-4)
    with pytest.raises(OutputError, match="already exists"):
        extract_features(modules[module], photos, output)


@pytest.fixture(name="classes")
def _classes(photos, logits, tmp_path, monkeypatch):
    """A folder of classes: the first image is in its best class, the others in their third best and worst ones."""
    monkeypatch.setenv("HUBEXPORT_CACHE_DIR", str(tmp_path / "cache"))
    for rank, path, row in zip((0, 2, 1000), sorted(photos.iterdir()), np.argsort(-logits, axis=1)):
        (tmp_path / "classes" / f"name {row[rank]}").mkdir(parents=True)
        (tmp_path / "classes" / f"name {row[rank]}" / path.name).symlink_to(path)
    return tmp_path / "classes"


@pytest.mark.slow
def test_evaluate_returns_what_the_command_prints(modules, classes):
    """With labels as a list or in a file. The saved state is removed once the result is reported."""
    names, state = [f"name {number}" for number in range(1001)], classes.parent / "state"
    (classes.parent / "labels.txt").write_text("\n".join(names))
    reported = []

    def report(evaluation):
        reported.append((evaluation, len(list(state.glob("*.json")))))

    module, options = modules["classification/5"], {"preprocessing": "whole", "state": state, "report": report}
    ear = Ear()
    found = evaluate(module, classes, labels=names, progress=ear, **options)
    assert reported == [(found, 2)] and not state.exists()
    assert (found.counts.images, found.top1.right, found.top5.right) == (3, 1, 2)
    assert found.top1.percent == pytest.approx(100 / 3)
    assert (found.module, found.data) == (str(module), str(classes))
    assert ear.steps[0] == f"looking through {classes}"
    labels = str(classes.parent / "labels.txt")
    arguments = ("--labels", labels, "--preprocessing", "whole", "--data", classes, "--format", "json")
    done = subprocess.run(
        command("evaluate", module, *arguments), env=environment(), capture_output=True, check=True, text=True
    )
    speed = {"seconds", "images_per_second"}
    assert {key: value for key, value in json.loads(done.stdout).items() if key not in speed} == {
        key: value for key, value in found.as_json().items() if key not in speed
    }


@pytest.mark.slow
def test_an_evaluation_whose_report_fails_can_be_resumed(modules, classes):
    """The next evaluation has nothing left to compute."""
    names = [f"name {number}" for number in range(1001)]

    def fail(evaluation):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(modules["classification/5"], classes, labels=names, preprocessing="whole", report=fail)
    found = evaluate(modules["classification/5"], classes, labels=names, preprocessing="whole")
    assert (found.images_now, found.counts.images, found.top1.right) == (0, 3, 1)


@pytest.mark.parametrize(
    ("call", "error", "what"),
    [
        pytest.param(lambda m, p, t: classify(m["classification/5"], p, top=0), UsageError, "top is 0", id="top"),
        pytest.param(lambda m, p, t: classify("no", p, batch_size=0), UsageError, "batch_size is 0", id="batch"),
        pytest.param(lambda m, p, t: classify("no", p), ModuleError, "no is not a module", id="module"),
        pytest.param(lambda m, p, t: classify("no", t / "x"), ImageError, "cannot find .*/x", id="image"),
        pytest.param(lambda m, p, t: classify("no", p, labels="x"), UsageError, "cannot read labels x", id="labels"),
        pytest.param(
            lambda m, p, t: classify(m["classification/5"], p, labels=["x"]),
            UsageError,
            "the labels do not match",
            id="few",
        ),
        pytest.param(lambda m, p, t: classify(m["feature_vector/5"], p), ModuleError, "cannot classify", id="kind"),
        pytest.param(
            lambda m, p, t: extract_features("no", p, "f.txt"), UsageError, "f.txt: unknown format", id="format"
        ),
        pytest.param(lambda m, p, t: extract_features("no", p, t), UsageError, "unknown format", id="folder"),
        pytest.param(
            lambda m, p, t: extract_features("no", p, "f.npy", batch_size=-1), UsageError, "batch_size is -1", id="b"
        ),
        pytest.param(lambda m, p, t: evaluate("no", p, limit=0), UsageError, "limit is 0", id="limit"),
        pytest.param(lambda m, p, t: evaluate("no", p, batch_size=0), UsageError, "batch_size is 0", id="batches"),
        pytest.param(
            lambda m, p, t: evaluate("no", p, preprocessing="hole"), UsageError, "did you mean 'whole'", id="way"
        ),
        pytest.param(lambda m, p, t: evaluate(m["classification/5"], t), DataError, "no labelled images in", id="data"),
    ],
)
def test_invalid_arguments_are_refused_by_the_call(modules, photos, tmp_path, call, error, what):
    """Before any image is classified."""
    with pytest.raises(error, match=what):
        call(modules, photos, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda small, **w: build_modules(small, checkpoint="nowhere", **w), id="build_modules"),
        pytest.param(
            lambda small, **w: hubexport.convert("nowhere", "x.safetensors", "safetensors", **w), id="convert"
        ),
        pytest.param(lambda small, **w: hubexport.compare("nowhere", "nowhere", **w), id="compare"),
        pytest.param(lambda small, **w: hubexport.BuildOptions(**w), id="BuildOptions"),
        pytest.param(lambda small, **w: hubexport.ReleaseOptions(**w), id="ReleaseOptions"),
    ],
)
@pytest.mark.parametrize(
    ("weights", "guessed"),
    [("average", " (did you mean 'averaged'?)"), ("", ""), (None, ""), (["raw"], " (did you mean 'raw'?)")],
)
def test_unknown_weights_are_refused_at_once(small, call, weights, guessed):
    """They do not mean `raw`."""
    with pytest.raises(UsageError) as raised:
        call(small, weights=weights)
    assert raised.value.what == f"unknown weights {weights!r}{guessed}"
    assert raised.value.why == "it must be auto, averaged or raw"


@pytest.mark.slow
def test_paths_may_be_text(small, tmp_path):
    """In every function that reads a checkpoint."""
    source = hubexport.convert("synthetic:1", tmp_path / "x.safetensors", "safetensors", variant=small)
    for kind in (str, Path):
        path = kind(source)
        assert hubexport.describe(path).family_parameters.depth_multiplier == small.family_parameters.depth_multiplier
        assert hubexport.compare(path, path).differences == ()
        hubexport.convert(path, kind(tmp_path / "y.keras.h5"), "keras", overwrite=True)
        [built] = build_modules(small, _TEXTS[1:], checkpoint=path, output_dir=kind(tmp_path / kind.__name__))
        assert hubexport.describe(kind(built)).path == str(built)
        verification = verify_module(kind(built), checkpoint=path, checks=select_checks(["weights.equal"]))
        assert verification.passed and verification.as_json()["checkpoint"] == str(path)
        options = hubexport.BuildOptions(kind(tmp_path / "{variant}.safetensors"), output_dir=kind(tmp_path / "batch"))
        source.replace(tmp_path / "small.safetensors")
        [outcome] = hubexport.build_batch([BuildOrder(small, _TEXTS[:1])], options)
        (tmp_path / "small.safetensors").replace(source)
        assert outcome.result == tmp_path / "batch" / small.handle(_TEXTS[0])
        shutil.rmtree(tmp_path / "batch")


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_of_releases_and_sites_may_be_text(small, tmp_path, kind):
    """So may folders of configs."""
    assert load_variant("small", kind(tmp_path / "configs")) == small
    source = hubexport.convert("synthetic:1", tmp_path / "x.safetensors", "safetensors", variant=small)
    options = hubexport.ReleaseOptions(checkpoint=kind(source), checks=("structure.digests",))
    release = kind(tmp_path / "release")
    [outcome] = hubexport.release_modules([BuildOrder(small, _TEXTS[:1])], options, release)
    assert outcome.result == "made"
    assert hubexport.check_release(release).problems == ()
    assert hubexport.write_site(release, kind(tmp_path / "site"), "https://hub.example").directory == tmp_path / "site"


def test_verify_module_takes_checks_by_name_and_by_group(modules):
    """Each runs once, in the order of the list of checks."""
    path = modules["feature_vector/5"]
    verification = verify_module(
        path, checks=["weights.equal", "weights", "structure.digests"], checkpoint="synthetic:1"
    )
    names = [result.check for result in verification.results]
    assert names == [check.name for check in select_checks(["structure.digests", "weights"])]


@pytest.mark.slow
def test_verify_module_takes_images_and_labels_as_classify_does(modules, photos, tmp_path):
    """Files, folders and patterns; a list of labels, or a file."""
    names = [f"name {number}" for number in range(1001)]
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(names))
    options = {"checkpoint": "synthetic:1", "checks": ["numbers.photographs"]}
    module = modules["classification/5"]
    for images, given in ((photos, labels), ([str(photos / "0.png"), f"{photos}/*.png"], names)):
        shown = verify_module(module, images=images, labels=given, **options).photographs
        assert [one.name for one in shown] == ["0.png", "1.png", "2.png"]
        assert all(label == names[index] for one in shown for index, label, _ in one.classes)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param(
            {"checks": "weights"}, UsageError, r"checks is the string 'weights'(.|\n)*pass \['weights'\]", id="s"
        ),
        pytest.param(
            {"checks": ["weights.equl"]}, UsageError, "checks weights.equl: .*did you mean 'weights.equal'", id="c"
        ),
        pytest.param({"checks": []}, UsageError, "no checks to run", id="none"),
        pytest.param({"checks": ()}, UsageError, "no checks to run", id="empty"),
        pytest.param({"images": "nowhere.jpg"}, ImageError, "cannot find nowhere.jpg", id="images"),
        pytest.param({"labels": "nowhere.txt"}, UsageError, "cannot read labels nowhere.txt", id="labels"),
    ],
)
def test_verify_module_refuses_invalid_arguments_at_once(tmp_path, options, error, message):
    """Before it looks for the module."""
    with pytest.raises(error, match=message):
        verify_module(tmp_path / "nowhere", **options)


@pytest.mark.parametrize("variant", [_VARIANT, None])
def test_the_name_of_a_variant_is_refused_at_once(tmp_path, variant):
    """The error says how to load the variant. None is refused, too, except where it is the default."""
    calls = [lambda: BuildOrder(variant), lambda: build_modules(variant, checkpoint="synthetic", output_dir=tmp_path)]
    if variant is not None:
        calls += [
            lambda: hubexport.convert("nowhere", tmp_path / "x", "slim", variant=variant),
            lambda: verify_module(tmp_path / "nowhere", variant=variant),
        ]
    for call in calls:
        with pytest.raises(UsageError) as raised:
            call()
        assert raised.value.what == f"variant is {variant!r}"
        assert raised.value.fix == "pass hubexport.load_variant(NAME)"


@pytest.mark.parametrize("jobs", [0, -1, "2", 1.5, None])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda folder, **o: hubexport.build_batch([], hubexport.BuildOptions(), **o), id="build_batch"),
        pytest.param(
            lambda folder, **o: hubexport.release_modules([], hubexport.ReleaseOptions(), folder, **o), id="release"
        ),
    ],
)
def test_jobs_are_a_positive_whole_number(tmp_path, call, jobs):
    """The call refuses anything else."""
    with pytest.raises(UsageError) as raised:
        call(tmp_path, jobs=jobs)
    assert raised.value.what == f"jobs is {jobs!r}"
    assert raised.value.why == "it must be a whole number, at least 1"


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: hubexport.convert("nowhere", "x.h5", "kears"), "unknown format 'kears' (did you mean 'keras'?)"),
        (lambda: hubexport.ReleaseOptions(checks="structure"), "checks is the string 'structure'"),
        (
            lambda: hubexport.ReleaseOptions(checks=("weights.equl",)),
            "checks weights.equl: no such check (did you mean 'weights.equal'?)",
        ),
    ],
)
def test_common_mistakes_are_refused_with_a_hint(call, what):
    """Before any work begins."""
    with pytest.raises(UsageError) as raised:
        call()
    assert raised.value.what == what


def test_the_path_of_the_cache_may_be_text(tmp_path):
    """The name of a variant, however, must be text."""
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(DownloadError):
            downloads = hubexport.Downloads(cache_dir=folder, offline=True)
            build_modules(load_variant(_VARIANT), downloads=downloads, output_dir=tmp_path)
    for name in (None, tmp_path):
        with pytest.raises(ConfigError, match="no variant"):
            load_variant(name)


def test_type_checkers_see_the_names_that_are_imported():
    """The package has one table for them, and one for the imports on first use."""
    source = ast.parse((REPOSITORY / "hubexport" / "__init__.py").read_text(encoding="utf-8"))
    [for_type_checkers] = [block for block in source.body if isinstance(block, ast.If)]
    seen = {alias.name: statement.module for statement in for_type_checkers.body for alias in statement.names}
    assert seen == hubexport._MODULES
