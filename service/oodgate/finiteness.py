"""Whether the operators of a network make finite numbers of finite ones, so that no image brings NaN about in it.

Numbers that outgrow the network's format are left aside.
"""

from collections.abc import Iterator
from math import isfinite
from typing import Any

import torch
from torch import Tensor

_EXACT_TYPES = {"int", "bool", "str", "Device", "NoneType", "List[int]", "List[bool]", "Optional[int]"}

_SHAPES = (
    "as_strided chunk clone contiguous detach expand expand_as flatten flip index index_select narrow pad permute "
    "pixel_shuffle pixel_unshuffle repeat reshape reshape_as roll select slice split split_with_sizes squeeze stack "
    "swapaxes t to transpose type_as unbind unflatten unsqueeze view view_as cat broadcast_to constant_pad_nd "
    "reflection_pad2d replication_pad2d channel_shuffle"
)
_VALUES = "arange fill fill_ full full_like new_full new_zeros ones ones_like zero_ zeros zeros_like"
_SUMS = (
    "_convolution conv1d conv2d conv3d conv_transpose2d linear addmm addbmm baddbmm matmul mm bmm einsum dot add add_ "
    "addcmul sub sub_ rsub mul mul_ neg abs square sum cumsum mean linalg_vector_norm lerp"
)
_CHOICES = (
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
    "adaptive_max_pool2d max min amax amin maximum minimum masked_fill masked_fill_ clamp clamp_ clamp_min clamp_max "
    "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d dropout dropout_ feature_dropout alpha_dropout round "
    "floor ceil"
)
_COMPARISONS = "eq ne lt le gt ge logical_and logical_or logical_not isfinite isnan"
_ACTIVATION_FUNCTIONS = (
    "relu relu_ relu6 relu6_ hardtanh hardtanh_ leaky_relu leaky_relu_ prelu elu elu_ celu selu selu_ gelu gelu_ silu "
    "silu_ mish mish_ sigmoid sigmoid_ log_sigmoid tanh tanh_ softplus softmax log_softmax hardswish hardswish_ "
    "hardsigmoid hardsigmoid_ threshold threshold_ sin cos"
)
_TAME = {
    f"aten::{name}"
    for names in (_SHAPES, _VALUES, _SUMS, _CHOICES, _COMPARISONS, _ACTIVATION_FUNCTIONS)
    for name in names.split()
}

# By operator: the place of an argument by which it divides, or that keeps it from dividing by zero.
_DIVISORS = {f"aten::{name}": 1 for name in ("div", "div_", "floor_divide", "remainder")}
_DIVISORS |= {f"aten::{name}": 4 for name in ("layer_norm", "group_norm")}
_DIVISORS |= {f"aten::{name}": 7 for name in ("batch_norm", "instance_norm")}
# And the place of a mask, which may leave nothing to weigh.
_MASKS = {"aten::scaled_dot_product_attention": 3, "aten::_native_multi_head_attention": 9}


def stays_finite(network: torch.jit.ScriptModule) -> bool:
    """Whether nothing but numbers that outgrow their format can become NaN in a network; False if unknown."""
    weights = [*network.parameters(), *network.buffers()]
    return all(map(_is_finite, weights)) and all(map(_is_tame, _nodes(network.inlined_graph)))


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _is_tame(node: Any) -> bool:
    kind, arguments = node.kind(), list(node.inputs())
    if kind == "prim::Constant":
        return _is_finite(node.output().toIValue())
    if kind in _DIVISORS:
        return _is_number_but_zero(arguments[_DIVISORS[kind]].toIValue())
    if kind in _MASKS:
        return str(arguments[_MASKS[kind]].type().kind()) == "NoneType"
    return kind in _TAME or kind.startswith("prim::") or _is_exact(node)


def _is_exact(node: Any) -> bool:
    """Whether it answers shapes and the like, which are no results of the network."""
    return all(output.type().annotation_str in _EXACT_TYPES for output in node.outputs())


def _is_finite(value: object) -> bool:
    if isinstance(value, Tensor):
        return bool(value.isfinite().all())
    return not isinstance(value, float) or isfinite(value)


def _is_number_but_zero(value: object) -> bool:
    if isinstance(value, Tensor):
        return bool((value.isfinite() & (value != 0)).all())
    return isinstance(value, (int, float)) and isfinite(value) and value != 0
