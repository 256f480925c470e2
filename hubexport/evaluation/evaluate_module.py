"""`hubexport.evaluate`: measures the accuracy of a module on labelled images."""

from collections.abc import Callable, Sequence
import os
from pathlib import Path

from hubexport.beam.options import Beam
from hubexport.engines import Engine
from hubexport.errors import check_positive
from hubexport.evaluation.class_lookup import read_class_lookup
from hubexport.evaluation.evaluation_options import CENTRAL_CROP, EvaluationOptions
from hubexport.evaluation.evaluation_result import Evaluation, conclude
from hubexport.evaluation.evaluation_task import EvaluationTask
from hubexport.evaluation.find_dataset import find_dataset
from hubexport.evaluation.kept_results import opened_results
from hubexport.evaluation.measure_dataset import measure_dataset
from hubexport.extras import require_extras
from hubexport.images.open_module import found_interface
from hubexport.modules.interface_hints import InterfaceHints, OutputKind
from hubexport.progress import Progress


def evaluate(
    module: str | Path,
    data: str | Path,
    *,
    labels: Sequence[str] | str | Path | None = None,
    labels_offset: int = 0,
    limit: int | None = None,
    preprocessing: str = CENTRAL_CROP,
    batch_size: int = 64,
    input_range: tuple[float, float] | None = None,
    output_kind: OutputKind | None = None,
    image_size: tuple[int, int] | None = None,
    engine: Engine | None = None,
    state: str | Path | None = None,
    beam: Beam | None = None,
    config_dir: str | Path | None = None,
    data_name: str | None = None,
    report: Callable[[Evaluation], None] | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures the accuracy of a classification module on labelled images.

    The module gets float32 [batch, height, width, 3], RGB, with intensities in [0, 1] or in `input_range`. Results
    are kept in `state` while images are classified: after an interruption, the same call continues where the last one
    stopped.

    Args:
        module: the module's directory, a gzipped tar of it, or its http or https address on a hub server; or a
            deployment like an ONNX model.
        data: a folder with one subfolder of images per class, named by the class's number or label; or TFRecords like
            those of TF-Slim's ImageNet: a file, a folder, or a pattern such as `imagenet/validation-*-of-00128`.
        labels: the labels by which subfolders may be named, in the order of the data's class numbers, or the path of a
            text file in UTF-8 with one label per line. Defaults to the module's `assets/labels.txt`, if there is one,
            in the order of the module's classes.
        labels_offset: subtracted from a class number of the data to get the index in the module's output: 1 if the data
            has a background class 0 and the module has none, -1 in the opposite case.
        limit: the largest number of images to classify: an even spread of folders, the first of TFRecords. Defaults to
            all.
        preprocessing: `central_crop` (the middle 0.875 of height and width, resized as TensorFlow 1 does, as for the
            published accuracies) or `whole` (the whole image, resized as `hubexport.classify` does).
        batch_size: the number of images that the module computes at once.
        input_range: the intensities of black and white that the module takes, like `(-1, 1)`. Defaults to (0, 1), as in
            the common signatures for images. SavedModels without these signatures, such as Keras models, need it.
        output_kind: the meaning of the module's output: `logits` or `probabilities`. Defaults to what the module says.
            SavedModels without the common signatures need it.
        image_size: height and width in pixels, for a module that takes images of any size. Defaults to the size that
            the module or its manifest names.
        engine: what runs the module: `tensorflow`, or `onnx` for ONNX Runtime, which runs modules of hubexport and
            starts in a fraction of the time. Defaults to TensorFlow, or to ONNX Runtime if TensorFlow is not installed.
            An ONNX model always runs in ONNX Runtime.
        state: the folder in which results are kept until the evaluation is finished. With `beam`, all workers must
            share it. Defaults to a folder in the cache.
        beam: the Apache Beam runner that does the work. Defaults to this process.
        config_dir: a folder with configs of your own variants. The published accuracy comes from a variant's config.
        data_name: what people call the data, like `ImageNet, validation`: a release shows it with the accuracy.
            Defaults to the last part of `data`.
        report: called with the result before the kept results are removed. If it raises, they stay, and the next call
            has nothing left to classify.
        progress: receives each step, and a warning for each image that cannot be read.
    Returns:
        The measured top-1 and top-5 accuracy, with the published ones.
    Raises:
        DataError: the images cannot be found or read, or their labels do not fit the module.
        ImageError: the folder of a class cannot be read.
        ModuleError: the module cannot be opened, is not a classification module, or does not say how to run it.
        OutputError: results cannot be kept.
        UsageError: an argument is wrong, the engine does not run the module, or `state` belongs to another evaluation.
        MissingExtraError: Beam or packages of the engine are missing.
        HubexportError: Beam's runner failed.
    Example:
        >>> path = "modules/google/imagenet/mobilenet_v2_035_96/classification/5"
        >>> evaluation = hubexport.evaluate(path, "classes")
        >>> evaluation.counts.images, evaluation.top1.percent
        (1, 0.0)
    """
    options = EvaluationOptions(preprocessing, batch_size, engine=engine)
    hints = InterfaceHints(input_range, output_kind, image_size)
    hints.check()
    check_positive(limit=1 if limit is None else limit)
    data_path = str(data)
    if beam:
        require_extras("evaluating with Beam", "beam")
        # Workers do not share this process's working directory.
        data_path, state = os.path.abspath(data), state and os.path.abspath(state)
    progress = progress or Progress()
    with found_interface(module, progress, hints) as interface:
        classes = read_class_lookup(labels, interface, labels_offset)
        progress.step(f"looking through {data}")
        task = EvaluationTask(interface, find_dataset(data_path, classes, limit, progress), options)
        with opened_results(state, task.key()) as results:
            measurement = measure_dataset(task, results, beam=beam, progress=progress)
            evaluation = conclude(task, str(data), data_name, measurement, config_dir, progress)
            if report:
                report(evaluation)
            results.remove()
    return evaluation
