"""The state database: what cannot be rebuilt from files (jobs, settings, favourites), and what is slow to find out."""

from __future__ import annotations

from pathlib import Path

from modules.services.database import Database, Migrations

MIGRATIONS: Migrations = (
    (
        "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        # key: services.pictures.favourite_key
        "CREATE TABLE favourites (key TEXT PRIMARY KEY, created REAL NOT NULL) WITHOUT ROWID",
        # info: ModelInfo as JSON, good while size, mtime_ns and reader are the same; sha256 while size and mtime_ns are
        """CREATE TABLE models (
            path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
            reader TEXT NOT NULL DEFAULT '', info TEXT NOT NULL DEFAULT '', sha256 TEXT
        ) WITHOUT ROWID""",
        # number: the queue's order. plan: plan_json. report: whatever else the queue remembers, as JSON
        """CREATE TABLE jobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL DEFAULT '',
            state TEXT NOT NULL, plan TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
            report TEXT NOT NULL DEFAULT '{}'
        )""",
        "CREATE INDEX jobs_by_state ON jobs (state, number)",
    ),
    (
        # taken, profile: services.model_notes.Note as JSON, good while size is the same
        """CREATE TABLE model_notes (
            path TEXT PRIMARY KEY, size INTEGER NOT NULL, taken TEXT NOT NULL, profile TEXT NOT NULL
        ) WITHOUT ROWID""",
    ),
)


class StateDatabase(Database):
    """Tables settings, favourites, models, model_notes and jobs; each service reads and writes its own."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MIGRATIONS)
