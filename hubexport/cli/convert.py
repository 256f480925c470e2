"""Converts trained weights to the formats of other frameworks, and to whole models for inference."""

import argparse

from hubexport.cli.arguments import add_config_dir, add_quiet, add_scope, add_weights
from hubexport.cli.deployment_flags import add_deployment_flags, chosen_options, outputs_of
from hubexport.cli.progress_display import shown_progress
from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.extras import require_extras
from hubexport.layouts.conversion_targets import TARGETS, format_of_target

SUMMARY = "convert trained weights to another framework's format"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport convert`."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a TF-Slim checkpoint (archive, directory or prefix), a Keras .h5, .weights.h5 or .keras file, a "
        "safetensors file, a Hugging Face directory, a TensorFlow 2 checkpoint prefix, or a module",
    )
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a file (keras, safetensors, onnx, tflite), a checkpoint prefix (slim, tf2) or a directory (huggingface); "
        "with keras, .keras is a whole model for Keras 3, .h5 and .weights.h5 are weights for Keras' own MobileNetV2; "
        "onnx and tflite are whole models for inference",
    )
    parser.add_argument(
        "--to", choices=TARGETS, help="the format to write (default: what TARGET's name tells, like .onnx or .keras)"
    )
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="the variant that SOURCE must hold (default: recognized by names and shapes); its image size and class "
        "names go into a Hugging Face directory, a .keras file and deployments",
    )
    parser.add_argument(
        "--kind",
        choices=("feature_vector", "classification"),
        help="feature_vector leaves the classifier out, classification requires one (default: what SOURCE has)",
    )
    add_weights(parser)
    add_scope(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing TARGET")
    add_config_dir(parser)
    add_quiet(parser)
    add_deployment_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Converts the source, prints the target's path, and returns the exit status."""
    from hubexport.config_files import load_variant

    to = format_of_target(args.target, args.to)
    options = chosen_options(args, f"hubexport convert --to {to}", to)
    if (deployment := DEPLOYMENTS.get(to)) and deployment.extra:
        require_extras(f"hubexport convert --to {to}", deployment.extra)
    variant = load_variant(args.variant, args.config_dir) if args.variant else None
    from hubexport.conversion import convert  # Imports NumPy, which errors need not wait for.

    with shown_progress(args.quiet) as progress:
        target = convert(
            args.source,
            args.target,
            to,
            variant=variant,
            weights=args.weights,
            scope=args.scope,
            kind=args.kind,
            endpoints=outputs_of(args),
            options=options,
            overwrite=args.overwrite,
            progress=progress,
        )
    print(target)
    return 0
