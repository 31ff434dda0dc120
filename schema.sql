-- jobrunner: the database, for reading first.
--
-- One SQLite file in WAL mode is the broker, the orchestrator and the state backend of a job runner.
-- An *invocation* (people say *job*) is one request to run a task: a Python function or a command.
-- A *runner* claims pending invocations, has them done by workers, and records what came of each
-- *attempt*. Tables carry the prefix jr_; the views at the end have plain names and are what people
-- read and write by hand:
--
--     SELECT id, task, status, error FROM jobs WHERE status = 'failed';
--     INSERT INTO jobs(task, args) VALUES ('shop.tasks:send', '{"order": 7}');   -- enqueues
--     UPDATE jobs SET status = 'cancelled' WHERE id = 7;                         -- cancels
--     SELECT * FROM history WHERE job = 7;
--
-- Times are integers, milliseconds since 1970 UTC; the views show them as ISO 8601 text.
-- All of it works in SQLite 3.40 and later, so `sqlite3 new.db < schema.sql` makes a database.

PRAGMA journal_mode = WAL;

BEGIN IMMEDIATE;

PRAGMA application_id = 1785884274;   -- the letters 'jrnr': this file is jobrunner's
PRAGMA user_version = 1;              -- the schema's version; jobrunner/migrations lead to later ones

-- The law of statuses -----------------------------------------------------------------------------
--
--   scheduled  its time has not come: a delay, or a retry that waits
--   blocked    held by hand, or a limit of its key is reached
--   pending    may be claimed
--   running    a runner's worker does it
--   paused     it waits for results of others; its process is stopped; it holds no slot
--   resumed    running again after a pause
--   killed     its process or runner died; led on to pending or failed in the same transaction
--   success, failed, cancelled, expired   final; only an operator's retry leads out

CREATE TABLE jr_status_law (
    from_status TEXT NOT NULL,
    to_status   TEXT NOT NULL,
    PRIMARY KEY (from_status, to_status)
) STRICT, WITHOUT ROWID;

INSERT INTO jr_status_law(from_status, to_status) VALUES
    ('scheduled', 'pending'), ('scheduled', 'cancelled'), ('scheduled', 'expired'),
    ('blocked',   'pending'), ('blocked',   'cancelled'), ('blocked',   'expired'),
    ('pending',   'running'), ('pending',   'blocked'),   ('pending',   'cancelled'), ('pending', 'expired'),
    ('pending',   'scheduled'), ('blocked', 'scheduled'), -- debounced: another with its key came
    ('running',   'success'), ('running',   'failed'),    ('running',   'paused'),    ('running', 'killed'),
    ('running',   'scheduled'), ('running', 'pending'),   ('running',   'cancelled'),
    ('paused',    'resumed'), ('paused',    'killed'),    ('paused',    'cancelled'), ('paused',  'failed'),
    ('resumed',   'success'), ('resumed',   'failed'),    ('resumed',   'paused'),    ('resumed', 'killed'),
    ('resumed',   'scheduled'), ('resumed', 'pending'),   ('resumed',   'cancelled'),
    ('killed',    'pending'), ('killed',    'failed'),
    -- an operator's retry
    ('success',   'pending'), ('failed',    'pending'),   ('cancelled', 'pending'),   ('expired', 'pending');

-- Runners -----------------------------------------------------------------------------------------
-- A runner holds byte `id` of the file <database>-runners locked for life. The kernel frees the lock
-- when the process ends, however it ends: a free byte of a runner that has not stopped is a proof of
-- death. `heartbeat_at` is for display alone.

CREATE TABLE jr_runner (
    id           INTEGER PRIMARY KEY,
    mode         TEXT    NOT NULL,             -- process, thread or inline
    slots        INTEGER NOT NULL,             -- how many invocations at a time
    queues       TEXT    NOT NULL,             -- JSON array of names; empty: all
    host         TEXT    NOT NULL,
    pid          INTEGER NOT NULL,
    boot_id      TEXT    NOT NULL,             -- the kernel's; another one: the machine restarted
    token        TEXT    NOT NULL,             -- in the environment of all that it started
    version      TEXT    NOT NULL,             -- jobrunner's
    started_at   INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    stopped_at   INTEGER,
    stop_reason  TEXT,                         -- set before it stopped: why somebody is killing it
    stale        INTEGER NOT NULL DEFAULT 0    -- outcomes that came after their claim was given up, and changed nothing
) STRICT;

CREATE INDEX jr_runner_live ON jr_runner(id) WHERE stopped_at IS NULL;

-- The processes of threads of runners that live, as these see them; written at most ten times a second.
CREATE TABLE jr_process (
    runner      INTEGER NOT NULL REFERENCES jr_runner(id) ON DELETE CASCADE,
    key         INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    threads     INTEGER NOT NULL,
    active      INTEGER NOT NULL,              -- invocations that it does now
    state       TEXT    NOT NULL CONSTRAINT "a process is active or idle" CHECK (state IN ('active', 'idle')),
    last_update INTEGER NOT NULL,              -- since when it is active or idle
    PRIMARY KEY (runner, key)
) STRICT, WITHOUT ROWID;

-- What the wall clock showed beyond the time since the machine started. Where that changes, somebody has set the
-- clock, and whoever notices it first moves the retries that wait along, so that none waits longer or less for it.
CREATE TABLE jr_clock (
    id       INTEGER PRIMARY KEY CONSTRAINT "there is one clock" CHECK (id = 1),
    boot_id  TEXT    NOT NULL,                 -- since which start of the machine
    ahead    INTEGER NOT NULL,                 -- milliseconds: wall clock minus time since that start
    jumps    INTEGER NOT NULL DEFAULT 0,       -- how often it was set since then
    last     INTEGER                           -- by how many milliseconds the last time
) STRICT;

-- Invocations -------------------------------------------------------------------------------------
-- Narrow and hot. Large arguments, results, attempts and output live in tables of their own.
-- `claim` is the fence: +1 each time the invocation is handed to a runner, never reset. Every change
-- made for an attempt names the claim it holds, and changes nothing once another claim was made.

CREATE TABLE jr_invocation (
    id          INTEGER PRIMARY KEY,                 -- never reused
    status      TEXT    NOT NULL DEFAULT 'pending',
    queue       TEXT    NOT NULL DEFAULT 'default',
    priority    INTEGER NOT NULL DEFAULT 0,          -- higher is sooner
    kind        TEXT    NOT NULL DEFAULT 'function', -- function, command (a program) or shell (a line)
    task        TEXT    NOT NULL,                    -- module:function, the program, or the line
    args        TEXT,                                -- JSON object or array; NULL: in jr_argument
    policy      TEXT,                                -- JSON object: retry, timeout, on_crash, cwd, env
    label       TEXT,                                -- free text for people
    unique_key  TEXT,                                -- at most one unfinished invocation a key
    parent      INTEGER,                             -- the invocation that enqueued this one
    schedule    TEXT,                                -- the name of the schedule that enqueued it
    batch       INTEGER,                             -- the batch that it is a member of
    counted     INTEGER NOT NULL DEFAULT 0,          -- 1: its end is counted in its batch; 2: so is the one before it was retried, since that batch stays complete
    created_at  INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)),
    run_at      INTEGER,                             -- not before
    expires_at  INTEGER,                             -- never started by then: expired
    changed_at  INTEGER,                             -- the last change of status
    started_at  INTEGER,                             -- of the last attempt that began
    finished_at INTEGER,
    runner      INTEGER,                             -- that holds it, or held it last
    claim       INTEGER NOT NULL DEFAULT 0,          -- the fence
    attempt     INTEGER NOT NULL DEFAULT 0,          -- attempts spent; what retries are counted in
    crashes     INTEGER NOT NULL DEFAULT 0,          -- +1 at each claim, -1 at each outcome that is not a crash
    hold        INTEGER NOT NULL DEFAULT 0,          -- 1: blocked by hand, until somebody lets it go; 2: waits for others to end; 3: no runner knew its task (jr_unknown)
    deps        INTEGER NOT NULL DEFAULT 0,          -- how many it still waits for before it begins
    dependents  INTEGER NOT NULL DEFAULT 0,          -- 1: others wait for its end
    limit_key   TEXT,                                -- what its limits count: equal keys share them
    limit_size  INTEGER,                             -- how many of the key may be started at a time
    limit_drop  INTEGER NOT NULL DEFAULT 0,          -- 1: over a limit it is cancelled, not blocked
    limit_rate  INTEGER,                             -- how many of the key may begin in any
    limit_period INTEGER,                            -- such time, in milliseconds
    waiters     INTEGER NOT NULL DEFAULT 0,          -- how many paused ones wait for this one: they make it urgent
    cancel_at   INTEGER,                             -- somebody asked a started one to stop
    reason      TEXT,                                -- why the status is what it is
    CONSTRAINT "a status is one of scheduled, blocked, pending, running, paused, resumed, killed, success, failed, cancelled, expired"
        CHECK (status = 'pending' OR status = 'running' OR status = 'success' OR status = 'scheduled'
            OR status = 'blocked' OR status = 'failed' OR status = 'cancelled' OR status = 'expired'
            OR status = 'paused' OR status = 'resumed' OR status = 'killed'),
    CONSTRAINT "a kind is one of function, command, shell"
        CHECK (kind = 'function' OR kind = 'command' OR kind = 'shell'),
    CONSTRAINT "a task has a name" CHECK (task <> ''),
    CONSTRAINT "a queue has a name" CHECK (queue <> ''),
    CONSTRAINT "args must be a JSON object or array"
        CHECK (args IS NULL OR (args GLOB '[[{]*' AND json_valid(args))),
    CONSTRAINT "policy must be a JSON object" CHECK (policy IS NULL OR json_type(policy) = 'object'),
    CONSTRAINT "a scheduled job has a time" CHECK (status <> 'scheduled' OR run_at IS NOT NULL),
    CONSTRAINT "a limit has a key, and lets at least one run"
        CHECK ((limit_key IS NULL) = (limit_size IS NULL AND limit_rate IS NULL)
           AND (limit_size IS NULL OR limit_size > 0)),
    CONSTRAINT "a rate of a key lets at least one begin in a period"
        CHECK (limit_rate IS NULL AND limit_period IS NULL OR limit_rate > 0 AND limit_period > 0),
    CONSTRAINT "a started job has a runner" CHECK (runner IS NOT NULL OR claim = 0),
    CONSTRAINT "a finished job has a time of its end, and only a finished one"
        CHECK ((finished_at IS NOT NULL
                AND (status = 'success' OR status = 'failed' OR status = 'cancelled' OR status = 'expired'))
            OR (finished_at IS NULL
                AND status <> 'success' AND status <> 'failed' AND status <> 'cancelled' AND status <> 'expired'))
) STRICT;

-- Only what is alive is indexed by status: a claim costs the same beside a million finished,
-- delayed or blocked rows.
CREATE INDEX jr_pending    ON jr_invocation(queue, waiters DESC, priority DESC, id) WHERE status = 'pending';
CREATE INDEX jr_choosy     ON jr_invocation(limit_key, queue, waiters DESC, priority DESC, id)
    WHERE status = 'pending' AND limit_key IS NOT NULL;
CREATE INDEX jr_scheduled  ON jr_invocation(hold, run_at, queue)      WHERE status = 'scheduled';
-- By their terms, too: those of one key that say the same are let in together.
CREATE INDEX jr_blocked    ON jr_invocation(limit_key, hold,
    coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0),
    queue, waiters DESC, priority DESC, id) WHERE status = 'blocked';
CREATE INDEX jr_limited    ON jr_invocation(limit_key)
    WHERE limit_key IS NOT NULL AND (status = 'running' OR status = 'paused' OR status = 'resumed');
CREATE INDEX jr_live       ON jr_invocation(runner, id)
    WHERE status = 'running' OR status = 'paused' OR status = 'resumed';
CREATE INDEX jr_expiring   ON jr_invocation(expires_at)
    WHERE expires_at IS NOT NULL AND started_at IS NULL
      AND (status = 'pending' OR status = 'scheduled' OR status = 'blocked');
CREATE INDEX jr_cancelling ON jr_invocation(runner)
    WHERE cancel_at IS NOT NULL AND (status = 'running' OR status = 'paused' OR status = 'resumed');
CREATE UNIQUE INDEX jr_unique_key ON jr_invocation(unique_key)
    WHERE unique_key IS NOT NULL AND finished_at IS NULL;
CREATE INDEX jr_keys       ON jr_invocation(unique_key, id)           WHERE unique_key IS NOT NULL;
-- What is finished: in order of its end, and the unhappy ones once more for those who look for them.
CREATE INDEX jr_finished   ON jr_invocation(finished_at)              WHERE finished_at IS NOT NULL;
CREATE INDEX jr_unhappy    ON jr_invocation(status, id)
    WHERE status = 'failed' OR status = 'cancelled' OR status = 'expired';
CREATE INDEX jr_put_off    ON jr_invocation(task, queue, waiters DESC, priority DESC, id)
    WHERE hold = 3 AND status = 'scheduled';
CREATE INDEX jr_settling   ON jr_invocation(id)                       WHERE dependents = 1 AND finished_at IS NOT NULL;
CREATE INDEX jr_of_batch    ON jr_invocation(batch, id)               WHERE batch IS NOT NULL;
CREATE INDEX jr_uncounted  ON jr_invocation(id)                       WHERE batch IS NOT NULL AND finished_at IS NOT NULL AND counted = 0;
CREATE INDEX jr_of_schedule ON jr_invocation(schedule) WHERE schedule IS NOT NULL AND finished_at IS NULL;
CREATE INDEX jr_children   ON jr_invocation(parent)                   WHERE parent IS NOT NULL;

-- Who waits for whom: a paused invocation and one that it awaits. Gone when the waiter goes on.
CREATE TABLE jr_edge (
    waiter  INTEGER NOT NULL REFERENCES jr_invocation(id) ON DELETE CASCADE,
    awaited INTEGER NOT NULL REFERENCES jr_invocation(id) ON DELETE CASCADE,
    PRIMARY KEY (waiter, awaited)
) STRICT, WITHOUT ROWID;

CREATE INDEX jr_edge_awaited ON jr_edge(awaited);

-- Who begins only after whom has ended: with success, with a failure (failed, cancelled, expired), or anyhow. When the last of
-- them has ended so, the runner lets it go; where one ends otherwise, it is cancelled, and so on.
CREATE TABLE jr_dependency (
    on_id      INTEGER NOT NULL REFERENCES jr_invocation(id) ON DELETE CASCADE,
    invocation INTEGER NOT NULL REFERENCES jr_invocation(id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL CONSTRAINT "a dependency is success, any or failure" CHECK (kind IN ('success', 'any', 'failure')),
    settled    INTEGER NOT NULL DEFAULT 0,     -- 1: its end was taken notice of
    PRIMARY KEY (invocation, on_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX jr_unsettled  ON jr_dependency(on_id, invocation) WHERE settled = 0;
CREATE INDEX jr_depends_on ON jr_dependency(on_id);

-- Tasks that a runner did not know, by queue. Their jobs are scheduled with hold 3 and wait together: when the moment has come, one
-- of them, the probe, is tried for all, and when it turns out to be known, all are let go.
CREATE TABLE jr_unknown (
    task    TEXT    NOT NULL,
    queue   TEXT    NOT NULL,
    times   INTEGER NOT NULL,                  -- how often in a row it was not known
    next_at INTEGER NOT NULL,                  -- when one is tried, or is looked after
    probe   INTEGER,                           -- the one that is tried now
    PRIMARY KEY (task, queue)
) STRICT, WITHOUT ROWID;

CREATE INDEX jr_unknown_due ON jr_unknown(next_at);

-- Queues that are held back --------------------------------------------------------------------------
-- Most queues have no row here: they are served as there are slots.

CREATE TABLE jr_queue (
    name         TEXT    PRIMARY KEY CONSTRAINT "a queue has a name" CHECK (name <> ''),
    paused_until INTEGER,                      -- none of its jobs begin before; very far: until somebody resumes it
    concurrency  INTEGER CONSTRAINT "a queue runs at least one job at a time" CHECK (concurrency > 0),
    rate         INTEGER CONSTRAINT "a rate is at least one" CHECK (rate > 0),
    period       INTEGER,                      -- milliseconds: at most `rate` jobs begin in any such time
    CONSTRAINT "a rate has a period" CHECK ((rate IS NULL) = (period IS NULL))
) STRICT;

-- The last jobs of queues with a rate, by when they began.
CREATE TABLE jr_start (
    queue TEXT    NOT NULL REFERENCES jr_queue(name) ON DELETE CASCADE,
    at    INTEGER NOT NULL
) STRICT;

CREATE INDEX jr_starts ON jr_start(queue, at);

-- Rates by key ------------------------------------------------------------------------------------
-- Of jobs with a limit_rate: how many of their limit_key have begun, and when the last of them did. It is a window that slides:
-- from any moment on, in the period that follows, no more begin than the rate says, over all runners.

CREATE TABLE jr_rate (
    limit_key TEXT    NOT NULL PRIMARY KEY,
    begun     INTEGER NOT NULL,                -- how many, counted up
    longest   INTEGER NOT NULL,                -- milliseconds: the longest period that one of them has named
    idle_at   INTEGER NOT NULL,                -- when the last of them leaves that period; then this may be forgotten
    let_in_at INTEGER                          -- when the clock lets in those that the rate has blocked; NULL: none wait for that
) STRICT, WITHOUT ROWID;

CREATE INDEX jr_rate_due  ON jr_rate(let_in_at) WHERE let_in_at IS NOT NULL;
CREATE INDEX jr_rate_idle ON jr_rate(idle_at);

CREATE TABLE jr_begun (
    limit_key TEXT    NOT NULL REFERENCES jr_rate(limit_key) ON DELETE CASCADE,
    number    INTEGER NOT NULL,                -- the how manieth of its key
    at        INTEGER NOT NULL,
    PRIMARY KEY (limit_key, number)
) STRICT, WITHOUT ROWID;

-- Batches -----------------------------------------------------------------------------------------
-- Jobs that are looked at as one. At most one unfinished batch has a name; it is finished when it is not open any more and
-- all its members have ended, and then its callbacks are enqueued, in the same transaction.

CREATE TABLE jr_batch (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL CONSTRAINT "a batch has a name" CHECK (name <> ''),
    created_at  INTEGER NOT NULL,
    finished_at INTEGER,
    open        INTEGER NOT NULL DEFAULT 0,    -- 1: whoever made it has not said that all are in
    total       INTEGER NOT NULL DEFAULT 0,    -- members
    done        INTEGER NOT NULL DEFAULT 0,    -- of them those that have succeeded
    failed      INTEGER NOT NULL DEFAULT 0,    -- those that failed, were cancelled or expired
    on_success  TEXT,                          -- JSON: what to enqueue when all have succeeded
    on_failure  TEXT,                          -- when all have ended, and one of them not well
    on_complete TEXT,                          -- when all have ended
    remark      TEXT                           -- which of these could not be enqueued, and why
) STRICT;

CREATE UNIQUE INDEX jr_batch_name ON jr_batch(name) WHERE finished_at IS NULL;
CREATE INDEX jr_batch_names ON jr_batch(name, id);

-- Schedules ---------------------------------------------------------------------------------------
-- The runner whose turn comes first after `next_at` enqueues the job, writes the instant down and moves `next_at` on, all in one
-- transaction: however many runners there are, each instant fires at most once, and nobody leads.

CREATE TABLE jr_schedule (
    name        TEXT    PRIMARY KEY CONSTRAINT "a schedule has a name" CHECK (name <> ''),
    spec        TEXT    NOT NULL,              -- a cron expression of 5 or 6 fields, or every 90s
    zone        TEXT    NOT NULL,              -- IANA name, as Europe/Berlin
    overlap     TEXT    NOT NULL DEFAULT 'skip'
        CONSTRAINT "overlap is skip, queue, allow or replace" CHECK (overlap IN ('skip', 'queue', 'allow', 'replace')),
    missed      TEXT    NOT NULL DEFAULT 'one' CONSTRAINT "missed is none, one or all" CHECK (missed IN ('none', 'one', 'all')),
    missed_age  INTEGER,                       -- milliseconds: what is older is left out even with all
    jitter      INTEGER NOT NULL DEFAULT 0,    -- milliseconds: each run starts up to so much later
    until       INTEGER,                       -- no instant after that
    kind        TEXT    NOT NULL DEFAULT 'function',
    task        TEXT    NOT NULL,
    args        TEXT    NOT NULL CONSTRAINT "the args of a schedule must be JSON" CHECK (json_valid(args)),
    queue       TEXT    NOT NULL DEFAULT 'default',
    priority    INTEGER NOT NULL DEFAULT 0,
    label       TEXT,
    policy      TEXT,
    limit_key   TEXT,
    limit_size  INTEGER,
    limit_drop  INTEGER NOT NULL DEFAULT 0,
    limit_rate  INTEGER,
    limit_period INTEGER,
    source      TEXT    NOT NULL CONSTRAINT "a schedule comes from code or from a command" CHECK (source IN ('code', 'command')),
    created_at  INTEGER NOT NULL,              -- intervals are counted from here
    next_at     INTEGER,                       -- the next instant; NULL: none comes any more, or it does not fire
    last_at     INTEGER,                       -- the last instant that fired
    paused      INTEGER NOT NULL DEFAULT 0,
    paused_until INTEGER,                      -- as it was said; NULL: until it is resumed
    vanished_at INTEGER                        -- since when the code does not declare it any more: it does not fire
) STRICT;

CREATE INDEX jr_schedule_due ON jr_schedule(next_at) WHERE next_at IS NOT NULL;

-- What became of each instant: a job, or why there is none. `more` instants before it were left out for the same reason.
CREATE TABLE jr_fire (
    schedule   TEXT    NOT NULL REFERENCES jr_schedule(name) ON DELETE CASCADE,
    instant    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    invocation INTEGER,
    reason     TEXT,
    more       INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (schedule, instant)
) STRICT, WITHOUT ROWID;

-- Outboxes ----------------------------------------------------------------------------------------
-- Of outboxes in applications' own databases (jobrunner/outbox.sql): up to which row they have become jobs. It is written in
-- the transaction that enqueues these, so that each row does so once, whoever dies when.

CREATE TABLE jr_drained (
    outbox TEXT    NOT NULL PRIMARY KEY,       -- its name in jr_outbox_name
    file   TEXT    NOT NULL,                   -- where it was seen last
    last   INTEGER NOT NULL,                   -- the number of the last row that was taken
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Payloads ----------------------------------------------------------------------------------------

CREATE TABLE jr_argument (               -- arguments above about 1 kB, and those with results of other jobs
    invocation INTEGER PRIMARY KEY REFERENCES jr_invocation(id) ON DELETE CASCADE,
    value      TEXT NOT NULL,
    outputs    INTEGER NOT NULL DEFAULT 0 -- 1: {"$output": 7} in it stands for the result of job 7; 0: it is data
) STRICT;

CREATE TABLE jr_result (                 -- what a function returned; no row: null
    invocation INTEGER PRIMARY KEY REFERENCES jr_invocation(id) ON DELETE CASCADE,
    value      TEXT NOT NULL CONSTRAINT "a result must be JSON" CHECK (json_valid(value))
) STRICT;

CREATE TABLE jr_progress (               -- what a running job last said of itself
    invocation INTEGER PRIMARY KEY REFERENCES jr_invocation(id) ON DELETE CASCADE,
    claim      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    fraction   REAL CONSTRAINT "progress is a fraction from 0 to 1" CHECK (fraction BETWEEN 0 AND 1),
    message    TEXT
) STRICT;

-- What was measured of each attempt, and how it failed.
CREATE TABLE jr_attempt (
    invocation    INTEGER NOT NULL REFERENCES jr_invocation(id) ON DELETE CASCADE,
    claim         INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    runner        INTEGER NOT NULL,
    pid           INTEGER,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER NOT NULL,
    outcome       TEXT    NOT NULL,        -- success, failed, crashed, timeout, cancelled, interrupted or unknown
    exit_code     INTEGER,
    signal        INTEGER,
    cpu_ms        INTEGER,                 -- user and system time of the process and its reaped children
    peak_kb       INTEGER,                 -- largest resident set, interpreter included
    error_type    TEXT,
    error_message TEXT,
    traceback     TEXT,
    PRIMARY KEY (invocation, claim)
) STRICT, WITHOUT ROWID;

-- Standard output and error of each attempt, in pieces in the order in which they came. Where the
-- middle was cut because there was too much of it, a piece without data says how many bytes.
CREATE TABLE jr_output (
    id         INTEGER PRIMARY KEY,
    invocation INTEGER NOT NULL REFERENCES jr_invocation(id) ON DELETE CASCADE,
    claim      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    stream     TEXT    NOT NULL CONSTRAINT "a stream is stdout or stderr" CHECK (stream IN ('stdout', 'stderr')),
    data       BLOB    NOT NULL,
    cut        INTEGER NOT NULL DEFAULT 0   -- bytes left out here
) STRICT;

CREATE INDEX jr_output_invocation ON jr_output(invocation, id);

-- History -----------------------------------------------------------------------------------------
-- The happy path (pending, running, success) stands in the row's own times; the trigger writes down
-- the rest, and is what enforces the law.

CREATE TABLE jr_history (
    id          INTEGER PRIMARY KEY,
    invocation  INTEGER NOT NULL REFERENCES jr_invocation(id) ON DELETE CASCADE,
    at          INTEGER NOT NULL,
    from_status TEXT    NOT NULL,
    to_status   TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    claim       INTEGER NOT NULL,
    runner      INTEGER,
    reason      TEXT
) STRICT;

CREATE INDEX jr_history_invocation ON jr_history(invocation, id);

CREATE TRIGGER jr_status_change AFTER UPDATE OF status ON jr_invocation
WHEN old.status <> new.status
 AND NOT (old.status = 'pending' AND new.status = 'running')
 AND NOT (old.status = 'running' AND new.status = 'success')
BEGIN
    SELECT RAISE(ABORT, 'the law of statuses does not allow this change: see the table jr_status_law')
     WHERE NOT EXISTS (SELECT 1 FROM jr_status_law
                        WHERE from_status = old.status AND to_status = new.status);
    -- The row is about to lose the times of its happy path: keep them.
    INSERT INTO jr_history(invocation, at, from_status, to_status, attempt, claim, runner)
    SELECT old.id, old.started_at, 'pending', 'running', old.attempt, old.claim, old.runner
     WHERE old.claim > 0
       AND (old.status = 'running' OR (old.status = 'success' AND NOT EXISTS (
                SELECT 1 FROM jr_history WHERE invocation = old.id AND claim = old.claim)));
    INSERT INTO jr_history(invocation, at, from_status, to_status, attempt, claim, runner)
    SELECT old.id, old.finished_at, 'running', 'success', old.attempt, old.claim, old.runner
     WHERE old.status = 'success' AND NOT EXISTS (
                SELECT 1 FROM jr_history WHERE invocation = old.id AND claim = old.claim AND to_status = 'success');
    INSERT INTO jr_history(invocation, at, from_status, to_status, attempt, claim, runner, reason)
    VALUES (old.id, coalesce(new.changed_at, CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)),
            old.status, new.status, old.attempt, old.claim,
            CASE WHEN old.claim > 0 THEN old.runner END, new.reason);
END;

-- Views for people --------------------------------------------------------------------------------

CREATE VIEW jobs AS
SELECT i.id, i.task, coalesce(i.args, (SELECT value FROM jr_argument WHERE invocation = i.id)) AS args,
       i.status, i.queue, i.priority, i.attempt AS attempts, i.label,
       (SELECT name FROM jr_batch WHERE id = i.batch) AS batch, i.schedule, i.parent,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.created_at / 1000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.run_at / 1000.0, 'unixepoch') AS run_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.started_at / 1000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', i.finished_at / 1000.0, 'unixepoch') AS finished_at,
       CASE WHEN i.status = 'success'
            THEN coalesce((SELECT value FROM jr_result WHERE invocation = i.id), 'null') END AS result,
       CASE WHEN i.status <> 'success' THEN (
            SELECT replace(replace(error_type || ': ' || error_message, char(13), ' '), char(10), ' ') FROM jr_attempt
             WHERE invocation = i.id AND error_type IS NOT NULL ORDER BY claim DESC LIMIT 1) END AS error
  FROM jr_invocation AS i;

CREATE TRIGGER jr_jobs_insert INSTEAD OF INSERT ON jobs
BEGIN
    SELECT RAISE(ABORT, 'a job needs a task: module:function, or the name of a program')
     WHERE coalesce(trim(new.task), '') = '';
    SELECT RAISE(ABORT, 'args must be a JSON object or array, as in ''{"order": 7}''')
     WHERE new.args IS NOT NULL
       AND CASE WHEN json_valid(new.args) THEN json_type(new.args) NOT IN ('object', 'array') ELSE 1 END;
    SELECT RAISE(ABORT, 'a task that is not module:function is a program: its args must be a JSON array of strings')
     WHERE NOT (instr(new.task, ':') > 1 AND new.task NOT GLOB '*[ /]*' AND new.task NOT GLOB '*:')
       AND new.args IS NOT NULL
       AND (json_type(new.args) <> 'array'
            OR EXISTS (SELECT 1 FROM json_each(new.args) AS each WHERE each.type <> 'text'));
    -- SQLite reads most of what is not UTF-8 as U+FFFD; nobody could read such a row.
    SELECT RAISE(ABORT, 'a text of the job is not UTF-8: set the terminal to UTF-8')
     WHERE new.task || coalesce(new.args, '') || coalesce(new.label, '') || coalesce(new.queue, '')
           GLOB '*' || char(65533) || '*';
    SELECT RAISE(ABORT, 'the number of a job is given by the database: leave id out') WHERE new.id IS NOT NULL;
    SELECT RAISE(ABORT, 'a new job is pending: leave status out, and give run_at to have it done later')
     WHERE coalesce(new.status, 'pending') <> 'pending';
    SELECT RAISE(ABORT, 'run_at must be a time that SQLite understands, as in ''2030-01-31 18:00''')
     WHERE new.run_at IS NOT NULL AND julianday(new.run_at) IS NULL;
    SELECT RAISE(ABORT, 'a job is enqueued with task, args, queue, priority, label, parent and run_at; the runner fills in the rest')
     WHERE coalesce(new.attempts, new.started_at, new.finished_at, new.result, new.error, new.created_at,
                    new.batch, new.schedule) IS NOT NULL;
    INSERT INTO jr_invocation(status, queue, priority, kind, task, args, label, parent, run_at)
    SELECT CASE WHEN julianday(new.run_at) > julianday('now') THEN 'scheduled' ELSE 'pending' END,
           coalesce(new.queue, 'default'), coalesce(new.priority, 0),
           CASE WHEN is_function THEN 'function' ELSE 'command' END, new.task,
           coalesce(ltrim(new.args, char(9, 10, 13, 32)), CASE WHEN is_function THEN '{}' ELSE '[]' END), new.label, new.parent,
           CAST(round((julianday(new.run_at) - 2440587.5) * 86400000) AS INTEGER)
      FROM (SELECT instr(new.task, ':') > 1 AND new.task NOT GLOB '*[ /]*' AND new.task NOT GLOB '*:' AS is_function);
END;

CREATE TRIGGER jr_jobs_update INSTEAD OF UPDATE ON jobs
BEGIN
    SELECT RAISE(ABORT, 'only the status of a job can be set by hand: to cancelled, or, of a finished job, to pending')
     WHERE new.status IS old.status OR coalesce(new.status, '') NOT IN ('cancelled', 'pending');
    SELECT RAISE(ABORT, 'this job is finished: it cannot be cancelled any more')
     WHERE new.status = 'cancelled' AND old.status IN ('success', 'failed', 'expired');
    SELECT RAISE(ABORT, 'only a finished job can be set to pending, which has it done again')
     WHERE new.status = 'pending' AND old.status NOT IN ('success', 'failed', 'cancelled', 'expired');
    SELECT RAISE(ABORT, 'another unfinished job holds the unique key of this one')
     WHERE new.status = 'pending' AND EXISTS (
           SELECT 1 FROM jr_invocation AS mine JOIN jr_invocation AS holder ON holder.unique_key = mine.unique_key
            WHERE mine.id = old.id AND holder.id <> mine.id
              AND holder.unique_key IS NOT NULL AND holder.finished_at IS NULL);
    -- What has not started is cancelled at once; of what has, its runner is asked.
    UPDATE jr_invocation
       SET status = 'cancelled', reason = 'cancelled by hand',
           changed_at = CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER),
           finished_at = CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)
     WHERE id = old.id AND new.status = 'cancelled' AND old.status IN ('scheduled', 'blocked', 'pending');
    -- It may have had its turn at a place of its concurrency limit, which goes to the next; the claim looks again.
    UPDATE jr_invocation
       SET status = 'pending', reason = NULL,
           changed_at = CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)
     WHERE new.status = 'cancelled' AND old.status = 'pending'
       AND id = (SELECT next.id FROM jr_invocation AS mine JOIN jr_invocation AS next ON next.limit_key = mine.limit_key
                  WHERE mine.id = old.id AND next.status = 'blocked' AND next.hold = 0
                  ORDER BY next.waiters DESC, next.priority DESC, next.id LIMIT 1);
    UPDATE jr_invocation
       SET cancel_at = CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)
     WHERE id = old.id AND new.status = 'cancelled' AND old.status IN ('running', 'paused', 'resumed');
    -- It is to be counted anew in its batch, which is not complete any more, unless another has the name by now.
    UPDATE jr_batch SET finished_at = NULL
     WHERE new.status = 'pending' AND finished_at IS NOT NULL
       AND id = (SELECT batch FROM jr_invocation WHERE id = old.id AND counted = 1)
       AND NOT EXISTS (SELECT 1 FROM jr_batch AS other WHERE other.name = jr_batch.name AND other.finished_at IS NULL);
    UPDATE jr_batch SET done = done - (old.status = 'success'), failed = failed - (old.status <> 'success')
     WHERE new.status = 'pending' AND finished_at IS NULL
       AND id = (SELECT batch FROM jr_invocation WHERE id = old.id AND counted = 1);
    UPDATE jr_invocation SET counted = 0
     WHERE new.status = 'pending' AND id = old.id AND counted = 1
       AND batch IN (SELECT id FROM jr_batch WHERE finished_at IS NULL);
    UPDATE jr_invocation SET counted = 2 WHERE new.status = 'pending' AND id = old.id AND counted = 1;
    DELETE FROM jr_result WHERE invocation = old.id AND new.status = 'pending';
    UPDATE jr_invocation
       SET status = 'pending', reason = 'retried by hand', attempt = 0, crashes = 0,
           waiters = (SELECT count(*) FROM jr_edge WHERE awaited = old.id),
           cancel_at = NULL, finished_at = NULL, expires_at = NULL, run_at = NULL, hold = 0,
           changed_at = CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)
     WHERE id = old.id AND new.status = 'pending';
    -- It waits for those again that it was to begin after, and that are not finished now; but not for one that waits for it,
    -- directly, through others, or for a place of a limit: both would wait for ever.
    UPDATE jr_dependency SET settled = 0
     WHERE new.status = 'pending' AND invocation = old.id
       AND on_id IN (SELECT id FROM jr_invocation WHERE finished_at IS NULL)
       AND old.id NOT IN (
           WITH RECURSIVE needed(id) AS (
               SELECT on_id
               UNION SELECT edge.awaited FROM needed JOIN jr_edge AS edge ON edge.waiter = needed.id
               UNION SELECT edge.on_id FROM needed JOIN jr_dependency AS edge ON edge.invocation = needed.id AND edge.settled = 0
               UNION SELECT holder.id FROM needed JOIN jr_invocation AS needy ON needy.id = needed.id
                       JOIN jr_invocation AS holder ON holder.limit_key = needy.limit_key
                      WHERE needy.limit_key IS NOT NULL AND needy.limit_size IS NOT NULL AND needy.limit_drop = 0
                        AND (needy.status = 'pending' OR needy.status = 'blocked' OR needy.status = 'scheduled')
                        AND holder.limit_key IS NOT NULL
                        AND (holder.status = 'running' OR holder.status = 'paused' OR holder.status = 'resumed')
                        AND needy.limit_size <= (
                            SELECT count(*) FROM jr_invocation AS other
                             WHERE other.limit_key = needy.limit_key AND other.limit_key IS NOT NULL
                               AND (other.status = 'running' OR other.status = 'paused' OR other.status = 'resumed')))
           SELECT id FROM needed);
    UPDATE jr_invocation SET dependents = 1
     WHERE new.status = 'pending' AND id IN (SELECT on_id FROM jr_dependency WHERE invocation = old.id AND settled = 0);
    UPDATE jr_invocation
       SET status = 'blocked', hold = 2,
           deps = (SELECT count(*) FROM jr_dependency WHERE invocation = old.id AND settled = 0),
           reason = 'waits for job ' || (SELECT min(on_id) FROM jr_dependency WHERE invocation = old.id AND settled = 0)
     WHERE new.status = 'pending' AND id = old.id
       AND EXISTS (SELECT 1 FROM jr_dependency WHERE invocation = old.id AND settled = 0);
END;

CREATE TRIGGER jr_jobs_delete INSTEAD OF DELETE ON jobs
BEGIN
    SELECT RAISE(ABORT, 'jobs are not deleted by hand; to stop one: UPDATE jobs SET status = ''cancelled'' WHERE id = ...');
END;

-- Every transition of every job, the happy path included.
CREATE VIEW jr_transitions AS
SELECT job, strftime('%Y-%m-%dT%H:%M:%fZ', ms / 1000.0, 'unixepoch') AS at,
       from_status, to_status, attempt, claim, runner, reason
  FROM (
    SELECT i.id AS job, i.created_at AS ms, 0 AS step, NULL AS from_status,
           coalesce((SELECT from_status FROM jr_history WHERE invocation = i.id ORDER BY id LIMIT 1),
                    CASE WHEN i.status IN ('running', 'success') THEN 'pending' ELSE i.status END) AS to_status,
           0 AS attempt, 0 AS claim, NULL AS runner, NULL AS reason
      FROM jr_invocation AS i
    UNION ALL
    SELECT invocation, at, id, from_status, to_status, attempt, claim, runner, reason FROM jr_history
    UNION ALL
    SELECT i.id, i.started_at, 9e15, 'pending', 'running', i.attempt, i.claim, i.runner, NULL
      FROM jr_invocation AS i
     WHERE i.status IN ('running', 'success')
       AND NOT EXISTS (SELECT 1 FROM jr_history
                        WHERE invocation = i.id AND claim = i.claim AND to_status = 'running')
    UNION ALL
    SELECT i.id, i.finished_at, 9.1e15, 'running', 'success', i.attempt, i.claim, i.runner, NULL
      FROM jr_invocation AS i
     WHERE i.status = 'success'
       AND NOT EXISTS (SELECT 1 FROM jr_history
                        WHERE invocation = i.id AND claim = i.claim AND to_status = 'success'))
 ORDER BY job, step;

CREATE VIEW history AS SELECT * FROM jr_transitions;

-- Counted index by index: the rows of all of them sorted together take three times as long.
CREATE VIEW jr_queues AS
SELECT queue, sum(jobs * (status = 'pending')) AS pending, sum(jobs * (status IN ('running', 'resumed'))) AS running,
       sum(jobs * (status = 'paused')) AS paused, sum(jobs * (status = 'scheduled')) AS scheduled,
       sum(jobs * (status = 'blocked')) AS blocked
  FROM (SELECT queue, 'pending' AS status, count(*) AS jobs FROM jr_invocation WHERE status = 'pending' GROUP BY queue
        UNION ALL SELECT queue, status, count(*) FROM jr_invocation
                   WHERE status = 'running' OR status = 'paused' OR status = 'resumed' GROUP BY queue, status
        UNION ALL SELECT queue, 'scheduled', count(*) FROM jr_invocation WHERE status = 'scheduled' GROUP BY queue
        UNION ALL SELECT queue, 'blocked', count(*) FROM jr_invocation WHERE status = 'blocked' GROUP BY queue)
 GROUP BY queue;

CREATE VIEW queues AS SELECT * FROM jr_queues;

CREATE VIEW runners AS
SELECT r.id, r.mode, r.slots, r.queues, r.host, r.pid,
       CASE WHEN r.stopped_at IS NULL THEN 'started' ELSE 'stopped' END AS state,
       (SELECT count(*) FROM jr_invocation AS i
         WHERE i.runner = r.id AND (i.status = 'running' OR i.status = 'paused' OR i.status = 'resumed')) AS jobs,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.started_at / 1000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.heartbeat_at / 1000.0, 'unixepoch') AS heartbeat_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.stopped_at / 1000.0, 'unixepoch') AS stopped_at,
       r.stop_reason, r.stale
  FROM jr_runner AS r;

CREATE VIEW batches AS
SELECT name, total, done, failed,
       CASE WHEN finished_at IS NULL THEN CASE WHEN open THEN 'open' ELSE 'running' END
            WHEN failed > 0 THEN 'failed' ELSE 'success' END AS status,
       strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') AS created_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1000.0, 'unixepoch') AS finished_at, remark
  FROM jr_batch
 ORDER BY id;

CREATE VIEW schedules AS
SELECT name, spec, zone,
       strftime('%Y-%m-%dT%H:%M:%fZ', next_at / 1000.0, 'unixepoch') AS next_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', last_at / 1000.0, 'unixepoch') AS last_at,
       paused OR coalesce(paused_until > CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER), 0) AS paused,
       task, args, overlap, missed, source,
       strftime('%Y-%m-%dT%H:%M:%fZ', vanished_at / 1000.0, 'unixepoch') AS vanished_at
  FROM jr_schedule;

-- What became of each instant of a schedule.
CREATE VIEW fires AS
SELECT schedule, strftime('%Y-%m-%dT%H:%M:%fZ', instant / 1000.0, 'unixepoch') AS instant,
       strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch') AS at, invocation AS job, reason, more
  FROM jr_fire
 ORDER BY schedule, jr_fire.instant;

CREATE VIEW failures AS
SELECT j.id, j.task, j.args, j.queue, j.label, j.attempts, j.finished_at, j.error
  FROM jobs AS j
 WHERE j.status = 'failed'
 ORDER BY j.id DESC;

CREATE VIEW attempts AS
SELECT invocation AS job, attempt, claim, runner, pid,
       strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000.0, 'unixepoch') AS started_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1000.0, 'unixepoch') AS finished_at,
       outcome, exit_code, signal, cpu_ms, peak_kb, error_type, error_message, traceback
  FROM jr_attempt;

CREATE VIEW output AS
SELECT o.invocation AS job, o.claim, strftime('%Y-%m-%dT%H:%M:%fZ', o.at / 1000.0, 'unixepoch') AS at, o.stream,
       CASE WHEN o.cut > 0 THEN '[' || o.cut || ' bytes cut here]' ELSE CAST(o.data AS TEXT) END AS text
  FROM jr_output AS o
 ORDER BY o.invocation, o.id;

COMMIT;
