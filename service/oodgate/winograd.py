"""Winograd's convolution: a kernel of 3 x 3 with a quarter of the multiplications, at some more additions.

Each 4 x 4 tile of an answer comes from 6 x 6 pixels: both are transformed so that 36 products take the place of 144.
Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", F(4 x 4, 3 x 3).
"""

from typing import Any

import torch
from torch import Tensor

from oodgate.engines import torchscript_is_wanted

_PIXELS = (  # B^T of the paper
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (  # G
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_ANSWER = (  # A^T
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)
_PLAIN: dict[str, dict[int, Any]] = {  # by operator: what has to stand in which place of its arguments
    "aten::_convolution": {3: [1, 1], 4: [1, 1], 5: [1, 1], 6: False, 8: 1},  # stride, padding, dilation, groups
    "aten::conv2d": {3: [1, 1], 4: [1, 1], 5: [1, 1], 6: 1},
}
_RECTIFIERS = ("aten::relu", "aten::relu_")
_TILES_AT_ONCE = 64  # of some images: their transforms stay in a core's own cache
_FEWEST_CHANNELS = 32  # with fewer the transforms cost more than the products


def rewrite(network: torch.jit.ScriptModule) -> int:
    """Put Winograd's convolution in the place of the plain one where both give the same; returns how often.

    A rectifier that alone reads a convolution is done by it. The network is a frozen one that has never run.
    """
    graph: Any = network.graph
    with torchscript_is_wanted():
        script = torch.jit.script(convolve)
    fit = [node for operator, plain in _PLAIN.items() for node in graph.findAllNodes(operator) if _is_fit(node, plain)]
    for node in fit:
        images, weight, bias = (list(node.inputs())[place] for place in range(3))
        weights: Tensor = weight.toIValue()
        offsets: Tensor | None = bias.toIValue()
        rectifier = _rectifier_of(node)
        own = (
            transformed(weights),
            torch.zeros(len(weights)) if offsets is None else offsets,
            _both_ways(_PIXELS),
            _both_ways(_ANSWER),
            _TILES_AT_ONCE,
            rectifier is not None,
        )
        with graph.insert_point_guard(node):
            constants = [graph.insertConstant(value) for value in own]
            (answer,) = graph.insertGraph(script.graph, [images, *constants])
        (rectifier or node).output().replaceAllUsesWith(answer)
        if rectifier:
            rectifier.destroy()
        node.destroy()
    return len(fit)


def transformed(weights: Tensor) -> Tensor:
    """Kernels (K, C, 3, 3) as (36, C, K)."""
    kernel = torch.tensor(_KERNEL, dtype=torch.float64)
    found = torch.einsum("ai,kcij,bj->abck", kernel, weights.double(), kernel)
    return found.reshape(36, weights.shape[1], weights.shape[0]).float().contiguous()


def convolve(
    images: Tensor,
    kernels: Tensor,
    bias: Tensor,
    to_tiles: Tensor,
    from_tiles: Tensor,
    tiles_at_once: int,
    rectified: bool,
) -> Tensor:
    """The convolution of images (N, C, H, W) with kernels of `transformed`, padded by one pixel; channels_last."""
    channels, height, width = images.size(1), images.size(2), images.size(3)
    rows, columns, kinds = (height + 3) // 4, (width + 3) // 4, kernels.size(2)
    padding = [0, 0, 1, 4 * columns - width + 1, 1, 4 * rows - height + 1]
    answers: list[Tensor] = []
    for some in images.permute(0, 2, 3, 1).split(max(1, tiles_at_once // (rows * columns))):
        padded = torch.nn.functional.pad(some, padding)
        by_image, by_row, by_column, by_channel = padded.stride()
        tiles = [6, 6, some.size(0), rows, columns, channels]
        strides = [by_row, by_column, by_image, 4 * by_row, 4 * by_column, by_channel]
        products = torch.bmm(
            torch.mm(to_tiles, padded.as_strided(tiles, strides).reshape(36, -1)).view(36, -1, channels), kernels
        )
        products[7].add_(bias)  # of which every pixel of a tile has one
        found = torch.mm(from_tiles, products.view(36, -1))
        if rectified:
            found.clamp_min_(0.0)
        found = found.view(4, 4, some.size(0), rows, columns, kinds).permute(2, 3, 0, 4, 1, 5)
        answers.append(found.reshape(-1, 4 * rows, 4 * columns, kinds))
    return torch.cat(answers)[:, :height, :width].permute(0, 3, 1, 2)


def _is_fit(node: torch.Node, plain: dict[int, Any]) -> bool:
    """Whether it is a convolution of enough channels by a constant kernel of 3 x 3, in steps of 1, padded by 1."""
    values: list[Any] = [value.toIValue() for value in node.inputs()]
    weight, bias = values[1:3]
    if not isinstance(weight, Tensor) or weight.shape[2:] != (3, 3) or min(weight.shape[:2]) < _FEWEST_CHANNELS:
        return False
    return all(values[place] == wanted for place, wanted in plain.items()) and (bias is None or torch.is_tensor(bias))


def _rectifier_of(node: torch.Node) -> torch.Node | None:
    """The ReLU that alone reads what a convolution answers, if there is one."""
    uses: list[Any] = node.output().uses()
    alone = len(uses) == 1 and uses[0].user.kind() in _RECTIFIERS
    return uses[0].user if alone else None


def _both_ways(transform: tuple[tuple[int, ...], ...]) -> Tensor:
    """The matrix that applies a transform to the columns and to the rows of flattened tiles."""
    one_way = torch.tensor(transform, dtype=torch.float32)
    return torch.kron(one_way, one_way).contiguous()
