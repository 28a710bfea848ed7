"""What an engine of TensorRT belongs to: the GPU, CUDA and TensorRT of the place where it is built, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress.targets.measuring.errors import RequestError, plain
from compress.targets.measuring_tensorrt.cuda_driver import Cuda, CudaError

MAJOR = "11"


def import_tensorrt(target: str) -> Any:
    """The module `tensorrt`. Raises RequestError if it, its libraries or its right version are not there."""
    install = f"pip install 'tensorrt=={MAJOR}.*' there (on a Jetson: the JetPack that brings TensorRT {MAJOR})"
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        if error.name not in ("tensorrt", "tensorrt_bindings", "tensorrt_libs"):
            raise
        raise RequestError("library", f"tensorrt is not installed on {target}: {install}") from error
    except (ImportError, OSError) as error:
        raise RequestError("library", f"tensorrt on {target} cannot be loaded ({plain(error)}): {install}") from error
    if tensorrt.__version__.split(".")[0] != MAJOR:
        raise RequestError(
            "library", f"{target} has TensorRT {tensorrt.__version__}, and version {MAJOR} is needed: {install}"
        )
    return tensorrt


def open_gpu(target: str) -> Cuda:
    """The first GPU. Raises RequestError if there is none."""
    try:
        return Cuda()
    except CudaError as error:
        raise RequestError(
            "gpu", f"{target} has no GPU that TensorRT can use: {error}; `nvidia-smi` there must show one"
        ) from error


def belongs_to(cuda: Cuda) -> dict[str, Any]:
    """What an engine that is built here belongs to."""
    import tensorrt

    gpu = cuda.describe()
    kept = {name: gpu[name] for name in ("gpu", "compute_capability", "cuda", "driver")}
    return {**kept, "tensorrt": tensorrt.__version__}


def refuse_elsewhere(made: Mapping[str, Any], here: Mapping[str, Any], target: str) -> None:
    """Raises RequestError unless an engine of `made` may be loaded `here`: both as `belongs_to` tells them."""
    if belonging(made) != belonging(here):
        sides = f"it was built for {_words(made)}, and {target} is {_words(here)}"
        raise RequestError("engine", f"{sides}: build it there, by running the pipeline with this target")


def belonging(facts: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What must be equal: the kind of GPU, its compute capability, CUDA's major version, TensorRT's version."""
    return facts["gpu"], facts["compute_capability"], facts["cuda"].split(".")[0], facts["tensorrt"]


def _words(facts: Mapping[str, Any]) -> str:
    gpu, capability, cuda, version = belonging(facts)
    return f"{gpu} (compute capability {capability}) with CUDA {cuda} and TensorRT {version}"


def facts_file(engine: str) -> Path:
    """The JSON file beside an engine that is to be loaded."""
    return Path(engine).with_suffix(".json")
