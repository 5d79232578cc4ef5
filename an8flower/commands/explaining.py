"""The command that explains one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .ensure import ensure_default_data, ensure_default_model
from .options import FILE, device_option


@click.command()
@click.option("--method", required=True, help="See `an8flower methods`; parameters as in smoothgrad:samples=50.")
@click.option("--image", type=FILE, help="A picture to explain.")
@click.option("--data", type=FILE, help="A data set to take a row from.  [default: data/single-6c.h5]")
@click.option("--row", type=click.IntRange(min=0), help="The row within the split.")
@click.option("--split", default="test", show_default=True)
@click.option("--model", help="A safetensors file or package.module:factory.  [default: runs/DATA/flowernet-seed0]")
@click.option("--weights", type=FILE, help="Safetensors with the weights of what package.module:factory makes.")
@click.option("--labels", type=FILE, help="Names of the classes: one a line, or JSON.  [default: of data or model]")
@click.option("--size", type=click.IntRange(8, 4096), help="Side of what the model sees.  [default: its own, or 224]")
@click.option("--normalise", help="imagenet, none, or M,M,M:S,S,S; of a bare network.  [default: imagenet]")
@click.option("--layer", help="What CAM-like methods look at.  [default: the model's, or its last spatial one]")
@click.option("--target", type=int, help="Class index to explain.  [default: the row's label, or what is predicted]")
@device_option
@click.option("-o", "--output", type=FILE, default=Path("explanation.png"), show_default=True)
def explain(
    image: Path | None, data: Path | None, row: int | None, model: str | None, device: str, output: Path, **options: Any
) -> None:
    """Explain one picture: input, map and overlay as a PNG, and the map as .npy beside it.

    Of --image, the model sees the square at the centre, with the shorter side whole; the rest is shown pale. With a
    --model, it takes no data set, but for a method that has to be fitted. A network that is no Classifier of ours gets
    images normalised by ImageNet's mean and standard deviation, as the weights of torchvision want them; another
    --normalise says otherwise.

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
