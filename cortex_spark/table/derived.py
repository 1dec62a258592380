"""The columns of ``samples`` that follow from ``object_analysis``, so that filters on boxes need not read boxes.

They are computed in the JVM where rows come in, and are defined so that the usual filters are *equivalent* to them:
some box of class c is ``objects.c.count >= 1``, some box of class c with at least confidence x is
``objects.c.confidence >= x``; see ``query.derive``. What is unknown is NULL, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cortex_spark.coco import BY_RARITY, CLASSES, field_name
from cortex_spark.schema import DERIVED

#: The rule by which the columns are made; with another one, `cortex optimize` makes them anew.
RULE: Final = 1
#: Properties of a table whose derived columns are complete: by which rule, and from which version of the table on.
RULE_PROPERTY: Final = "cortex.derived.rule"
SINCE_PROPERTY: Final = "cortex.derived.since"


def complete(since: int) -> dict[str, str]:
    """The properties that say: all rows have their derived columns, from version ``since`` on."""
    return {RULE_PROPERTY: str(RULE), SINCE_PROPERTY: str(since)}


def is_complete(properties: Mapping[str, str], version: int) -> bool:
    """Whether all rows of ``samples`` have their derived columns at ``version``, by the table's properties.

    The properties may be of that version or of a later one.
    """
    return properties.get(RULE_PROPERTY) == str(RULE) and int(properties.get(SINCE_PROPERTY, "0")) <= version


def expressions(object_analysis: str, width: str, height: str) -> dict[str, str]:
    """The derived columns by name, as Spark SQL over three expressions; whatever their values are, none fails.

    ``share`` takes the corners as far as they lie inside the picture; it is NULL where a corner of any box of the
    class, or the picture's size, is unknown.
    """
    side = "greatest(greatest(least(b.{0}2, {1}), 0) - greatest(least(b.{0}1, {1}), 0), 0)"
    area = f"CAST({side.format('x', width)} AS DOUBLE) * {side.format('y', height)}"
    picture = f"CASE WHEN {width} > 0 AND {height} > 0 THEN CAST({width} AS DOUBLE) * {height} END"
    torn = " OR ".join(f"b.{corner} IS NULL" for corner in ("x1", "y1", "x2", "y2"))
    # Nearly always there is one annotator, and no corner is NULL: then nothing is looked at twice.
    most = "array_max(transform(annotators, of_one -> size(filter(of_one, b -> b.classname = c))))"
    count = f"if(size(annotators) = 1, size(found), {most})"
    share = f"if(torn AND exists(found, b -> {torn}), NULL, array_max(transform(found, b -> {area})) / {picture})"
    confidence = "array_max(transform(found, b -> nanvl(b.confidence, NULL)))"
    of_class = _let(
        "found",
        "filter(boxes, b -> b.classname = c)",
        f"named_struct('count', {count}, 'share', {share}, 'confidence', {confidence})",
    )
    present = "array_distinct(filter(transform(boxes, b -> b.classname), c -> c IS NOT NULL))"
    by_class = _let(
        "torn", f"exists(boxes, b -> {torn})", f"map_from_entries(transform({present}, c -> struct(c, {of_class})))"
    )
    # The NULL is for the type alone: fields that cannot be NULL are not what the table has.
    none = "if(true, named_struct('count', 0, 'share', 0D, 'confidence', CAST(NULL AS DOUBLE)), NULL)"
    fields = ", ".join(f"'{field_name(name)}', coalesce(m['{name}'], {none})" for name in CLASSES)
    objects = _let("m", by_class, f"named_struct({fields})")
    by_rarity = "array({})".format(", ".join(f"'{name}'" for name in BY_RARITY))
    # An intersection has the order of its first array. get gives NULL where it is empty, and NULL has no position.
    first = f"get(array_intersect({by_rarity}, transform(boxes, b -> b.classname)), 0)"
    rarest = f"CAST(coalesce(array_position({by_rarity}, {first}) - 1, {len(BY_RARITY)}) AS INT)"
    annotators = f"filter({object_analysis}, of_one -> of_one IS NOT NULL)"
    return {
        name: f"CASE WHEN {object_analysis} IS NOT NULL THEN "
        + _let("annotators", annotators, _let("boxes", "flatten(annotators)", body))
        + " END"
        for name, body in zip(DERIVED, (objects, rarest), strict=True)
    }


def _let(name: str, value: str, body: str) -> str:
    """``body`` in which ``name`` stands for ``value``, computed once: a lambda over an array of one element."""
    return f"transform(array({value}), {name} -> {body})[0]"


def with_derived(rows: DataFrame) -> DataFrame:
    """``rows`` with the columns of ``samples`` and others, and the derived ones made from them."""
    made = expressions("object_analysis", "width", "height")
    return rows.withColumns({name: F.expr(text) for name, text in made.items()})


def scalar(classname: str, name: str) -> tuple[str, str, str]:
    """The path of a derived scalar: ``count``, ``share`` or ``confidence`` of one of ``coco.CLASSES``.

    >>> scalar("hot dog", "count")
    ('objects', 'hot_dog', 'count')
    """
    return ("objects", field_name(classname), name)
