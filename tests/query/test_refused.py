"""What is refused, where, and with which way out; one line a rule. No Spark is needed to be told."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest

from cortex_spark.query.errors import QueryError
from cortex_spark.query.mongo import compile_query
from cortex_spark.query.text import MAX_DEPTH, MAX_LENGTH, MAX_NODES

BOXES = "object_analysis.$elemMatch.$elemMatch"
BOX_QUERY = '{"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": ...}}}}'


def nested(depth: int) -> str:
    return '{"$and": [' * depth + "{}" + "]}" * depth


@pytest.mark.parametrize(
    ("query", "place", "says"),
    [
        # no JSON, or not JSON alone
        ("", "", "not JSON: Expecting value at line 1, column 1 (character 0)"),
        ("{'width': 1}", "", "enclosed in double quotes at line 1, column 2 (character 1)"),
        ('{"width":\n 1,}', "", "at line 2, column 4 (character 13)"),
        ('{"width": NaN}', "", "NaN is no JSON number"),
        ('{"width": -Infinity}', "", "-Infinity is no JSON number"),
        ('{"width": 1e999}', "width", "numbers are finite"),
        ('{"width": 9223372036854775808}', "width", "integers have 64 bits"),
        ('{"width": ' + "9" * 5000 + "}", "", "thousands of digits"),
        ('{"url": "\\ud800"}', "url", "half of a surrogate pair"),
        ('{"width": 1, "width": 2}', "width", "stands twice"),
        ('{"$or": [{"width": {"$gt": 1, "$gt": 2}}]}', "$or[0].width.$gt", "stands twice"),
        ("[]", "", "not an array"),
        ("5", "", "not the number 5"),
        (" " * MAX_LENGTH + "{}", "", "at most 1,000,000"),
        (nested(MAX_DEPTH), "$and[0]" + ".$and[0]" * (MAX_DEPTH // 2 - 1), "too deep"),
        ("[" * 100_000, "", "too deep"),
        ("{" + ", ".join(f'"{n}": 1' for n in [*range(70_000), 0]) + "}", "0", "stands twice"),
        (json.dumps({"w" * 900_000: 1}), "", "a name of 900,000 characters, at most 1,000"),
        (json.dumps({"width": {"$in": list(range(MAX_NODES))}}), "", "more than 20,000 values"),
        (json.dumps({"object_analysis.0.0.x1": {"$all": list(range(2_000))}}), "", "at most 5,000 are taken"),
        (json.dumps({"width": {"$type": "a" * 100_000}}), "width.$type", "there is no type 'aaa"),
        # names
        ('{"widht": 1}', "widht", "the nearest is 'width'"),
        ('{"classname": "cat"}', "classname", f"write {BOX_QUERY}"),
        ('{"object_analysis.clasname": "cat"}', "object_analysis.clasname", "the nearest is 'classname'"),
        ('{"object_analysis.0.clasname": "cat"}', "object_analysis.0.clasname", "the nearest is 'classname'"),
        ('{"annotators.nam": "x"}', "annotators.nam", "there is no field 'nam', the nearest is 'name'"),
        ('{"annotators.0.name.x": 1}', "annotators.0.name.x", "name is no object"),
        ('{"width.": 1}', "width.", "width is no object, which has no field ''"),
        ('{"": 1}', "", "there is no field ''"),
        ('{"width.²": 1}', "width.²", "width is no object, which has no field '²'"),
        ('{"objects.cow.cuont": 1}', "objects.cow.cuont", "the nearest is 'count'"),
        ('{"objects.tedy bear.count": 1}', "objects.tedy bear.count", "the nearest is 'teddy_bear'"),
        ('{"histogram.red": 1}', "histogram.red", "the elements are no objects"),
        ('{"histogram.0.red": 1}', "histogram.0.red", "the elements are no objects"),
        ('{"width": {"$foo": 1}}', "width.$foo", "there is no operator $foo"),
        ('{"width": {"$gte ": 1}}', "width.$gte ", "the nearest is $gte"),
        ('{"width": {"gt": 1}}', "width", "did you mean $gt?"),
        ('{"width": {"$gt": 1, "lt": 2}}', "width.lt", "the nearest is $lt"),
        ('{"$where": "1"}', "$where", "not supported"),
        ('{"$gt": 1}', "$gt", "belongs inside a field"),
        ('{"$not": {"width": 1}}', "$not", "belongs inside a field"),
        ('{"$an": []}', "$an", "the nearest is $and"),
        ('{"width": {"$or": [{"$gt": 1}]}}', "width.$or", "stands around fields"),
        ('{"object_analysis": {"$elemMatch": {"$foo": 1}}}', "object_analysis.$elemMatch.$foo", "no operator $foo"),
        ('{"object_analysis": {"$elemMatch": {"$elemMatch": {"clasname": 1}}}}', f"{BOXES}.clasname", "'classname'"),
        # arguments
        ('{"$and": {}}', "$and", "needs an array of at least one query, not an object"),
        ('{"$or": []}', "$or", "not an empty array"),
        ('{"$nor": [{}, 1]}', "$nor[1]", "is a query, that is an object, not the number 1"),
        ('{"width": {"$in": 5}}', "width.$in", "needs an array of values, not the number 5"),
        ('{"width": {"$nin": [1, [2]]}}', "width.$nin[1]", "whole array"),
        ('{"width": {"$in": [{"$gt": 1}]}}', "width.$in[0].$gt", "cannot stand in place of a value"),
        ('{"width": {"$not": 5}}', "width.$not", "for a value use $ne"),
        ('{"width": {"$not": {}}}', "width.$not", "not an empty one"),
        ('{"width": {"$exists": "yes"}}', "width.$exists", "needs true or false"),
        ('{"object_analysis": {"$size": "x"}}', "object_analysis.$size", 'not the string "x"'),
        ('{"object_analysis": {"$size": true}}', "object_analysis.$size", "needs a whole number, not true"),
        ('{"object_analysis": {"$size": 1.5}}', "object_analysis.$size", "needs a whole number"),
        ('{"object_analysis": {"$size": -1}}', "object_analysis.$size", "from 0 to"),
        ('{"object_analysis": {"$size": 4294967296}}', "object_analysis.$size", "from 0 to"),
        ('{"object_analysis": {"$elemMatch": 1}}', "object_analysis.$elemMatch", "needs an object of conditions"),
        ('{"width": {"$elemMatch": {"$gt": 1}}}', "width.$elemMatch", "width is no array"),
        ('{"object_analysis": {"$elemMatch": {"clasname": 1}}}', "object_analysis.$elemMatch.clasname", "'classname'"),
        ('{"histogram": {"$elemMatch": {"0.classname": 1}}}', "histogram.$elemMatch.0.classname", "the element is no"),
        ('{"histogram": {"$elemMatch": {"$elemMatch": {"a": 1}}}}', "histogram.$elemMatch.$elemMatch.a", "no object"),
        ('{"annotators": {"$elemMatch": {"$elemMatch": {"$gt": 1}}}}', "annotators.$elemMatch.$elemMatch", "no array"),
        ('{"width": {}}', "width", "whole object"),
        ('{"width": {"$eq": {"a": 1}}}', "width.$eq", "whole object"),
        ('{"object_analysis": [[]]}', "object_analysis", "whole array"),
        ('{"object_analysis": {"$gte": []}}', "object_analysis.$gte", "whole array"),
        ('{"width": {"$all": 5}}', "width.$all", "needs an array of values or of $elemMatch, not the number 5"),
        ('{"width": {"$all": 0}}', "width.$all", "needs an array"),
        ('{"width": {"$all": [{"$gt": 1}]}}', "width.$all[0].$gt", "cannot stand in place of a value"),
        ('{"annotators": {"$all": [{"$elemMatch": {}}, 1]}}', "annotators.$all[1]", "mixed"),
        ('{"annotators": {"$all": [{"$elemMatch": {}, "$gt": 1}]}}', "annotators.$all[0]", "stands alone"),
        ('{"width": {"$type": []}}', "width.$type", "at least one type"),
        ('{"width": {"$type": "integer"}}', "width.$type", "there is no type 'integer', the nearest is"),
        ('{"width": {"$type": ["int", "Number"]}}', "width.$type[1]", "the nearest is 'number'"),
        ('{"width": {"$type": 0}}', "width.$type", "for a missing field use $exists"),
        ('{"width": {"$type": 16.5}}', "width.$type", "no type with the number 16.5"),
        ('{"width": {"$type": true}}', "width.$type", "not true"),
        ('{"width": {"$mod": 5}}', "width.$mod", "needs [divisor, remainder], not the number 5"),
        ('{"width": {"$mod": [5]}}', "width.$mod", "not an array of 1"),
        ('{"width": {"$mod": [0, 1]}}', "width.$mod[0]", "the divisor 0 is zero"),
        ('{"width": {"$mod": [0.5, 1]}}', "width.$mod[0]", "the divisor 0.5 is zero"),
        ('{"width": {"$mod": [3, "1"]}}', "width.$mod[1]", "needs a number"),
        ('{"width": {"$mod": [9.3e18, 1]}}', "width.$mod[0]", "64 bits"),
        # patterns
        ('{"url": {"$regex": 5}}', "url.$regex", "needs a pattern"),
        ('{"url": {"$options": "i"}}', "url.$options", "needs a $regex beside it"),
        ('{"url": {"$regex": "a", "$options": "x"}}', "url.$options", "there is no option 'x'"),
        ('{"url": {"$regex": "a", "$options": 1}}', "url.$options", "needs letters"),
        ('{"url": {"$not": {"$regex": "("}}}', "url.$not.$regex", "a group that is not closed at character 0"),
        ('{"url": {"$regex": "a)"}}', "url.$regex", "a closing parenthesis too many"),
        ('{"url": {"$regex": "[a"}}', "url.$regex", "a bracket that is not closed"),
        ('{"url": {"$regex": "[b-a]"}}', "url.$regex", "goes backwards"),
        ('{"url": {"$regex": "[a-\\\\d]"}}', "url.$regex", "a range whose end is a set"),
        ('{"url": {"$regex": "[\\\\d-z]"}}', "url.$regex", "a range whose end is a set"),
        ('{"url": {"$regex": "[[:word:]-z]"}}', "url.$regex", "a range whose end is a set"),
        ('{"url": {"$regex": "[[:foo:]]"}}', "url.$regex", "a named set that there is not"),
        ('{"url": {"$regex": "[:word:]"}}', "url.$regex", "outside of brackets"),
        ('{"url": {"$regex": "*a"}}', "url.$regex", "repeats nothing"),
        ('{"url": {"$regex": "^*"}}', "url.$regex", "repeats what has no length"),
        ('{"url": {"$regex": "a{,3}"}}', "url.$regex", "a brace that is no quantifier"),
        ('{"url": {"$regex": "a{1001}"}}', "url.$regex", "invalid repetition size"),
        ('{"url": {"$regex": "(a{100}){100}"}}', "url.$regex", "invalid repetition size"),
        ('{"url": {"$regex": "a*+"}}', "url.$regex", "possessive"),
        ('{"url": {"$regex": "a\\\\Q\\\\E?b"}}', "url.$regex", "repeats an empty quotation at character 5"),
        ('{"url": {"$regex": "(a*)*"}}', "url.$regex", "repeats without end what may be empty"),
        ('{"url": {"$regex": "a\\\\B"}}', "url.$regex", "\\B, which is not supported"),
        ('{"url": {"$regex": "(?=a)"}}', "url.$regex", "a group that RE2 has not"),
        ('{"url": {"$regex": "(?<!a)b"}}', "url.$regex", "a group that RE2 has not"),
        ('{"url": {"$regex": "(?>a)"}}', "url.$regex", "a group that RE2 has not"),
        ('{"url": {"$regex": "a(?i)b"}}', "url.$regex", "flags in the middle"),
        ('{"url": {"$regex": "(?x)a b"}}', "url.$regex", "a group that RE2 has not"),
        ('{"url": {"$regex": "(a)\\\\1"}}', "url.$regex", "\\1, which is not supported"),
        ('{"url": {"$regex": "\\\\pL"}}', "url.$regex", "\\p, which is not supported"),
        ('{"url": {"$regex": "\\\\v"}}', "url.$regex", "\\v, which is not supported"),
        ('{"url": {"$regex": "\\\\012"}}', "url.$regex", "\\0, which is not supported"),
        ('{"url": {"$regex": "\\\\x{110000}"}}', "url.$regex", "no character"),
        ('{"url": {"$regex": "a\\\\"}}', "url.$regex", "ends with a backslash"),
        ('{"url": {"$regex": "a\\u0000"}}', "url.$regex", "a NUL character"),
        ('{"url": {"$regex": "(a$)b"}}', "url.$regex", "a $ before its end"),
        ('{"url": {"$regex": "(?:a$)+"}}', "url.$regex", "a $ before its end"),
        ('{"url": {"$regex": "a^", "$options": "m"}}', "url.$regex", "nothing has to follow"),
        (json.dumps({"url": {"$regex": "(" * 60 + ")" * 60}}), "url.$regex", "more than 50 groups"),
        (json.dumps({"url": {"$regex": "a" * 1001}}), "url.$regex", "at most 1,000"),
        # dates
        ('{"datetime": {"$date": "yesterday"}}', "datetime.$date", "needs a date"),
        ('{"datetime": {"$date": true}}', "datetime.$date", "needs a date"),
        ('{"datetime": {"$date": {"$numberLong": 5}}}', "datetime.$date", "needs a date"),
        ('{"datetime": {"$gt": {"$date": 253402300800000}}}', "datetime.$gt.$date", "years 1 to 9999"),
        ('{"datetime": {"$gt": {"$date": "9999-12-31T23:59:59-01:00"}}}', "datetime.$gt.$date", "years 1 to 9999"),
        ({"datetime": {"$in": [{"$date": n} for n in range(1001)]}}, "datetime.$in", "1,001 different dates"),
        ('{"datetime": {"$date": 0, "$gt": 1}}', "datetime.$date", "stands alone"),
        ('{"object_analysis": {"$elemMatch": {"$date": 0}}}', "object_analysis.$elemMatch.$date", "is a value"),
        ('{"_id": {"$oid": "5"}}', "_id.$oid", "extended JSON type $oid"),
        ('{"width": {"$numberDecimal": "5"}}', "width.$numberDecimal", "extended JSON type"),
        # from Python
        ({"width": float("nan")}, "width", "numbers are finite"),
        ({"width": b"x"}, "width", "a bytes is no value"),
        ({"datetime": date(2023, 1, 4)}, "datetime", "a date is no value"),
        ({1: 2}, "", "a name is a string"),
        (None, "", "not null"),
    ],
)  # fmt: skip
def test_refused(query: Any, place: str, says: str) -> None:
    with pytest.raises(QueryError) as refused:
        compile_query(query)
    assert refused.value.place == place
    assert says in str(refused.value)
    assert str(refused.value).startswith(place)


@pytest.mark.parametrize("name", ["classname", "name"])
def test_the_way_out_can_be_pasted(name: str) -> None:
    with pytest.raises(QueryError) as refused:
        compile_query({name: "cat"})
    hint = str(refused.value).partition("write ")[2]
    assert compile_query(hint.replace("...", '"cat"')).warnings == ()


def test_a_mapping_that_holds_itself() -> None:
    query: dict[str, Any] = {}
    query["$and"] = [query]
    with pytest.raises(QueryError, match="too deep"):
        compile_query(query)


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        ('{"width": "wide"}', "width: a number is never matched by a string"),
        ('{"width": {"$in": [true, "wide"]}}', "width.$in: a number is never matched by a boolean"),
        ('{"width": {"$size": 1}}', "width.$size: a number is never matched by an array"),
        ('{"object_analysis": {"$gt": 5}}', "object_analysis.$gt: an array is never matched by a number"),
        ('{"annotators": "yolo"}', "annotators: an object is never matched by a string"),
        ('{"datetime": {"$gt": "yesterday"}}', "datetime.$gt: a date is never matched by a string"),
        ('{"object_analysis": {"$elemMatch": {"$elemMatch": {"x1": "1"}}}}', f"{BOXES}.x1: a number is never"),
        ('{"width": {"$type": "string"}}', "width.$type: a number is never matched by the type string, it is int"),
        ('{"width": {"$regex": "1"}}', "width.$regex: a number is never matched by a pattern"),
        ('{"url": {"$mod": [2, 1]}}', "url.$mod: a string is never matched by a remainder"),
        ('{"width": []}', "width: a number is never matched by an array"),
        ('{"object_analysis.classname": "cat"}', "object_analysis.classname: 'classname' is no field of an array"),
        ('{"object_analysis": {"$elemMatch": {"classname": 1}}}', "object_analysis.$elemMatch.classname: 'classname'"),
        ('{"histogram.0.0.0": 1}', "histogram.0.0.0: there is nothing that '0' leads to"),
        ('{"5": 1}', "5: there is nothing that '5' leads to"),
        ('{"width.0": 1}', "width.0: there is nothing that '0' leads to"),
        ('{"objects.7": 1}', "objects.7: there is nothing that '7' leads to"),
        ('{"annotators.0.0": 1}', "annotators.0.0: there is nothing that '0' leads to"),
    ],
)  # fmt: skip
def test_unlike_types_are_no_error_but_a_warning(query: str, warning: str) -> None:
    assert compile_query(query).warnings[0].startswith(warning)


def test_like_types_have_no_warning() -> None:
    query = {"datetime": {"$gt": "2023-01-04 09:58:14.082248"}, "width": {"$gt": 1.5}, "bytes": 2**40, "url": None}
    query |= {"histogram": {"$elemMatch": {"$elemMatch": {"$gt": 3}}}, "annotators": [], "url": {"$type": "string"}}
    query |= {"histogram.0.1": 1, "object_analysis": {"$type": "array"}, "annotators.0.name": {"$regex": "y"}}
    assert compile_query(query).warnings == ()


@pytest.mark.parametrize(
    "one",
    [
        '{"$date": "2023-01-04T09:58:14.082Z"}',
        '{"$date": "2023-01-04T10:58:14.082+01:00"}',
        '{"$date": 1672826294082}',
        '{"$date": {"$numberLong": "1672826294082"}}',
        '"2023-01-04 09:58:14.082248"',
        datetime(2023, 1, 4, 9, 58, 14, 82248),
        datetime(2023, 1, 4, 9, 58, 14, 82999, UTC),
    ],
)
def test_one_date_in_many_forms(one: Any) -> None:
    query = {"datetime": {"$gte": one if isinstance(one, datetime) else json.loads(one)}}
    same = {"datetime": {"$gte": {"$date": 1672826294082}}}
    assert compile_query(query).tree == compile_query(same).tree
