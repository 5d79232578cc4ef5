"""The names of the built-in methods as their authors write them, beside the identifiers that commands take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

TITLES = {
    "ablationcam": "Ablation-CAM",
    "attention_flow": "Attention Flow",
    "attnlrp": "AttnLRP",
    "ca_attention": "CA-Stream attention",
    "cam": "CAM",
    "center": "Center",
    "cplrp": "CP-LRP",
    "deconvnet": "DeconvNet",
    "deep_taylor": "Deep Taylor Decomposition",
    "deeplift": "DeepLIFT",
    "edges": "Edges",
    "eigencam": "Eigen-CAM",
    "excitation_backprop": "Excitation Backprop",
    "extremal_perturbation": "Extremal Perturbations",
    "fakecam": "Fake-CAM",
    "finercam": "Finer-CAM",
    "generic_attention": "Generic Attention Explainability",
    "gradcam": "Grad-CAM",
    "gradcam_pp": "Grad-CAM++",
    "gradient": "Gradient",
    "gradient_x_input": "Gradient \N{MULTIPLICATION SIGN} Input",
    "guided_backprop": "Guided Backpropagation",
    "guided_gradcam": "Guided Grad-CAM",
    "guided_gradcam_pp": "Guided Grad-CAM++",
    "hirescam": "HiResCAM",
    "integrated_gradients": "Integrated Gradients",
    "intensity": "Intensity",
    "kernelshap": "Kernel SHAP",
    "layercam": "LayerCAM",
    "legrad": "LeGrad",
    "lime": "LIME",
    "lrp": "LRP",
    "mean_mask": "Mean training mask",
    "meaningful_perturbation": "Meaningful Perturbations",
    "occlusion": "Occlusion",
    "opticam": "Opti-CAM",
    "prototype": "One prototype",
    "prototypes": "Prototypes",
    "random": "Random",
    "raw_attention": "Raw Attention",
    "refinecam": "RefineCAM",
    "rise": "RISE",
    "rollout": "Attention Rollout",
    "scorecam": "Score-CAM",
    "smoothgrad": "SmoothGrad",
    "smoothgrad_squared": "SmoothGrad Squared",
    "tibav": "Transformer Attribution",
    "upsam_act": "Up-sampled activations",
    "upsam_act_relevant": "Up-sampled relevant activations",
    "vargrad": "VarGrad",
    "vebi": "VEBI",
    "xgradcam": "XGrad-CAM",
}
"""Every built-in method by its identifier."""


def title_of(text: str) -> str:
    """The name of a method as its authors write it, with its parameters; a stranger's method keeps its text.

    >>> title_of("gradcam"), title_of("smoothgrad:samples=10,spread=0.1"), title_of("mine:Slope")
    ('Grad-CAM', 'SmoothGrad (samples=10, spread=0.1)', 'mine:Slope')
    """
    name, _, parameters = text.partition(":")
    if name not in TITLES:
        return text
    return f"{TITLES[name]} ({parameters.replace(',', ', ')})" if parameters else TITLES[name]


def short_titles(texts: Collection[str]) -> dict[str, str]:
    """The names of methods as their authors write them, with parameters only if two would have the same name.

    >>> short_titles(["lrp", "smoothgrad:samples=10"])
    {'lrp': 'LRP', 'smoothgrad:samples=10': 'SmoothGrad'}
    """
    short = {text: TITLES.get(text.partition(":")[0], text) for text in texts}
    counts = Counter(short.values())
    return {text: title if counts[title] == 1 else title_of(text) for text, title in short.items()}
