"""The configs: the built-in ones, and the errors for mistakes in a config."""

import re
import string

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest
import yaml

from hubexport.config_files import builtin_config_dir, list_variants, load_variant
from hubexport.errors import ConfigError, UsageError
from hubexport.variants import LabelFile, ModuleSpec
from tests.data import needs_data, published_table

_GOOD = """\
network: mobilenet_v2
depth_multiplier: 0.5
image_size: 96
num_classes: 5
dataset: flowers
checkpoint:
  url: https://example.com/flowers.tgz
  sha256: 71a814047d7729bad711ae3e7db30e6c32999a1189f88d328b73939f7aa80d62
  name: flowers.ckpt
published:
  macs_millions: 18
  parameters_millions: 1.95
  top1_percent: 51.2
  top5_percent: 75.8
modules:
  - feature_vector/2
  - classification/3
"""


def _load(folder, text):
    (folder / "flowers.yaml").write_text(text, encoding="utf-8")
    return load_variant("flowers", folder)


@needs_data
def test_configs_of_mobilenet_v2_agree_with_the_published_table():
    """The address, the digest and every figure equal those in the row of the same name."""
    table = {row["variant"]: row for row in published_table()}
    variants = [variant for variant in list_variants() if variant.network == "mobilenet_v2"]
    assert {variant.name for variant in variants} == set(table)
    assert len(table) == 22
    for variant in variants:
        row = table[variant.name]
        assert variant.family_parameters.depth_multiplier == float(row["depth_multiplier"])
        assert variant.image_size == int(row["image_size"])
        assert variant.checkpoint.url == row["archive_url"]
        assert variant.checkpoint.sha256 == row["archive_sha256"]
        assert variant.checkpoint.name == row["archive_url"].rpartition("/")[2].replace(".tgz", ".ckpt")
        figures = variant.published.model_dump(exclude_none=True)
        assert len(figures) == 5
        assert figures == {name: pytest.approx(float(row[name])) for name in figures}


def test_seed_modules_are_what_their_configs_build():
    """The handles of the two pages, and the modules of the other kind that the pages mention."""
    handles = {variant.handle(spec) for variant in list_variants() for spec in variant.modules}
    assert {
        "google/imagenet/mobilenet_v2_075_192/feature_vector/2",
        "google/imagenet/mobilenet_v2_075_192/classification/2",
        "google/imagenet/mobilenet_v2_050_96/classification/1",
        "google/imagenet/mobilenet_v2_050_96/feature_vector/1",
        "google/imagenet/mobilenet_v2_100_224/feature_vector/2",
        "google/imagenet/mobilenet_v2_100_224/classification/2",
    } <= handles


def test_a_users_config_is_found_beside_the_built_in_ones(tmp_path):
    """--config-dir adds variants."""
    variant = _load(tmp_path, _GOOD.replace("network:", "publisher: me\nnetwork:"))
    assert variant.num_classes == 5
    assert variant.handle(variant.modules[0]) == "me/imagenet/flowers/feature_vector/2"
    names = [v.name for v in list_variants(tmp_path)]
    assert "flowers" in names
    assert "mobilenet_v2_050_96" in names
    assert names == sorted(names)


def test_a_users_config_replaces_a_built_in_one_of_its_name(tmp_path):
    """So that users can put in the address of a mirror, for example."""
    (tmp_path / "mobilenet_v2_050_96.yaml").write_text(_GOOD)
    assert load_variant("mobilenet_v2_050_96", tmp_path).dataset == "flowers"


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        pytest.param("image_size:", "image_sise:", 3, "did you mean 'image_size'?", id="typo"),
        pytest.param("  top1_percent", "  top1_procent", 13, "did you mean 'top1_percent'?", id="nested typo"),
        pytest.param("num_classes: 5\n", "", 1, "missing key 'num_classes'", id="missing"),
        pytest.param("size: 96", "size: '96'", 3, "'image_size': found '96', must be a valid integer", id="type"),
        pytest.param("size: 96", "size: 100", 3, "found 100, must be a positive multiple of 32", id="not 32"),
        pytest.param("size: 96", "size: 0", 3, "found 0, must be a positive multiple of 32", id="zero"),
        pytest.param("size: 96", "size: true", 3, "found True, must be a valid integer", id="bool"),
        pytest.param("r: 0.5", "r: 0", 2, "found 0, must be greater than 0", id="depth"),
        pytest.param("r: 0.5", "r: .nan", 2, "'depth_multiplier': found nan", id="nan"),
        pytest.param("r: 0.5", "r: 1e400", 2, "'depth_multiplier': found '1e400'", id="huge"),
        pytest.param("mobilenet_v2", "mobilenet_v7", 1, "(did you mean 'mobilenet_v2'?)", id="network"),
        pytest.param("- feature_vector/2", "- feature/2", 16, "the kind feature_vector or classification", id="kind"),
        pytest.param("vector/2", "vector/9", 16, "found 'feature_vector/9'", id="version"),
        pytest.param("classification/3", "feature_vector/2", 15, "each KIND/VERSION once", id="twice"),
        pytest.param("sha256: 71", "sha256: Q1", 8, "64 lower-case hexadecimal digits", id="digest"),
        pytest.param("https:", "ftp:", 7, "an http:// or https:// address", id="url"),
        pytest.param("name: flow", "name: ../flow", 9, "letters, digits", id="path"),
        pytest.param("dataset:", "image_size:", 5, "key 'image_size' is given twice", id="key twice"),
        pytest.param("flowers\n", "&a flowers\npublisher: *a\n", 6, "aliases are not allowed", id="alias"),
        pytest.param("flowers\n", "!!python/object/apply:os.getcwd []\n", 5, "the tag '", id="tag"),
        pytest.param("flowers\n", "!!python/name:os.system x\n", 5, "constructor for the tag", id="scalar tag"),
        pytest.param("network:", "name: x\nnetwork:", 1, "the file's name is the variant's name", id="name"),
        pytest.param(_GOOD, "- a\n- b\n", 1, "must be a mapping", id="list"),
        pytest.param(_GOOD, "", 1, "must be a mapping", id="empty"),
        pytest.param(_GOOD, "{" * 9999, 1, "nested too deeply", id="deep"),
        pytest.param(_GOOD, "a: [1,\n", 2, "expected the node content", id="syntax"),
        pytest.param(_GOOD, "? [a]\n: b\n", 1, "a key must be a word", id="key"),
        pytest.param(_GOOD, "a: b\n" * 300_000, 1, "larger than", id="large"),
    ],
)
def test_mistakes_are_reported_with_file_and_line(tmp_path, old, new, line, why):
    """And with what was found and what is allowed."""
    assert old in _GOOD
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, _GOOD.replace(old, new, 1))
    assert caught.value.what == f"{tmp_path / 'flowers.yaml'}:{line}: not a valid variant"
    assert why in caught.value.why


_FAMILY = """\
network: mobilenet_v2
num_classes: 5
dataset: flowers at {image_size} pixels
checkpoint:
  url: https://example.com/flowers_{depth_multiplier}_{image_size}.tgz
  name: flowers_{image_size}.ckpt
modules:
  - feature_vector/3
  - classification/5
"""
_MEMBER = """\
extends: flowers
depth_multiplier: 0.5
image_size: 96
checkpoint:
  sha256: 71a814047d7729bad711ae3e7db30e6c32999a1189f88d328b73939f7aa80d62
"""


def _load_member(folder, text, family=_FAMILY):
    (folder / "families").mkdir(exist_ok=True)
    (folder / "families" / "flowers.yaml").write_text(family)
    (folder / "roses.yaml").write_text(text)
    return load_variant("roses", folder)


def test_a_family_gives_what_its_variants_have_in_common(tmp_path):
    """Merged mapping by mapping, with the variant's size filled in. The variant's own values win."""
    variant = _load_member(tmp_path, _MEMBER)
    assert (variant.name, variant.num_classes, variant.dataset) == ("roses", 5, "flowers at 96 pixels")
    assert variant.checkpoint.url == "https://example.com/flowers_0.5_96.tgz"
    assert variant.checkpoint.name == "flowers_96.ckpt"
    assert variant.checkpoint.sha256.startswith("71a8")
    assert list(map(str, variant.modules)) == ["feature_vector/3", "classification/5"]
    variant = _load_member(tmp_path, f"{_MEMBER}  name: roses.ckpt\nnum_classes: 7\nmodules: [classification/4]\n")
    assert variant.checkpoint.name == "roses.ckpt"
    assert variant.checkpoint.url == "https://example.com/flowers_0.5_96.tgz"
    assert variant.num_classes == 7
    assert list(map(str, variant.modules)) == ["classification/4"]
    assert "flowers" not in [variant.name for variant in list_variants(tmp_path)]


def test_a_built_in_family_can_be_extended(tmp_path):
    """From any folder. A family file of the same name beside the config replaces it."""
    (tmp_path / "roses.yaml").write_text("extends: mobilenet_v2_imagenet\n" + _MEMBER.partition("\n")[2])
    assert load_variant("roses", tmp_path).checkpoint.url.endswith("mobilenet_v2_0.5_96.tgz")


@pytest.mark.parametrize(
    ("member", "family", "place", "why"),
    [
        pytest.param(
            ("flowers", "flower"), None, "roses.yaml:1", "one of .*flowers, .*did you mean 'flowers'", id="name"
        ),
        pytest.param(("flowers", "[a]"), None, "roses.yaml:1", "found \\['a'\\]", id="no name"),
        pytest.param(("size: 96", "size: 95"), None, "roses.yaml:3", "found 95", id="in the variant"),
        pytest.param(("sha256: 71", "sha256: Q1"), None, "roses.yaml:5", "64 lower-case", id="deep in the variant"),
        pytest.param(("image_size: 96\n", ""), None, "roses.yaml:1", "missing key 'image_size'", id="missing"),
        pytest.param(None, ("classes: 5", "classes: 0"), "flowers.yaml:2", "found 0", id="in the family"),
        pytest.param(None, ("https:", "ftp:"), "flowers.yaml:5", "https:// address", id="deep in the family"),
        pytest.param(None, ("network:", "extends: x\nnetwork:"), "flowers.yaml:1", "unknown key 'extends'", id="twice"),
        pytest.param(None, (_FAMILY, "- a\n"), "flowers.yaml:1", "a mapping of keys", id="no mapping"),
    ],
)
def test_mistakes_are_reported_in_the_file_that_has_them(tmp_path, member, family, place, why):
    """In the variant's file or the family's."""
    with pytest.raises(ConfigError, match=why) as caught:
        _load_member(
            tmp_path,
            _MEMBER.replace(*member, 1) if member else _MEMBER,
            _FAMILY.replace(*family, 1) if family else _FAMILY,
        )
    assert caught.value.what.endswith(f"{place}: not a valid variant")


def test_labels_are_found_beside_the_config(tmp_path):
    """With one name per class. The path becomes absolute."""
    (tmp_path / "names.txt").write_text("daisy\nrose\ntulip\nsunflower\ndandelion\n")
    variant = _load(tmp_path, f"labels: names.txt\n{_GOOD}")
    assert variant.labels == LabelFile(file=str(tmp_path / "names.txt"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(b"a\nb\nc\nd\n", "found 4 lines in .*names.txt, must be one name for each of the 5", id="few"),
        pytest.param(b"a\nb\n\nd\ne\n", "found 5 lines \\(1 blank\\)", id="blank"),
        pytest.param(b"\xff\xfe\n", "byte 0 is not UTF-8", id="binary"),
        pytest.param(None, "No such file", id="missing"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, content, why):
    """Before anything is built."""
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, f"{_GOOD}labels: names.txt\n")
    assert caught.value.what == f"{tmp_path / 'flowers.yaml'}:18: not a valid variant"
    assert re.search(why, str(caught.value)), caught.value


def test_labels_may_be_a_list_of_names(tmp_path):
    """In the config itself."""
    variant = _load(tmp_path, f"{_GOOD}labels: [daisy, rose, 'tulip, red', 'no', '5']\n")
    assert variant.class_names() == ["daisy", "rose", "tulip, red", "no", "5"]


@pytest.mark.parametrize(
    ("names", "why"),
    [
        pytest.param("[a, b, c, d]", "'labels': found 4 names, must be one name for each of the 5 classes", id="few"),
        pytest.param("[a, b, c, d, ' ']", "'labels.4': found ' ', must be a name, not blank", id="blank"),
        pytest.param("[a, b, c, d, 5]", "'labels.4': found 5, must be a valid string", id="number"),
        pytest.param('[a, b, c, d, "e\\x1b"]', "must be one line of printable characters", id="unprintable"),
        pytest.param("[]", "found 0 names, must be one name", id="none"),
        pytest.param("5", "'labels': found 5, must be the path of a text file, .* or a list of names", id="no list"),
        pytest.param("{fiel: x}", "unknown key 'labels.fiel'", id="key"),
    ],
)
def test_lists_of_names_that_do_not_fit_are_refused(tmp_path, names, why):
    """With the line."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, f"{_GOOD}labels: {names}\n")
    assert caught.value.what == f"{tmp_path / 'flowers.yaml'}:18: not a valid variant"
    assert re.search(why, caught.value.why), caught.value.why


def test_all_mistakes_of_a_file_are_reported_at_once(tmp_path):
    """The first one in `why`, the others below it."""
    with pytest.raises(ConfigError) as caught:
        _load(
            tmp_path,
            _GOOD.replace("image_size: 96", "image_size: 95").replace("num_classes: 5", "num_classes: -5"),
        )
    assert "'image_size': found 95" in caught.value.why
    assert caught.value.details == ("line 4: 'num_classes': found -5, must be greater than 0",)


def test_an_unknown_variant_gets_a_suggestion():
    """The error suggests a similar name."""
    with pytest.raises(ConfigError, match=r"no variant 'mobilenet_v2_050_95' \(did you mean 'mobilenet_v2_050_96'\?\)"):
        load_variant("mobilenet_v2_050_95")


def test_a_variant_name_cannot_leave_the_folder(tmp_path):
    """Names are looked up, not joined to a path."""
    (tmp_path / "flowers.yaml").write_text(_GOOD)
    (tmp_path / "inner").mkdir()
    with pytest.raises(ConfigError, match="no variant"):
        load_variant("../flowers", tmp_path / "inner")


def test_a_missing_config_dir_is_an_error(tmp_path):
    """A misspelt folder must not look like an empty one."""
    for folder in (tmp_path / "nowhere", "x" * 5000):
        with pytest.raises(ConfigError, match="no folder"):
            list_variants(folder)


@pytest.mark.parametrize("named", ["Apache-2.0", "CC-BY-NC-4.0", "GPL-2.0-only", "LicenseRef-my-terms", "apache-2.0"])
def test_licenses_are_those_of_spdx(tmp_path, named):
    """In SPDX's spelling, whose list ignores case."""
    variant = _load(tmp_path, f"{_GOOD}license: {named}\n")
    assert variant.license == named.replace("apache", "Apache")


@pytest.mark.parametrize(
    ("named", "why"),
    [
        ("Apache-2", "(did you mean 'Apache-2.0'?)"),
        ("CC-BY-5.0", "(did you mean 'CC-BY-"),
        ("proprietary", "or LicenseRef-NAME for another license"),
        ("MIT OR Apache-2.0", "must be an SPDX identifier like Apache-2.0"),
    ],
)
def test_other_licenses_are_refused(tmp_path, named, why):
    """With a guess, if one is near."""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, f"{_GOOD}license: {named}\n")
    assert caught.value.what == f"{tmp_path / 'flowers.yaml'}:18: not a valid variant"
    assert f"'license': found {named!r}, must be an" in caught.value.why and why in caught.value.why


@pytest.mark.parametrize("ending", ["yml", "YAML", "Yml"])
def test_configs_may_end_in_yml_and_in_capitals(tmp_path, ending):
    """Those of families, too. One replaces a built-in one as well."""
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / f"mine.{ending}").write_text(_GOOD.replace("image_size: 96\n", ""))
    for name in ("flowers", "mobilenet_v2_050_96"):
        (tmp_path / f"{name}.{ending}").write_text("extends: mine\nimage_size: 128\n")
        assert load_variant(name, tmp_path).image_size == 128
    assert len(list_variants(tmp_path)) == len(list_variants()) + 1


@pytest.mark.parametrize("folder", [".", "families"])
def test_two_files_of_one_name_are_refused(tmp_path, folder):
    """Whichever was read, the other would be ignored silently."""
    (tmp_path / "families").mkdir()
    (tmp_path / "flowers.yaml").write_text("extends: flowers\n")
    for ending in ("yaml", "yml"):
        (tmp_path / folder / f"flowers.{ending}").write_text("extends: flowers\n" if folder == "." else _GOOD)
    with pytest.raises(ConfigError) as caught:
        load_variant("flowers", tmp_path)
    assert caught.value.what == f"two files for flowers: {tmp_path / folder / 'flowers.yaml'} and flowers.yml"


def test_modules_can_be_asked_for_by_kind_or_by_version(tmp_path):
    """For any variant, in any version, without duplicates."""
    variant = _load(tmp_path, _GOOD)
    assert list(map(str, variant.select_modules([]))) == ["feature_vector/2", "classification/3"]
    assert list(map(str, variant.select_modules(["classification"]))) == ["classification/3"]
    asked = ["feature_vector/1", "feature_vector/3", "feature_vector/1"]
    assert list(map(str, variant.select_modules(asked))) == ["feature_vector/1", "feature_vector/3"]


@pytest.mark.parametrize("request_", ["features", "feature_vector/0", "feature_vector/6", "classification/", "/2", ""])
def test_modules_that_do_not_exist_cannot_be_asked_for(tmp_path, request_):
    """The error lists those that do."""
    with pytest.raises(UsageError, match="unknown module"):
        _load(tmp_path, _GOOD).select_modules([request_])


def test_a_kind_alone_needs_a_version_in_the_config(tmp_path):
    """Otherwise hubexport would have to guess."""
    variant = _load(tmp_path, _GOOD.replace("  - classification/3\n", ""))
    with pytest.raises(UsageError, match="needs a version"):
        variant.select_modules(["classification"])


_JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(string.printable)
    | st.sampled_from(["mobilenet_v2", "feature_vector/2", 96, 0.5, 1001]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(re.findall(r"^ *(\w+):", _GOOD, re.MULTILINE)) | st.text(), inner, max_size=4),
    max_leaves=12,
)


_KEYS = st.sampled_from([*yaml.safe_load(_GOOD), "labels", "extends"])


@settings(deadline=None, max_examples=150)
@given(changes=st.dictionaries(_KEYS | st.text(), _JUNK | st.text(), max_size=3))
@example(changes={"labels": "a\0b"})
@example(changes={"extends": ["mobilenet_v2_imagenet"]})
@pytest.mark.fuzz
def test_any_config_is_either_a_sound_variant_or_a_config_error(tmp_path_factory, changes):
    """Whatever the YAML holds, no other error is raised, and an accepted variant has a network."""
    folder = tmp_path_factory.mktemp("configs")
    text = yaml.safe_dump({**yaml.safe_load(_GOOD), **changes})
    try:
        variant = _load(folder, text)
    except ConfigError as error:
        assert re.search(r"flowers\.yaml:\d+: ", error.what)
    else:
        assert variant.network_for("classification").num_classes == variant.num_classes
        assert all(isinstance(spec, ModuleSpec) for spec in variant.modules)


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_either_a_variant_or_a_config_error(tmp_path_factory, data):
    """Even if the file is empty, not UTF-8, or not YAML."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "flowers.yaml").write_bytes(data)
    with pytest.raises(ConfigError):
        load_variant("flowers", folder)


def test_the_built_in_configs_are_found_in_a_checkout():
    """test_packaging covers an installed package."""
    assert (builtin_config_dir() / "mobilenet_v2_075_192.yaml").is_file()


@pytest.mark.parametrize(
    ("kind", "version", "what"),
    [
        ("classification", 2, "resnet_v2_50 has no classification/2"),
        ("classification", 99, "unknown module 'classification/99'"),
        ("classes", 5, "unknown module 'classes/5'"),
        ("classes", None, "unknown kind 'classes'"),
    ],
)
def test_a_variant_has_networks_for_its_modules_alone(kind, version, what):
    """Others are refused by name."""
    with pytest.raises(UsageError) as caught:
        load_variant("resnet_v2_50").network_for(kind, version)
    assert caught.value.what.startswith(what)
