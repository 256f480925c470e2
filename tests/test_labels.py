"""The names of classes: ImageNet's, which built-in variants share, and those of users' variants."""

import json
from pathlib import Path
import re
import shutil
import tarfile

import pytest

from hubexport.config_files import builtin_config_dir, list_variants, load_variant
from hubexport.conversion import convert
from hubexport.errors import ConfigError
from hubexport.variants import LabelFile
from tests.command import hubexport
from tests.data import DATA, needs_data
from tests.ear import Ear

_FILE = builtin_config_dir() / "imagenet_labels.txt"
# The smallest network with the classes of a built-in family.
_NETWORK = "network: mobilenet_v2\ndepth_multiplier: 0.35\nimage_size: 96\n"


@pytest.fixture(scope="module")
def names() -> list[str]:
    """ImageNet's 1001 names, from the background on."""
    return (DATA / "imagenet_labels.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The default modules of a built-in variant, in their folder."""
    folder = tmp_path_factory.mktemp("built")
    done = hubexport("build", "--variant", "mobilenet_v2_035_96", "--checkpoint", "synthetic:1", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "modules" / "google" / "imagenet" / "mobilenet_v2_035_96"


def _variant(folder, text):
    (folder / "mine.yaml").write_text(text)
    return load_variant("mine", folder)


@needs_data
def test_every_built_in_variant_has_imagenets_names(names):
    """Those with 1000 classes have no background."""
    for variant in list_variants():
        assert variant.class_names() == names[1001 - variant.num_classes :], variant.name
    assert {variant.num_classes for variant in list_variants()} == {1000, 1001}


@needs_data
def test_built_in_modules_carry_the_names(built):
    """In classification modules: a plain file that the manifest lists, and `inspect` counts."""
    content = (DATA / "imagenet_labels.txt").read_bytes()
    found = {path.relative_to(built).as_posix(): path.read_bytes() for path in built.glob("*/*/assets/*")}
    assert found == {f"classification/{version}/assets/labels.txt": content for version in (3, 5)}
    done = hubexport("inspect", built / "classification" / "3")
    assert done.returncode == 0 and re.search("^  labels +1,001 names$", done.stdout, re.MULTILINE)
    assert "assets 21,686," in done.stdout and "every file matches" in done.stdout
    assert "labels" not in hubexport("inspect", built / "feature_vector" / "3").stdout


@needs_data
def test_modules_without_a_background_have_a_name_less(tmp_path, names):
    """Of the same file."""
    (tmp_path / "mine.yaml").write_text(f"extends: caffe_imagenet\n{_NETWORK}")
    arguments = ("--config-dir", tmp_path, "--variant", "mine", "--module", "classification/3")
    done = hubexport("build", *arguments, "--checkpoint", "synthetic", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    labels = tmp_path / done.stdout.strip() / "assets" / "labels.txt"
    assert labels.read_text() == "".join(f"{name}\n" for name in names[1:])


def test_modules_have_names_in_the_form_of_unix(config_dir, tmp_path):
    """Whatever the line ends of the variant's file, as programs read modules that know no other."""
    (config_dir / "names.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\nc\r\nd\r\ne\r\nf\r\n\xc3\xa9")
    (config_dir / "small.yaml").write_text((config_dir / "small.yaml").read_text() + "labels: names.txt\n")
    arguments = ("--config-dir", config_dir, "--variant", "small", "--module", "classification/5")
    done = hubexport("build", *arguments, "--checkpoint", "synthetic", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    content = (tmp_path / done.stdout.strip() / "assets" / "labels.txt").read_bytes()
    assert content == b"a\nb\nc\nd\ne\nf\n\xc3\xa9\n"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param("", LabelFile(file=f"{_FILE}", skip=1), id="nothing"),
        pytest.param("num_classes: 1000\n", LabelFile(file=f"{_FILE}", skip=1), id="the same number"),
        pytest.param("num_classes: 5\n", None, id="another number"),
        pytest.param("dataset: my thousand\n", None, id="another dataset"),
        pytest.param("num_classes: 2\nlabels: own.txt\n", LabelFile(file="own.txt"), id="own labels"),
        pytest.param("num_classes: 2\nlabels: {file: own.txt}\n", LabelFile(file="own.txt"), id="own file"),
        pytest.param("labels: null\n", None, id="none"),
    ],
)
def test_shared_labels_are_for_variants_with_the_same_classes(tmp_path, own, expected):
    """Never for others, even if they have as many. Labels of one's own are taken whole."""
    (tmp_path / "own.txt").write_text("cat\ndog\n")
    found = _variant(tmp_path, f"extends: caffe_imagenet\n{_NETWORK}{own}").labels
    assert (found and found.skip) == (expected and expected.skip)
    assert (found and Path(found.file).resolve()) == (expected and (tmp_path / expected.file).resolve())


def test_a_variant_that_shares_nothing_has_no_names(tmp_path):
    """Even with ImageNet's number of classes."""
    text = f"{_NETWORK}num_classes: 1001\ndataset: ILSVRC-2012-CLS (ImageNet)\nmodules: [classification/3]\n"
    assert _variant(tmp_path, text).class_names() is None


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ("5", "found 5, must be the path of a text file, `file` and `skip` below this key, or a list of names"),
        ("[own.txt]", "'labels': found 1 name, must be one name for each of the 2 classes"),
        ("{skip: 1}", "missing key 'labels.file'"),
        ("{file: own.txt, skip: -1}", "'labels.skip': found -1, must be greater than or equal to 0"),
        ("{file: own.txt, skip: 0.5}", "'labels.skip': found 0.5, must be a valid integer"),
        ("''", "'labels': found '', must be the path of a text file"),
        ("{file: ' '}", "'labels.file': found ' ', must be the path of a text file"),
        ("{file: 5}", "'labels.file': found 5, must be a valid string"),
        ("{file: own.txt, skp: 1}", "unknown key 'labels.skp' (did you mean 'skip'?); known keys: file, skip"),
        ("{file: own.txt, skip: 2}", "must be one name for each of the 2 classes after the 2 to skip"),
        ("{file: own.txt, skip: 9}", "'labels': found 3 lines in"),
        ("own.txt", "'labels': found 3 lines in"),
        ("{file: none.txt, skip: 1}", "none.txt: No such file"),
    ],
)
def test_labels_of_another_form_are_refused_by_name(tmp_path, labels, why):
    """In the line that has them."""
    (tmp_path / "own.txt").write_text("background\ncat\ndog\n")
    text = f"{_NETWORK}num_classes: 2\ndataset: pets\nmodules: [classification/3]\n"
    assert _variant(tmp_path, f"{text}labels: {{file: own.txt, skip: 1}}\n").class_names() == ["cat", "dog"]
    with pytest.raises(ConfigError) as caught:
        _variant(tmp_path, f"{text}labels: {labels}\n")
    assert caught.value.what == f"{tmp_path / 'mine.yaml'}:7: not a valid variant"
    assert why in caught.value.why


@needs_data
def test_hugging_face_gets_every_class_in_both_directions(built, tmp_path, names):
    """From the module, with or without its variant, and packed; two cranes keep their own numbers."""
    module = built / "classification" / "3"
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as tar:
        tar.add(module, ".")
    sources = {
        "module": (module,),
        "packed": (tmp_path / "packed.tar.gz",),
        "variant": (module, "--variant", "mobilenet_v2_035_96"),
        "back": (tmp_path / "module",),
    }
    for target, source in sources.items():
        done = hubexport("convert", *source, tmp_path / target, "--to", "huggingface")
        assert done.returncode == 0, done.stderr
        config = json.loads((tmp_path / target / "config.json").read_text())
        assert config["id2label"] == {str(number): name for number, name in enumerate(names)}, target
        assert sorted(config["label2id"].values()) == list(range(1001)), target
        unequal = {name: number for name, number in config["label2id"].items() if names[number] != name}
        assert unequal == {"crane (518)": 518}, target
    assert config["label2id"]["crane"] == 135


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a\nb\n", "{module}/variables/variables has 2 for 1,001"),
        (b"a\nb\xe4r\n", "cannot read labels {module}/variables/../assets/labels.txt: byte 3 is not UTF-8"),
    ],
)
def test_names_of_other_classes_do_not_go_into_a_conversion(built, tmp_path, content, why):
    """The values are converted all the same, with a warning."""
    module = shutil.copytree(built / "classification" / "3", tmp_path / "module")
    (module / "assets" / "labels.txt").write_bytes(content)
    ear = Ear()
    convert(module, tmp_path / "hf", "huggingface", progress=ear)
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["id2label"]["1000"] == "LABEL_1000"
    assert ear.warnings == [f"leaving out the names of the classes: {why.format(module=module)}"]
