"""Preprocessing, fitted on training data and saved with the model: layers for its front.

``nb.Sequential(nb.preprocess.Standardize.fit(x_train), nb.Conv2d(...), ...)``. As layers they are computed
wherever the model is, apply to training, evaluation and prediction alike, and let gradients through to the
image as it was given. What was measured is in buffers, so that ``save``, ``nb.load``, ``state_dict`` and
``to`` know it. Called alone they give arrays: ``zca(x)``.
"""

from nbconv.preprocess.affine import ChannelMean, MeanImage, Standardize
from nbconv.preprocess.geometry import CenterCrop, Resize
from nbconv.preprocess.linear import PCA, ZCA, PCAWhitening

__all__ = ["PCA", "ZCA", "CenterCrop", "ChannelMean", "MeanImage", "PCAWhitening", "Resize", "Standardize"]
