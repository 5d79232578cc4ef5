"""A pretended GPU: tensors that say `gpu:0`, live on the CPU, and refuse what CUDA refuses; what would wait is counted.

torch's key for devices of somebody's own (PrivateUse1) is set up as a backend in Python, so that autograd, composite
operations and `tensor.device` are real. Every operation arrives at `execute`, which checks the devices of its tensors,
notes what CUDA would copy or wait for, and runs it on CPU data. With `RenamingFinder` the package is loaded with "cuda"
written "gpu", so that its branches for CUDA run too. All of it changes torch for good: run it in a process of its own
(`pretend_gpu_runs.py`).

What it cannot see: limits of kernels, races, memory that runs out, how a card rounds (`test_arithmetic.py` has TF32),
two GPUs, autocast on the device, the CUDA kernels of other libraries.
"""

from __future__ import annotations

import copy
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

MISTAKE, SCALAR, UPLOAD, DOWNLOAD, WAIT, DOUBLE = "mistake", "cpu scalar", "upload", "download", "wait", "float64"
PACKAGE = tuple(f"{Path(__file__).parents[1]}/{folder}" for folder in ("evaluate/", "an8flower/"))

# The host reads an answer; or the shape of the result depends on values, which the host has to wait for.
ANSWERS = {"_local_scalar_dense", "equal", "allclose", "is_nonzero", "item"}
SHAPES = {"nonzero", "unique", "_unique2", "unique_dim", "unique_consecutive", "masked_select", "bincount", "argwhere"}
SOLVERS = {"linalg_eigh", "_linalg_eigh", "linalg_eigvalsh", "_linalg_svd", "linalg_inv_ex", "linalg_lstsq"}
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_", "_unsafe_index_put"}
COPIES = {"copy_", "_to_copy", "set_", "_copy_from"}
NO_KERNELS = {"detach", "_has_compatible_shallow_copy_type", "lift_fresh", "set_"}


def replace_inference_mode() -> None:
    """Have no inference mode, in which views of these wrappers cannot be made; before functions are decorated by it."""
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else nullcontext()


class Log:
    """What happened on the pretended GPU, by kind and by line of the package."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str, str]] = Counter()
        self.launches = 0  # operations that would launch kernels

    def note(self, kind: str, what: str) -> None:
        self.events[kind, line_of_the_package(), what] += 1

    def count(self, *kinds: str) -> int:
        return sum(times for (kind, _, _), times in self.events.items() if kind in kinds)

    def lines(self, *kinds: str) -> list[str]:
        """`line: what (times)` of some kinds, the most frequent first."""
        return [f"{line}: {what} ({times})" for (kind, line, what), times in self.events.most_common() if kind in kinds]


LOG = Log()


def line_of_the_package() -> str:
    """The innermost line of the package that is running; else of a library, or of whoever called."""
    frame, outside = sys._getframe(1), ""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGE):
            return f"{name.removeprefix(f'{Path(__file__).parents[1]}/')}:{frame.f_lineno}"
        if not outside and "/torch/" not in name and "pretend_gpu.py" not in name:
            outside = f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return outside


class OnGpu(torch.Tensor):
    """A tensor that says gpu:0; `values` has its data."""

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> OnGpu:
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device=torch.device("gpu:0"),
            requires_grad=False,
        )
        wrapper.values_on_cpu = values
        return wrapper

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return execute(func, args, kwargs or {})

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        LOG.note(MISTAKE, "numpy() of a GPU tensor")
        return self.detach().values_on_cpu.numpy()

    def __array__(self, dtype: Any = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def tolist(self) -> Any:
        LOG.note(DOWNLOAD, "tolist")
        return self.values_on_cpu.tolist()

    def data_ptr(self) -> int:
        return self.values_on_cpu.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> OnGpu:
        duplicate = OnGpu(copy.deepcopy(self.values_on_cpu.detach(), memo))
        if getattr(self, "_is_param", False):
            duplicate._is_param = True
        memo[id(self)] = duplicate
        return duplicate.requires_grad_(self.requires_grad)

    def __repr__(self) -> str:
        return f"OnGpu({tuple(self.shape)}, {self.dtype})"

    @property
    def data(self) -> torch.Tensor:
        return self.detach()

    @data.setter
    def data(self, other: OnGpu) -> None:
        torch.Tensor.data.__set__(self, other)
        self.values_on_cpu = other.values_on_cpu

    @property
    def is_cuda(self) -> bool:
        return True


def take_off(value: Any) -> Any:
    """The CPU data of a tensor on the pretended GPU; anything else as it is."""
    return value.values_on_cpu if isinstance(value, OnGpu) else value


def put_on(value: Any) -> Any:
    """A tensor on the pretended GPU; anything else as it is."""
    return OnGpu(value) if isinstance(value, torch.Tensor) and not isinstance(value, OnGpu) else value


def leaves_of(value: Any) -> Iterator[Any]:
    """What lies in nested lists, tuples and dicts, as torch's `tree_leaves` gives it in four times as long."""
    if isinstance(value, list | tuple):
        for inner in value:
            yield from leaves_of(inner)
    elif isinstance(value, dict):
        yield from leaves_of([*value.values()])
    else:
        yield value


def replaced(function: Callable[[Any], Any], value: Any) -> Any:
    """The same lists, tuples and dicts with a function of what lies in them, as torch's `tree_map` gives them."""
    if isinstance(value, list | tuple):
        return type(value)([replaced(function, inner) for inner in value])
    if isinstance(value, dict):
        return {key: replaced(function, inner) for key, inner in value.items()}
    return function(value)


def is_on_gpu(value: Any) -> bool:
    """Whether an argument is a tensor on the pretended GPU, or a list that has one."""
    return isinstance(value, OnGpu) or (isinstance(value, list | tuple) and any(map(is_on_gpu, value)))


def execute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on CPU data, and dress its results."""
    device = kwargs.get("device")
    if device is None and not any(is_on_gpu(value) for value in (*args, *kwargs.values())):
        return func(*args, **kwargs)
    name = func.overloadpacket.__name__
    tensors = [leaf for leaf in leaves_of((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    on_gpu = any(isinstance(tensor, OnGpu) for tensor in tensors)
    to_gpu = torch.device(device).type == "gpu" if device is not None else on_gpu
    if not on_gpu and not to_gpu:
        return func(*args, **kwargs)
    check_devices(name, args, tensors)
    note_traffic(func, name, args, tensors, on_gpu, to_gpu)
    if name == "_fused_sdp_choice":
        return 0
    inner = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    if device is not None:
        inner["device"] = torch.device("cpu")
    if inner.get("generator") is not None and to_gpu:
        LOG.note(MISTAKE, f"{name}: a generator, probably of the CPU")
    result = func(*replaced(take_off, args), **replaced(take_off, inner))
    if to_gpu and any(isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64 for leaf in leaves_of(result)):
        LOG.note(DOUBLE, name)
    if name == "_to_copy" and to_gpu != on_gpu:
        return put_on(result) if to_gpu else result
    if name == "copy_" and not isinstance(args[0], OnGpu):
        return args[0]
    result = replaced(put_on, result) if to_gpu else result
    return return_and_correct_aliasing(func, args, kwargs, result) if on_gpu else result


def check_devices(name: str, args: Any, tensors: list[torch.Tensor]) -> None:
    """Note what CUDA would refuse, since its tensors lie on two devices."""
    plain = [tensor for tensor in tensors if not isinstance(tensor, OnGpu)]
    if not plain or len(plain) == len(tensors) or name in COPIES:
        return None
    if name in INDEXING:
        return check_indexing(name, *args)
    if all(tensor.ndim == 0 for tensor in plain):
        return LOG.note(SCALAR, name)
    shapes = [("gpu" if isinstance(tensor, OnGpu) else "cpu", tuple(tensor.shape)) for tensor in tensors]
    return LOG.note(MISTAKE, f"{name}: {shapes}")


def check_indexing(name: str, tensor: torch.Tensor, indices: Any, *rest: Any) -> None:
    """A GPU's tensor takes indices of the CPU, and copies them; no tensor takes the GPU's values or indices."""
    if not isinstance(tensor, OnGpu):
        LOG.note(MISTAKE, f"{name}: a CPU tensor indexed by GPU indices")
    for index in indices:
        if isinstance(index, torch.Tensor) and not isinstance(index, OnGpu):
            LOG.note(UPLOAD, f"{name}: indices of the CPU")
    if rest and isinstance(rest[0], torch.Tensor) and not isinstance(rest[0], OnGpu):
        LOG.note(MISTAKE if rest[0].ndim else SCALAR, f"{name}: values of the CPU {tuple(rest[0].shape)}")


def note_traffic(func: Any, name: str, args: Any, tensors: list[torch.Tensor], on_gpu: bool, to_gpu: bool) -> None:
    """Note what is copied between the devices, what the host would wait for, and what is launched."""
    LOG.launches += is_launched(func, name)
    if name == "_to_copy" and on_gpu != to_gpu:
        LOG.note(UPLOAD if to_gpu else DOWNLOAD, "to")
    elif name == "copy_" and isinstance(args[0], OnGpu) != isinstance(args[1], OnGpu):
        LOG.note(UPLOAD if isinstance(args[0], OnGpu) else DOWNLOAD, "copy_")
    elif name in ANSWERS | SHAPES | SOLVERS or (name == "repeat_interleave" and len(tensors) > 1):
        LOG.note(WAIT, name)
    elif name in INDEXING and any(is_mask(index) for index in args[1]):
        LOG.note(WAIT, f"{name} by a mask")


def is_mask(index: Any) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


@cache
def is_launched(func: Any, name: str) -> bool:
    """Whether an operation does more than look at its input in another way."""
    returned = func._schema.returns
    views = [value.alias_info is not None and not value.alias_info.is_write for value in returned]
    return not (views and all(views)) and name not in NO_KERNELS


class Everywhere(TorchDispatchMode):
    """Lets operations without a GPU tensor arrive too: those that make tensors, and copies to the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return execute(func, args, kwargs or {})


class Module(backend_registration._DummyBackendModule):
    """What `torch.cuda` offers, as `torch.gpu`."""

    OutOfMemoryError = torch.OutOfMemoryError

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def synchronize(self, device: Any = None) -> None:
        LOG.note(WAIT, "synchronize")

    def empty_cache(self) -> None:
        pass

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return 100 * 2**30, 139 * 2**30

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.zeros(16, dtype=torch.uint8)

    def get_rng_state_all(self) -> list[torch.Tensor]:
        return [self.get_rng_state()]

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        pass

    def manual_seed_all(self, seed: int) -> None:
        pass

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        return 7, 5  # autocast knows no operations of this key: train in single precision

    def get_device_name(self, device: Any = None) -> str:
        return "pretended GPU"

    def _lazy_init(self) -> None:
        pass

    @contextmanager
    def device(self, index: Any):  # type: ignore[no-untyped-def]
        yield

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16, torch.float32]


def install() -> None:
    """Register the backend; inside `Everywhere` all operations of this process arrive."""
    backend_registration._setup_privateuseone_for_python_backend("gpu", backend_module=Module())
    torch._C._set_only_lift_cpu_tensors(True)


def rename(text: str) -> str:
    """Source in which CUDA is called gpu; its lines stay where they are."""
    text = re.sub(r"torch\.cuda\b", "torch.gpu", text).replace('"cuda"', '"gpu"').replace(".cuda()", ".gpu()")
    return text.replace('f"cuda:{i}"', 'f"gpu:{i}"').replace('"cuda:', '"gpu:')


class RenamingLoader(SourceFileLoader):
    """Loads a module in which CUDA is called gpu, so that its branches for CUDA run."""

    def get_code(self, fullname: str) -> CodeType | None:
        source = self.get_source(fullname)
        renamed = rename(source)
        return super().get_code(fullname) if renamed == source else compile(renamed, self.path, "exec")


class RenamingFinder(MetaPathFinder):
    """Finds the modules of this package as everybody does, and has them loaded so."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "an8flower":
            return None
        finders = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in finders)), None)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = RenamingLoader(spec.loader.name, spec.loader.path)
        return spec
