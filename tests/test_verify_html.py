"""What the report of a verification shows, read back from its HTML."""

from collections.abc import Callable, Sequence
import copy
import dataclasses
import itertools
import math
import re

import pytest

from hubexport.verify.report.error_plot import error_plot
from hubexport.verify.report.figures import LIMIT_PERCENT, limit_bar
from hubexport.verify.report.html import render
from hubexport.verify.result import CheckResult, LayerError, Photograph, Verification
from tests.html_tree import Element, tree


def _page(verification: Verification) -> Element:
    return tree(render(verification))


def _layer(error: float | None, floor: float = 1e-7, name: str = "net/layer") -> LayerError:
    return LayerError(name, "Conv2D 3×3, stride 2", (112, 112, 32), 1234567, 10838016, 6.0, error, floor)


def _verification(text: Callable[[str], str] = str) -> Verification:
    """Returns a verification with everything in it; `text` changes all untrusted texts."""
    results = (
        CheckResult(
            "structure.files", "pass", text("as listed"), 0, 0, text("files"), (text("one"), text("two")), 0.25
        ),
        CheckResult("structure.digests", "fail", text("wrong"), 1, 0, text("files"), (text("this one"),), 0.5),
        CheckResult("numbers.float64", "pass", text("near"), 1e-6, 1e-5, "", (), 1.5),
        CheckResult("numbers.slim", "fail", text("far"), 0.5, 1e-5),
        CheckResult("consumers.others", "not applicable", text("not asked for")),
    )
    photographs = (
        Photograph(text("cat.jpg"), b"\xff\xd8<script>", ((7, text("cat"), 0.75), (8, None, 0.0002))),
        Photograph(text("dog.jpg"), b"\xff\xd8", ((9, text("dog"), 1.0),)),
    )
    facts = {
        "handle": text("google/net/3"),
        "depth_multiplier": 1.0,
        "checkpoint": {"source": text("net.tgz"), "sha256": {text("net.index"): text("01ab")}, "published": False},
        "sha256": {text("saved_model.pb"): text("23cd")},
    }
    return Verification(
        path=text("modules/net"),
        checkpoint=text("net.ckpt"),
        facts=facts,
        results=results,
        layers=(_layer(1e-6, name=text("net/first")), _layer(None), _layer(0.0), _layer(math.nan, math.inf)),
        photographs=photographs,
        versions={text("TensorFlow"): text("2.15.1")},
        seconds=12.34,
    )


def _minimal(*results: CheckResult) -> Verification:
    return Verification("modules/net", None, {}, results, (), (), {}, 0.0)


def _ids(page: Element) -> list[str]:
    return [element.attributes["id"] for element in page.all() if "id" in element.attributes]


def test_a_full_report_has_every_part():
    """Each part has a heading, is in a landmark of the page, and is linked."""
    page = _page(_verification())
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("head").one("title").text == "Failed: google/net/3"
    assert page.one("h1").text == "google/net/3"
    for landmark in ("header", "nav", "main", "footer"):
        page.one(landmark)
    parts = [section.attributes["id"] for section in page.one("main").all("section") if "id" in section.attributes]
    assert parts == ["failures", "checks", "photographs", "errors", "network", "provenance"]
    assert [link.attributes["href"] for link in page.one("nav").all("a")] == [f"#{part}" for part in parts]
    for section in page.one("main").all("section"):
        assert page.one(id=section.attributes["aria-labelledby"]).tag in ("h2", "h3")
    header = page.one("header").text
    for said in ("modules/net", "net.ckpt", "TensorFlow 2.15.1", "12.3 s", "2 of 4 applicable checks failed."):
        assert said in header


def test_a_minimal_report_leaves_out_empty_parts():
    """Without layers, photographs, facts, versions or a checkpoint."""
    page = _page(_minimal(CheckResult("structure.files", "pass", "as listed")))
    assert "nav" not in {element.tag for element in page.all()}
    assert [part for part in _ids(page) if part in ("failures", "photographs", "errors", "network", "provenance")] == []
    assert page.one("h1").text == "modules/net"
    assert "its own values" in page.one("header").text
    assert "Computed with" not in page.text and "Each bar" not in page.text


def test_a_report_without_checks():
    """The report says so."""
    assert "No checks ran." in _page(_minimal()).one(id="checks").text


@pytest.mark.parametrize(
    ("statuses", "word", "sentence"),
    [
        (["pass", "pass", "not applicable"], "Passed", "All applicable checks passed."),
        (["pass"], "Passed", "The one applicable check passed."),
        (["pass", "fail"], "Failed", "1 of 2 applicable checks failed."),
        (["not applicable"], "Nothing proved", "No check failed, but none passed either."),
    ],
)
def test_the_verdict(statuses, word, sentence):
    """In words, with the numbers of checks."""
    page = _page(_minimal(*(CheckResult(f"a.b{i}", status, "why") for i, status in enumerate(statuses))))
    assert page.one(class_="word").text == word
    assert sentence in page.one("header").text
    counts = {one.one("dt").text: one.one("dd").text for one in next(page.one("header").all("dl")).all("div")}
    kinds = {"failed": "fail", "passed": "pass", "not applicable": "not applicable"}
    assert counts == {word: str(statuses.count(kind)) for word, kind in kinds.items()}


@pytest.mark.parametrize(
    ("statuses", "not_selected", "sentence"),
    [
        (["pass", "pass", "not applicable"], 40, "2 selected checks passed. 40 others were not run."),
        (["pass"], 1, "The one selected check passed. 1 other was not run."),
        (["pass", "fail"], 40, "1 of 2 applicable checks failed. 40 others were not run."),
        (["not applicable"], 40, "No check failed, but none passed either. 40 others were not run."),
    ],
)
def test_the_verdict_on_selected_checks(statuses, not_selected, sentence):
    """It says how many others did not run, and does not speak of all."""
    verification = _minimal(*(CheckResult(f"a.b{i}", status, "why") for i, status in enumerate(statuses)))
    verification = dataclasses.replace(verification, not_selected=tuple(f"a.c{i}" for i in range(not_selected)))
    header = _page(verification).one("header").text
    assert sentence in header and "All applicable" not in header


def test_failed_checks_come_first():
    """They are at the top with open details, and again in their groups before passed checks."""
    page = _page(_verification())
    failures = page.one(id="failures")
    assert [heading.text for heading in failures.all("h3")] == ["structure.digests", "numbers.slim"]
    assert "open" in failures.one("details").attributes
    checks = page.one(id="checks")
    assert [heading.text for heading in checks.all("h4")] == [
        *("structure.digests", "structure.files"),
        *("numbers.slim", "numbers.float64"),
        "consumers.others",
    ]
    folded = checks.one("section", aria_labelledby="group-1").one("ul", class_="checks").one("details")
    assert "open" not in folded.attributes and [one.text for one in folded.all("li")] == ["one", "two"]
    for link, failure in zip(checks.all("a"), failures.all("li", class_="fail"), strict=True):
        assert link.attributes["href"] == f"#{failure.attributes['id']}" and link.text in failure.text


def test_groups_have_a_fixed_order():
    """Whatever the order of the results. Unknown groups come last."""
    names = ["zebra.a", "consumers.a", "weights.a", "numbers.a", "behaviour.a", "structure.a", "weights.b"]
    page = _page(_minimal(*(CheckResult(name, "pass", "fine") for name in names)))
    groups = [heading.text for heading in page.one(id="checks").all("h3")]
    assert groups == ["structure", "weights", "numbers", "behaviour", "consumers", "zebra"]


def test_passed_checks_fold_into_a_line_a_group():
    """The line says how many there are. A group with a failed check is open, and no script is needed."""
    page = _page(_verification())
    lines = {}
    for group in page.one(id="checks").all("section", class_="group"):
        folded = next(group.all("details"))
        assert {one.tag for one in next(group.all("summary")).all()} <= {"h3", "span", "svg", "use"}
        lines[group.one("h3").text] = ("open" in folded.attributes, group.one("span", class_="counts").text)
    assert lines == {
        "structure": (True, "1 failed 1 passed"),
        "numbers": (True, "1 failed 1 passed"),
        "consumers": (False, "1 not applicable"),
    }


@pytest.mark.parametrize("status", ["pass", "fail"])
def test_float32_floors_are_explained_where_they_are_used(status):
    """In the group, and beside failed checks; nowhere else."""
    results = [
        CheckResult("weights.equal", "pass", "fine"),
        CheckResult("numbers.a", status, "b", 3, 10, "float32 floors"),
    ]
    page = _page(_minimal(*results))
    explained = {
        section["aria-labelledby"]: "A float32 floor is how far" in section.text
        for section in page.one("main").all("section")
        if section["aria-labelledby"] != "checks-heading"
    }
    expected = {"group-1": False, "group-2": True}
    assert explained == (expected if status == "pass" else {"failures-heading": True, **expected})


def test_each_group_says_what_proves_it():
    """A rebuild, an independent computation, or a program."""
    results = [
        CheckResult("rebuild.files", "pass", "fine", proof="rebuild"),
        CheckResult("weights.equal", "pass", "fine", proof="computation"),
        CheckResult("consumers.tf1.15", "pass", "fine", proof="program"),
    ]
    groups = _page(_minimal(*results)).all("section", class_="group")
    subjects = [group.one("span", class_="subject").text for group in groups]
    proofs = ["proved by rebuild", "proved by independent computation", "proved by a program"]
    assert [subject.partition("; ")[2] for subject in subjects] == proofs


def test_each_status_is_in_words():
    """Colour alone is not enough."""
    rows = {
        row.one("h4").text: row.one(class_="status").text
        for row in _page(_verification()).one(id="checks").all("li", class_="pass")
    }
    assert rows == {"structure.files": "passed", "numbers.float64": "passed"}


_HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror='a'>\"'&amp;{{ 7 * 7 }}]]>--><!--"


def test_untrusted_text_stays_text():
    """With hostile text, the report has the same elements and attributes as with harmless text."""
    plain = _page(_verification())
    hostile = _page(_verification(lambda text: f"{text}{_HOSTILE}"))

    def structure(page: Element) -> list[tuple[str, list[str]]]:
        return [(one.tag, sorted(one.attributes)) for one in page.all() if one.tag != "wbr"]

    assert structure(hostile) == structure(plain)
    shown = " ".join(_HOSTILE.split())
    for where in (
        hostile.one("h1"),
        hostile.one("head").one("title"),
        next(hostile.one(id="errors").all("g", class_="chart-column")).one("title"),
    ):
        assert shown in where.text
    assert all(_HOSTILE in image.attributes["alt"] for image in hostile.all("img"))
    assert next(hostile.all(class_="label")).attributes["title"] == f"cat{_HOSTILE}"
    assert hostile.text.count("{{ 7 * 7 }}") > 25


def test_invisible_characters_are_escaped():
    """Marks of text direction, control characters and lone surrogates. The page can be encoded as UTF-8."""
    html = render(_verification(lambda text: f"{text}\u202e\x00\x1b\ud800"))
    html.encode("utf-8")
    assert not re.search("[\u202e\x00\x1b]", html)
    assert r"google/<wbr>net/<wbr>3\u202e\x00\x1b\ud800</h1>" in html


def test_the_page_is_self_contained():
    """No URLs, scripts or style sheets. Links lead to existing ids, and ids are unique."""
    html = render(_verification())
    page = _page(_verification())
    assert not re.search(r"https?:|//\w|url\(|@import|\bon\w+=", html)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {element.tag for element in page.all()}
    ids = _ids(page)
    assert len(ids) == len(set(ids))
    for element in page.all():
        for name in ("src", "href", "srcset", "xlink:href", "action"):
            target = element.attributes.get(name, "data:")
            assert target.startswith("data:") or target.removeprefix("#") in ids, target
    policy = next(meta for meta in page.all("meta") if meta.attributes.get("http-equiv"))
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_the_same_verification_gives_the_same_bytes():
    """Nothing depends on the time."""
    assert render(_verification()) == render(copy.deepcopy(_verification()))


@pytest.mark.parametrize(
    ("measured", "limit", "percent"),
    [
        pytest.param(1e-5, 1e-5, 75, id="at the limit"),
        pytest.param(0.1, 1, 50, id="a tenth"),
        pytest.param(2, 1, 75 + 25 * math.log10(2), id="twice"),
        pytest.param(10, 1, 100, id="ten times"),
        pytest.param(1e308, 1e-308, 100, id="quotient overflows"),
        pytest.param(5e-324, 1e308, 1.5, id="quotient underflows"),
        pytest.param(1e-9, 1, 1.5, id="still to be seen"),
        pytest.param(0, 1, 0, id="zero"),
        pytest.param(math.nan, 1, 100, id="not a number"),
        pytest.param(math.inf, 1, 100, id="infinite"),
    ],
)
def test_bars_of_figures_over_their_limits(measured, limit, percent):
    """On a log scale from a thousandth of the limit to ten times the limit, never outside."""
    bar = limit_bar(measured, limit)
    assert bar.percent == pytest.approx(percent, abs=0.01) and LIMIT_PERCENT == 75
    [drawn] = _page(_minimal(CheckResult("a.b", "pass", "", measured, limit))).all("svg", class_="bar")
    assert drawn.one(class_="fill").attributes["width"] == f"{bar.percent}%"
    assert drawn.attributes["role"] == "img" and drawn.attributes["aria-label"] == bar.label


@pytest.mark.parametrize(
    ("measured", "limit"), [(1, None), (None, 1), (None, None), (0, 0), (3, 0), (1, math.inf), (1, math.nan), (1, -1)]
)
def test_figures_without_a_ratio_have_no_bar(measured, limit):
    """They have no limit, or one that they cannot be divided by."""
    assert limit_bar(measured, limit) is None
    page = _page(_minimal(CheckResult("a.b", "fail", "", measured, limit, "files")))
    assert not list(page.all("svg", class_="bar"))
    assert ("limit" in next(page.all(class_="figures")).text) == (measured is not None and limit is not None)


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        (0.0, "0"),
        (1234567, "1,234,567"),
        (1.314e-5, "1.31 × 10⁻⁵"),
        (9.999e-5, "10⁻⁴"),
        (0.0234, "0.0234"),
        (12.345, "12.3"),
        (999.7, "1,000"),
        (123456.7, "1.23 × 10⁵"),
        (1e300, "10³⁰⁰"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
    ],
)
def test_how_figures_are_written(measured, text):
    """Whole numbers in full, others in three digits."""
    assert next(_page(_minimal(CheckResult("a.b", "pass", "", measured))).all("strong")).text == text


def test_photographs_with_their_classes():
    """The picture is embedded, and each class has its probability as a bar and in figures."""
    page = _page(_verification()).one(id="photographs")
    assert [image.attributes["src"] for image in page.all("img")] == [
        "data:image/jpeg;base64,/9g8c2NyaXB0Pg==",
        "data:image/jpeg;base64,/9g=",
    ]
    rows = [
        (row.one("p").text, row.one(class_="fill").attributes["width"])
        for row in page.one("ul").all("li")
        if not list(row.all("figure"))
    ]
    assert rows == [("cat 7 75.0%", "75.0%"), ("class 8 < 0.1%", "0.02%"), ("dog 9 100.0%", "100.0%")]


@pytest.mark.parametrize(
    ("probability", "width"), [(-1.0, "0.0%"), (7.0, "100.0%"), (math.nan, "0.0%"), (math.inf, "0.0%")]
)
def test_bars_of_impossible_probabilities_stay_within_bounds(probability, width):
    """A broken module may return anything."""
    photograph = Photograph("cat.jpg", b"", ((1, "cat", probability),))
    page = _page(dataclasses.replace(_minimal(), photographs=(photograph,)))
    assert page.one(id="photographs").one(class_="fill").attributes["width"] == width


def _runs(path: Element) -> list[list[tuple[float, float]]]:
    """The points of each line in a path."""
    return [
        [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", run)] for run in path["d"].split("M")[1:]
    ]


class _Plot:
    """A plot of layer errors as drawn, read back.

    Attributes:
        power_labels: the vertical axis' labels with their places, from the top.
        number_labels: the horizontal axis' labels with their places, from the left.
        columns: the left and right edge of each layer's column.
        dots: the layers' places from the left and the top, None for a layer without a dot.
        error_line, floor_line, floor_area: the points of each unbroken line.
    """

    def __init__(self, layers: Sequence[LayerError]) -> None:
        svg = tree(error_plot(layers)).one("svg")
        backdrop = svg.one(aria_hidden="true").children
        self.power_labels: dict[str, float] = {}
        self.number_labels: dict[str, float] = {}
        for line, label in zip(backdrop, backdrop[1:]):
            if line.has("class_", "chart-grid"):
                (x, y), (other_x, _) = _runs(line.one("path"))[0]
                if x == other_x:
                    self.number_labels[label.text] = x
                else:
                    self.power_labels[label.text] = y
        boxes = [_runs(column.one("path"))[0] for column in svg.all("g", class_="chart-column")]
        self.columns = [(box[0][0], box[1][0]) for box in boxes]
        self.bottom, self.top = boxes[0][0][1], boxes[0][2][1]
        places = [(float(dot["cx"]), float(dot["cy"])) for dot in svg.all("circle")]
        self.dots = [next((dot for dot in places if left < dot[0] < right), None) for left, right in self.columns]
        self.error_line, self.floor_line, self.floor_area = (
            [run for path in svg.one(class_=f"chart-{name}").all("path") for run in _runs(path)]
            for name in ("error", "floor", "floor-area")
        )


def _steps(line: list[tuple[float, float]]) -> list[float]:
    """The heights of a line's level parts."""
    return [y for (x, y), (to_x, to_y) in zip(line, line[1:]) if y == to_y and x != to_x]


def test_the_log_scale():
    """Equal ratios are equal distances, and the scale has whole powers of ten."""
    plot = _Plot([_layer(3e-6, 2e-8), _layer(1e-7, 1e-7), _layer(math.sqrt(1e-13), 1e-7)])
    height = plot.power_labels
    assert list(height) == ["10⁻⁸", "10⁻⁷", "10⁻⁶", "10⁻⁵"]
    assert (height["10⁻⁸"], height["10⁻⁵"]) == (plot.bottom, plot.top)
    assert plot.dots[1][1] == pytest.approx(height["10⁻⁷"], abs=0.01)
    assert plot.dots[2][1] == pytest.approx((height["10⁻⁷"] + height["10⁻⁶"]) / 2, abs=0.01)
    share = math.log10(3e-6) + 8
    assert plot.dots[0][1] == pytest.approx(plot.bottom - share / 3 * (plot.bottom - plot.top), abs=0.01)
    [floors] = plot.floor_line
    low = plot.bottom - math.log10(2) / 3 * (plot.bottom - plot.top)
    assert _steps(floors) == pytest.approx([low, height["10⁻⁷"], height["10⁻⁷"]], abs=0.01)


@pytest.mark.parametrize(
    ("errors", "floor", "rows"),
    [
        ([1e-6, 0.0], 1e-7, {"0"}),
        ([1e-6, math.nan], 1e-7, {"∞, NaN"}),
        ([1e-6, math.inf, 0.0], 1e-7, {"∞, NaN", "0"}),
        ([0.0, 0.0], 0.0, {"0"}),
        ([None, None], math.nan, {"∞, NaN"}),
        ([5e-324, 1e308], 1e-7, set()),
        ([1e-6], 1e-6, set()),
    ],
)
def test_values_without_a_logarithm_have_rows_of_their_own(errors, floor, rows):
    """The rows are outside the log scale and inside the plot. Everything else is on the scale."""
    plot = _Plot([_layer(error, floor) for error in errors])
    height = plot.power_labels
    assert {"0", "∞, NaN"} & height.keys() == rows
    scale = [position for label, position in height.items() if label not in rows]
    assert 2 <= len(scale) <= 10 and all(math.isfinite(position) for position in height.values())
    for error, dot in zip(errors, plot.dots, strict=True):
        if error is None:
            assert dot is None
        elif error == 0:
            assert dot[1] == height["0"] == plot.bottom > max(scale)
        elif not math.isfinite(error):
            assert dot[1] == height["∞, NaN"] == plot.top < min(scale)
        else:
            assert plot.top - 0.01 <= dot[1] <= plot.bottom + 0.01
    assert "nan" not in error_plot([_layer(error, floor) for error in errors])


def test_layers_without_a_measured_error_are_gaps():
    """So are errors outside the log scale. Each run of the others is one line."""
    plot = _Plot([_layer(error) for error in (1e-6, 2e-6, None, 3e-6, 0.0, 4e-6, 5e-6, 6e-6)])
    assert plot.error_line == [plot.dots[:2], plot.dots[3:4], plot.dots[5:]]
    assert [number for number, dot in enumerate(plot.dots) if dot is None] == [2]


def test_floors_that_are_zero_are_gaps():
    """The steps begin anew after a gap."""
    plot = _Plot([_layer(1e-6, floor) for floor in (0.0, 1e-7, 1e-7, 0.0, 1e-7)])
    assert [len(_steps(line)) for line in plot.floor_line] == [2, 1]
    assert [(area[0][0], area[-1][0]) for area in plot.floor_area] == [
        (plot.columns[1][0], plot.columns[2][1]),
        plot.columns[4],
    ]
    assert all(area[0][1] == area[-1][1] == plot.bottom for area in plot.floor_area)


@pytest.mark.parametrize(
    ("count", "labels"), [(1, ["1"]), (3, ["1", "2", "3"]), (40, ["1", "5", "10"]), (2000, ["1", "200", "400"])]
)
@pytest.mark.slow
def test_layers_are_numbered(count, labels):
    """The first, and as many round numbers as there is room for. Columns fill the width side by side."""
    plot = _Plot([_layer(1e-6)] * count)
    assert list(plot.number_labels)[: len(labels)] == labels and len(plot.number_labels) <= 15
    for label, place in plot.number_labels.items():
        left, right = plot.columns[int(label.replace(",", "")) - 1]
        assert place == pytest.approx((left + right) / 2, abs=0.01)
    [floors] = plot.floor_line
    assert (plot.columns[0][0], plot.columns[-1][1]) == pytest.approx((floors[0][0], floors[-1][0]), abs=0.02)
    for (_, right), (left, _) in itertools.pairwise(plot.columns):
        assert right == pytest.approx(left, abs=0.01)


def test_the_plot_has_text_alternatives():
    """The plot has a title and a description, and each layer a tooltip."""
    errors = _page(_verification()).one(id="errors")
    plot = errors.one("svg", role="img")
    assert plot.one(id=plot["aria-labelledby"]).text and plot.one(id=plot["aria-describedby"]).text
    titles = [column.one("title").text for column in plot.all("g", class_="chart-column")]
    assert titles[0] == ("1 net/first, Conv2D 3×3, stride 2: difference 10⁻⁶, float32 floor 10⁻⁷, largest value 6")
    assert "not shown" in titles[1] and "difference 0," in titles[2]
    assert "difference not a number, float32 floor infinite" in titles[3]


def test_the_table_of_layers_has_totals():
    """Of parameters and multiply-adds, with thousands separators."""
    table = _page(_verification()).one(id="network").one("table")
    rows = [[cell.text for cell in row.all() if cell.tag in ("td", "th")] for row in table.one("tbody").all("tr")]
    assert rows[0] == [
        *("1", "net/first", "Conv2D 3×3, stride 2", "112 × 112 × 32", "1,234,567", "10,838,016", "6", "10⁻⁶", "10⁻⁷"),
    ]
    assert [row[7] for row in rows[1:]] == ["not shown", "0", "not a number"]
    totals = [cell.text for cell in table.one("tfoot").all() if cell.tag in ("td", "th")]
    assert totals == ["", "4 layers in total", "4,938,268", "43,352,064", ""]


def test_tables_have_headers_with_scope():
    """And scrolling tables can be reached by keyboard."""
    page = _page(_verification())
    assert {heading.attributes["scope"] for heading in page.all("th")} == {"col", "row"}
    for box in page.all(role="region"):
        assert box.attributes["tabindex"] == "0" and box.attributes["aria-label"]
    assert len(list(page.all(role="region"))) == 3


def test_provenance():
    """All facts, nested ones too, and the digests of the files."""
    page = _page(_verification()).one(id="provenance")
    facts = {row.one("dt").text: row.one("dd").text for row in page.one("dl").all("div")}
    assert facts == {
        "handle": "google/net/3",
        "depth multiplier": "1",
        "checkpoint source": "net.tgz",
        "checkpoint sha256 net.index": "01ab",
        "checkpoint as published": "no",
    }
    assert [cell.text for cell in page.one("tbody").all() if cell.tag in ("th", "td")] == ["saved_model.pb", "23cd"]


def test_foreign_facts_are_harmless():
    """They are shown as far as possible."""
    deep: dict = {}
    for _ in range(100_000):
        deep = {"a": deep}
    facts = {"handle": 7, "values": None, "weights": ["list"], "sha256": "text", "deep": deep}
    page = _page(dataclasses.replace(_minimal(), facts=facts))
    assert page.one("h1").text == "modules/net"
    shown = {row.one("dt").text: row.one("dd").text for row in page.one(id="provenance").one("dl").all("div")}
    assert shown == {"handle": "7", "weights": "…", "deep a a": "…"}
