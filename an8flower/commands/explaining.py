"""The command that explains one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .ensure import ensure_default_data, ensure_default_model
from .options import FILE, device_option, download_option, split_option, trust_option


@click.command()
@click.option(
    "--method", required=True, help="A method of `an8flower methods`; parameters as in smoothgrad:samples=50."
)
@click.option("--image", type=FILE, help="A picture to explain.")
@click.option("--data", type=FILE, help="A data set to take a row from.  [default: data/single-6c.h5]")
@click.option("--row", type=click.IntRange(min=0), help="The row to explain, counted from 0 within the split.")
@split_option
@click.option(
    "--model",
    is_eager=True,
    help="A safetensors file, package.module:factory, timm:NAME, torchvision:NAME, hf:FOLDER or onnx:FILE.  "
    "[default: runs/DATA/flowernet-seed0]",
)
@click.option("--weights", type=FILE, help="A safetensors file for the network that the factory makes.")
@click.option(
    "--class-names",
    "--labels",
    "labels",
    type=FILE,
    help="A file of class names: one a line, or JSON.  [default: those of the data or model]",
)
@click.option(
    "--size", type=click.IntRange(8, 4096), help="Side in pixels of what the model sees.  [default: its own, or 224]"
)
@click.option(
    "--normalise",
    help="For a bare network: imagenet, none, or means:deviations as M,M,M:S,S,S.  "
    "[default: the network's own, or imagenet]",
)
@click.option(
    "--layer",
    help="The layer that CAMs look at.  [default: the model's, or the last one with spatial extent; of a known vision "
    "transformer, the last norm]",
)
@click.option(
    "--target",
    type=int,
    help="Index of the class to explain.  [default: the row's label; of a picture, what is predicted]",
)
@trust_option
@download_option
@device_option
@click.option(
    "-o", "--output", type=FILE, default=Path("explanation.png"), show_default=True, help="The picture to write."
)
def explain(
    image: Path | None, data: Path | None, row: int | None, model: str | None, device: str, output: Path, **options: Any
) -> None:
    """Explain one picture: input, map and overlay as a PNG, and the map as .npy beside it.

    Of an --image, the model sees the largest square at the centre; the rest is shown pale. With a --model, no data set
    is needed, except for methods that have to be fitted. A bare torch network gets pictures in ImageNet's
    normalisation, as the weights of torchvision expect them, unless --normalise says otherwise.

    \b
    Example:  an8flower explain --method gradcam --row 7 -o why.png
              an8flower explain --method gradcam --image cat.png --model torchvision.models:resnet18
                  --weights resnet18.safetensors --labels imagenet.txt --target 283 -o why.png
    """
    if (image is None) == (row is None):
        raise click.UsageError("give either --image FILE, or --row N (with --data FILE)")
    if data is None and (row is not None or model is None):
        data = ensure_default_data()
    if model is None:
        assert data, "made just now"
        model = str(ensure_default_model(data, device))
    from ..evaluate.calls import explain as explain_picture

    explanation = explain_picture(image=image, data=data, row=row, model=model, device=device, **options)
    beside = explanation.save(output)
    click.echo(f"{output}: {explanation.sentence}; the map itself is in {beside}")
