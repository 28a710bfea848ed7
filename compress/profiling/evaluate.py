"""What a model answers on each example that it was not trained on, and what the task's metrics say of the answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.bundle import Bundle, Kind
from compress.data.dataset import Data, Split, Subset
from compress.data.open import open_data
from compress.profiling.answers import answers
from compress.profiling.flips import against, flips
from compress.profiling.right import packed
from compress.profiling.shown import shown_flips
from compress.stage import Context, Metrics
from compress.targets.settings import TargetSettings
from compress.tasks.classes import OneClass
from compress.tasks.open import open_task
from compress.tasks.task import Task

SPLITS = ("validation", "test")
FLIPS_FILE = "flips.json"
"""The first test examples whose class is another than the reference's, with their pictures or texts."""
REHEARSAL_EXAMPLES = 8


def evaluate_bundle(source: Bundle, reference: Bundle | None, out: Path, context: Context) -> Metrics:
    """Answer the validation and test splits; write `<split>.npy` into `out`; return metrics for each split.

    ONNX files are answered by their runtime on the context's target, PyTorch models by PyTorch. Each split's entry
    holds the task's metrics, the 95 % interval of the primary one as `<metric>_ci95`, and, where the answers of a
    reference are given, `agreement` with them; that of the test split also what is lost against them
    (`<metric>_drop_ci95`) and, where there are classes, the `flips`. Where accuracy is what is judged by, `right` says
    of each test example whether it is answered rightly, so that other runs can be compared with this one in pairs.
    """
    if context.data is None:
        raise ValueError("evaluation needs data")
    task = open_task(context.task)
    data = task.prepare(open_data(context.data))
    if context.rehearsal:
        data = data.head(REHEARSAL_EXAMPLES)
    whole = data.test
    data, notes = _bounded(data, context)
    numbers = data.test.chosen.tolist() if isinstance(data.test, Subset) and data.test is not whole else None
    module = _load(source)
    found: dict[str, Any] = {"primary": task.metric, "higher_is_better": task.higher_is_better}
    found["notes"] = notes
    found["examples"] = {name: len(getattr(data, name)) for name in ("train", *SPLITS)}
    found["labels"] = None if data.labels is None else list(data.labels)
    for name in SPLITS:
        split: Split = getattr(data, name)
        outputs = _answers(source, module, data, split, task, context)
        np.save(out / f"{name}.npy", outputs)
        earlier = None if reference is None else np.load(reference.path / f"{name}.npy", mmap_mode="r")
        if context.rehearsal and earlier is not None:  # it may be the reference's finished answers to all examples
            earlier = earlier[: len(outputs)]
        targets = split.targets(np.arange(len(split)))
        found[name] = judge(task, outputs, targets, earlier)
        if name == "test" and isinstance(task, OneClass) and task.metric == "accuracy":
            found[name]["right"] = packed(outputs.argmax(axis=1) == targets)
        if name == "test" and earlier is not None:
            found[name] |= _against(task, outputs, np.asarray(earlier), data, out, numbers)
    return found


def _bounded(data: Data, context: Context) -> tuple[Data, list[str]]:
    """The data as far as the target's `evaluate.samples` goes, and what to tell of it.

    The examples of each split are drawn with a fixed seed, since a split may be in order of its classes.
    """
    samples = None if context.target is None else context.target.evaluate.samples
    splits = {name: getattr(data, name) for name in SPLITS}
    if context.target is not None and context.target.perf_test:
        return data, [
            f"{context.target.name} gives no answers (onnxruntime_perf_test): accuracy is that of the same files under "
            "ONNX Runtime on this machine"
        ]
    if context.target is None or samples is None or max(map(len, splits.values())) <= samples:
        return data, []
    kept = {name: some(split, samples) for name, split in splits.items()}
    counts = " and ".join(f"{len(kept[name])} of {len(split)} {name}" for name, split in splits.items())
    note = f"accuracy on {context.target.name} is measured on {counts} examples (`evaluate: {{samples: {samples}}}`)"
    return replace(data, validation=kept["validation"], test=kept["test"], _prepared={}, _encoded={}), [note]


def some(split: Split, count: int) -> Split:
    """`count` examples of a split, in its order, the same ones each time; all if there are not more."""
    if len(split) <= count:
        return split
    return Subset(split, np.sort(np.random.default_rng(0).permutation(len(split))[:count]))


def _against(
    task: Task, outputs: np.ndarray, before: np.ndarray, data: Data, out: Path, numbers: list[int] | None
) -> dict[str, Any]:
    """What the test split's answers are beside the reference's; the first flips, to be looked at, go into `out`.

    `numbers` are those of the examples in all test data, where only some are answered.
    """
    targets = data.test.targets(np.arange(len(outputs)))
    found = against(task, outputs, before, targets, numbers)
    if isinstance(task, OneClass):
        rows = shown_flips(data.test, flips(outputs, before, targets), data.labels)
        rows = [row if numbers is None else {**row, "index": numbers[row["index"]]} for row in rows]
        (out / FLIPS_FILE).write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return found


def judge(task: Task, outputs: np.ndarray, targets: np.ndarray, reference: np.ndarray | None) -> dict[str, Any]:
    """The task's metrics, the interval of the primary one, and the agreement with a reference's (condensed) answers."""
    found: dict[str, Any] = dict(task.metrics(outputs, targets))
    found[f"{task.metric}_ci95"] = list(task.interval(outputs, targets))
    found["agreement"] = 1.0 if reference is None else task.agreement(outputs, np.asarray(reference))
    return found


def _load(source: Bundle) -> Any:
    """The PyTorch module of a bundle that holds one."""
    if source.kind is Kind.TORCH:
        from compress.models.rest import load

        return load(source.path)
    if source.kind is Kind.QUANTIZED:
        from compress.quantization.rest import load_quantized

        return load_quantized(source.path)
    return None


def _answers(source: Bundle, module: Any, data: Data, split: Split, task: Task, context: Context) -> np.ndarray:
    if module is None:
        if context.target is None:
            raise ValueError("an ONNX file is evaluated on a target")
        place = context.target
        if place.perf_test:  # it gives none: the same runtime here does
            place = TargetSettings(throughput_batch=place.throughput_batch)
        names = [spec.name for spec in source.deployment.inputs]
        return answers(source.model_file, data, split, place, task=task, progress=context.progress, names=names)
    from compress.training.evaluate import predict

    return np.asarray(predict(module, data, split, context=context, task=task))
