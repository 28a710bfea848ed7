"""The table of ATen operators: name -> the rule for its labels. What is elementwise needs no entry."""

from __future__ import annotations

from collections.abc import Mapping

from compress.pruning import reducing_rules, rules, weighted_rules
from compress.pruning.rules import Rule

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias", "unflatten"), rules.view),
    **dict.fromkeys(
        ("clone", "_to_copy", "alias", "detach", "detach_", "lift_fresh", "contiguous", "bernoulli", "dropout",
         "view_as", "fill_", "zero_", "fill", "tril", "triu", "masked_fill", "masked_fill_"),
        rules.same,
    ),
    **dict.fromkeys(
        ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros", "new_ones",
         "new_full", "new_empty", "new_empty_strided"),
        rules.free,
    ),
    **dict.fromkeys(("copy_", "copy"), rules.copied),
    **dict.fromkeys(
        ("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "hardtanh", "hardtanh_", "mish", "mish_", "softplus",
         "elu", "elu_", "celu", "selu", "leaky_relu", "leaky_relu_", "softshrink", "hardshrink", "relu6", "threshold",
         "_prelu_kernel"),
        rules.pointwise,
    ),
    "glu": rules.gated,
    **dict.fromkeys(("as_strided", "as_strided_"), rules.restrided),
    "permute": rules.permute,
    **dict.fromkeys(("transpose", "t", "transpose_", "t_"), rules.transpose),
    **dict.fromkeys(("unsqueeze", "unsqueeze_"), rules.unsqueeze),
    **dict.fromkeys(("squeeze", "squeeze_"), rules.squeeze),
    "expand": rules.expand,
    "repeat": rules.repeat,
    "cat": rules.cat,
    "stack": rules.stack,
    "slice": rules.slices,
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), rules.split),
    "select": rules.select,
    "unbind": rules.unbind,
    "index_select": rules.pick,
    "index": rules.index,
    **dict.fromkeys(
        ("_softmax", "_safe_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum"), reducing_rules.rigid
    ),
    **dict.fromkeys(("roll", "flip"), rules.turned),
    "constant_pad_nd": rules.pad,
    **dict.fromkeys(
        ("mean", "var", "std", "var_mean", "std_mean", "amax", "amin", "max", "min", "argmax", "argmin", "prod",
         "logsumexp", "any", "all"),
        reducing_rules.reduced,
    ),
    "sum": reducing_rules.summed,
    **dict.fromkeys(
        ("avg_pool1d", "max_pool1d", "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool2d",
         "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices", "_adaptive_avg_pool2d",
         "_adaptive_avg_pool3d", "adaptive_max_pool2d", "upsample_nearest1d", "upsample_nearest2d",
         "upsample_nearest3d", "_upsample_nearest_exact2d", "upsample_linear1d", "upsample_bilinear2d",
         "_upsample_bilinear2d_aa", "upsample_bicubic2d", "_upsample_bicubic2d_aa", "upsample_trilinear3d",
         "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d", "grid_sampler_2d"),
        reducing_rules.images,
    ),
    "pixel_shuffle": reducing_rules.pixel_shuffle,
    "pixel_unshuffle": reducing_rules.pixel_unshuffle,
    **dict.fromkeys(("convolution", "_convolution"), weighted_rules.convolution),
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "matmul"), weighted_rules.product),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), weighted_rules.product_and_sum),
    "linear": weighted_rules.linear,
    "embedding": weighted_rules.embedding,
    **dict.fromkeys(
        ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit",
         "_native_batch_norm_legit_no_training", "_batch_norm_no_update"),
        weighted_rules.batch_norm,
    ),
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm"), weighted_rules.layer_norm),
    "native_group_norm": weighted_rules.group_norm,
    **dict.fromkeys(
        ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
         "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
        weighted_rules.attention,
    ),
}  # fmt: skip
