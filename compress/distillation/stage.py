"""`distill`: fit a student to its teachers and to the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from compress.bundle import Bundle, Kind
from compress.distillation.settings import DistillationRecipe
from compress.distillation.teacher_settings import (
    Average,
    Cache,
    CacheChoice,
    OneTeacher,
    OwnPast,
    PseudoLabels,
    TeacherSettings,
)
from compress.generation.settings import TEXTS, LearnsTexts, OnPolicySettings
from compress.stage import Context, Metrics

TEACHER = "teacher"


class Distill(DistillationRecipe, LearnsTexts):
    """Train a student on the outputs of a teacher."""

    verb: ClassVar[str] = "distill"
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {
        "source": (Kind.TORCH,),
        TEACHER: (Kind.TORCH,),
        **LearnsTexts.takes,
    }
    gives: ClassVar[Kind | None] = Kind.TORCH
    reads: ClassVar[frozenset[str]] = frozenset({"data", "seed", "threads", "processes"})
    trains: ClassVar[bool] = True

    model: str | None = None
    """The student: a name from `models:` or a stage; unset: the model before this stage."""
    teacher: TeacherSettings
    """Who teaches: a name from `models:` (its latest state above this line) or a stage; a list of names or of
    `{model: name, weight: 2, classes: [cat, dog]}`; or the student's own past, `{ema: 0.999}` or `{past: 5}`."""
    average: Average | None = None
    """What is averaged where several teachers answer. Unset: `probabilities` of classes, `logits` (the outputs as they
    are) where outputs are values."""
    cache: CacheChoice = Field("auto", union_mode="left_to_right")
    """Whether answers are kept on disk: `{views: 16}` keeps those to 16 augmented versions of each example; `auto`
    decides from counted arithmetic and bytes, and says what it chose."""

    pseudo_labels: PseudoLabels | None = None
    """What is done with the data's unlabelled examples: labels from the teacher where it is sure, such as
    `{threshold: 0.8}`; unset: they train on its soft answers, without labels."""

    on_policy: OnPolicySettings | None = None
    """Whether the teacher also judges what the student writes itself, such as `{share: 0.5}` (language)."""

    def voices(self) -> tuple[OneTeacher, ...]:
        """The models that teach; none if it is the student's own past."""
        if isinstance(self.teacher, OwnPast) or self.teacher is None:
            return ()
        given = self.teacher if isinstance(self.teacher, tuple) else (self.teacher,)
        return tuple(OneTeacher(model=one) if isinstance(one, str) else one for one in given)

    def references(self) -> dict[str, str | None]:
        """The student, its teachers, and the texts that it learns."""
        roles = {role(number): voice.model for number, voice in enumerate(self.voices())}
        return {"source": self.model, **roles, **self.texts()}

    def asked(self) -> dict[str, Any]:
        """All settings, with the teachers' shares and domains in place of their names."""
        teachers: Any = [voice.model_dump(mode="json", exclude={"model"}) for voice in self.voices()]
        if isinstance(self.teacher, OwnPast):
            teachers = self.teacher.model_dump(mode="json")
        # What is unset has the key of what it means for classes, so that saying so makes no other step.
        return {**super().asked(), "average": self.average or "probabilities", TEACHER: teachers}

    def faults(self) -> list[tuple[str, str]]:
        """Combinations that make no sense."""
        found = self.recipe_faults() + self.loss_faults() + self.text_faults()
        names = [voice.model for voice in self.voices()]
        found += [(TEACHER, f"`{name}` is named twice") for name in sorted(set(names)) if names.count(name) > 1]
        if self.pseudo_labels is not None and isinstance(self.teacher, OwnPast):
            found.append(("pseudo_labels", "need a teacher that is trained already: name a model as `teacher:`"))
        if len(names) == 1 and self.voices()[0].classes is not None:
            found.append((TEACHER, "`classes` shares the examples out among several teachers, and there is one"))
        if self.on_policy is not None and isinstance(self.cache, Cache):
            found.append(("cache", "cannot hold answers to the samples of `on_policy`, which are new each time"))
        if isinstance(self.teacher, OwnPast):
            found += self._faults_of_the_past(self.teacher)
        if self.model in names:
            found.append((TEACHER, f"`{self.model}` would learn from itself: name another model"))
        return found

    def _faults_of_the_past(self, teacher: OwnPast) -> list[tuple[str, str]]:
        """Those of a student that learns from itself."""
        found = []
        if isinstance(self.cache, Cache):
            found.append(("cache", "has no effect where the student learns from its own past, which always changes"))
        if teacher.past is not None and teacher.past >= self.epochs:
            message = f"has no effect in {self.epochs} epochs, all of which come before there is such a past"
            found.append((f"{TEACHER}.past", f"{message}: give more `epochs`, or a smaller number"))
        return found

    def run(self, inputs: Mapping[str, Bundle], out: Path, context: Context) -> Metrics:
        """Train `source` to answer like its teachers, write it into `out`, measure it on validation."""
        from compress.distillation.distill import Voice
        from compress.distillation.teach import teach
        from compress.models.rest import load
        from compress.training.domains import class_numbers_of
        from compress.training.finish import finish_training, open_training

        work = open_training(inputs["source"], context)
        teacher: Any = self.teacher
        if not isinstance(self.teacher, OwnPast):
            domains = [class_numbers_of(v.classes, work.data.labels, "teacher.classes") for v in self.voices()]
            teacher = [
                Voice(load(inputs[role(number)].path), voice.weight, domain)
                for number, (voice, domain) in enumerate(zip(self.voices(), domains, strict=True))
            ]
        data, around = self.learnt(work.data, inputs.get(TEXTS))
        log, labelled = teach(work.module, teacher, data, work.task, self, context, around=around)
        metrics = finish_training(work, inputs["source"], out, context, log)
        return {**metrics, **({"pseudo_labels": labelled} if labelled else {})}


def role(number: int) -> str:
    """The role of the teacher of that number: `teacher`, `teacher-2`, ..."""
    return TEACHER if number == 0 else f"{TEACHER}-{number + 1}"
