"""The stream of events, read straight from its generator: a test client would wait for its end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from modules.api.events import stream
from modules.api.labels import Labels
from modules.app import App


def test_a_stream_tells_a_job_from_beginning_to_end(app: App) -> None:
    async def follow() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        source = stream(app, Labels.gather(), None, 0.05)
        app.jobs.submit({"prompt": "a fox", "steps": 3, "width": 64, "height": 64})
        async for part in source:
            told.append(json.loads(part.removeprefix(b"data: ")))
            if told[-1].get("state") == "completed":
                break
        await source.aclose()
        return told

    told = asyncio.run(asyncio.wait_for(follow(), 30))
    jobs = [each for each in told if "id" in each]
    assert jobs[0]["plan"]["prompt"] == "a fox"
    assert [each["seq"] for each in jobs] == sorted(each["seq"] for each in jobs)
    assert jobs[-1]["images"][0]["picture"]
    assert any("engine" in each for each in told)


def test_a_quiet_stream_beats(app: App) -> None:
    async def first_beat() -> None:
        source = stream(app, Labels.gather(), None, 0.01)
        async for part in source:
            if b"heartbeat" in part:
                break
        await source.aclose()

    asyncio.run(asyncio.wait_for(first_beat(), 10))


def test_an_engine_that_unloads_is_told_without_waiting_for_a_heartbeat(app: App) -> None:
    async def unloaded() -> None:
        source = stream(app, Labels.gather(), None, 3600.0)
        app.jobs.submit({"prompt": "a fox", "steps": 1, "width": 64, "height": 64})
        asked = False
        async for part in source:
            engine = json.loads(part.removeprefix(b"data: ")).get("engine")
            if engine and engine["loaded"] and engine["state"] == "idle":
                app.executor.unload()
                asked = True
            elif engine and asked and not engine["loaded"]:
                break
        await source.aclose()

    asyncio.run(asyncio.wait_for(unloaded(), 60))


def test_people_see_their_own_jobs_only(app: App) -> None:
    async def of(owner: str) -> set[str]:
        source = stream(app, Labels.gather(), owner, 0.01)
        seen = set()
        async for part in source:
            values = json.loads(part.removeprefix(b"data: "))
            if "heartbeat" in values:
                break
            seen |= {values["owner"]} if "owner" in values else set()
        await source.aclose()
        return seen

    values = {"prompt": "a fox", "steps": 2, "width": 64, "height": 64}
    app.jobs.submit(values, "ada")
    app.jobs.submit(values, "bob")
    assert asyncio.run(of("ada")) <= {"ada"}
