"""The stages as functions on an `nn.Module`. What they do is what `compress run` does: the same code behind both.

Functions leave the network that they are given as it is and return a new one. Settings are the keys of the stage in a
pipeline file, with the same defaults; wrong ones raise `compress.errors.UsageError`, which lists all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from compress.data.dataset import Data
from compress.data.settings import read_data_settings
from compress.distillation.stage import Distill
from compress.errors import UsageError
from compress.exporting.stage import Export
from compress.pruning.stage import Prune
from compress.quantization.stage import Quantize
from compress.settings import Settings
from compress.stage import Context, Progress, Silent
from compress.targets.reading import read_target
from compress.tasks.settings import read_task_settings
from compress.tasks.task import Task
from compress.threads import default_threads
from compress.training.stage import Train
from compress.validation import checked

if TYPE_CHECKING:
    from torch import nn

AnySettings = TypeVar("AnySettings", bound=Settings)
AnyData = Data | str | Path | Mapping[str, Any]
AnyTask = Task | str | Mapping[str, Any]
CLASSES = "image-classification"


def load_data(data: AnyData) -> Data:
    """Data by built-in name, by the path of a file like `configs/data/digits.yaml`, or by the content of one.

    Raises:
        UsageError: a setting is wrong, or files, columns or shapes are not what the settings say.
    """
    from compress.data.open import open_data

    if isinstance(data, Data):
        return data
    given = str(data) if isinstance(data, Path) else data
    return open_data(read_data_settings(given, Path.cwd()))


def load_task(task: AnyTask) -> Task:
    """A task by name (`image-classification`, `causal-lm`), as a pipeline writes it, or `module:function`.

    Raises:
        UsageError: there is no such task, or the user's own cannot be imported.
    """
    from compress.tasks.open import open_task

    if isinstance(task, str | Mapping):
        return open_task(read_task_settings(task, Path.cwd()))
    return task


def train(
    model: nn.Module,
    data: AnyData,
    *,
    task: AnyTask = CLASSES,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> nn.Module:
    """Train a copy of `model` on the task's own loss; return it in evaluation mode.

    Args:
        model: maps a batch of inputs, (examples, ...), to the task's outputs.
        data: whose training split is learnt and whose validation split chooses the epoch to keep.
        task: what right means.
        seed: of order, augmentation and everything else that is random.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        threads: of the CPU; as many as cores that the process may use unless given.
        checkpoints: a folder from which an interrupted call goes on; none are kept unless given.
        progress: where to say how far it is; silent unless given.
        settings: the keys of `train:`, such as `epochs=20`.

    Raises:
        UsageError: a setting is wrong, or network, data and task do not fit each other.
        StageError: training diverged.
    """
    from compress.training.train import train as train_in_place

    stage = _settings(Train, settings)
    trained = _copied(model)
    context = _context(seed, device, threads, checkpoints, progress)
    opened, chosen = _opened(data, task)
    learnt, around = stage.learnt(opened, None)
    smoothing, classes = stage.label_smoothing, stage.classes
    train_in_place(trained, learnt, chosen, stage, context, label_smoothing=smoothing, classes=classes, around=around)
    return trained


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: AnyData,
    *,
    task: AnyTask = CLASSES,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> nn.Module:
    """Train a copy of `student` on the outputs of `teacher` and on the labels; return it in evaluation mode.

    `settings` are the keys of `distill:`, such as `epochs=20` and `losses=[{"kl": {"temperature": 4}}]`; the other
    arguments are those of `train`. The teacher is not changed. Unlabelled examples of the data are learnt as well.

    Raises:
        UsageError: a setting is wrong, or the networks, data and task do not fit each other.
        StageError: training diverged.
    """
    from compress.distillation.distill import Voice
    from compress.distillation.teach import teach

    stage = _settings(Distill, {"teacher": "teacher", **settings})
    trained = _copied(student)
    context = _context(seed, device, threads, checkpoints, progress)
    opened, chosen = _opened(data, task)
    learnt, around = stage.learnt(opened, None)
    teach(trained, [Voice(_copied(teacher))], learnt, chosen, stage, context, around=around)
    return trained


def prune(
    model: nn.Module,
    data: AnyData,
    *,
    task: AnyTask = CLASSES,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> nn.Module:
    """Remove channels from a copy of `model`, train what is left, and return it in evaluation mode.

    The configuration of a network of the `transformers` library is corrected, so that `save_pretrained` and
    `from_pretrained` give the same network.

    `settings` are the keys of `prune:`, such as `keep={"macs": 0.5}` and `recover={"epochs": 10}` (None: do not train);
    the other arguments are those of `train`.

    Raises:
        UsageError: a setting is wrong, the network cannot be traced, or the share cannot be reached.
        StageError: training diverged.
    """
    from compress.models.transformers_sizes import correct_sizes
    from compress.pruning.recover import prune_and_recover

    stage = _settings(Prune, settings)
    pruned = _copied(model)
    context = _context(seed, device, threads, checkpoints, progress)
    opened, chosen = _opened(data, task)
    where = None
    if stage.reach is not None:
        from compress.models.build import deployment_for
        from compress.pruning.reach import Where

        target = read_target(stage.reach.target or "local", Path.cwd())
        where = Where(target, deployment_for(pruned, opened, chosen), context.progress)
    prune_and_recover(pruned, opened, chosen, stage, stage.recover, context, where)
    correct_sizes(pruned)
    return pruned


def quantize(
    model: nn.Module,
    data: AnyData,
    *,
    task: AnyTask = CLASSES,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> nn.Module:
    """A copy of `model` that computes as int8 files will: calibrated, then trained with distillation from `model`.

    `settings` are the keys of `quantize:`, such as `epochs=4` (0: only calibrate); the other arguments are those of
    `train`. The result is a graph module in evaluation mode; `export` makes int8 files of it.

    Raises:
        UsageError: a setting is wrong, or network, data and task do not fit each other.
        StageError: the network cannot be traced, or training diverged.
    """
    from compress.quantization.quantize import quantize as quantize_module

    context = _context(seed, device, threads, checkpoints, progress)
    quantized = quantize_module(model, *_opened(data, task), _settings(Quantize, settings), context)
    return quantized.module


def export(
    model: nn.Module,
    data: AnyData,
    folder: str | Path,
    *,
    task: AnyTask = CLASSES,
    emit: Sequence[str] = ("fp32",),
    **settings: Any,
) -> dict[str, Path]:
    """Write ONNX files of a float network, or of one that `quantize` gave; check each against PyTorch on real examples.

    The tokenizer of a network that reads texts is put beside them.

    Args:
        model: what to write.
        data: validation examples for the check; names and shapes of the inputs.
        folder: made if it does not exist; each file is `<emission>.onnx`.
        task: what right means.
        emit: of a float network `fp32`, `fp16`, `bf16`, and where linear layers do its work `ort-dynamic` (int8, scales
            as inputs come), `ort-weights8` and `ort-weights4` (weights in blocks of 32, 8 or 4 bits each); of a
            quantized one `ort-x86`, `ort-x86-avx2`, `ort-arm` and `tensorrt`.
        settings: the other keys of `export:`, such as `batch=1` and `opset=18`.

    Returns:
        The file of each emission.

    Raises:
        UsageError: a setting is wrong, or an int8 file is asked of a float network.
        StageError: the network cannot be exported, or a file gives other answers than PyTorch.
    """
    from compress.exporting.module import export_module

    stage = _settings(Export, {"emit": list(emit), **settings})
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    opened, chosen = _opened(data, task)
    names = [name for name in stage.emit if stage.emit != "auto"] or ["fp32"]
    return {name: export_module(model, opened, chosen, name, home / f"{name}.onnx", stage) for name in names}


def _copied(module: nn.Module) -> nn.Module:
    """A copy to work on.

    Raises:
        UsageError: it cannot be copied.
    """
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise UsageError(
            f"the network cannot be copied: {error}. Where a layer keeps a tensor that it computed, keep it detached; "
            "in place of torch.nn.utils.weight_norm take torch.nn.utils.parametrizations.weight_norm"
        ) from error


def _opened(data: AnyData, task: AnyTask) -> tuple[Data, Task]:
    """Data as the task needs them, and the task."""
    chosen = load_task(task)
    return chosen.prepare(load_data(data)), chosen


def _settings(kind: type[AnySettings], given: Mapping[str, Any]) -> AnySettings:
    """Settings from keyword arguments; all faults at once."""
    if given.get("on") is not None:
        raise UsageError(
            "on: names a stage of a pipeline; here give data of `compress.generation.responses.with_responses`"
        )
    return checked(kind, given)


def _context(
    seed: int, device: str, threads: int | None, checkpoints: Path | None, progress: Progress | None
) -> Context:
    return Context(
        seed=seed,
        device=device,
        threads=threads or default_threads(),
        checkpoints=checkpoints,
        progress=progress or Silent(),
    )
