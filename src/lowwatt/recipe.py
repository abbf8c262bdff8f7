"""Recipe: the typed settings of one production run, read from YAML with `key=value` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lowwatt import yaml_text
from lowwatt.errors import ToolError, did_you_mean


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, lt=1)]


class DataSettings(_Settings):
    """Where the labelled images are.

    `root` is a folder; a relative one starts at the folder in which the command runs, not at the recipe's.
    `root: sample` stands for the embedded sample set, made on first use.
    """

    root: str = "sample"
    format: Literal["auto", "coco", "yolo", "voc", "shards"] = Field("auto", description="auto: by what lies in root")
    roots: list[str] = Field([], description="further folders that have shards of the set, on other disks")
    images: str = "images"
    train: str = Field("train.json", description="annotations; classes and masks lie in a folder: without the .json")
    val: str = "val.json"
    classes: list[str] | None = Field(None, description="keep these classes only, in this order")
    sample_train: int = Field(600, ge=1, description="images of the sample set, train")
    sample_val: int = Field(150, ge=1, description="images of the sample set, val")
    sample_size: int = Field(160, ge=32, description="side of the sample set's images, pixels")


class ModelSettings(_Settings):
    """The network: by default YOLOX-FPGA, or the original operators for comparison; other tasks have others."""

    arch: Literal["", "yolox", "resnet", "mobilenet", "cspdarknet", "cspnet"] = Field(
        "", description="empty: the task's first (lowwatt.models.networks)"
    )
    depth: float = Field(0.33, gt=0, le=4)
    width: float = Field(0.375, gt=0, le=4)
    channels: Literal[1, 3] = 1
    size: int = Field(320, ge=32, le=4096, multiple_of=32, description="side of the square input, pixels")
    activation: Literal["relu", "silu"] = "relu"
    stem: Literal["convs", "focus"] = "convs"
    spp: Literal["dilated", "pool", "none"] = "dilated"
    head: Literal["separate", "shared"] = Field(
        "separate", description="shared: the head's 3x3 convolutions are the same at all strides, batch norms are not"
    )
    reparam: bool = Field(
        False, description="3x3 convolutions train with a 1x1 one and a shortcut beside them; saved as one 3x3"
    )
    neck_shortcuts: bool = Field(True, description="in the neck's CSP blocks, as YOLOX-FPGA; false: as YOLOX")
    init: str = Field("", description="checkpoint to start from: .safetensors, or a .pth of Megvii's YOLOX")


class TrainSettings(_Settings):
    """The training loop. Learning rate is for 64 images a step and scales with the batch."""

    epochs: int = Field(300, ge=0)
    batch: int = Field(16, ge=1)
    optimizer: Literal["sgd", "adamw"] = "adamw"
    lr: float = Field(0.004, gt=0)
    lr_schedule: Literal["cosine", "flat-cosine", "multistep"] = Field(
        "cosine", description="after the warm-up; flat-cosine: constant for half of the epochs; multistep: see lr_steps"
    )
    lr_steps: list[float] = Field(
        [0.6, 0.8], description="multistep: shares of the epochs after which lr falls tenfold"
    )
    final_lr: float = Field(0.02, ge=0, description="share of lr at the end of the cosine; multistep: the least")
    weight_decay: float = Field(0.05, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    warmup_epochs: float = Field(5, ge=0)
    plain_epochs: int = Field(15, ge=0, description="last epochs without mosaic and affine, with L1 loss")
    plain_norms: Literal["live", "frozen"] = Field("frozen", description="batch norms in the plain epochs")
    box_loss: Literal["iou", "giou"] = Field("iou", description="1 - IoU², or 1 - GIoU")
    cls_loss: Literal["bce", "qfl"] = Field(
        "bce", description="cross-entropy at positive anchors, or quality focal loss at all"
    )
    ema: float = Field(0.998, ge=0, lt=1)
    ema_ramp: float = Field(100, gt=0, description="steps over which the EMA decay rises: decay*(1-exp(-t/ramp))")
    norm_images: int = Field(
        256,
        ge=0,
        description="images of the epoch that set batch norms before an evaluation; 0: as training left them",
    )
    mosaic: float = Field(1.0, ge=0, le=1)
    scale: tuple[float, float] = (0.5, 1.5)
    degrees: float = 10.0
    translate: float = 0.1
    shear: float = 2.0
    flip: float = Field(0.5, ge=0, le=1)
    multiscale: tuple[float, float] = Field((1.0, 1.0), description="side of the training input, times model.size")
    eval_every: int = Field(5, ge=0, description="epochs between evaluations; 0: only at the end")
    hsv: tuple[Share, Share, Share] = Field(
        (0.0, 0.0, 0.0),
        description="most that hue (of its circle), saturation and value change; gray: contrast, brightness",
    )
    mixup: float = Field(0.0, ge=0, le=1, description="share of augmented images that are blended with another")
    mixup_scale: tuple[float, float] = Field((0.5, 1.5), description="size of the other, 1 as it just fits")
    balance: float = Field(0.0, ge=0, le=1, description="classes on a smaller share of the images come more often")
    cache: Literal["ram", "disk", "off"] = Field("ram", description="where decoded images are kept")
    cache_gib: float = Field(4.0, ge=0, description="memory for them with `cache: ram`, in each process")
    workers: int | None = Field(None, ge=0, description="threads that make batches ahead; by default as cores allow")
    tensorboard: bool = Field(True, description="write events for TensorBoard, where it is installed")
    threads: int = Field(0, ge=0, description="CPU threads of torch; 0: as torch chooses")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the processor or GPU computes in it; else fp16 on a GPU, fp32 on a CPU"
    )
    cuda_graphs: bool = Field(
        True, description="on one GPU: record a step's kernels once and replay them; takes memory for each size"
    )
    clip: float = Field(0, ge=0, description="largest norm of the gradient; 0: no limit")
    freeze: list[str] = Field([], description="parts that do not learn, by name: backbone.stem, backbone, neck …")
    sync_bn: bool = Field(True, description="in several processes, batch norm over all of them")
    save_minutes: float = Field(5, ge=0, description="a run that is killed loses at most these; 0: save every step")
    minutes: float = Field(0, ge=0, description="stop the schedule to fit these minutes; 0: no limit")
    seed: int = 0


class ClassificationSettings(_Settings):
    """What `task: classification` adds to the training loop. Of `train`'s augmentations only flip counts here; the
    plain epochs have neither crop nor jitter nor blends.
    """

    crop: tuple[float, float] = Field((0.35, 1.0), description="share of an image's area that a random crop takes")
    jitter: float = Field(0.2, ge=0, lt=1, description="brightness, contrast and saturation times 1 ± this")
    mixup: float = Field(0.0, ge=0, le=1, description="share of images that are blended with another")
    cutmix: float = Field(0.0, ge=0, le=1, description="share of images with a piece of another in them")
    smoothing: float = Field(0.1, ge=0, lt=1, description="share of the target that goes to all classes alike")


class SegmentationSettings(_Settings):
    """What `task: segmentation` adds to the training loop. Of `train`'s augmentations flip and scale count here: the
    size of the image in its random crop, times that of the whole one. The plain epochs show whole images.
    """

    ignore: int = Field(255, ge=0, le=255, description="value of the masks that is neither learnt nor scored")
    balance: float = Field(0.5, ge=0, le=1, description="classes weigh 1 / share of the pixels, to this power")
    jitter: float = Field(0.2, ge=0, lt=1, description="brightness, contrast and saturation times 1 ± this")


class DistillSettings(_Settings):
    """Training beside a teacher: any detector with YOLOX's outputs that knows the classes, of any width."""

    teacher: str = Field("", description="file of the teacher: .safetensors, .lwg or .onnx; empty: none")
    method: Literal["at", "cwd", "pkd"] = Field("at", description="how necks are compared; only at takes other widths")
    neck: float = Field(1.0, ge=0, description="weight of the distance between the necks")
    logits: float = Field(1.0, ge=0, description="weight of the distance between the outputs")
    cache_gib: float = Field(1.0, ge=0, description="memory for what the teacher said of images without augmentation")


class QuantSettings(_Settings):
    """Post-training quantization."""

    scheme: str = Field("vitis", description="a target's number format by name, or a YAML file of one's own")
    calibration: Literal["minmax", "ema", "percentile", "mse", "kl", "lsq"] | None = Field(
        None, description="how ranges are chosen; by default the scheme's way"
    )
    weight_bits: int | None = Field(None, ge=2, le=16, description="by default the scheme's")
    activation_bits: int | None = Field(None, ge=2, le=16, description="by default the scheme's")
    effort: Literal["fast", "good", "best"] = Field("fast", description="seconds, minutes, or an hour")
    float_share: float = Field(
        0, ge=0, le=1, description="of the multiply-accumulates may stay in float, in the layers that lose most"
    )
    size_share: float = Field(1, gt=0, le=1, description="layers get fewer bits until the weights take this share")
    keep_db: float | None = Field(
        None, gt=0, description="layers get as few bits as keep this signal to noise at the outputs, dB"
    )
    max_ms: float | None = Field(
        None, gt=0, description="layers that lose most stay in float while a frame takes no more on the target, ms"
    )
    images: int = Field(128, ge=1, description="calibration images, from the training split")
    max_drop: float = Field(0.05, ge=0, description="AP, top-1 or mIoU (0…1) lost above which the verdict is red")


class QatSettings(_Settings):
    """Quantization-aware training: a short fine-tuning of a trained model on the target's own numbers."""

    quantizer: str = Field("tqt", description="of activations: tqt, lsq, lsq+, pact, dsq, dorefa, qil, apot")
    weights: str = Field("", description="quantizer of weights; empty: the same")
    scheme: str = "vitis"
    images: int = Field(128, ge=1, description="calibration images, from the training split")
    epochs: int = Field(4, ge=0)
    lr: float = Field(4e-4, gt=0, description="for 64 images, as train.lr; adamw")
    scale_rate: float = Field(10, ge=0, description="rate of scales and thresholds, times lr (and times the scale)")
    warmup_epochs: float = Field(0.1, ge=0)
    live_epochs: int = Field(0, ge=0, description="first epochs in which batch norms use the batch's statistics")
    distill: float = Field(1.0, ge=0, description="weight of the distance to the float network's outputs")
    features: bool = Field(False, description="distill what the last layers read, too")
    freeze: float = Field(0, ge=0, le=1, description="share of flips at which a weight freezes; 0: none does")
    freeze_momentum: float = Field(0.01, gt=0, le=1, description="of the moving share of flips")


class Recipe(_Settings):
    """Everything that one run of the road needs."""

    name: str = "run"
    task: Literal["detection", "classification", "segmentation"] = "detection"
    target: str = "ultra96v2-lpcv"
    schedule: Literal["vendor", "best"] = Field("vendor", description="how the compiler arranges the instructions")
    data: DataSettings = Field(default_factory=DataSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    train: TrainSettings = Field(default_factory=TrainSettings)
    classification: ClassificationSettings = Field(default_factory=ClassificationSettings)
    segmentation: SegmentationSettings = Field(default_factory=SegmentationSettings)
    distill: DistillSettings = Field(default_factory=DistillSettings)
    quant: QuantSettings = Field(default_factory=QuantSettings)
    qat: QatSettings = Field(default_factory=QatSettings)

    def to_yaml(self) -> str:
        """The whole recipe, defaults included."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def load_recipe(path: str | Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Recipe from a YAML file (None: defaults) and `section.key=value` overrides.

    Raises ToolError for an unreadable file, an unknown key (with the nearest known one) or a wrong value.

    >>> load_recipe(None, ["train.epochs=3"]).train.epochs
    3
    """
    settings = _read_yaml(Path(path)) if path is not None else {}
    for override in overrides:
        _apply(settings, override)
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise _explain(error, str(path or "recipe")) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ToolError("no such recipe", where=str(path), hint="recipes/ holds examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ToolError("cannot read the recipe", where=str(path), why=str(error)) from None
    content = yaml_text.parse(text, "cannot read the recipe", str(path))
    if not isinstance(content, dict):
        raise ToolError("cannot read the recipe", where=str(path), why="it is not a mapping of sections")
    return content


def _apply(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ToolError("an override needs the form key=value", where=override, hint="for example train.epochs=10")
    *sections, last = key.split(".")
    place = settings
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise ToolError("an override goes below a plain value", where=override)
    place[last] = yaml_text.parse(text, "cannot read the override's value", override[:80])


def _explain(error: ValidationError, where: str) -> ToolError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        model: Any = Recipe
        for part in path[:-1]:
            model = model.model_fields[part].annotation
        prefix = "".join(f"{part}." for part in path[:-1])
        known = [prefix + name for name in model.model_fields]
        return ToolError(f"unknown setting {key}", where=where, hint=did_you_mean(key, known))
    return ToolError(f"wrong value for {key}", where=where, why=f"{first['msg']}, given {first['input']!r}")
