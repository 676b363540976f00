"""Ways to look into a model."""

from nbconv.inspect.deconvolution import deconvolution
from nbconv.inspect.features import activations, filters, image_grid
from nbconv.inspect.finite import check_finite
from nbconv.inspect.grad_cam import grad_cam
from nbconv.inspect.gradients import GradientError, check_gradients
from nbconv.inspect.mistakes import Mistakes, confusion_matrix, worst_mistakes
from nbconv.inspect.occlusion import occlusion
from nbconv.inspect.pictures import (
    plot_activations,
    plot_confusion_matrix,
    plot_deconvolution,
    plot_filters,
    plot_grad_cam,
    plot_learning_curves,
    plot_mistakes,
    plot_occlusion,
    plot_receptive_field,
    plot_saliency,
)
from nbconv.inspect.plan import PlanRow, PlanTable, plan
from nbconv.inspect.receptive_box import receptive_box
from nbconv.inspect.receptive_field import ReceptiveField, ReceptiveFields, receptive_field
from nbconv.inspect.saliency import saliency, smooth_grad
from nbconv.inspect.summary import Row, Summary, summarize

__all__ = [
    "GradientError",
    "Mistakes",
    "PlanRow",
    "PlanTable",
    "ReceptiveField",
    "ReceptiveFields",
    "Row",
    "Summary",
    "activations",
    "check_finite",
    "check_gradients",
    "confusion_matrix",
    "deconvolution",
    "filters",
    "grad_cam",
    "image_grid",
    "occlusion",
    "plan",
    "plot_activations",
    "plot_confusion_matrix",
    "plot_deconvolution",
    "plot_filters",
    "plot_grad_cam",
    "plot_learning_curves",
    "plot_mistakes",
    "plot_occlusion",
    "plot_receptive_field",
    "plot_saliency",
    "receptive_box",
    "receptive_field",
    "saliency",
    "smooth_grad",
    "summarize",
    "worst_mistakes",
]
