"""The 80 classes of MS COCO, for which the table keeps derived columns."""

from __future__ import annotations

from typing import Final

#: In COCO's order, as detectors number them.
CLASSES: Final = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)

#: The rarest first, about by how many pictures of COCO's train2017 have the class. It is stored as ``rarest_class``,
#: so it never changes. Any order gives right answers; the nearer to the truth, the more files a rare class skips.
BY_RARITY: Final = (
    *("hair drier", "toaster", "parking meter", "scissors", "bear", "toothbrush", "hot dog", "donut", "sheep"),
    *("microwave", "apple", "snowboard", "carrot", "orange", "fire hydrant", "stop sign", "mouse", "zebra"),
    *("broccoli", "cow", "keyboard", "teddy bear", "elephant", "frisbee", "banana", "kite", "refrigerator"),
    *("sandwich", "suitcase", "baseball bat", "wine glass", "giraffe", "baseball glove", "oven", "cake", "horse"),
    *("airplane", "boat", "remote", "skis", "pizza", "bird", "bicycle", "toilet", "tennis racket", "skateboard"),
    *("surfboard", "motorcycle", "laptop", "spoon", "fork", "train", "vase", "bed", "tie", "bus", "umbrella"),
    *("cat", "traffic light", "sports ball", "knife", "dog", "couch", "potted plant", "tv", "clock", "sink"),
    *("cell phone", "book", "backpack", "bench", "truck", "handbag", "bowl", "bottle", "cup", "dining table"),
    *("car", "chair", "person"),
)

#: By class, 0 for the rarest.
RANK: Final = {name: rank for rank, name in enumerate(BY_RARITY)}


def field_name(classname: str) -> str:
    """The name of a class's field in ``objects``.

    >>> field_name("hot dog")
    'hot_dog'
    """
    return classname.replace(" ", "_")
