"""Describes a checkpoint, weights file, module or deployment, and what is in it; exits with 1 if anything is wrong."""

import argparse
from collections.abc import Iterator, Sequence
import json
import sys
from typing import TYPE_CHECKING

from hubexport.cli.arguments import add_format_argument, add_quiet
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import Column, print_fact, print_table
from hubexport.errors import printable

if TYPE_CHECKING:
    from hubexport.checkpoints.checkpoint_report import CheckpointReport, VariableReport
    from hubexport.deployments.report import DeployedTensor, DeploymentReport
    from hubexport.modules.graph_version_report import GraphVersionReport, TensorReport
    from hubexport.modules.module_report import ModuleReport
    from hubexport.modules.op_versions import Compatibility

SUMMARY = "describe a checkpoint, weights file, module or deployment"

# How many entries of a long list a line shows. The JSON has all of them.
_SHOWN_OPS = 6
_SHOWN_NAMES = 3
# How much of a longer text.
_SHOWN_TEXT = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport inspect`."""
    parser.add_argument(
        "path",
        metavar="PATH",
        help="a module (a directory, a .tar.gz, or an http or https address), a deployment for ONNX, TF.js or TFLite, "
        "or any source that `hubexport convert` reads",
    )
    parser.add_argument("--variables", action="store_true", help="list the variables of a checkpoint or weights file")
    add_format_argument(parser, "text", "json")
    add_quiet(parser)


def run(args: argparse.Namespace) -> int:
    """Describes what is at a path. Returns 0, or 1 if there is a problem."""
    from hubexport.checkpoints.checkpoint_report import CheckpointReport
    from hubexport.deployments.report import DeploymentReport
    from hubexport.description import describe

    with shown_progress(args.quiet) as progress:
        report = describe(args.path, progress=progress)
    status = 1 if report.has_problems else 0
    if args.format == "json":
        described = report.as_json()
        if not args.variables:
            described.pop("variables", None)
        print(json.dumps(described, indent=2))
        return status
    print(args.path)
    if isinstance(report, CheckpointReport):
        lines = _checkpoint_lines(report)
    else:
        lines = _deployment_lines(report) if isinstance(report, DeploymentReport) else _module_lines(report)
    for label, text in lines:
        print_fact(label, text, sys.stdout)
    if args.variables and isinstance(report, CheckpointReport):
        _print_variables(report.variables)
    return status


def _checkpoint_lines(report: "CheckpointReport") -> Iterator[tuple[str, str]]:
    yield "format", report.container + ", in a gzipped tar" * report.packed
    if report.network is None:
        unknown = "names and shapes match no network that hubexport knows"
        yield "network", f"unknown: it is {report.foreign}" if report.foreign else f"unknown: {unknown}"
    else:
        yield "names", f"{report.layout}"
        yield "network", ", ".join(filter(None, (_networks(report), str(report.family_parameters))))
        yield "classes", f"{report.num_classes or 'none: no classifier, feature vectors only'}"
        yield "parameters", f"{report.parameters:,}"
    if report.step is not None:
        yield "step", f"{report.step:,}"
    if report.averaged_copies:
        yield "averaged copies", f"of {report.averaged_copies} variables"
    if report.optimizer_slots:
        slots = (f"{printable(name)} of {count} variables" for name, count in report.optimizer_slots.items())
        yield "optimizer slots", ", ".join(slots)
    for title, count in report.not_exported.items():
        yield "besides", f"{title}: {count} variable{'s' * (count > 1)}, not exported"
    yield "values", f"{len(report.variables)}, {_condition_of_values(report)}"
    for problem in report.problems:
        yield "PROBLEM", printable(problem)


def _networks(report: "CheckpointReport") -> str:
    """Names the networks that it may be, like `a or b (1000 classes suggest a)`."""
    from hubexport.networks.registry import FAMILIES

    names = [str(report.network), *report.other_networks]
    likely = [name for name in names if FAMILIES[name].published_classes == report.num_classes]
    hint = f" ({report.num_classes} classes suggest {' or '.join(likely)})" if 0 < len(likely) < len(names) else ""
    return f"{' or '.join(names)}{hint}"


def _condition_of_values(report: "CheckpointReport") -> str:
    broken = [variable.name for variable in report.variables if variable.nan_count or variable.infinite_count]
    numbers = "all numbers finite"
    if broken:
        names = printable(_beginning(broken, _SHOWN_NAMES))
        numbers = f"{report.nan_count} NaN and {report.infinite_count} infinite numbers in {names}"
    if not report.not_read:
        return numbers
    count = sum(report.not_read.values())
    kinds = ", ".join(f"{number} {dtype}" for dtype, number in report.not_read.items())
    unread = f"not read: {count} ({kinds if len(report.not_read) > 1 else next(iter(report.not_read))})"
    return f"{len(report.variables) - count} read: {numbers}; {unread}" if count < len(report.variables) else unread


def _module_lines(report: "ModuleReport") -> Iterator[tuple[str, str]]:
    yield "format", report.format + f", written by TensorFlow {report.written_by}" * bool(report.written_by)
    if report.manifest:
        yield "handle", str(report.manifest.handle)
        weights = f", {report.manifest.weights}" * (report.manifest.weights not in (None, "only"))
        yield "values", f"{report.manifest.values}{weights}, from {report.manifest.checkpoint.source}"
        if smallest := report.manifest.smallest_image_size:
            yield "image size", "any" + f", from {smallest} x {smallest} pixels" * (smallest > 1)
    for graph in report.graph_versions:
        yield "tags", f"[{', '.join(graph.tags)}]"
        yield from _interface_lines(graph)
    if report.parameters:
        trainable = report.parameters.trainable
        of_these = "" if trainable is None else f" ({trainable:,} trainable)"
        yield "parameters", f"{report.parameters.total:,}{of_these}"
    if report.labels is not None:
        yield "labels", f"{report.labels:,} names"
    sizes = report.sizes
    parts = (sizes.graph_bytes, sizes.weights_bytes, sizes.assets_bytes, sizes.other_bytes)
    yield "bytes", "graph {:,}, weights {:,}, assets {:,}, other {:,}".format(*parts)
    ops = [f"{op} {count}" for op, count in report.op_counts.items()]
    yield "ops", f"{sum(report.op_counts.values()):,}: {_beginning(ops, _SHOWN_OPS)}"
    yield "oldest TensorFlow", _oldest_tensorflow(report.compatibility)
    if report.digest_problems is not None:
        yield "digests", "; ".join(report.digest_problems) or "every file matches hubexport.json"
    for problem in report.problems:
        yield "PROBLEM", problem


def _interface_lines(graph: "GraphVersionReport") -> Iterator[tuple[str, str]]:
    endpoints = [tensor.name for tensor in graph.endpoints]
    for signature in graph.signatures:
        outputs = [tensor for tensor in signature.outputs if tensor.name not in endpoints]
        yield "  signature", f"{signature.name}({_tensors(signature.inputs)}) -> {_tensors(outputs)}"
    if graph.call:
        outputs = [tensor for tensor in graph.call.outputs if tensor.name not in endpoints]
        yield "  call", f"({', '.join(graph.call.arguments)}) -> {_tensors(outputs)}"
    if endpoints:
        yield "  endpoints", f"{len(endpoints)}: {_beginning(endpoints, _SHOWN_NAMES)}"


def _deployment_lines(report: "DeploymentReport") -> Iterator[tuple[str, str]]:
    from hubexport.deployments.registry import DEPLOYMENTS

    yield "format", printable(" ".join(filter(None, (DEPLOYMENTS[report.format].title, report.version))))
    yield "written by", printable(report.written_by or "unknown")
    for label, tensors in (("inputs", report.inputs), ("outputs", report.outputs)):
        yield label, printable(_tensors(tensors[:_SHOWN_OPS]) + _more(tensors, _SHOWN_OPS))
        for tensor in tensors:
            if tensor.quantization:
                yield "  quantization", printable(f"{tensor.name}: {tensor.quantization}")
    yield "weights", ", ".join(f"{count:,} {printable(dtype)}" for dtype, count in report.weights.items()) or "none"
    yield "bytes", f"{report.size:,}"
    ops = [f"{printable(op)} {count}" for op, count in report.ops.items()]
    yield "ops", f"{sum(report.ops.values()):,}: {_beginning(ops, _SHOWN_OPS)}"
    for key, value in report.metadata.items():
        yield "metadata", printable(f"{key}: {_metadata(value)}")
    for problem in report.problems:
        yield "PROBLEM", printable(problem)


def _metadata(value: object) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_OPS:
        return f"{len(value):,} entries: {_beginning([_metadata(one) for one in value], _SHOWN_NAMES)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…"


def _tensors(tensors: "Sequence[TensorReport | DeployedTensor]") -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {_shape(tensor.shape)}" for tensor in tensors)


def _shape(shape: "tuple[int | None, ...] | None") -> str:
    if shape is None:
        return "of any shape"
    return f"[{', '.join('?' if length is None else str(length) for length in shape)}]"


def _beginning(entries: Sequence[str], shown: int) -> str:
    return f"{', '.join(entries[:shown])}{_more(entries, shown)}"


def _more(entries: Sequence[object], shown: int) -> str:
    return f" and {len(entries) - shown} more" if len(entries) > shown else ""


def _oldest_tensorflow(compatibility: "Compatibility") -> str:
    oldest, obstacles = compatibility.oldest, compatibility.obstacles
    hub = f", with tensorflow-hub {compatibility.oldest_hub}" * bool(oldest and compatibility.oldest_hub)
    older = f"; {compatibility.next_older} lacks {', '.join(obstacles)}" if obstacles else ""
    return f"{oldest or 'none'}{hub} (checked: {', '.join(compatibility.tried)}{older})"


def _print_variables(variables: "tuple[VariableReport, ...]") -> None:
    columns = [
        Column("variable", [one.name for one in variables]),
        Column("shape", [str(list(one.shape)) for one in variables], importance=6),
        Column("dtype", [one.dtype for one in variables], importance=5),
        Column("norm", [_figure(one.norm) for one in variables], importance=2, kind="figure"),
        Column("minimum", [_figure(one.minimum) for one in variables], importance=1, kind="figure"),
        Column("maximum", [_figure(one.maximum) for one in variables], importance=1, kind="figure"),
        Column("NaN", [_figure(one.nan_count) for one in variables], importance=4, kind="figure"),
        Column("infinite", [_figure(one.infinite_count) for one in variables], importance=3, kind="figure"),
    ]
    print_table(columns, sys.stdout)


def _figure(number: float | None) -> str:
    if number is None:
        return "-"
    return str(number) if isinstance(number, int) else f"{number:.5g}"
