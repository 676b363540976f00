"""Augmentation: resampling (``affine``), ``noise``, ``color``, boxes erased and images mixed (``mix``)."""

from __future__ import annotations

from nbconv_kernels.cuda.augment.affine import affine_sample
from nbconv_kernels.cuda.augment.color import color_jitter
from nbconv_kernels.cuda.augment.mix import erase_boxes, mix_images
from nbconv_kernels.cuda.augment.noise import gaussian_noise

__all__ = ["affine_sample", "color_jitter", "erase_boxes", "gaussian_noise", "mix_images"]
