"""Names of the classes that a foreign network finds."""

from __future__ import annotations

from collections.abc import Sequence

from lowwatt.errors import ToolError

COCO = (
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign parking_meter "
    "bench bird cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase frisbee "
    "skis snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle wine_glass "
    "cup fork knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch "
    "potted_plant bed dining_table toilet tv laptop mouse remote keyboard cell_phone microwave oven toaster sink "
    "refrigerator book clock vase scissors teddy_bear hair_drier toothbrush"
)
COCO_LABELS = tuple(name.replace("_", " ") for name in COCO.split())
"""The 80 classes of COCO (arXiv 1405.0312), in the order of their ids."""

_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
COCO_IDS = tuple(number for number in range(1, 91) if number not in _UNUSED)
"""Their category ids; ten numbers have no class."""


def labels_for(count: int, given: Sequence[str], where: str) -> tuple[tuple[str, ...], tuple[int, ...], str]:
    """(names, category ids, whose names they are) of `count` classes; ToolError where they are not known.

    >>> labels_for(80, (), "net")[0][79], labels_for(80, (), "net")[1][79], labels_for(1, ["cat"], "net")
    ('toothbrush', 90, (('cat',), (1,), 'named by you'))
    """
    check_count(count, given, where)
    if tuple(given) == COCO_LABELS or (not given and count == len(COCO_LABELS)):
        return COCO_LABELS, COCO_IDS, "COCO"
    if not given:
        why = f"it has {count} classes, and the file does not name them"
        raise ToolError("the classes have no names", where=where, why=why, hint="--labels names.txt, one name a line")
    return tuple(given), tuple(range(1, count + 1)), "named by you"


def check_count(count: int, given: Sequence[str], where: str) -> str:
    """Whose names classes have that need none; ToolError where names are given, but not one for each class."""
    if given and len(given) != count:
        raise ToolError(f"the network has {count} classes, not {len(given)}", where=where, hint="name each, in order")
    return "named by you" if given else "numbered"
