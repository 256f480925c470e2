"""The output shape of each op. Shapes leave out the batch; a height or width of None is open."""

from collections.abc import Callable, Iterable
from typing import Any

from hubexport.networks import ops
from hubexport.networks.ops import Op, Padding, TensorShape


def output_shapes(sequence: Iterable[Op]) -> dict[str, TensorShape]:
    """Returns the output shape of each op by its name, for ops in an order in which each comes after its inputs."""
    shapes: dict[str, TensorShape] = {}
    for op in sequence:
        shapes[op.name] = output_shape(op, *(shapes[name] for name in op.inputs))
    return shapes


def output_shape(op: Op, *inputs: TensorShape) -> TensorShape:
    """Returns the shape that an op gives for the shapes of its inputs.

    Raises:
        ValueError: the shapes do not fit the op.
    """
    return RULES[type(op)](op, *inputs)


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Returns how many rows or columns TensorFlow's SAME pads before and after an image; an odd one comes after it.

    Args:
        size: the image's height or width, in pixels.
        window: the window's, in pixels.
        stride: the step of the window, in pixels.
    """
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def padded(op: ops.Conv | ops.DepthwiseConv | ops.Pool, image: TensorShape) -> tuple[tuple[int, int], ...] | None:
    """Returns how many pixels an op pads: (above, below) and (left, right).

    Args:
        op: an op with a window.
        image: the shape of its input.
    Returns:
        None if that depends on a height or width that is open.
    """
    if op.padding == "VALID":
        return (0, 0), (0, 0)
    window = op.window if isinstance(op, ops.Pool) else op.kernel.shape[:2]
    pads = []
    for size, length, stride in zip(image[:2], window, op.stride, strict=True):
        if size is None and stride > 1 and length > 1:
            return None
        # Otherwise every size is padded alike.
        pads.append(same_padding(size or length, length, stride))
    return tuple(pads)


def _windows(size: int | None, window: int, stride: int, padding: Padding) -> int | None:
    if size is None:
        return None
    room = size if padding == "SAME" else size - window + 1
    if room < 1:
        raise ValueError(f"a window of {window} pixels does not fit into {size}")
    return -(-room // stride)


def _slid(shape: TensorShape, window: tuple[int, ...], op: Any) -> tuple[int | None, ...]:
    return tuple(
        _windows(size, length, stride, op.padding)
        for size, length, stride in zip(shape[:2], window, op.stride, strict=True)
    )


def _check_channels(op: Op, found: int | None, wanted: int) -> None:
    if found != wanted:
        raise ValueError(f"{op.name} takes {wanted} channels, not {found}")


def _input(op: ops.Input) -> TensorShape:
    return op.shape


def _conv(op: ops.Conv, image: TensorShape) -> TensorShape:
    height, width, channels, filters = op.kernel.shape
    _check_channels(op, image[-1], channels)
    return (*_slid(image, (height, width), op), filters)


def _depthwise_conv(op: ops.DepthwiseConv, image: TensorShape) -> TensorShape:
    height, width, channels, multiplier = op.kernel.shape
    _check_channels(op, image[-1], channels)
    return (*_slid(image, (height, width), op), channels * multiplier)


def _batch_norm(op: ops.BatchNorm, image: TensorShape) -> TensorShape:
    _check_channels(op, image[-1], op.beta.shape[0])
    return image


def _same(op: Op, first: TensorShape, *_: TensorShape) -> TensorShape:
    return first


def _pool(op: ops.Pool, image: TensorShape) -> TensorShape:
    return (*_slid(image, op.window, op), image[-1])


def _mean(op: ops.Mean, image: TensorShape) -> TensorShape:
    return 1, 1, image[-1]


def _longer(image: TensorShape, pixels: tuple[int, ...]) -> TensorShape:
    sizes = zip(image[:2], pixels, strict=True)
    return (*(None if size is None else size + more for size, more in sizes), image[-1])


def _pad(op: ops.Pad, image: TensorShape) -> TensorShape:
    return _longer(image, (op.before[0] + op.after[0], op.before[1] + op.after[1]))


def _slice(op: ops.Slice, image: TensorShape) -> TensorShape:
    return _longer(image, (-op.begin[0], -op.begin[1]))


def _concat(op: ops.Concat, *images: TensorShape) -> TensorShape:
    if any(image[:2] != images[0][:2] for image in images):
        raise ValueError(f"{op.name} takes images of one size, not {images}")
    return (*images[0][:2], sum(image[-1] or 0 for image in images))


def _add(op: ops.Add, first: TensorShape, second: TensorShape) -> TensorShape:
    if first != second:
        raise ValueError(f"{op.name} takes tensors of one shape, not {first} and {second}")
    return first


def _multiply(op: ops.Multiply, first: TensorShape, second: TensorShape) -> TensorShape:
    if first[-1] != second[-1]:
        raise ValueError(f"{op.name} takes tensors with the same channels, not {first} and {second}")
    return second if first[:2] == (1, 1) else first


def _matmul(op: ops.MatMul, row: TensorShape) -> TensorShape:
    _check_channels(op, row[-1], op.kernel.shape[0])
    return op.kernel.shape[1:]


def _squeeze(op: ops.Squeeze, image: TensorShape) -> TensorShape:
    if image[:2] != (1, 1):
        raise ValueError(f"{op.name} takes images of one pixel, not {image}")
    return image[2:]


RULES: dict[type[Op], Callable[..., TensorShape]] = {
    ops.Input: _input,
    ops.Conv: _conv,
    ops.DepthwiseConv: _depthwise_conv,
    ops.BatchNorm: _batch_norm,
    ops.Activation: _same,
    ops.Pool: _pool,
    ops.Mean: _mean,
    ops.Pad: _pad,
    ops.Slice: _slice,
    ops.Concat: _concat,
    ops.Add: _add,
    ops.Multiply: _multiply,
    ops.Scale: _same,
    ops.MatMul: _matmul,
    ops.Squeeze: _squeeze,
    ops.Dropout: _same,
    ops.DropPath: _same,
    ops.Softmax: _same,
    ops.Identity: _same,
}
