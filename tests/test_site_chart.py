"""Accuracy charts: points are in the right places and link to modules, and the pages' policy allows everything."""

import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from hubexport.release.index import ReleaseIndex
from hubexport.site.accuracy_chart import accuracy_chart
from hubexport.site.accuracy_points import AccuracyPoint, accuracy_points
from hubexport.site.catalogue import Catalogue
from hubexport.site.catalogue_charts import catalogue_chart
from tests.command import environment
from tests.data import REPOSITORY

_COSTS = {"multiply_adds": "macs_millions", "latency": "pixel1_cpu_ms"}
_STYLE = (REPOSITORY / "hubexport/site/assets/chart.css").read_text()
# Background colours of pages.
_PAGES = {"light": "#ffffff", "dark": "#101418"}
_HOSTILE = """<script>alert("1")</script>'&$x$"""


def _published() -> dict[str, dict]:
    """Returns the published figures of all built-in configs with an accuracy, by variant."""
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in (REPOSITORY / "configs").glob("*.yaml")}
    told = {name: config | config.get("published", {}) for name, config in configs.items()}
    return {name: config for name, config in told.items() if "top1_percent" in config}


def _with_figure(figure: str) -> dict[str, dict]:
    """Returns those that have a figure."""
    return {name: facts for name, facts in _published().items() if figure in facts}


def _link(record) -> str:
    return f"/{record.handle}/"


@pytest.fixture(name="record", scope="module")
def _record(small_release) -> dict:
    """A classification module's record in the index."""
    artifacts = json.loads((small_release / "index.json").read_text())["artifacts"]
    return next(artifact for artifact in artifacts if artifact["kind"] == "classification")


def _renamed(record: dict, handle: str, **facts) -> dict:
    variant = handle.split("/")[2]
    return {**record, "handle": handle, "variant": variant, "version": int(handle.split("/")[4]), **facts}


def _mobilenet(record: dict, variant: str, version: int, **facts) -> dict:
    """Returns a record of a built-in variant."""
    config = _published()[variant]
    common = {"num_classes": 1001, "dataset": "ILSVRC-2012-CLS (ImageNet)"}
    sizes = {"depth_multiplier": float(config["depth_multiplier"]), "image_size": config["image_size"]}
    return _renamed(record, f"google/imagenet/{variant}/classification/{version}", **common, **sizes, **facts)


def _catalogue(*records: dict) -> Catalogue:
    return Catalogue(ReleaseIndex.model_validate_json(json.dumps({"format": 1, "artifacts": records})))


def _timed() -> list[AccuracyPoint]:
    """Returns the networks with a published latency."""
    return [point for point in accuracy_points(_catalogue(), _link) if point.latency_ms is not None]


def _drawn(found: list[AccuracyPoint], cost: str) -> ElementTree.Element:
    return ElementTree.fromstring(accuracy_chart(found, cost))


def _labelled_points(svg: ElementTree.Element) -> dict[str, ElementTree.Element]:
    """Returns the points by the variants in their labels."""
    told = [element for element in svg if "chart-point" in element.get("class", "").split()]
    return {element.attrib["aria-label"].partition(": ")[0]: element for element in told}


def _notes(found: list[AccuracyPoint], cost: str, beginning: str) -> list[str]:
    """Returns the notes of a chart that begin so."""
    return [note for note in catalogue_chart(found, cost).notes if note.startswith(beginning)]


def _circle(point: ElementTree.Element) -> tuple[float, float, float]:
    circle = point.find("circle")
    return float(circle.attrib["cx"]), float(circle.attrib["cy"]), float(circle.attrib["r"])


@pytest.mark.parametrize("cost", _COSTS)
def test_all_published_points_are_where_their_figures_belong(cost):
    """The cost axis is logarithmic, the accuracy axis linear, and areas grow with the root of the parameters."""
    published = _with_figure(_COSTS[cost])
    told = _labelled_points(_drawn(accuracy_points(_catalogue(), _link), cost))
    counted = {*_published()} - {*published} if cost == "multiply_adds" else set()
    assert set(told) == {*published, *counted}
    assert (len(published), len(counted)) == {"multiply_adds": (46, 15), "latency": (22, 0)}[cost]
    x, y, radius = np.transpose([_circle(told[name]) for name in published])
    costs = np.log([published[name][_COSTS[cost]] for name in published])
    top1 = np.array([published[name]["top1_percent"] for name in published])
    for place, figure, direction in ((x, costs, 1), (y, top1, -1)):
        slope, offset = np.polyfit(figure, place, 1)
        assert slope * direction > 0
        np.testing.assert_allclose(place, slope * figure + offset, atol=0.001)
    parameters = np.array([published[name]["parameters_millions"] for name in published])
    np.testing.assert_allclose(radius**4 / parameters, (radius**4 / parameters)[0], rtol=2e-3)


@pytest.mark.parametrize("cost", _COSTS)
def test_axis_labels_fit_the_points(cost):
    """Axis labels and points have the same scale, and so have the circles in the key and the points."""
    published = _published()
    svg = _drawn(accuracy_points(_catalogue(), _link), cost)
    told = _labelled_points(svg)
    low, high = "mobilenet_v2_035_96", "mobilenet_v2_140_224"
    (x1, y1, r1), (x2, y2, _) = _circle(told[low]), _circle(told[high])
    texts = [
        (text.text, float(text.attrib["x"]), float(text.attrib["y"]))
        for text in svg.iter("text")
        if text.text.replace(",", "").isdecimal() and text.attrib["font-size"] == "14px"
    ]
    bottom = max(y for _, _, y in texts)
    across = [(float(text.replace(",", "")), x) for text, x, y in texts if y == bottom]
    up = [(float(text), y) for text, _, y in texts if y != bottom]
    assert len(across) >= 4 and len(up) >= 4
    cost1, cost2 = (published[name][_COSTS[cost]] for name in (low, high))
    for number, x in across:
        share = math.log(number / cost1) / math.log(cost2 / cost1)
        assert x == pytest.approx(x1 + share * (x2 - x1), abs=0.01)
    for number, y in up:
        share = (number - published[low]["top1_percent"]) / (
            published[high]["top1_percent"] - published[low]["top1_percent"]
        )
        # y is the text's baseline; its middle is at the number.
        assert y == pytest.approx(y1 + share * (y2 - y1), abs=8)
    radii = [float(circle.attrib["r"]) for circle in svg.iter("circle") if circle.get("class") == "chart-size"]
    for millions, radius in zip((1, 5, 25, 125), radii, strict=True):
        assert radius == pytest.approx(r1 * (millions / published[low]["parameters_millions"]) ** 0.25, abs=0.004)


def test_points_of_the_release_are_links_to_the_newest_version(record):
    """Other points say that they are not on this hub, and have no link."""
    variant = "mobilenet_v2_075_192"
    catalogue = _catalogue(_mobilenet(record, variant, 2), _mobilenet(record, variant, 5))
    told = _labelled_points(_drawn(accuracy_points(catalogue, _link), "multiply_adds"))
    assert {name: point.get("href") for name, point in told.items() if point.tag == "a"} == {
        variant: f"/google/imagenet/{variant}/classification/5/"
    }
    absent = told["mobilenet_v2_100_224"]
    assert "chart-hollow" in absent.attrib["class"] and absent.attrib["role"] == "img"
    assert absent.attrib["aria-label"].endswith("; not on this hub")


_CARRIED = {"values": "trained", "published": {"top1_percent": 68.7, "macs_millions": 153, "parameters_millions": 2.61}}


@pytest.mark.parametrize(
    ("facts", "remark"),
    [
        pytest.param(_CARRIED, "", id="published"),
        pytest.param({"values": "synthetic"}, "; untrained on this hub", id="synthetic"),
        pytest.param({**_CARRIED, "values": "synthetic"}, "; untrained on this hub", id="forged"),
        pytest.param({"values": "trained"}, "; on this hub with other values", id="own training"),
        pytest.param({**_CARRIED, "weights": "raw"}, "; on this hub with other values", id="raw"),
    ],
)
def test_only_points_of_modules_with_the_published_values_are_solid(record, facts, remark):
    """Others are hollow and say what the module is: the accuracy is not theirs."""
    variant = "mobilenet_v2_075_192"
    module = _mobilenet(record, variant, 5) | {name: fact for name, fact in facts.items() if name != "weights"}
    module["inputs"] = module["inputs"] | {"weights": facts.get("weights", "auto")}
    found = accuracy_points(_catalogue(module), _link)
    point = _labelled_points(_drawn(found, "multiply_adds"))[variant]
    label = f"{variant}: 68.7% top-1, 153 million multiply-adds, 2.61 million parameters{remark}"
    assert point.attrib["aria-label"] == point.find("title").text == label
    assert ("chart-hollow" in point.attrib["class"]) == bool(remark)
    [solid, *_] = catalogue_chart(found, "multiply_adds").notes
    assert ("here untrained or with other values" in solid) == bool(remark)


def test_an_older_version_with_the_published_values_is_linked(record):
    """A newer one without them has no accuracy to show."""
    variant = "mobilenet_v2_075_192"
    catalogue = _catalogue(_mobilenet(record, variant, 3, **_CARRIED), _mobilenet(record, variant, 5))
    [point] = [point for point in accuracy_points(catalogue, _link) if point.link]
    assert (point.link, point.presence) == (f"/google/imagenet/{variant}/classification/3/", "here")


def test_without_classification_the_feature_vectors_are_linked(record):
    """A point links to the feature vector module only if there is no classification module."""
    variant = "mobilenet_v2_075_192"
    classes = _mobilenet(record, variant, 5)
    handle = classes["handle"].replace("classification", "feature_vector")
    vectors = classes | {"kind": "feature_vector", "num_classes": None, "handle": handle}
    for records, kind in (([vectors], "feature_vector"), ([classes, vectors], "classification")):
        [link] = [point.link for point in accuracy_points(_catalogue(*records), _link) if point.link]
        assert f"/{kind}/" in link


@pytest.mark.parametrize("other", [{"image_size": 128}, {"depth_multiplier": 0.5}, {"dataset": "flowers"}])
def test_another_network_under_a_published_name_is_not_linked(record, other):
    """The published accuracy is not that network's."""
    altered = _mobilenet(record, "mobilenet_v2_075_192", 5) | other
    assert not [point for point in accuracy_points(_catalogue(altered), _link) if point.link]


def test_figures_of_a_record_come_before_those_of_the_configs(record):
    """A record has the figures of the very checkpoint that the module was made from."""
    figures = {"macs_millions": 300, "parameters_millions": 3.47, "top1_percent": 71.25, "top5_percent": 91.0}
    trained = record | {"values": "trained"}
    own = _renamed(trained, "acme/imagenet/other/classification/5", published={**figures, "pixel1_cpu_ms": None})
    known = _mobilenet(trained, "mobilenet_v2_100_224", 5, published={**figures, "pixel1_cpu_ms": 70.5})
    found = {point.variant: point for point in accuracy_points(_catalogue(own, known), _link)}
    assert len(found) == 62
    assert (found["other"].multiply_adds_millions, found["other"].latency_ms) == (300, None)
    assert (found["mobilenet_v2_100_224"].top1_percent, found["mobilenet_v2_100_224"].latency_ms) == (71.25, 70.5)


@pytest.mark.parametrize(
    "published",
    [{}, {"top1_percent": None}, {"macs_millions": -1.0, "top1_percent": 70.0}, {"top1_percent": 700.0}, {"a": 1.0}],
)
def test_malformed_figures_are_ignored(record, published):
    """The index is untrusted. The config's figures are drawn instead."""
    known = _mobilenet(record, "mobilenet_v2_100_224", 5, values="trained", published=published)
    [point] = [point for point in accuracy_points(_catalogue(known), _link) if point.link]
    assert (point.multiply_adds_millions, point.top1_percent, point.presence) == (300, 71.8, "other values")


def test_points_without_the_cost_are_left_out_and_named():
    """A chart without any point is empty."""
    found = _timed()
    lacking = [dataclasses.replace(point, latency_ms=None) for point in found[:2]]
    svg = _drawn([*lacking, *found[2:]], "latency")
    assert set(_labelled_points(svg)) == {point.variant for point in found[2:]}
    [note] = _notes([*lacking, *found[2:]], "latency", "Not shown")
    assert all(point.variant in note for point in lacking)
    assert accuracy_chart(lacking, "latency") == accuracy_chart([], "multiply_adds") == ""


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
@pytest.mark.parametrize("cost", _COSTS)
def test_a_chart_has_nothing_that_the_policy_forbids(cost, narrow):
    """No styles, scripts, event handlers, links to other hosts, or fixed sizes."""
    text = accuracy_chart(accuracy_points(_catalogue(), _link), cost, narrow=narrow)
    svg = ElementTree.fromstring(text)
    assert {element.tag for element in svg.iter()} <= {*("svg", "g", "a", "path", "text", "circle", "title", "desc")}
    names = {name for element in svg.iter() for name in element.attrib}
    assert not [name for name in names if name == "style" or name.startswith("on") or "{" in name]
    assert "font-family" not in text and "url(" not in text and "<?xml" not in text and "<!" not in text
    assert {"width", "height"}.isdisjoint(svg.attrib) and svg.attrib["viewBox"].startswith(
        "0 0 358 " if narrow else "0 0 576 "
    )


def test_hostile_names_are_text():
    """In labels, links and notes. matplotlib must not read dollar signs as formulas."""
    [first, second, *others] = _timed()
    hostile = dataclasses.replace(first, variant=_HOSTILE, link='/"><script>x</script>')
    lacking = dataclasses.replace(second, variant=_HOSTILE, latency_ms=None)
    text = accuracy_chart([hostile, lacking, *others], "latency")
    [note] = _notes([hostile, lacking, *others], "latency", "Not shown")
    assert _HOSTILE in note
    assert "<script" not in text
    svg = ElementTree.fromstring(text)
    [link] = svg.iter("a")
    assert link.attrib["href"] == hostile.link and link.attrib["aria-label"].startswith(f"{_HOSTILE}: ")


def test_two_charts_on_a_page_share_no_ids():
    """Ids that a chart refers to exist in it."""
    found = accuracy_points(_catalogue(), _link)
    ids = []
    for cost, narrow in itertools.product(_COSTS, (False, True)):
        svg = ElementTree.fromstring(accuracy_chart(found, cost, narrow=narrow))
        own = [element.attrib["id"] for element in svg.iter() if "id" in element.attrib]
        assert {svg.attrib["aria-labelledby"], svg.attrib["aria-describedby"]} == set(own)
        assert svg.attrib["role"] == "group"
        ids += own
    assert len(set(ids)) == len(ids) == 8


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_labels_overlap_no_point_and_no_other_label(narrow):
    """Digits are at most two thirds as wide as high, and as high as the font."""
    svg = ElementTree.fromstring(accuracy_chart(accuracy_points(_catalogue(), _link), "multiply_adds", narrow=narrow))
    circles = [_circle(point) for point in _labelled_points(svg).values()]
    labels = _above_the_key(svg)
    wide = {"0.25 (224)", "1.40 (224)", "V4 (299)"}
    assert ({"0.25 (224)"} if narrow else wide) <= {text.text for text in labels}, {text.text for text in labels}
    boxes = [(float(text.attrib["x"]), float(text.attrib["y"]) - 4, 3.6 * len(text.text)) for text in labels]
    assert len(boxes) >= 15
    for x, y, half in boxes:
        for cx, cy, radius in circles:
            assert math.hypot(max(abs(x - cx) - half, 0), max(abs(y - cy) - 4, 0)) >= radius
    for (x, y, half), (other_x, other_y, other_half) in itertools.combinations(boxes, 2):
        assert abs(x - other_x) >= half + other_half or abs(y - other_y) >= 8


def _above_the_key(svg: ElementTree.Element) -> list[ElementTree.Element]:
    """Returns the small texts in the plot itself."""
    small = [text for text in svg.iter("text") if text.get("font-size") == "12px"]
    [key] = [float(text.attrib["y"]) for text in small if text.text == "Family"]
    return [text for text in small if float(text.attrib["y"]) < key]


def test_costs_that_publishers_do_not_give_are_counted():
    """ResNet V2's publishers give its accuracy alone, at 299 pixels. TF-Slim's own graph has these costs there."""
    found = {point.variant: point for point in accuracy_points(_catalogue(), _link)}
    point = found["resnet_v2_50"]
    assert (point.image_size, point.top1_percent, point.latency_ms) == (299, 75.6, None)
    assert (point.multiply_adds_millions, point.parameters_millions) == (6536, 25.52)
    svg = _drawn([*found.values()], "multiply_adds")
    label = _labelled_points(svg)["resnet_v2_50"].attrib["aria-label"]
    assert "6,536 million multiply-adds, 25.52 million parameters (multiply-adds and parameters counted)" in label
    [note] = _notes([*found.values()], "multiply_adds", "Where the publishers give no")
    assert "multiply-adds or parameters" in note
    published = [point for point in found.values() if not point.counted]
    assert len(published) == 46
    assert not [note for note in catalogue_chart(published, "multiply_adds").notes if "counted" in note]


def test_a_record_with_its_accuracy_alone_gets_counted_costs(record):
    """Its network is the record's, at the record's size."""
    figures = {"values": "trained", "published": {"top1_percent": 60.0}}
    own = _renamed(record, "acme/imagenet/other/classification/5", **figures)
    [point] = [point for point in accuracy_points(_catalogue(own), _link) if point.variant == "other"]
    assert (point.multiply_adds_millions, point.parameters_millions) == (round(record["multiply_adds"] / 1e6), 0.39)
    assert point.counted == ("multiply-adds", "parameters")


def test_families_of_one_group_have_a_colour_and_their_networks_lines():
    """Lines join image sizes of one depth multiplier. A group has the same colour in both charts."""
    found = accuracy_points(_catalogue(), _link)
    colours = {}
    for cost in _COSTS:
        svg = _drawn(found, cost)
        told = _labelled_points(svg)
        drawn = [point for point in found if point.variant in told]
        for point in drawn:
            [series] = re.findall(r"chart-series-\d", told[point.variant].attrib["class"])
            assert colours.setdefault(point.group, series) == series
        lines = [
            {tuple(map(float, place)) for place in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.attrib["d"])}
            for group in svg.iter("g")
            if group.get("class", "").startswith("chart-line")
            for path in group
        ]
        places = {}
        for point in drawn:
            places.setdefault((point.group, point.network), set()).add(_circle(told[point.variant])[:2])
        rounded = [{(round(x, 1), round(y, 1)) for x, y in line} for line in lines]
        for series in places.values():
            assert {(round(x, 1), round(y, 1)) for x, y in series} in rounded
        assert len(lines) == len(places) == {"multiply_adds": 33, "latency": 6}[cost]
        keys = [text.text for text in svg.iter("text") if text.text in colours]
        assert keys[-len({point.group for point in drawn}) :] == list(dict.fromkeys(point.group for point in drawn))
    assert list(colours) == [
        "MobileNet V1",
        "MobileNet V2",
        "MobileNet V3",
        *("Inception", "ResNet V1"),
        "ResNet V2",
        "VGG",
        *("NASNet-A", "PNASNet-5"),
    ]
    assert len(set(colours.values())) == len(colours)


def test_families_are_listed_from_the_least_to_the_greatest_parameters():
    """As numbers: ResNet V2 101 comes after 50, and 96 pixels before 224."""
    names = [point.variant for point in accuracy_points(_catalogue(), _link)]
    assert names[0] == "mobilenet_v1_025_128" and names[-2:] == ["pnasnet_mobile", "pnasnet_large"]
    assert names[-9:-6] == ["resnet_v2_50", "resnet_v2_101", "resnet_v2_152"]
    assert {"resnet_v1_50", "mobilenet_edgetpu_100_224"}.isdisjoint(names), "nobody published their accuracy"
    assert names.index("mobilenet_v2_035_96") + 1 == names.index("mobilenet_v2_035_128")


@pytest.mark.slow
def test_a_chart_is_the_same_in_every_process():
    """Whatever the hash seed, and whatever the user's settings for matplotlib."""
    program = (
        "import hashlib, sys, matplotlib\n"
        "matplotlib.rcParams['axes.labelsize'] = matplotlib.rcParams['font.size'] = float(sys.argv[1])\n"
        "from hubexport.release.index import ReleaseIndex\n"
        "from hubexport.site.catalogue import Catalogue\n"
        "from hubexport.site.accuracy_chart import accuracy_chart\n"
        "from hubexport.site.accuracy_points import accuracy_points\n"
        "text = accuracy_chart(accuracy_points(Catalogue(ReleaseIndex()), lambda record: ''), 'latency')\n"
        "print(hashlib.sha256(text.encode()).hexdigest(), matplotlib.rcParams['font.size'] == float(sys.argv[1]))\n"
    )
    done = {
        subprocess.run(
            [sys.executable, "-c", program, f"{seed}1"],
            env=environment({"PYTHONHASHSEED": seed}),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(done) == 1 and done.pop().endswith(" True\n")


@pytest.mark.slow
def test_matplotlib_is_imported_when_a_plot_is_drawn():
    """Its import takes a second. Charts and verification reports draw plots."""
    program = (
        "import sys, hubexport.site.accuracy_chart, hubexport.verify.report.html; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def _colours(theme: str) -> list[str]:
    blocks = re.findall(r"\.chart \{([^}]*--chart-0[^}]*)\}", _STYLE)
    return re.findall(r"--chart-\d: (#\w{6})", blocks[list(_PAGES).index(theme)])


def _linear(colour: str) -> np.ndarray:
    """Returns a colour's linear components, as WCAG 2 and CSS define them."""
    shares = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("theme", _PAGES)
def test_colours_can_be_told_from_the_page(theme):
    """WCAG 2 asks for a contrast of 3:1 for graphics."""
    luminances = [_linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in [_PAGES[theme], *_colours(theme)]]
    page, *colours = luminances
    assert len(colours) == 9
    for colour in colours:
        assert (max(page, colour) + 0.05) / (min(page, colour) + 0.05) >= 3


# Machado, Oliveira and Fernandes, 2009: what people see without the cones for long, middle or short waves.
_SEEN = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("sight", _SEEN)
@pytest.mark.parametrize("theme", _PAGES)
def test_colours_can_be_told_from_each_other(theme, sight):
    """A CIE76 difference of 2 is just visible; one of 30 is a different colour."""
    seen = [np.clip(np.array(_SEEN[sight]) @ _linear(colour), 0, 1) for colour in _colours(theme)]
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(_lab(one) - _lab(other)) >= 30


def _lab(linear: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (cubed ** (1 / 3) if cubed > 0.008856 else 7.787 * cubed + 16 / 116 for cubed in xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _nine_groups() -> list[AccuracyPoint]:
    return [dataclasses.replace(point, group=f"group {number % 9}") for number, point in enumerate(_timed())]


def test_the_style_sheet_has_all_classes():
    """Without the style sheet, colours are those of the light theme."""
    text = accuracy_chart(_nine_groups(), "latency")
    used = {name for names in re.findall(r'class="([^"]*)"', text) for name in names.split()}
    assert used == {name for name in used if f".{name}" in _STYLE}
    assert set(_colours("light")) == {colour for colour in re.findall(r'"(#\w{6})"', text) if colour != "#808080"}
