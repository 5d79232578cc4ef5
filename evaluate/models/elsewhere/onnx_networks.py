"""Networks in ONNX files, run by onnxruntime: `onnx:FILE`. They give logits alone, no layers and no gradients."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from an8flower.errors import NotApplicable, Refusal
from an8flower.gate.regular import FileKind, read_bytes

from .ready import ReadyNetwork, import_toolkit, refuse_broken, to_name

ONNX = FileKind("an ONNX file", 2**31, "write it anew with torch.onnx.export", "write one with torch.onnx.export")
PRECISIONS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
REASON = (
    "an ONNX file gives logits alone, neither layers nor gradients: use a method that only masks pictures, such as "
    "rise, occlusion, lime or kernelshap"
)


class OnnxSession:
    """A session of onnxruntime over the bytes of a file, which a copy opens anew."""

    def __init__(self, content: bytes, threads: int) -> None:
        self.content, self.threads = content, threads
        runtime: Any = import_toolkit("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (self.input,) = self.session.get_inputs()
        self.outputs = self.session.get_outputs()

    def __reduce__(self) -> Any:
        return OnnxSession, (self.content, self.threads)

    def __deepcopy__(self, memo: Any) -> OnnxSession:
        return self  # it never changes

    def run(self, images: np.ndarray) -> np.ndarray:
        """The logits (B, C) of images (B, 3, S, S), in batches that the file takes."""
        batch = self.input.shape[0]
        size = batch if isinstance(batch, int) and batch > 0 else len(images)
        values = images.astype(PRECISIONS[self.input.type])
        parts = [self.run_batch(values[start : start + size], size) for start in range(0, len(values), size)]
        return np.concatenate(parts).astype(np.float32)

    def run_batch(self, images: np.ndarray, size: int) -> np.ndarray:
        """The logits of at most so many images; a batch that has to be full is filled up with its last image."""
        filled = np.concatenate([images, np.repeat(images[-1:], size - len(images), axis=0)])
        (logits,) = self.session.run(None, {self.input.name: filled})
        return np.asarray(logits)[: len(images)]


class LogitsOfFile(torch.autograd.Function):
    """The logits that a file gives for images, of which nobody knows a gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, session: OnnxSession) -> Tensor:
        """The logits (B, C) float32 of images (B, 3, S, S), on the images' device."""
        values = session.run(images.detach().cpu().numpy())
        return torch.from_numpy(values).to(images.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """There are no gradients; raises NotApplicable."""
        raise NotApplicable(REASON)


class OnnxNetwork(nn.Module):
    """The network of an ONNX file: normalised images (B, 3, S, S) -> logits (B, C); it runs on the CPU."""

    def __init__(self, session: OnnxSession, digest: str) -> None:
        super().__init__()
        self.session = session
        self.digest = digest  # sha256 of the file

    def extra_repr(self) -> str:
        """The digest of the file, by which a classifier tells networks apart."""
        return self.digest

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the images."""
        if not isinstance(images, Tensor):  # torch.fx follows operations, and there are none to be seen
            raise NotApplicable(REASON)
        return LogitsOfFile.apply(images, self.session)


def open_onnx(file: str) -> ReadyNetwork:
    """Open the network of an ONNX file with one input of images (B, 3, S, S) and one output of logits (B, C).

    Raises:
        Refusal: no such file, no network in it, or other inputs and outputs; onnxruntime is not installed.
    """
    path, place = Path(file), f"onnx:{file}"
    import_toolkit("onnxruntime")
    content = read_bytes(path, ONNX)
    try:
        session = OnnxSession(content, torch.get_num_threads())
    except ValueError as error:
        raise Refusal(f"{place}: {_count_inputs(content)} inputs; expected one, of images (B, 3, S, S)") from error
    except Exception as error:  # onnxruntime has errors of its own
        raise refuse_broken(place, error) from None
    check_ends(place, session)
    network = OnnxNetwork(session, hashlib.sha256(content).hexdigest())
    return ReadyNetwork(network, to_name(path.stem), size=_side(session), black_box=REASON)


def _count_inputs(content: bytes) -> int:
    """The number of inputs of a network that has not just one."""
    runtime: Any = import_toolkit("onnxruntime")
    return len(runtime.InferenceSession(content, providers=["CPUExecutionProvider"]).get_inputs())


def check_ends(place: str, session: OnnxSession) -> None:
    """Raise a Refusal unless images (B, 3, S, S) go in, and logits alone come out."""
    shape = session.input.shape
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3) or session.input.type not in PRECISIONS:
        raise Refusal(
            f"{place}: its input {session.input.name} is {session.input.type} {_write(shape)}; expected floats "
            "(B, 3, S, S), channels in front"
        )
    if len(session.outputs) != 1:
        names = ", ".join(output.name for output in session.outputs)
        raise Refusal(f"{place}: gives {len(session.outputs)} outputs ({names}); expected one of logits (B, C)")


def _side(session: OnnxSession) -> int | None:
    """The side of the images that the file is made for; None where it takes any."""
    height, width = session.input.shape[2:]
    return height if isinstance(height, int) and height == width else None


def _write(shape: list[Any]) -> str:
    """A shape as users write it, with the names of its free dimensions."""
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
