"""The class token's attention in the last block of a transformer: what NAP reads there (appendix K of the paper).

The paper's score is the largest entry of the row that the class token attends with. Fused attention never makes that
row, so it is computed again from the block's queries and keys. Heads are averaged before the maximum is taken.
The row sums to 1 over its tokens, so its mean is constant and (max / (mean + 1))^2 rises strictly with the maximum.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from oodgate.offline.exporting.calls import Call
from oodgate.offline.exporting.maps import ATTENTION
from oodgate.offline.exporting.recording import Recording


def find_class_attention(recording: Recording) -> Call | None:
    """The last attention whose class token, the first, alone reaches the logits; None in other networks."""
    for pick in recording.bottlenecks()[:-1]:
        if not _picks_first_token(pick):
            continue
        tokens = pick.args[0].shape[1]
        for index in sorted(recording.ancestors(pick.index), reverse=True):
            call = recording.calls[index]
            if call.name in ATTENTION and _tokens(call) == tokens:
                return call
    return None


def class_row(call: Call) -> Tensor:
    """Attention (N, 1, 1, tokens) of the first token, averaged over heads, from any form of attention."""
    return _ROWS[call.name](call).mean(1)[:, None, None]


def _picks_first_token(call: Call) -> bool:
    source = call.args[0] if call.args else None
    if call.name not in ("__getitem__", "select") or not isinstance(source, Tensor) or source.ndim != 3:
        return False
    return isinstance(call.result, Tensor) and torch.equal(call.result, source[:, 0])


def _tokens(call: Call) -> int | None:
    """Number of tokens of self-attention that weighs them all; None for masked attention and other softmaxes."""
    if call.name == "softmax":
        square = call.rank == 4 and call.shape[2] == call.shape[3]
        return call.shape[3] if square else None
    if call.name == "multi_head_attention_forward":
        given = _arguments(call)
        plain = given["attn_mask"] is None and given["key_padding_mask"] is None and given["in_proj_weight"] is not None
        return int(given["key"].shape[0]) if plain else None
    query, key = call.args[:2]
    plain = call.argument(3, "attn_mask") is None and not call.argument(5, "is_causal", False)
    return int(key.shape[2]) if plain and query.shape == key.shape else None


def _row_of_fused(call: Call) -> Tensor:
    query, key = call.args[:2]  # (N, heads, tokens, d)
    scale = call.kwargs.get("scale") or 1 / math.sqrt(query.shape[-1])
    return torch.softmax(query[:, :, :1] @ key.transpose(-2, -1) * scale, -1)[:, :, 0]


def _row_of_module(call: Call) -> Tensor:
    """From torch.nn.MultiheadAttention, whose tokens come first: (tokens, N, E)."""
    given = _arguments(call)
    weight, bias, heads = given["in_proj_weight"], given["in_proj_bias"], given["num_heads"]
    of_query, of_key, _ = weight.chunk(3)
    bias_query, bias_key, _ = (None, None, None) if bias is None else bias.chunk(3)
    query = F.linear(given["query"][0], of_query, bias_query).unflatten(-1, (heads, -1))  # (N, heads, d)
    key = F.linear(given["key"], of_key, bias_key).unflatten(-1, (heads, -1))  # (tokens, N, heads, d)
    products = torch.einsum("nhd,tnhd->nht", query, key)
    return torch.softmax(products / math.sqrt(query.shape[-1]), -1)


def _arguments(call: Call) -> dict[str, Any]:
    bound = inspect.signature(F.multi_head_attention_forward).bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    return bound.arguments


_ROWS: dict[str, Callable[[Call], Tensor]] = {  # each (N, heads, tokens)
    "scaled_dot_product_attention": _row_of_fused,
    "multi_head_attention_forward": _row_of_module,
    "softmax": lambda call: call.result[:, :, 0],
}
