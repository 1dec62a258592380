"""The one door into ``samples``: from what ``attempts`` recorded, never from the engine's output computed again."""

from __future__ import annotations

from datetime import UTC, datetime

from delta.tables import DeltaMergeBuilder
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cortex_spark.outcomes import OK
from cortex_spark.table.derived import expressions
from cortex_spark.table.forgotten import MARK, marked, recall, without_forgotten
from cortex_spark.table.removal import evidence, remove
from cortex_spark.table.warehouse import Warehouse


def commit_samples(
    warehouse: Warehouse, run: str, batches: list[int], *, new: int | None = None, again: bool = False
) -> int:
    """Bring the finished samples of some ``batches`` of ``run`` into ``samples``; the number of rows added.

    Ids that exist are left alone, unless another model has labelled the same bytes: then its boxes and its name stand
    behind those that are there. Doing it again changes nothing. What was taken down does not come in, and goes from
    ``attempts`` as well. ``new``: how many samples there are, where none of them is thought to be in the table yet.
    ``again``: somebody has done this before, and may have died between the merge and the look at what was taken down.
    """
    attempts = warehouse.read("attempts").where((F.col("run") == run) & F.col("batch").isin(batches))
    finished = attempts.where(F.col("outcome") == OK).select("attempted_at", "final_url", "sample.*", "sample")
    known = recall(warehouse)
    allowed = without_forgotten(finished, warehouse, known)
    one_each = allowed.groupBy("_id").agg(F.min_by("sample", "attempted_at").alias("sample"))
    fresh = one_each.select("sample.*", F.lit(datetime.now(UTC)).alias("landed_at"))
    # A merge that only inserts reads the table once, and its source once. Who was wrong about what is new sees it by
    # the number of rows, and merges once more.
    added = 0 if new is None else _merged(warehouse, fresh, update=False) if new else 0
    if added != new:
        added += _merged(warehouse, fresh, update=True)
    # Asked again: what was taken down while the batch ran stands in ``attempts``, and what was since the question above
    # in ``samples``, and in ``attempts`` perhaps no longer. Who takes something down after this line finds both.
    memory = recall(warehouse)
    is_new = memory.digest != known.digest
    told = marked(evidence("attempts", attempts), memory).where(MARK)
    if is_new or (memory and (again or not warehouse.retried(lambda: told.isEmpty()))):
        remove(warehouse)
    return added


def _merged(warehouse: Warehouse, fresh: DataFrame, *, update: bool) -> int:
    return int(warehouse.merge(lambda: _merge(warehouse, fresh, update=update))["num_inserted_rows"])


def _merge(warehouse: Warehouse, fresh: DataFrame, *, update: bool) -> DeltaMergeBuilder:
    """The commit of ``fresh``, with derived columns where the table has them: one made before lacks them for a while.

    They are computed where a row is written, in the plan of the merge: ``fresh`` stays narrow.
    """
    target = warehouse.delta("samples")
    columns = set(target.toDF().columns)
    inserted = {name: f"s.`{name}`" for name in fresh.columns} | expressions("s.object_analysis", "s.width", "s.height")
    merge = target.alias("t").merge(fresh.alias("s"), "t._id = s._id")
    merge = merge.whenNotMatchedInsert(values={name: text for name, text in inserted.items() if name in columns})
    if not update:
        return merge
    boxes = "concat(coalesce(t.object_analysis, array()), s.object_analysis)"
    updated = {
        "object_analysis": boxes,
        "annotators": "concat(coalesce(t.annotators, array()), s.annotators)",
        "object_analysis_processed": "s.object_analysis_processed",
        **expressions(boxes, "t.width", "t.height"),
    }
    return merge.whenMatchedUpdate(
        # A picture that was only measured has no annotators: NULL.
        condition="t.hash = s.hash AND s.annotators IS NOT NULL"
        " AND NOT coalesce(arrays_overlap(t.annotators, s.annotators), false)",
        set={name: text for name, text in updated.items() if name in columns},
    )
