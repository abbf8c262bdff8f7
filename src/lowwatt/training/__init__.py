"""Training: simOTA, losses, averaging, schedule, the loop."""

from lowwatt.training.evaluate import evaluate_model
from lowwatt.training.loop import train

__all__ = ["evaluate_model", "train"]
