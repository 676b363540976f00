"""The CUDA backend: the ops of ``reference`` as kernels that Numba compiles for NVIDIA GPUs.

Arrays are float32, CuPy's on a GPU or NumPy's in the emulator, and a kernel runs where its arrays are. 4-D
results are channels-last under an (N, C, H, W) view. The same arguments give the same bits every time: no sum
is left to the order in which threads arrive.
"""

from nbconv_kernels.cuda.activation import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hardswish,
    hardswish_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    prelu,
    prelu_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from nbconv_kernels.cuda.adaptive_optim import (
    adagrad_step,
    lion_step,
    rmsprop_step,
)
from nbconv_kernels.cuda.augment import (
    affine_sample,
    color_jitter,
    erase_boxes,
    gaussian_noise,
    mix_images,
)
from nbconv_kernels.cuda.binary_loss import (
    binary_cross_entropy_with_logits,
    hinge_loss,
)
from nbconv_kernels.cuda.concat import (
    accumulate_channels,
    concat,
    put_channels,
    split,
    take_channels,
)
from nbconv_kernels.cuda.contrast_norm import (
    divisive_norm,
    divisive_norm_backward,
    subtractive_norm,
    subtractive_norm_backward,
)
from nbconv_kernels.cuda.conv import (
    conv2d,
    conv2d_backward_bias,
    conv2d_backward_input,
    conv2d_backward_weight,
    conv2d_onto,
    conv_transpose2d,
    conv_transpose2d_backward_input,
    conv_transpose2d_backward_weight,
)
from nbconv_kernels.cuda.dense import (
    dense,
    dense_backward_bias,
    dense_backward_input,
    dense_backward_weight,
    matmul,
)
from nbconv_kernels.cuda.dropout import (
    dropout,
    dropout2d,
)
from nbconv_kernels.cuda.group_norm import (
    group_norm,
    group_norm_backward,
)
from nbconv_kernels.cuda.layer_norm import (
    layer_norm,
    layer_norm_backward,
)
from nbconv_kernels.cuda.layout import (
    accumulate,
    add,
    asarray,
    channels_last,
    empty_like,
    flatten,
    to_numpy,
    unflatten,
)
from nbconv_kernels.cuda.local_response_norm import (
    local_response_norm,
    local_response_norm_backward,
)
from nbconv_kernels.cuda.loss import (
    cross_entropy,
    mse_loss,
)
from nbconv_kernels.cuda.margin_loss import (
    multi_margin_loss,
    multiclass_hinge_loss,
)
from nbconv_kernels.cuda.maxout import (
    maxout,
    maxout_backward,
)
from nbconv_kernels.cuda.memory import deferred as deferred
from nbconv_kernels.cuda.norm import (
    batch_norm2d,
    batch_norm2d_backward,
    batch_norm2d_inference_backward,
    batch_norm2d_statistics,
)
from nbconv_kernels.cuda.optim import (
    adam_step,
    sgd_step,
)
from nbconv_kernels.cuda.pad import (
    pad2d,
    pad2d_backward,
)
from nbconv_kernels.cuda.pool import (
    adaptive_avg_pool2d,
    adaptive_avg_pool2d_backward,
    avg_pool2d,
    avg_pool2d_backward,
    max_pool2d,
    max_pool2d_backward,
    max_unpool2d,
    max_unpool2d_backward,
)
from nbconv_kernels.cuda.regression_loss import (
    huber_loss,
    l1_loss,
    smooth_l1_loss,
)
from nbconv_kernels.cuda.regularization import (
    add_scaled,
    sum_of_squares,
)
from nbconv_kernels.cuda.resample import (
    upsample2d,
    upsample2d_backward,
)
from nbconv_kernels.cuda.residual import (
    accumulate_relu,
    add_relu,
)

name = "cuda"

__all__ = [
    "accumulate",
    "accumulate_channels",
    "accumulate_relu",
    "adagrad_step",
    "adam_step",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool2d_backward",
    "add",
    "add_relu",
    "add_scaled",
    "affine_sample",
    "asarray",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm2d",
    "batch_norm2d_backward",
    "batch_norm2d_inference_backward",
    "batch_norm2d_statistics",
    "binary_cross_entropy_with_logits",
    "channels_last",
    "color_jitter",
    "concat",
    "conv2d",
    "conv2d_backward_bias",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv2d_onto",
    "conv_transpose2d",
    "conv_transpose2d_backward_input",
    "conv_transpose2d_backward_weight",
    "cross_entropy",
    "dense",
    "dense_backward_bias",
    "dense_backward_input",
    "dense_backward_weight",
    "divisive_norm",
    "divisive_norm_backward",
    "dropout",
    "dropout2d",
    "elu",
    "elu_backward",
    "empty_like",
    "erase_boxes",
    "flatten",
    "gaussian_noise",
    "gelu",
    "gelu_backward",
    "group_norm",
    "group_norm_backward",
    "hardswish",
    "hardswish_backward",
    "hinge_loss",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "lion_step",
    "local_response_norm",
    "local_response_norm_backward",
    "log_softmax",
    "log_softmax_backward",
    "matmul",
    "max_pool2d",
    "max_pool2d_backward",
    "max_unpool2d",
    "max_unpool2d_backward",
    "maxout",
    "maxout_backward",
    "mix_images",
    "mse_loss",
    "multi_margin_loss",
    "multiclass_hinge_loss",
    "name",
    "pad2d",
    "pad2d_backward",
    "prelu",
    "prelu_backward",
    "put_channels",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "rmsprop_step",
    "selu",
    "selu_backward",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "smooth_l1_loss",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "split",
    "subtractive_norm",
    "subtractive_norm_backward",
    "sum_of_squares",
    "take_channels",
    "tanh",
    "tanh_backward",
    "to_numpy",
    "unflatten",
    "upsample2d",
    "upsample2d_backward",
]
