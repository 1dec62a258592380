"""A good citizen, by the log of the servers: the limits of a host hold over tasks, batches, jobs and deaths."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.simweb import DOMAIN, Page, Request, SimulatedWeb, Site, most_at_once, too_early
from benchmarks.simweb.sites import robots_page
from cortex_spark.config import Settings
from cortex_spark.demo.server import Answer, Server
from cortex_spark.engine.label import LabelJob, LabelReport
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.errors import CortexError, OutageError
from cortex_spark.sources.urls import image_id
from cortex_spark.table import Warehouse
from tests.engine.planted import PlantedDecoder
from tests.web import JPEG, discover, photographs, urls

#: Outcomes of hosts that do not answer at all, and of those that ask for patience.
DOWN = ("host_down", "dns_error", "connection_error", "timeout", "tls_error")
BUSY = ("http_429", "deferred")
#: Seconds by which a request may come closer to the one before it on its way through the network.
JITTER = 0.1


@pytest.fixture
def tables(spark: SparkSession, warehouse: Path) -> Warehouse:
    return Warehouse(spark, str(warehouse))


@pytest.fixture(scope="module")
def pictures(shared: Path) -> list[bytes]:
    return [answer.body for answer in photographs(shared, 12).values()]


def settings(web: SimulatedWeb, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Settings:
    for name, value in web.environment().items():
        monkeypatch.setenv(name, value)
    return Settings().model_copy(update={"host_delay": 0.3, "connect_timeout": 5.0, **changes})


def job(tables: Warehouse, settings: Settings, *, decode: PlantedDecoder | None = None, batch: int = 1000) -> LabelJob:
    config = EngineConfig(settings, tables.root, decode=decode)
    return LabelJob(tables, None, config, batch_urls=batch, show=False)


def outcomes_by_url(tables: Warehouse) -> dict[str, str]:
    """How each URL ended, or its latest attempt if it is still waiting."""
    attempts = tables.read("attempts").groupBy("_id").agg(F.max_by("outcome", "attempted_at").alias("outcome"))
    rows = tables.read("image_urls").join(attempts, "_id").select("url", "outcome").collect()
    return {row["url"]: row["outcome"] for row in rows}


def rushed(log: Iterable[Request], delay: float) -> dict[str, float]:
    """Hosts that were asked twice within less than ``delay``, and the pauses they were left."""
    starts: defaultdict[str, list[float]] = defaultdict(list)
    for request in log:
        starts[request.host].append(request.start)
    pauses = {
        host: min((later - earlier for earlier, later in itertools.pairwise(sorted(times))), default=delay)
        for host, times in starts.items()
    }
    return {host: pause for host, pause in pauses.items() if pause < delay - JITTER}


def test_a_whole_web(tables: Warehouse, pictures: Sequence[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every URL comes to the end that the site meant for it, in as many passes as it takes; and nobody is hurried."""
    with SimulatedWeb(hosts=50, urls=260, seed=3, pictures=pictures, latency=(0.01, 0.5)) as web:
        polite = settings(web, monkeypatch)
        discover(tables.spark, tables, web.urls())
        report = job(tables, polite, batch=60).run()
        assert report.known == sum(report.final.values()) + report.waiting == len(web.urls())
        expected = web.outcomes()
        ended = outcomes_by_url(tables)
        different = {
            url: (ended[url], outcome)
            for url, outcome in expected.items()
            if ended[url] not in (outcome, *(BUSY if ended[url] in BUSY else DOWN if outcome in DOWN else ()))
        }
        assert different == {}
        waiting = [url for url, outcome in ended.items() if outcome in BUSY]
        assert 0 < len(waiting) < 30
        log = web.log()
    assert max(most_at_once(log).values()) <= polite.host_connections
    assert rushed(log, polite.host_delay) == {}
    assert too_early(log) == []
    closed = {site.host for site in web.sites if site.robots.status == 200 and b"/private/" in site.robots.body}
    assert [request for request in log if request.host in closed and request.path.startswith("/private/")] == []
    assert {request.agent for request in log} == {polite.user_agent}


@pytest.mark.soak
def test_limits_hold_over_batches_two_jobs_and_a_killed_task(
    tables: Warehouse, pictures: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = [
        Site(f"h{host}.{DOMAIN}", tuple(Page(f"/{n}.jpg", (n or 11 * host) % 12, headers=JPEG) for n in range(11)))
        for host in range(4)
    ]
    with SimulatedWeb(pictures=pictures, sites=sites, https=False) as web:
        polite = settings(web, monkeypatch)
        discover(tables.spark, tables, web.urls())
        crash = PlantedDecoder({hashlib.sha256(pictures[11]).hexdigest(): "crash"})
        reports: list[LabelReport] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                # Of each host the first two batches have three URLs, and the jobs plan one after the other.
                reports.append(job(tables, polite, decode=crash, batch=12).run(limit=30))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        last = job(tables, polite, decode=crash).run()
        log = web.log()
    assert sum(report.urls for report in reports) + last.urls == 4 * 11
    assert last.final == {"ok": 43, "decoder_crash": 1}
    # Read once, and remembered; once more where the task that had read it died, or a connection was closed on it.
    asked = Counter(request.host for request in log if request.path == "/robots.txt")
    assert max(asked.values()) <= 3, [line for line in log if line.path in ("/robots.txt", "/0.jpg")]
    assert max(most_at_once(log).values()) <= polite.host_connections
    assert rushed(log, polite.host_delay) == {}


def test_crawl_delay_is_kept_and_planned_with(
    tables: Warehouse, pictures: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = tuple(Page(f"/{n}.jpg", n, headers=JPEG) for n in range(8))
    slow = Site(f"slow.{DOMAIN}", pages, robots=robots_page(200, "User-agent: *\nCrawl-delay: 1\n"))
    with SimulatedWeb(pictures=pictures, sites=[slow], https=False) as web:
        # In 4 seconds the host lets four requests begin; the rest comes in batches of its own.
        polite = settings(web, monkeypatch, host_seconds=4.0)
        discover(tables.spark, tables, web.urls())
        report = job(tables, polite).run()
        log = web.log()
    assert report.final == {"ok": 8}
    assert report.outcomes["deferred"] > 0
    assert rushed(log, 1.0) == {}
    assert tables.read("plans").select("batch", "run").distinct().count() > 1


def test_a_picture_that_moved_waits_for_the_other_hosts_turn(tables: Warehouse, shared: Path) -> None:
    (photograph,) = photographs(shared, 1).values()

    def to(host: str, path: str, port: int) -> Answer:
        return Answer(status=301, headers=(("Location", f"http://{host}:{port}{path}"),))

    with Server() as web:
        web.publish(
            {
                ("old.localhost", "/a.jpg"): to("new.localhost", "/b.jpg", web.port),
                ("new.localhost", "/b.jpg"): to("newest.localhost", "/c.jpg", web.port),
                ("newest.localhost", "/c.jpg"): photograph,
                ("here.localhost", "/1.jpg"): to("there.localhost", "/2.jpg", web.port),
                ("there.localhost", "/2.jpg"): to("here.localhost", "/1.jpg", web.port),
            }
        )
        found = [
            f"http://{host}:{web.port}{path}"
            for host, path in (("old.localhost", "/a.jpg"), ("here.localhost", "/1.jpg"))
        ]
        discover(tables.spark, tables, found)
        report = job(tables, Settings(allow_private_hosts=("*.localhost",))).run()
    assert report.final == {"ok": 1, "too_many_redirects": 1}
    assert report.waiting == 0
    (sample,) = tables.read("samples").collect()
    assert (sample["_id"], sample["url"], sample["host"]) == (image_id(found[0]), found[0], "old.localhost")
    plans = tables.read("plans").where(F.col("_id") == image_id(found[0])).orderBy("hops").collect()
    assert [row["location"] and row["location"].rpartition("/")[2] for row in plans] == [None, "b.jpg", "c.jpg"]


def test_a_picture_is_visited_again_for_its_changes_only(tables: Warehouse, shared: Path) -> None:
    (one, other) = photographs(shared, 2).values()
    etag = (("ETag", '"v1"'), *JPEG)
    with Server() as web:
        answers = {
            ("h.localhost", "/same.jpg"): Answer(one.body, etag),
            ("h.localhost", "/changed.jpg"): Answer(one.body, JPEG),
            ("h.localhost", "/gone.jpg"): Answer(one.body, etag),
        }
        web.publish(answers)
        discover(tables.spark, tables, urls(web, answers))
        mine = Settings(allow_private_hosts=("*.localhost",))
        assert job(tables, mine).run().outcomes == {"ok": 3}
        assert job(tables, mine).run(revisit=1).urls == 0  # seen today
        web.publish(
            {
                ("h.localhost", "/same.jpg"): Answer(b"", etag, 304),
                ("h.localhost", "/changed.jpg"): Answer(other.body, JPEG),
            }
        )
        tables.delta("attempts").update(set={"attempted_at": F.col("attempted_at") - F.expr("INTERVAL 2 DAYS")})
        report = job(tables, mine).run(revisit=1)
        assert report.outcomes == {"not_modified": 1, "changed": 1, "http_404": 1}
        assert job(tables, mine).run(revisit=1).urls == 0
    assert tables.read("samples").count() == 3


def test_what_failed_is_tried_once_more_and_not_for_ever(tables: Warehouse, shared: Path) -> None:
    """While other pictures of the same job are followed from host to host."""
    picture = next(iter(photographs(shared, 1).values()))
    with Server() as web:
        leads = {f"h{n}.localhost": f"http://h{n + 1}.localhost:{web.port}/move.jpg" for n in range(2)}
        web.publish(
            {
                ("bad.localhost", "/bad.jpg"): Answer(status=500),
                **{(host, "/move.jpg"): Answer(status=302, headers=(("Location", to),)) for host, to in leads.items()},
                ("h2.localhost", "/move.jpg"): picture,
            }
        )
        mine = Settings(allow_private_hosts=("*.localhost",))
        discover(tables.spark, tables, [f"http://bad.localhost:{web.port}/bad.jpg"])
        assert job(tables, mine).run().outcomes == {"http_500": 1}
        discover(tables.spark, tables, [f"http://h0.localhost:{web.port}/move.jpg"])
        report = job(tables, mine).run(retry=True)
        assert report.outcomes == {"http_500": 1, "moved": 2, "ok": 1}
        assert len(web.requests("bad.localhost", "/bad.jpg")) == 2


def test_the_public_web_wants_a_contact_address(tables: Warehouse) -> None:
    discover(tables.spark, tables, ["http://h.localhost/1.jpg", "https://example.org/2.jpg"])
    with pytest.raises(CortexError, match=r"example\.org is on the public web: set CORTEX_CONTACT"):
        job(tables, Settings(allow_private_hosts=("*.localhost",))).run()
    assert tables.read("plans").count() == 0


@pytest.mark.soak
def test_our_outage_is_not_the_webs(
    tables: Warehouse, pictures: Sequence[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network goes in the middle of a job: it stops and says so; when it is back, every URL has its end."""
    sites = [
        Site(f"h{host}.{DOMAIN}", tuple(Page(f"/{n}.jpg", n, headers=JPEG, latency=0.1) for n in range(10)))
        for host in range(12)
    ]
    with SimulatedWeb(pictures=pictures, sites=sites, https=False) as web:
        polite = settings(web, monkeypatch, outage_hosts=6, host_delay=0.4)
        discover(tables.spark, tables, web.urls())
        ended: list[BaseException | LabelReport] = []

        def run() -> None:
            try:
                ended.append(job(tables, polite).run())
            except OutageError as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while len(web.log()) < 40:
            time.sleep(0.05)
        with web.outage():
            thread.join(120)
            assert not thread.is_alive()
            (error,) = ended
            assert isinstance(error, OutageError)
            assert error.exit_code == 75
            assert "our own network" in str(error)
            # As long as it lasts, each start says so and writes nothing off.
            with pytest.raises(OutageError):
                job(tables, polite).run()
        assert tables.read("attempts").where("final AND outcome <> 'ok'").count() == 0
        assert 0 < tables.read("samples").count() < 120
        report = job(tables, polite).run()
    assert report.final == {"ok": 120}
    assert tables.read("samples").count() == 120


@pytest.mark.parametrize("obey", [True, False])
def test_times_of_hosts_are_kept_from_job_to_job(tables: Warehouse, pictures: Sequence[bytes], obey: bool) -> None:
    with Server() as web:
        busy = {("h.localhost", f"/{n}.jpg"): Answer(status=429, headers=(("Retry-After", "7200"),)) for n in range(4)}
        web.publish(busy)
        discover(tables.spark, tables, urls(web, busy))
        mine = Settings(allow_private_hosts=("*.localhost",), host_connections=1, obey_robots=obey)
        report = job(tables, mine).run()
        assert report.outcomes == {"http_429": 1, "deferred": 3}
        asked = len(web.requests())
        assert job(tables, mine).run().urls == 0
        (host,) = tables.read("hosts").collect()
        assert timedelta(hours=1.9) < host["not_before"].astimezone(UTC) - datetime.now(UTC) < timedelta(hours=2.1)
        # A new URL of that host is not asked for either.
        more = {("h.localhost", "/new.jpg"): Answer(pictures[0], JPEG)}
        discover(tables.spark, tables, urls(web, more))
        assert job(tables, mine).run(retry=True).urls == 0
        assert len(web.requests()) == asked
        web.publish({address: Answer(pictures[0], JPEG) for address in [*busy, *more]})
        past = F.current_timestamp() - F.expr("INTERVAL 1 MINUTE")
        tables.delta("hosts").update(set={"not_before": past})
        tables.delta("attempts").update(set={"retry_at": past})
        assert job(tables, mine).run().final == {"ok": 5}


def test_what_hosts_asked_for_holds_when_the_worker_dies(tables: Warehouse, pictures: Sequence[bytes]) -> None:
    """The worker dies in the middle of the hosts' pauses, before any of their rows is finished."""
    faults = dict.fromkeys((hashlib.sha256(picture).hexdigest() for picture in pictures[:2]), "crash")
    answers = {("crash.localhost", f"/{n}.jpg"): Answer(picture, JPEG) for n, picture in enumerate(pictures[:2])}
    patience = Answer(status=429, headers=(("Retry-After", "3600"),), delay=1.0)
    answers |= {("busy.localhost", f"/{n}.jpg"): patience for n in range(4)}
    answers |= {
        ("slow.localhost", "/robots.txt"): Answer(b"User-agent: *\nCrawl-delay: 8"),
        ("slow.localhost", "/x.jpg"): Answer(pictures[2], JPEG),
    }
    with Server(answers) as web:
        discover(tables.spark, tables, [url for url in urls(web, answers) if not url.endswith(".txt")])
        mine = Settings(allow_private_hosts=("*.localhost",), host_connections=1)
        # Both decoders are busy until they crash.
        report = job(tables, mine, decode=PlantedDecoder(faults, slow=3.0)).run()
        assert report.outcomes == {"decoder_crash": 2, "ok": 1, "deferred": 4}
        assert len(web.requests("busy.localhost")) == 2
        asked = web.requests("slow.localhost")
    assert [request.path for request in asked] == ["/robots.txt", "/x.jpg"]
    assert asked[1].at - asked[0].at > 8 - JITTER
    (busy,) = tables.read("hosts").where("host = 'busy.localhost'").collect()
    assert busy["not_before"].astimezone(UTC) - datetime.now(UTC) > timedelta(minutes=58)


def test_dead_hosts_are_no_outage_where_one_answered_in_an_earlier_job(tables: Warehouse, shared: Path) -> None:
    answers = photographs(shared, 3)
    dead = [f"http://dead{number}.localhost:81/x.jpg" for number in range(10)]
    with Server(answers) as web:
        mine = Settings(allow_private_hosts=("*.localhost",), obey_robots=False, outage_hosts=3)
        discover(tables.spark, tables, urls(web, answers))
        assert job(tables, mine).run().final == {"ok": 3}
        discover(tables.spark, tables, dead[:8])
        assert job(tables, mine).run().outcomes == {"connection_error": 8}
        assert 0 < len(web.requests(path="/robots.txt")) <= 2  # for each three hosts
    # Where they do not answer any more, either, fewer than three hosts are enough.
    discover(tables.spark, tables, dead)
    with pytest.raises(OutageError):
        job(tables, mine).run()
    assert outcomes_by_url(tables)[dead[9]] == "outage"
