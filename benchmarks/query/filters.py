"""The filters that the documentation times, with new literals for every run: no cache of results answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cortex_spark.coco import field_name

Query = dict[str, Any]

#: Classes that neither nearly every picture has nor hardly any.
COMMON: Final = (
    *("cat", "dog", "horse", "bird", "boat", "bus", "train", "bicycle", "motorcycle", "airplane", "truck", "bench"),
    *("sheep", "cow", "elephant", "zebra", "giraffe", "backpack", "umbrella", "handbag", "suitcase", "skis", "kite"),
    *("surfboard", "bottle", "cup", "bowl", "banana", "apple", "orange", "pizza", "cake", "couch", "bed", "laptop"),
)
RARE: Final = ("hair drier", "toaster", "parking meter", "bear", "scissors", "microwave", "stop sign", "fire hydrant")


@dataclass(frozen=True)
class Stored:
    """Values that stand in the table, to ask for."""

    hosts: Sequence[str]
    ids: Sequence[str]


@dataclass
class Literals:
    """Draws classes and numbers; a class comes again when all have been drawn."""

    stored: Stored
    seed: str = ""
    _decks: dict[tuple[str, ...], list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def a_class(self, among: tuple[str, ...] = COMMON) -> str:
        """The next class."""
        deck = self._decks.get(among)
        if not deck:
            deck = self._decks[among] = self.dice.sample(among, len(among))
        return deck.pop()

    def width(self) -> int:
        """About 100 pixels."""
        return self.dice.randint(80, 120)


@dataclass(frozen=True)
class Filter:
    """A documented filter. ``goal`` and ``spark_goal``: seconds for a first page and its length, of 20 million."""

    name: str
    make: Callable[[Literals], Query]
    goal: float
    spark_goal: float = 4.0
    sort: tuple[tuple[str, int], ...] = ()


def box(**tests: Any) -> Query:
    """Some annotator's box of which all ``tests`` hold."""
    return {"object_analysis": {"$elemMatch": {"$elemMatch": tests}}}


def _headline(draw: Literals) -> Query:
    return box(classname=draw.a_class()) | {"width": {"$gt": draw.width()}}


def _dates(draw: Literals) -> Query:
    year, month = draw.dice.randint(2019, 2023), draw.dice.randint(1, 12)
    until = f"{year + month // 12}-{month % 12 + 1:02d}"
    best = round(draw.dice.uniform(0.78, 0.82), 3)
    return {
        "datetime": {
            "$gte": {"$date": f"{year}-{month:02d}-01T00:00:00Z"},
            "$lt": {"$date": f"{until}-01T00:00:00Z"},
        },
        "label_quality_estimation": {"$gte": best},
    }


def _url(draw: Literals) -> Query:
    host = draw.dice.choice(draw.stored.hosts)
    return {"url": {"$regex": f"^https://{host[:4]}"}}


HEADLINE: Final = Filter("a class, width", _headline, 0.3, 3.0)

FILTERS: Final = (
    HEADLINE,
    Filter("rare class", lambda draw: box(classname=draw.a_class(RARE)), 0.2),
    Filter("person, width", lambda draw: box(classname="person") | {"width": {"$gt": draw.width()}}, 1.0),
    Filter("two classes", lambda draw: {"$and": [box(classname=draw.a_class()), box(classname=draw.a_class())]}, 1.0),
    Filter("five or more", lambda draw: {f"objects.{field_name(draw.a_class())}.count": {"$gte": 5}}, 1.0),
    Filter(
        "class, confidence",
        lambda draw: box(classname=draw.a_class(), confidence={"$gte": round(draw.dice.uniform(0.85, 0.9), 3)}),
        1.0,
    ),
    Filter(
        "half of the picture",
        lambda draw: {f"objects.{field_name(draw.a_class())}.share": {"$gte": round(draw.dice.uniform(0.5, 0.52), 3)}},
        1.0,
    ),
    Filter("host", lambda draw: {"host": draw.dice.choice(draw.stored.hosts)}, 1.0),
    Filter("dates, quality, best first", _dates, 1.0, sort=(("label_quality_estimation", -1),)),
    Filter("no person", lambda draw: {"$nor": [box(classname="person")], "width": {"$gt": draw.width()}}, 1.0),
    Filter("anchored URL", _url, 1.0),
    Filter(
        "same box",
        lambda draw: box(
            classname=draw.a_class(),
            confidence={"$gte": round(draw.dice.uniform(0.5, 0.6), 3)},
            x1={"$lt": draw.dice.randint(40, 60)},
        ),
        4.0,
        30.0,
    ),
)
