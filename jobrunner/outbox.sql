-- jobrunner: an outbox, to be made in an application's own database, which is not the one of the jobs.
--
-- A row that the application writes here, in a transaction of its own, becomes a job exactly once, when somebody drains the
-- outbox: `jobrunner run --outbox app.db`, or `jobrunner outbox drain app.db`. The row is gone then.
--
--     INSERT INTO jr_outbox(job) VALUES ('{"task": "shop.tasks:send", "args": {"user": 7}, "queue": "mail"}');
--
-- A job is a JSON object as in a line of `jobrunner enqueue --jsonl`. All of it works in SQLite 3.40 and later, so
-- `sqlite3 app.db < outbox.sql` makes it, and nothing is changed where it is there already.

CREATE TABLE IF NOT EXISTS jr_outbox (
    id  INTEGER PRIMARY KEY AUTOINCREMENT,   -- rises with each commit, and is never used again
    job TEXT    NOT NULL,
    at  INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER))
) STRICT;

-- Rows that are no job, and why. They hold up no others; `jobrunner outbox retry app.db` puts them back.
CREATE TABLE IF NOT EXISTS jr_outbox_refused (
    id    INTEGER PRIMARY KEY,
    job   TEXT    NOT NULL,
    at    INTEGER NOT NULL,
    error TEXT    NOT NULL
) STRICT;

-- By its name the jobs' database knows the outbox, and which row of it was the last that became a job.
CREATE TABLE IF NOT EXISTS jr_outbox_name (
    id   INTEGER PRIMARY KEY CONSTRAINT "an outbox has one name" CHECK (id = 1),
    name TEXT    NOT NULL DEFAULT (lower(hex(randomblob(16))))
) STRICT;

INSERT OR IGNORE INTO jr_outbox_name(id) VALUES (1);

CREATE TRIGGER IF NOT EXISTS jr_outbox_insert AFTER INSERT ON jr_outbox
WHEN new.id <= (SELECT seq FROM sqlite_sequence WHERE name = 'jr_outbox')
BEGIN
    SELECT RAISE(ABORT, 'the number of a row in the outbox is given by the database: leave id out');
END;

CREATE TRIGGER IF NOT EXISTS jr_outbox_update BEFORE UPDATE OF id ON jr_outbox
BEGIN
    SELECT RAISE(ABORT, 'the number of a row in the outbox stays as it is');
END;
