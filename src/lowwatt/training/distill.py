"""Distillation: the student's neck and outputs drawn to a teacher's, with no adapter between their widths."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lowwatt.errors import ToolError
from lowwatt.recipe import DistillSettings
from lowwatt.training.assign import Predictions
from lowwatt.training.loss import BOX_LOSS_WEIGHT, anchor_points, corners, paired_iou
from lowwatt.training.processes import Processes
from lowwatt.training.teacher import Lesson, Remembered, Teacher


class Watched(nn.Module):
    """A student whose neck is seen: its outputs, then what its neck gave, each NCHW. It owns nothing."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Of images NCHW."""
        seen: list[Tensor] = []
        hook = self.student.neck.register_forward_hook(lambda module, inputs, outputs: seen.extend(outputs))
        try:
            return self.student(images), tuple(seen)
        finally:
            hook.remove()


class Distiller:
    """Compares what a student gives for a batch with the teacher's lesson on the same pixels."""

    def __init__(
        self, settings: DistillSettings, labels: Sequence[str], strides: Sequence[int], processes: Processes
    ) -> None:
        self.settings, self.strides, self.processes = settings, strides, processes
        alone = processes.alone if processes.graphs else None
        self.teacher = Teacher(settings.teacher, labels, strides, processes.device, alone)
        self.remembered = Remembered(self.teacher, int(settings.cache_gib * 2**30))

    def losses(
        self, images: Tensor, features: Sequence[Tensor], student: Predictions, plain: bool
    ) -> dict[str, Tensor]:
        """Weighted losses `neck` and `logits` of what the student gave for these NCHW images, its neck's `features`."""
        known = plain and not images.is_cuda  # to tell images apart takes longer than a GPU takes for the lesson
        lesson = self.remembered(images) if known else self.teacher(images)
        zero = student.obj.new_zeros(())
        return {
            "neck": self.settings.neck * self._neck(features, lesson) if self.settings.neck else zero,
            "logits": self.settings.logits * self._logits(student, lesson, images.shape[2:])
            if self.settings.logits
            else zero,
        }

    def _neck(self, features: Sequence[Tensor], lesson: Lesson) -> Tensor:
        compare = NECK[self.settings.method]
        pairs = zip(features, lesson.features, strict=True)
        return torch.stack([compare(student.float(), _like(teacher, student)) for student, teacher in pairs]).sum()

    def _logits(self, student: Predictions, lesson: Lesson, side: Sequence[int]) -> Tensor:
        """Objectness, classes and boxes, per anchor that the teacher takes for an object.

        Where the student has a part of the teacher's classes only, an object is what belongs to one of them.
        """
        score = lesson.obj * lesson.cls.amax(-1)
        count = self.processes.share(score.sum())
        obj = functional.binary_cross_entropy_with_logits(student.obj, score, reduction="sum")
        cls = functional.binary_cross_entropy_with_logits(student.cls.float(), lesson.cls, reduction="none")
        cell, stride = anchor_points((side[0], side[1]), self.strides, score.device)
        goal = corners(lesson.box, cell, stride)
        iou = paired_iou(student.xyxy.flatten(0, 1), goal.flatten(0, 1))
        box = (score.flatten() * (1 - iou.square())).sum()
        return (obj + (score[..., None] * cls).sum() + BOX_LOSS_WEIGHT * box) / count


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """AT (Zagoruyko and Komodakis, arXiv 1612.03928): squared difference of the maps of activation, mean over images.

    A map is the mean over channels of the squares, of length 1 by image. NCHW tensors of one size, any channels.
    """
    return (_attention_map(student) - _attention_map(teacher)).square().sum(1).mean()


def _attention_map(x: Tensor) -> Tensor:
    return functional.normalize(x.square().mean(1).flatten(1), dim=1)


def channelwise(student: Tensor, teacher: Tensor) -> Tensor:
    """CWD (Shu et al., arXiv 2011.13256): channels as distributions over positions; divergence, mean over channels."""
    _same_channels(student, teacher)
    log_student, log_teacher = (x.flatten(2).log_softmax(-1) for x in (student, teacher))
    return (log_teacher.exp() * (log_teacher - log_student)).sum(-1).mean()


def pearson(student: Tensor, teacher: Tensor) -> Tensor:
    """PKD (Cao et al., arXiv 2207.02039): half the squared difference of features normalised by channel."""
    _same_channels(student, teacher)
    return 0.5 * (_normal(student) - _normal(teacher)).square().mean()


def _normal(x: Tensor) -> Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True)
    return (x - mean) * torch.rsqrt(variance + 1e-6)


def _same_channels(student: Tensor, teacher: Tensor) -> None:
    if student.shape[1] != teacher.shape[1]:
        raise ToolError(
            "this distillation compares channel by channel",
            where="distill.method",
            why=f"the teacher's neck has {teacher.shape[1]} channels, the student's {student.shape[1]}",
            hint="distill.method=at takes any widths, as distill.logits does",
        )


NECK: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"at": attention, "cwd": channelwise, "pkd": pearson}
"""Setting → how necks are compared."""


def _like(teacher: Tensor, student: Tensor) -> Tensor:
    """The teacher's map on the student's grid, where these differ."""
    if teacher.shape[2:] == student.shape[2:]:
        return teacher
    return functional.interpolate(teacher, student.shape[2:], mode="bilinear")
