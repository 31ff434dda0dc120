-- jobrunner: every statement that the program runs, by name. Lists go in as JSON.

-- name: identity
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
       (SELECT count(*) FROM sqlite_schema), (SELECT journal_mode FROM pragma_journal_mode),
       (SELECT sql FROM sqlite_schema WHERE name = 'jr_schema');

-- name: main_file
SELECT file FROM pragma_database_list WHERE name = 'main';

-- name: changes
SELECT changes();

-- name: inserted
SELECT last_insert_rowid();

-- name: take_write_lock
-- Changes nothing. In a transaction that has read already, SQLite refuses to write once others have committed.
DELETE FROM jr_start WHERE 0;

-- name: make_guest
-- By this view a database of another program is known to have our tables, too, and of which version.
CREATE VIEW jr_schema AS SELECT 1 AS version;

-- Enqueueing --------------------------------------------------------------------------------------

-- name: enqueue
-- The parameters are the fields of a Request in their order, then the present; ?12, ?23 and ?24 say what becomes of a key that
-- is held, and are not kept. Arguments above about 1 kB, and those with results of others, go into a table of their own.
INSERT INTO jr_invocation(task, kind, args, queue, priority, run_at, expires_at, unique_key, label, policy, hold,
                          parent, limit_key, limit_size, limit_drop, schedule, deps, batch, limit_rate, limit_period,
                          created_at, status, reason)
VALUES (?1, ?2, CASE WHEN length(?3) <= 1000 AND NOT ?20 THEN ?3 END, ?4, ?5, ?9, ?10, ?11, ?6, ?7,
        CASE WHEN ?13 THEN 1 WHEN ?18 IS NULL THEN 0 ELSE 2 END,
        ?8, ?14, ?15, ?16, ?17, CASE WHEN ?18 IS NULL THEN 0 ELSE json_array_length(?18) END,
        CASE WHEN ?19 IS NOT NULL THEN (SELECT id FROM jr_batch WHERE name = ?19 AND finished_at IS NULL) END, ?21, ?22, ?25,
        CASE WHEN ?13 THEN 'blocked' WHEN ?9 > ?25 THEN 'scheduled' WHEN ?18 IS NULL THEN 'pending' ELSE 'blocked' END,
        CASE WHEN ?13 THEN 'held' WHEN ?18 IS NOT NULL THEN 'waits for job ' || json_extract(?18, '$[0][0]')
             || CASE WHEN json_array_length(?18) > 1 THEN ' and ' || (json_array_length(?18) - 1) || ' more' ELSE '' END END);

-- name: enqueue_plain
-- The same for most requests, of which nothing is said but these fields: binding the others costs as much as their row.
INSERT INTO jr_invocation(task, kind, args, queue, priority, label, policy, parent, created_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9);

-- name: last_id
-- Inside a write transaction new rows get the numbers that follow it, one by one.
SELECT coalesce(max(id), 0) FROM jr_invocation;

-- name: put_argument
INSERT INTO jr_argument(invocation, value, outputs) VALUES (?, ?, ?);

-- name: argument
SELECT value, outputs FROM jr_argument WHERE invocation = :id;

-- name: program_among
SELECT id FROM jr_invocation WHERE id IN (SELECT value FROM json_each(:ids)) AND kind <> 'function' LIMIT 1;

-- name: result_sizes
-- In bytes; zero where it is null, which has no row.
SELECT one.id, one.status, coalesce(octet_length(result.value), 0)
  FROM json_each(:ids) AS wanted CROSS JOIN jr_invocation AS one ON one.id = wanted.value
  LEFT JOIN jr_result AS result ON result.invocation = one.id;

-- name: results
SELECT invocation, value FROM jr_result WHERE invocation IN (SELECT value FROM json_each(:ids));

-- name: key_holder
SELECT id, status, limit_key FROM jr_invocation WHERE unique_key = :key AND finished_at IS NULL;

-- name: key_used
-- Whoever has, or had, the key: the newest.
SELECT id, status, created_at FROM jr_invocation WHERE unique_key = :key AND unique_key IS NOT NULL ORDER BY id DESC LIMIT 1;

-- name: debounce
-- The one that waits becomes what was asked for last, and begins later; not later than `longest` after it was made.
UPDATE jr_invocation
   SET status = CASE WHEN hold = 1 THEN status
                     WHEN (:longest IS NULL OR created_at + :longest > :now) OR (status = 'blocked' AND hold = 0) THEN 'scheduled'
                     ELSE status END,
       run_at = min(:run_at, coalesce(created_at + :longest, :run_at)), changed_at = :now,
       reason = CASE WHEN hold = 0 OR hold = 3 THEN 'debounced' ELSE reason END, hold = CASE hold WHEN 3 THEN 0 ELSE hold END,
       task = :task, kind = :kind, args = CASE WHEN length(:args) <= 1000 THEN :args END, queue = :queue,
       priority = :priority, expires_at = :expires_at, label = :label, policy = :policy,
       limit_key = :limit_key, limit_size = :limit_size, limit_drop = :limit_drop, limit_rate = :limit_rate,
       limit_period = :limit_period, attempt = 0, crashes = 0, cancel_at = NULL
 WHERE id = :id;

-- name: forget_argument
DELETE FROM jr_argument WHERE invocation = :id;

-- name: give_up_key
UPDATE jr_invocation SET unique_key = NULL WHERE id = :id;

-- Claiming ----------------------------------------------------------------------------------------

-- name: queues_with_pending
-- Leaps from name to name over the claim index, so that it costs as much as there are queues, not jobs.
WITH RECURSIVE name(queue) AS (
    SELECT min(queue) FROM jr_invocation WHERE status = 'pending'
    UNION ALL
    SELECT (SELECT min(queue) FROM jr_invocation WHERE status = 'pending' AND queue > name.queue)
      FROM name WHERE name.queue IS NOT NULL)
SELECT queue FROM name WHERE queue IS NOT NULL;

-- name: claim
-- The best `limit` of each queue, then the best of all: what others wait for first, by how many they are, then
-- priority, then age. Each of these is looked at once: it becomes running, or, where its limit is reached,
-- blocked or cancelled, and so makes room for those behind it. Of a key whose jobs differ in their terms, each is counted
-- for those behind it, though it may not become running: who is blocked for that is let in again.
UPDATE jr_invocation
   SET status = CASE WHEN picked.over IS NULL THEN 'running' WHEN limit_drop THEN 'cancelled' ELSE 'blocked' END,
       claim = claim + (picked.over IS NULL), attempt = attempt + (picked.over IS NULL),
       crashes = crashes + (picked.over IS NULL),
       runner = CASE WHEN picked.over IS NULL THEN :runner ELSE runner END,
       started_at = CASE WHEN picked.over IS NULL THEN :now ELSE started_at END,
       finished_at = CASE WHEN picked.over IS NOT NULL AND limit_drop THEN :now END,
       changed_at = :now, reason = picked.over
  FROM (
    SELECT best.id,
           CASE WHEN best.limit_key IS NULL THEN NULL
                WHEN row_number() OVER key
                   + (SELECT count(*) FROM jr_invocation AS holder
                       WHERE holder.limit_key = best.limit_key AND holder.limit_key IS NOT NULL
                         AND (holder.status = 'running' OR holder.status = 'paused' OR holder.status = 'resumed'))
                  > best.limit_size THEN 'concurrency'
                WHEN best.limit_rate IS NOT NULL
                 AND row_number() OVER key > coalesce((
                     -- The room of its rate, as in rate_room.
                     SELECT coalesce((SELECT begun.number FROM jr_begun AS begun
                                       WHERE begun.limit_key = rate.limit_key AND begun.number > rate.begun - best.limit_rate
                                         AND begun.at >= :now - best.limit_period ORDER BY begun.number LIMIT 1),
                                     rate.begun + 1) - rate.begun + best.limit_rate - 1
                       FROM jr_rate AS rate WHERE rate.limit_key = best.limit_key), best.limit_rate)
                THEN 'rate' END AS over
      FROM json_each(:queues) AS queue CROSS JOIN jr_invocation AS best
        ON best.id IN (SELECT id FROM jr_invocation
                        WHERE status = 'pending' AND queue = queue.value AND waiters >= :least_waiters
                        ORDER BY waiters DESC, priority DESC, id LIMIT :limit)
    WINDOW key AS (PARTITION BY best.limit_key ORDER BY best.waiters DESC, best.priority DESC, best.id)
     ORDER BY best.waiters DESC, best.priority DESC, best.id LIMIT :limit) AS picked
 WHERE jr_invocation.id = picked.id
RETURNING id, claim, attempt, crashes, kind, task, args, policy, queue, priority, started_at, waiters, limit_key, status,
          limit_rate, limit_size, limit_period;

-- name: any_limited
SELECT EXISTS (SELECT 1 FROM jr_invocation WHERE status = 'pending' AND limit_key IS NOT NULL);

-- name: best_unlimited
-- What `claim` would give for one queue while nobody pending has a limit; `claim_these` follows. Both take half of its time.
SELECT id, claim + 1, attempt + 1, crashes + 1, kind, task, args, policy, queue, priority, :now, waiters, limit_key
  FROM jr_invocation
 WHERE status = 'pending' AND queue = :queue AND waiters >= :least_waiters
 ORDER BY waiters DESC, priority DESC, id LIMIT :limit;

-- name: claim_these
UPDATE jr_invocation
   SET status = 'running', claim = claim + 1, attempt = attempt + 1, crashes = crashes + 1,
       runner = :runner, started_at = :now, changed_at = :now, reason = NULL
 WHERE id IN (SELECT id FROM jr_invocation
               WHERE status = 'pending' AND queue = :queue AND waiters >= :least_waiters
               ORDER BY waiters DESC, priority DESC, id LIMIT :limit);

-- name: blocked_terms
-- What those say of a limit that are blocked by it: how many places that leaves, and what their rate is; no row where nobody is.
-- Leaps from terms to terms, so that it costs as much as there are terms, not jobs.
WITH RECURSIVE terms(said) AS (
    SELECT min(coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0))
      FROM jr_invocation WHERE status = 'blocked' AND limit_key = :key AND hold = 0
    UNION ALL
    SELECT (SELECT min(coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0))
              FROM jr_invocation WHERE status = 'blocked' AND limit_key = :key AND hold = 0
               AND coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0) > terms.said)
      FROM terms WHERE terms.said IS NOT NULL)
SELECT terms.said,
       one.limit_size - (SELECT count(*) FROM jr_invocation AS holder
                          WHERE holder.limit_key = :key AND holder.limit_key IS NOT NULL
                            AND (holder.status = 'running' OR holder.status = 'paused' OR holder.status = 'resumed')),
       one.limit_rate, one.limit_period
  FROM terms JOIN jr_invocation AS one
    ON one.id = (SELECT id FROM jr_invocation WHERE status = 'blocked' AND limit_key = :key AND hold = 0
                    AND coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0) = terms.said LIMIT 1);

-- name: rate_room
-- How many of the key may begin now, and when one more may. Those that begin are numbered, so the first of the last `rate`
-- of them that is still in the period says how many have left it.
SELECT coalesce((SELECT number FROM jr_begun WHERE limit_key = :key AND number > rate.begun - :rate AND at >= :now - :period
                  ORDER BY number LIMIT 1), rate.begun + 1) - rate.begun + :rate - 1,
       (SELECT at FROM jr_begun WHERE limit_key = :key AND number = rate.begun - :rate + 1) + :period + 1
  FROM jr_rate AS rate WHERE rate.limit_key = :key;

-- name: count_begun
INSERT INTO jr_rate(limit_key, begun, longest, idle_at)
SELECT limit_key, count(*), max(limit_period), :now + max(limit_period) + 1
  FROM jr_invocation WHERE id IN (SELECT value FROM json_each(:ids)) GROUP BY limit_key
    ON CONFLICT (limit_key) DO UPDATE
   SET begun = begun + excluded.begun, longest = max(longest, excluded.longest),
       idle_at = max(idle_at, :now + max(longest, excluded.longest) + 1);

-- name: put_begun
INSERT INTO jr_begun(limit_key, number, at)
SELECT job.limit_key, rate.begun + 1 - row_number() OVER (PARTITION BY job.limit_key ORDER BY job.id), :now
  FROM jr_invocation AS job JOIN jr_rate AS rate ON rate.limit_key = job.limit_key
 WHERE job.id IN (SELECT value FROM json_each(:ids))
RETURNING limit_key;

-- name: wait_for_rate
-- Those that have just been blocked by a rate: when one more of their key may begin.
UPDATE jr_rate SET let_in_at = min(coalesce(let_in_at, found.at), found.at)
  FROM (SELECT job.limit_key AS key,
               min(CASE WHEN begun.at + job.limit_period >= :now THEN begun.at + job.limit_period + 1 ELSE :later END) AS at
          FROM jr_invocation AS job JOIN jr_rate AS rate ON rate.limit_key = job.limit_key
          LEFT JOIN jr_begun AS begun
            ON begun.limit_key = rate.limit_key AND begun.number = rate.begun - job.limit_rate + 1
         WHERE job.id IN (SELECT value FROM json_each(:ids)) AND job.status = 'blocked' AND job.reason = 'rate'
         GROUP BY job.limit_key) AS found
 WHERE jr_rate.limit_key = found.key;

-- name: blocked_queues
-- Leaps from queue to queue, so that it costs as much as there are queues, not jobs.
WITH RECURSIVE name(queue) AS (
    SELECT min(queue) FROM jr_invocation
     WHERE status = 'blocked' AND limit_key = :key AND hold = 0
       AND coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0) = :terms
    UNION ALL
    SELECT (SELECT min(queue) FROM jr_invocation
             WHERE status = 'blocked' AND limit_key = :key AND hold = 0
               AND coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0) = :terms AND queue > name.queue)
      FROM name WHERE name.queue IS NOT NULL)
SELECT queue FROM name WHERE queue IS NOT NULL;

-- name: turns
-- How many of the key are to be claimed in the queue before the best of those that are blocked.
SELECT count(*)
  FROM (SELECT waiters, priority, id FROM jr_invocation
         WHERE limit_key = :key AND limit_key IS NOT NULL AND queue = :queue AND status = 'pending'
         ORDER BY waiters DESC, priority DESC, id LIMIT :limit) AS turn,
       (SELECT waiters, priority, id FROM jr_invocation
         WHERE limit_key = :key AND queue = :queue AND hold = 0 AND status = 'blocked'
           AND coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0) = :terms
         ORDER BY waiters DESC, priority DESC, id LIMIT 1) AS best
 WHERE turn.waiters > best.waiters
    OR (turn.waiters = best.waiters
        AND (turn.priority > best.priority OR (turn.priority = best.priority AND turn.id < best.id)));

-- name: unblock
-- The best of the queue: the claim looks at them once more.
UPDATE jr_invocation SET status = 'pending', changed_at = :now, reason = NULL
 WHERE id IN (SELECT id FROM jr_invocation
               WHERE status = 'blocked' AND limit_key = :key AND hold = 0 AND queue = :queue
                 AND coalesce(limit_size, 0) || ' ' || coalesce(limit_rate, 0) || ' ' || coalesce(limit_period, 0) = :terms
               ORDER BY waiters DESC, priority DESC, id LIMIT :limit);

-- name: forget_begun
-- Those that have left every period, the oldest first.
DELETE FROM jr_begun
 WHERE limit_key = :key AND at < :now - (SELECT longest FROM jr_rate WHERE limit_key = :key)
   AND number IN (SELECT number FROM jr_begun WHERE limit_key = :key ORDER BY number LIMIT :limit);

-- name: forget_rates
DELETE FROM jr_rate
 WHERE limit_key IN (SELECT limit_key FROM jr_rate WHERE idle_at < :now AND let_in_at IS NULL ORDER BY idle_at LIMIT :limit);

-- name: let_in_at
UPDATE jr_rate SET let_in_at = :at WHERE limit_key = :key;

-- name: rates_due
UPDATE jr_rate SET let_in_at = NULL
 WHERE limit_key IN (SELECT limit_key FROM jr_rate WHERE let_in_at IS NOT NULL AND let_in_at <= :now ORDER BY let_in_at LIMIT :limit)
RETURNING limit_key;

-- name: no_begun_to_come
UPDATE jr_begun SET at = :now WHERE at > :now;

-- name: no_rate_to_come
-- Whoever waits for one is looked at anew.
UPDATE jr_rate SET idle_at = min(idle_at, :now + longest + 1), let_in_at = min(let_in_at, :now + longest + 1);

-- name: move_begun
UPDATE jr_begun SET at = at + :by;

-- name: move_rates
UPDATE jr_rate SET idle_at = idle_at + :by, let_in_at = let_in_at + :by;

-- name: limits_of
-- Of a job: its key and limits, how many have a place of it, and what of its rate is used.
SELECT job.limit_key, job.limit_size, job.limit_rate, job.limit_period,
       (SELECT count(*) FROM jr_invocation AS holder
         WHERE holder.limit_key = job.limit_key AND holder.limit_key IS NOT NULL
           AND (holder.status = 'running' OR holder.status = 'paused' OR holder.status = 'resumed')),
       (SELECT let_in_at FROM jr_rate WHERE limit_key = job.limit_key)
  FROM jr_invocation AS job WHERE job.id = :id AND job.limit_key IS NOT NULL;

-- name: next_due
-- The next moments at which the clock alone changes a status, or fires a schedule.
SELECT (SELECT min(let_in_at) FROM jr_rate WHERE let_in_at IS NOT NULL),
       (SELECT min(run_at) FROM jr_invocation WHERE status = 'scheduled' AND hold = 0),
       (SELECT min(run_at) FROM jr_invocation WHERE status = 'scheduled' AND hold = 2),
       (SELECT min(next_at) FROM jr_unknown),
       (SELECT min(expires_at) FROM jr_invocation
         WHERE expires_at IS NOT NULL AND started_at IS NULL
           AND (status = 'pending' OR status = 'scheduled' OR status = 'blocked')),
       (SELECT min(next_at) FROM jr_schedule
         WHERE next_at IS NOT NULL AND :schedules AND name NOT IN (SELECT value FROM json_each(:without)));

-- name: promote_due
UPDATE jr_invocation SET status = 'pending', changed_at = :now, reason = NULL
 WHERE id IN (SELECT id FROM jr_invocation
               WHERE status = 'scheduled' AND hold = :hold AND run_at <= :now ORDER BY run_at LIMIT :limit)
RETURNING id;

-- name: expire_due
UPDATE jr_invocation
   SET status = 'expired', changed_at = :now, finished_at = :now, reason = 'not started in time'
 WHERE id IN (SELECT id FROM jr_invocation
               WHERE expires_at IS NOT NULL AND started_at IS NULL
                 AND (status = 'pending' OR status = 'scheduled' OR status = 'blocked')
                 AND expires_at <= :now ORDER BY expires_at LIMIT :limit)
RETURNING id, limit_key;

-- name: clock
SELECT boot_id, ahead FROM jr_clock;

-- name: clock_is
INSERT INTO jr_clock(id, boot_id, ahead) VALUES (1, :boot_id, :ahead)
    ON CONFLICT (id) DO UPDATE SET boot_id = :boot_id, ahead = :ahead, jumps = 0, last = NULL;

-- name: clock_jumped
UPDATE jr_clock SET ahead = ahead + :by, jumps = jumps + 1, last = :by;

-- name: move_retries
-- Moments that people chose stay what they are.
UPDATE jr_invocation SET run_at = run_at + :by WHERE status = 'scheduled' AND hold = 0 AND attempt > 0;

-- name: move_starts
UPDATE jr_start SET at = at + :by;

-- name: no_start_to_come
-- After a restart nobody knows by how much the clock was set; what began did so before now.
UPDATE jr_start SET at = :now WHERE at > :now;

-- name: move_unknown
UPDATE jr_unknown SET next_at = next_at + :by;

-- name: retries_waiting
-- Whether a drain has something to wait for: attempts that failed and will be made again, who waits for a rate, and
-- jobs that are tried for all of a task that nobody knew.
SELECT EXISTS (SELECT 1 FROM jr_invocation
                WHERE status = 'scheduled' AND hold = 0 AND attempt > 0
                  AND (:queues = '[]' OR queue IN (SELECT value FROM json_each(:queues))))
    OR EXISTS (SELECT 1 FROM jr_rate AS rate JOIN jr_invocation AS job ON job.limit_key = rate.limit_key
                WHERE rate.let_in_at IS NOT NULL AND job.status = 'blocked' AND job.hold = 0
                  AND (:queues = '[]' OR job.queue IN (SELECT value FROM json_each(:queues))))
    OR EXISTS (SELECT 1 FROM jr_unknown
                WHERE probe IS NOT NULL AND queue NOT IN (SELECT value FROM json_each(:paused))
                  AND (:queues = '[]' OR queue IN (SELECT value FROM json_each(:queues))));

-- name: has_pending
SELECT EXISTS (SELECT 1 FROM json_each(:queues) AS queue
                WHERE EXISTS (SELECT 1 FROM jr_invocation WHERE status = 'pending' AND queue = queue.value));

-- Attempts ----------------------------------------------------------------------------------------
-- The claim number is the fence: a worker that was given up changes nothing.

-- name: finish
UPDATE jr_invocation
   SET status = :status, changed_at = :now, finished_at = :now, reason = :reason, crashes = crashes - :forgiven
 WHERE id = :id AND claim = :claim
   AND (status = 'running' OR status = 'resumed' OR status = 'killed' OR (status = 'paused' AND :status <> 'success'));

-- name: succeed
-- `finish` for the happy path, for all that succeeded with the same claim number.
UPDATE jr_invocation
   SET status = 'success', changed_at = :now, finished_at = :now, reason = NULL, crashes = crashes - 1
 WHERE id IN (SELECT value FROM json_each(:ids)) AND claim = :claim AND (status = 'running' OR status = 'resumed');

-- name: reschedule
UPDATE jr_invocation
   SET status = 'scheduled', changed_at = :now, run_at = :run_at, reason = :reason, crashes = crashes - 1
 WHERE id = :id AND claim = :claim AND (status = 'running' OR status = 'resumed');

-- name: put_off
-- Nothing was tried: the runner's code has no such task.
UPDATE jr_invocation
   SET status = 'scheduled', changed_at = :now, run_at = :now, reason = :reason, hold = 3,
       attempt = attempt - 1, crashes = crashes - 1
 WHERE id = :id AND claim = :claim AND (status = 'running' OR status = 'resumed');

-- name: not_started
-- What was claimed and not begun may still expire.
UPDATE jr_invocation
   SET started_at = (SELECT max(started_at) FROM jr_attempt
                      WHERE invocation = :id AND outcome <> 'unknown' AND NOT (outcome = 'interrupted' AND pid IS NULL))
 WHERE id = :id AND claim = :claim AND (status = 'pending' OR status = 'scheduled');

-- name: note_unknown
-- Only the word of the one that was tried for all makes the next try later.
INSERT INTO jr_unknown(task, queue, times, next_at) VALUES (:task, :queue, 1, :now + :first)
    ON CONFLICT (task, queue) DO UPDATE
   SET times = times + 1, next_at = :now + min(:longest, :first << min(times, 20)), probe = NULL
 WHERE probe = :id;

-- name: wait_with_task
UPDATE jr_invocation SET run_at = (SELECT next_at FROM jr_unknown WHERE task = :task AND queue = :queue)
 WHERE id = :id AND hold = 3 AND status = 'scheduled';

-- name: unknown_due
SELECT one.task, one.queue, one.probe, job.status, job.hold, job.changed_at
  FROM jr_unknown AS one LEFT JOIN jr_invocation AS job ON job.id = one.probe
 WHERE one.next_at <= :now ORDER BY one.next_at LIMIT :limit;

-- name: let_go
-- The first of those that wait for what becomes of their task.
UPDATE jr_invocation SET status = 'pending', hold = 0, changed_at = :now, reason = NULL
 WHERE id IN (SELECT id FROM jr_invocation
               WHERE hold = 3 AND status = 'scheduled' AND task = :task AND queue = :queue
               ORDER BY waiters DESC, priority DESC, id LIMIT :limit)
RETURNING id;

-- name: try_unknown
UPDATE jr_unknown SET next_at = :next_at, probe = :probe WHERE task = :task AND queue = :queue;

-- name: is_known
DELETE FROM jr_unknown WHERE task = :task AND queue = :queue;

-- name: try_unknown_now
UPDATE jr_unknown SET next_at = :now
 WHERE (task, queue) IN (SELECT task, queue FROM jr_unknown WHERE next_at > :now LIMIT :limit)
RETURNING task;

-- name: unknown_tasks
SELECT task, count(*), min(reason) FROM jr_invocation WHERE hold = 3 AND status = 'scheduled' GROUP BY task ORDER BY 2 DESC LIMIT 20;

-- name: interrupt
-- Back in the queue as if it had not been tried: the runner stopped, the job did nothing wrong.
UPDATE jr_invocation
   SET status = 'pending', changed_at = :now, reason = :reason, attempt = attempt - 1, crashes = crashes - 1
 WHERE id = :id AND claim = :claim AND (status = 'running' OR status = 'resumed');

-- name: kill
UPDATE jr_invocation SET status = 'killed', changed_at = :now, reason = :reason
 WHERE id = :id AND claim = :claim AND (status = 'running' OR status = 'resumed' OR status = 'paused');

-- name: reroute
-- A crash spends no attempt, but one of the crash budget, which was counted when it was claimed.
UPDATE jr_invocation
   SET status = 'pending', changed_at = :now, reason = :reason, attempt = attempt - 1, crashes = crashes - :forgiven
 WHERE id = :id AND claim = :claim AND status = 'killed';

-- name: heed_cancel
-- Somebody asked for it to stop, and the attempt ended before its runner heard: it is not to be made again.
UPDATE jr_invocation SET status = 'cancelled', changed_at = :now, finished_at = :now, reason = 'cancelled while it ran'
 WHERE id = :id AND claim = :claim AND cancel_at IS NOT NULL AND (status = 'pending' OR status = 'scheduled');

-- name: still_holds
-- Whether what an attempt asks for may be done.
SELECT EXISTS (SELECT 1 FROM jr_invocation
                WHERE id = :id AND claim = :claim
                  AND (status = 'running' OR status = 'resumed' OR status = 'paused'));

-- name: keep_policy
UPDATE jr_invocation SET policy = :policy WHERE id = :id AND claim = :claim AND finished_at IS NULL;

-- name: put_result
INSERT INTO jr_result(invocation, value) VALUES (:id, :value)
    ON CONFLICT (invocation) DO UPDATE SET value = excluded.value;

-- name: put_attempt
INSERT INTO jr_attempt(invocation, claim, attempt, runner, pid, started_at, finished_at, outcome,
                       exit_code, signal, cpu_ms, peak_kb, error_type, error_message, traceback)
VALUES (:id, :claim, :attempt, :runner, :pid, :started_at, :now, :outcome,
        :exit_code, :signal, :cpu_ms, :peak_kb, :error_type, :error_message, :traceback);

-- name: put_successes
-- `put_attempt` for the happy path, for all that have just succeeded and whose exits tell the same.
INSERT INTO jr_attempt(invocation, claim, attempt, runner, pid, started_at, finished_at, exit_code, cpu_ms, peak_kb, outcome)
SELECT id, claim, attempt, runner, :pid, started_at, finished_at, :exit_code, :cpu_ms, :peak_kb, 'success'
  FROM jr_invocation WHERE id IN (SELECT value FROM json_each(:ids));

-- name: put_output
-- The attempt may have been given up in the meantime; its output is true all the same.
INSERT INTO jr_output(invocation, claim, at, stream, data, cut)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM jr_invocation WHERE id = ?1);

-- name: put_progress
INSERT INTO jr_progress(invocation, claim, at, fraction, message)
SELECT id, claim, :now, :fraction, :message FROM jr_invocation
 WHERE id = :id AND claim = :claim AND (status = 'running' OR status = 'resumed' OR status = 'paused')
    ON CONFLICT (invocation) DO UPDATE
   SET claim = excluded.claim, at = excluded.at, fraction = excluded.fraction, message = excluded.message
RETURNING invocation;

-- Waiting -----------------------------------------------------------------------------------------

-- name: unfinished
SELECT id FROM jr_invocation WHERE id IN (SELECT value FROM json_each(:ids)) AND finished_at IS NULL ORDER BY id;

-- name: pause
UPDATE jr_invocation SET status = 'paused', changed_at = :now, reason = :reason
 WHERE id = :id AND claim = :claim AND (status = 'running' OR status = 'resumed');

-- name: wait_for_place
UPDATE jr_invocation SET reason = :reason WHERE id = :id AND claim = :claim AND status = 'paused' AND reason IS NOT :reason;

-- name: resume
UPDATE jr_invocation SET status = 'resumed', changed_at = :now, reason = NULL
 WHERE id = :id AND claim = :claim AND status = 'paused';

-- name: add_edges
INSERT INTO jr_edge(waiter, awaited) SELECT :id, value FROM json_each(:awaited) WHERE true
    ON CONFLICT DO NOTHING;

-- name: count_waiter
UPDATE jr_invocation SET waiters = max(0, waiters + :change)
 WHERE id IN (SELECT awaited FROM jr_edge WHERE waiter = :id) AND finished_at IS NULL;

-- name: drop_edges
DELETE FROM jr_edge WHERE waiter = :id;

-- name: depends_on_itself
-- Whether a way leads from the awaited back to the one that wants to wait: along the edges, and from who needs a place
-- of a limit to those that have one.
WITH RECURSIVE reached(id) AS (
    SELECT value FROM json_each(:awaited)
    UNION SELECT edge.awaited FROM reached JOIN jr_edge AS edge ON edge.waiter = reached.id
    UNION SELECT edge.on_id FROM reached JOIN jr_dependency AS edge ON edge.invocation = reached.id AND edge.settled = 0
    UNION SELECT holder.id FROM reached JOIN jr_invocation AS needy ON needy.id = reached.id
            JOIN jr_invocation AS holder ON holder.limit_key = needy.limit_key
           WHERE needy.limit_key IS NOT NULL AND needy.limit_size IS NOT NULL AND needy.limit_drop = 0
             AND (needy.status = 'pending' OR needy.status = 'blocked' OR needy.status = 'scheduled')
             AND holder.limit_key IS NOT NULL
             AND (holder.status = 'running' OR holder.status = 'paused' OR holder.status = 'resumed'))
SELECT EXISTS (SELECT 1 FROM reached WHERE id = :id);

-- name: place_needed
-- The limit that a job has to have a place of before it can start; no row where it has started, or needs none.
SELECT limit_key, limit_size FROM jr_invocation
 WHERE id = :id AND limit_key IS NOT NULL AND limit_size IS NOT NULL AND limit_drop = 0
   AND (status = 'pending' OR status = 'blocked' OR status = 'scheduled');

-- name: place_holders
SELECT id FROM jr_invocation
 WHERE limit_key = :key AND limit_key IS NOT NULL AND (status = 'running' OR status = 'paused' OR status = 'resumed');

-- name: needs_of
-- Whose ends it needs: while it waits for their results, or before it begins.
SELECT awaited FROM jr_edge WHERE waiter = :id
UNION SELECT on_id FROM jr_dependency WHERE invocation = :id AND settled = 0;

-- name: waits_of
SELECT awaited FROM jr_edge WHERE waiter = :id;

-- Dependencies ------------------------------------------------------------------------------------

-- name: mark_awaited
UPDATE jr_invocation SET dependents = 1 WHERE id IN (SELECT value FROM json_each(:ids)) RETURNING id;

-- name: put_dependency
INSERT INTO jr_dependency(on_id, invocation, kind) VALUES (?, ?, ?);

-- name: hold_back
UPDATE jr_invocation
   SET status = 'blocked', hold = 2, changed_at = :now,
       deps = (SELECT count(*) FROM jr_dependency WHERE invocation = jr_invocation.id AND settled = 0),
       reason = 'waits for job ' || (SELECT min(on_id) FROM jr_dependency WHERE invocation = jr_invocation.id AND settled = 0)
 WHERE id IN (SELECT value FROM json_each(:ids)) AND status = 'pending'
   AND EXISTS (SELECT 1 FROM jr_dependency WHERE invocation = jr_invocation.id AND settled = 0);

-- name: to_follow_up
-- Whether `settling`, and `uncounted` or `complete`, would find something: mostly not, and this asks once for all.
SELECT EXISTS (SELECT 1 FROM jr_invocation INDEXED BY jr_settling
                WHERE dependents = 1 AND finished_at IS NOT NULL),
       EXISTS (SELECT 1 FROM jr_invocation INDEXED BY jr_uncounted
                WHERE batch IS NOT NULL AND finished_at IS NOT NULL AND counted = 0)
       OR EXISTS (SELECT 1 FROM jr_batch INDEXED BY jr_batch_name
                   WHERE finished_at IS NULL AND open = 0 AND done + failed = total);

-- name: settling
-- What has ended and has dependents, with each that was not told yet; NULL where all were.
SELECT done.id, edge.invocation, edge.kind, done.status, done.reason
  FROM jr_invocation AS done INDEXED BY jr_settling
  LEFT JOIN jr_dependency AS edge INDEXED BY jr_unsettled ON edge.on_id = done.id AND edge.settled = 0
 WHERE done.dependents = 1 AND done.finished_at IS NOT NULL LIMIT :limit;

-- name: meet
UPDATE jr_invocation SET deps = deps - ?1 WHERE id = ?2;

-- name: release
UPDATE jr_invocation SET status = 'pending', hold = 0, changed_at = :now, reason = NULL
 WHERE id IN (SELECT value FROM json_each(:ids)) AND status = 'blocked' AND hold = 2 AND deps = 0
RETURNING id;

-- name: release_scheduled
UPDATE jr_invocation SET hold = 0
 WHERE id IN (SELECT value FROM json_each(:ids)) AND status = 'scheduled' AND hold = 2 AND deps = 0;

-- name: call_off
UPDATE jr_invocation SET status = 'cancelled', reason = ?1, changed_at = ?2, finished_at = ?2
 WHERE id = ?3 AND (status = 'blocked' OR status = 'scheduled')
RETURNING id;

-- name: settled
UPDATE jr_dependency SET settled = 1 WHERE on_id = ?1 AND invocation = ?2;

-- name: nobody_depends
UPDATE jr_invocation SET dependents = 0 WHERE id IN (SELECT value FROM json_each(:ids));

-- name: unfinished_dependencies
SELECT edge.on_id, edge.invocation FROM jr_dependency AS edge JOIN jr_invocation AS one ON one.id = edge.on_id
 WHERE edge.invocation IN (SELECT value FROM json_each(:ids)) AND one.finished_at IS NULL ORDER BY 2 DESC, 1;

-- name: unsettle
UPDATE jr_dependency SET settled = 0 WHERE on_id = :on_id AND invocation = :id;

-- name: dependencies
SELECT edge.on_id, edge.kind, one.status FROM jr_dependency AS edge JOIN jr_invocation AS one ON one.id = edge.on_id
 WHERE edge.invocation = :id ORDER BY edge.on_id;

-- Queues ------------------------------------------------------------------------------------------

-- name: queue_settings
SELECT name, paused_until, concurrency, rate, period FROM jr_queue;

-- name: set_queue
INSERT INTO jr_queue(name) VALUES (:queue) ON CONFLICT (name) DO NOTHING;

-- name: pause_queue
UPDATE jr_queue SET paused_until = :until WHERE name = :queue;

-- name: limit_queue
UPDATE jr_queue SET concurrency = :concurrency, rate = :rate, period = :period WHERE name = :queue;

-- name: forget_plain_queues
DELETE FROM jr_queue WHERE paused_until IS NULL AND concurrency IS NULL AND rate IS NULL;

-- name: places_of_queue
-- How many have a place of it, and how many that are paused only wait for one: all that they waited for has ended.
SELECT count(*) FILTER (WHERE job.status <> 'paused'),
       count(*) FILTER (WHERE job.status = 'paused' AND NOT EXISTS (
           SELECT 1 FROM jr_edge AS edge JOIN jr_invocation AS awaited ON awaited.id = edge.awaited
            WHERE edge.waiter = job.id AND awaited.finished_at IS NULL))
  FROM jr_invocation AS job INDEXED BY jr_live
 WHERE (job.status = 'running' OR job.status = 'paused' OR job.status = 'resumed') AND job.queue = :queue;

-- name: starts
SELECT count(*), min(at) FROM jr_start WHERE queue = :queue;

-- name: put_start
INSERT INTO jr_start(queue, at) VALUES (?, ?);

-- name: forget_starts
DELETE FROM jr_start WHERE queue = :queue AND at < :before;

-- Batches -----------------------------------------------------------------------------------------

-- name: make_batch
-- What is said of an unfinished one is changed, and what is not said stays.
INSERT INTO jr_batch(name, created_at, open, on_success, on_failure, on_complete)
VALUES (:batch, :now, :open, :on_success, :on_failure, :on_complete)
    ON CONFLICT (name) WHERE finished_at IS NULL DO UPDATE
   SET open = :open, on_success = coalesce(:on_success, on_success), on_failure = coalesce(:on_failure, on_failure),
       on_complete = coalesce(:on_complete, on_complete);

-- name: need_batch
INSERT INTO jr_batch(name, created_at) VALUES (?1, ?2) ON CONFLICT (name) WHERE finished_at IS NULL DO NOTHING;

-- name: more_members
UPDATE jr_batch SET total = total + ?1 WHERE name = ?2 AND finished_at IS NULL;

-- name: close_batch
UPDATE jr_batch SET open = 0 WHERE id = :id;

-- name: batch
SELECT id, name, created_at, finished_at, open, total, done, failed, on_success, on_failure, on_complete, remark
  FROM jr_batch WHERE name = :batch ORDER BY finished_at IS NULL DESC, id DESC LIMIT 1;

-- name: batch_of_number
SELECT id, name, created_at, finished_at, open, total, done, failed, on_success, on_failure, on_complete, remark
  FROM jr_batch WHERE id = :id;

-- name: batches
SELECT id, name, created_at, finished_at, open, total, done, failed, on_success, on_failure, on_complete, remark
  FROM jr_batch ORDER BY id DESC LIMIT :limit;

-- name: members
SELECT id FROM jr_invocation WHERE batch = :id AND batch IS NOT NULL AND (NOT :unfinished OR finished_at IS NULL) ORDER BY id;

-- name: unhappy_members
SELECT id FROM jr_invocation
 WHERE batch = :id AND batch IS NOT NULL AND finished_at IS NOT NULL AND status <> 'success' ORDER BY id;

-- name: uncounted
SELECT id, batch, status FROM jr_invocation INDEXED BY jr_uncounted
 WHERE batch IS NOT NULL AND finished_at IS NOT NULL AND counted = 0 LIMIT :limit;

-- name: counted
UPDATE jr_invocation SET counted = 1 WHERE id IN (SELECT value FROM json_each(:ids));

-- name: count_members
UPDATE jr_batch SET done = done + ?1, failed = failed + ?2 WHERE id = ?3;

-- name: complete
UPDATE jr_batch INDEXED BY jr_batch_name SET finished_at = :now, remark = NULL
 WHERE finished_at IS NULL AND open = 0 AND done + failed = total
RETURNING id, name, created_at, finished_at, open, total, done, failed, on_success, on_failure, on_complete, remark;

-- name: remark_on_batch
UPDATE jr_batch SET remark = :remark WHERE id = :id;

-- name: to_recount
-- Of those that are to be done again: counted ones, and how.
SELECT id, batch, status = 'success' FROM jr_invocation
 WHERE id IN (SELECT value FROM json_each(:ids)) AND counted = 1 AND finished_at IS NOT NULL;

-- name: reopen
-- Not where another batch has the name by now: then the old one stays as it was.
UPDATE OR IGNORE jr_batch SET finished_at = NULL WHERE id = ?1;

-- name: uncount
UPDATE jr_batch SET done = done - ?1, failed = failed - ?2 WHERE id = ?3 AND finished_at IS NULL;

-- name: not_counted
UPDATE jr_invocation SET counted = 0
 WHERE id IN (SELECT value FROM json_each(:ids)) AND batch IN (SELECT id FROM jr_batch WHERE finished_at IS NULL);

-- name: stays_counted
-- By their earlier ends: their batch stays as it was.
UPDATE jr_invocation SET counted = 2 WHERE id IN (SELECT value FROM json_each(:ids)) AND counted = 1;

-- Cancelling and retrying -------------------------------------------------------------------------

-- name: cancel_waiting
UPDATE jr_invocation SET status = 'cancelled', changed_at = :now, finished_at = :now, reason = :reason
 WHERE id IN (SELECT value FROM json_each(:ids)) AND (status = 'pending' OR status = 'scheduled' OR status = 'blocked')
RETURNING id, limit_key;

-- name: cancel_started
-- Its runner sees the request and stops it.
UPDATE jr_invocation SET cancel_at = :now
 WHERE id IN (SELECT value FROM json_each(:ids)) AND (status = 'running' OR status = 'resumed' OR status = 'paused')
RETURNING id;

-- name: cancel_requests
SELECT id, claim FROM jr_invocation
 WHERE runner = :runner AND cancel_at IS NOT NULL AND (status = 'running' OR status = 'paused' OR status = 'resumed');

-- name: retry
-- All budgets anew; the claim number goes on, since it is the fence.
UPDATE jr_invocation
   SET status = 'pending', changed_at = :now, reason = :reason, attempt = 0, crashes = 0, cancel_at = NULL,
       finished_at = NULL, expires_at = NULL, run_at = NULL, hold = 0,
       waiters = (SELECT count(*) FROM jr_edge WHERE awaited = jr_invocation.id)
 WHERE id IN (SELECT value FROM json_each(:ids))
   AND (status = 'failed' OR status = 'cancelled' OR status = 'expired' OR status = 'success'
        OR ((status = 'blocked' OR status = 'scheduled') AND hold <> 2))
RETURNING id;

-- name: key_conflict
-- A finished one whose key another, unfinished one holds by now.
SELECT holder.unique_key, holder.id
  FROM json_each(:ids) AS wanted JOIN jr_invocation AS old ON old.id = wanted.value
  JOIN jr_invocation AS holder ON holder.unique_key = old.unique_key AND holder.finished_at IS NULL
 WHERE old.finished_at IS NOT NULL AND holder.unique_key IS NOT NULL
UNION ALL
SELECT unique_key, min(id) FROM jr_invocation
 WHERE id IN (SELECT value FROM json_each(:ids)) AND finished_at IS NOT NULL AND unique_key IS NOT NULL
 GROUP BY unique_key HAVING count(*) > 1;

-- name: forget_results
DELETE FROM jr_result WHERE invocation IN (SELECT value FROM json_each(:ids));

-- name: descendants
WITH RECURSIVE family(id) AS (
    SELECT value FROM json_each(:ids)
    UNION
    SELECT child.id FROM family JOIN jr_invocation AS child ON child.parent = family.id WHERE child.parent IS NOT NULL)
SELECT id FROM family;

-- Runners -----------------------------------------------------------------------------------------

-- name: register_runner
INSERT INTO jr_runner(mode, slots, queues, host, pid, boot_id, token, version, started_at, heartbeat_at)
VALUES (:mode, :slots, :queues, :host, :pid, :boot_id, :token, :version, :now, :now)
RETURNING id;

-- name: heartbeat
UPDATE jr_runner SET heartbeat_at = :now WHERE id = :runner;

-- name: stop_runner
UPDATE jr_runner SET stopped_at = :now, stop_reason = :reason WHERE id = :runner AND stopped_at IS NULL;

-- name: condemn_runner
-- Before it is killed, so that whoever rescues its jobs can say why it died.
UPDATE jr_runner SET stop_reason = :reason WHERE id = :runner AND stopped_at IS NULL;

-- name: count_stale
UPDATE jr_runner SET stale = stale + :more WHERE id = :runner;

-- name: forget_processes
DELETE FROM jr_process WHERE runner = :runner;

-- name: put_process
INSERT INTO jr_process(runner, key, pid, threads, active, state, last_update) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: processes
SELECT runner, key, pid, threads, active, state, last_update FROM jr_process ORDER BY runner, key;

-- name: other_runners
SELECT id, mode, slots, queues, host, pid, token, started_at, heartbeat_at, stopped_at, stop_reason, stale
  FROM jr_runner WHERE stopped_at IS NULL AND id <> :runner;

-- name: held_by
SELECT id, claim, attempt, crashes, kind, task, NULL, policy, queue, priority, started_at, waiters, limit_key
  FROM jr_invocation
 WHERE runner = :runner AND (status = 'running' OR status = 'paused' OR status = 'resumed');

-- Reading -----------------------------------------------------------------------------------------

-- name: jobs
-- Newest first.
SELECT i.id, i.status, i.kind, i.task, coalesce(i.args, (SELECT value FROM jr_argument WHERE invocation = i.id)),
       i.queue, i.priority, i.label, i.unique_key, i.parent, i.policy, i.attempt, i.crashes, i.claim, i.runner,
       i.created_at, i.run_at, i.expires_at, i.started_at, i.finished_at, i.cancel_at, i.reason,
       a.error_type, a.error_message, i.schedule, (SELECT name FROM jr_batch WHERE id = i.batch),
       i.args IS NULL AND EXISTS (SELECT 1 FROM jr_argument WHERE invocation = i.id AND outputs = 1)
  FROM jr_invocation AS i
  LEFT JOIN jr_attempt AS a
    ON a.invocation = i.id
   AND a.claim = (SELECT max(claim) FROM jr_attempt WHERE invocation = i.id AND error_type IS NOT NULL)
 WHERE i.id IN (SELECT value FROM json_each(:ids))
 ORDER BY i.id DESC;

-- name: states
SELECT id, status, attempt, reason FROM jr_invocation WHERE id IN (SELECT value FROM json_each(:ids));

-- name: what_came_of
SELECT one.id, one.status, one.attempt, one.reason, kept.value
  FROM jr_invocation AS one LEFT JOIN jr_result AS kept ON kept.invocation = one.id WHERE one.id = :id;

-- name: attempts
SELECT claim, attempt, runner, pid, started_at, finished_at, outcome, exit_code, signal, cpu_ms, peak_kb,
       error_type, error_message, traceback
  FROM jr_attempt WHERE invocation = :id ORDER BY claim;

-- name: history
SELECT at, from_status, to_status, attempt, claim, runner, reason FROM jr_transitions WHERE job = :id;

-- name: log
SELECT id, claim, at, stream, data, cut FROM jr_output WHERE invocation = :id AND id > :after ORDER BY id LIMIT :limit;

-- name: progress
SELECT fraction, message, at FROM jr_progress WHERE invocation = :id;

-- name: children
SELECT id FROM jr_invocation WHERE parent = :id ORDER BY id;

-- name: ancestors
-- From the parent upwards; a parent may be gone, and, where rows are written by hand, be a descendant.
WITH RECURSIVE above(id, height) AS (
    SELECT parent, 1 FROM jr_invocation WHERE id = :id AND parent IS NOT NULL AND parent <> :id
    UNION ALL
    SELECT job.parent, height + 1 FROM above JOIN jr_invocation AS job USING (id)
     WHERE job.parent IS NOT NULL AND job.parent <> :id
    LIMIT :limit)
SELECT id, height FROM above ORDER BY height;

-- name: descendants_in_order
-- The job itself, then its first child with all that came of it, and so on.
WITH RECURSIVE below(id, depth) AS (
    SELECT :id, 0
    UNION ALL
    SELECT child.id, depth + 1 FROM below JOIN jr_invocation AS child ON child.parent = below.id
     WHERE child.parent IS NOT NULL AND child.id <> :id
     ORDER BY 2 DESC, 1
    LIMIT :limit)
SELECT id, depth FROM below;

-- name: counts
-- Over the partial indexes; what succeeded is what is finished less the unhappy.
SELECT 'scheduled', count(*) FROM jr_invocation WHERE status = 'scheduled'
UNION ALL SELECT 'blocked', count(*) FROM jr_invocation WHERE status = 'blocked'
UNION ALL SELECT 'pending', count(*) FROM jr_invocation WHERE status = 'pending'
UNION ALL SELECT 'running', count(*) FROM jr_invocation INDEXED BY jr_live
           WHERE (status = 'running' OR status = 'paused' OR status = 'resumed') AND status = 'running'
UNION ALL SELECT 'paused', count(*) FROM jr_invocation INDEXED BY jr_live
           WHERE (status = 'running' OR status = 'paused' OR status = 'resumed') AND status = 'paused'
UNION ALL SELECT 'resumed', count(*) FROM jr_invocation INDEXED BY jr_live
           WHERE (status = 'running' OR status = 'paused' OR status = 'resumed') AND status = 'resumed'
UNION ALL SELECT 'success', (SELECT count(*) FROM jr_invocation WHERE finished_at IS NOT NULL)
                          - (SELECT count(*) FROM jr_invocation
                              WHERE status = 'failed' OR status = 'cancelled' OR status = 'expired')
UNION ALL SELECT 'failed', count(*) FROM jr_invocation WHERE status = 'failed'
UNION ALL SELECT 'cancelled', count(*) FROM jr_invocation WHERE status = 'cancelled'
UNION ALL SELECT 'expired', count(*) FROM jr_invocation WHERE status = 'expired';

-- name: waiting_longest
-- Since when the oldest pending one is pending; min(id) is read from the claim index alone: left to itself, SQLite looks for it
-- from the first row of the table on, through all that is finished.
SELECT coalesce(changed_at, created_at) FROM jr_invocation
 WHERE id = (SELECT min(id) FROM jr_invocation INDEXED BY jr_pending WHERE status = 'pending');

-- name: all_unfinished
SELECT id FROM jr_invocation WHERE status = 'pending'
UNION ALL SELECT id FROM jr_invocation WHERE status = 'scheduled'
UNION ALL SELECT id FROM jr_invocation WHERE status = 'blocked'
UNION ALL SELECT id FROM jr_invocation WHERE status = 'running' OR status = 'paused' OR status = 'resumed';

-- name: started_counts
SELECT runner, count(*) FROM jr_invocation
 WHERE status = 'running' OR status = 'paused' OR status = 'resumed' GROUP BY runner;

-- name: queue_counts
SELECT queue, pending, running, paused, scheduled, blocked FROM jr_queues;

-- name: runners
SELECT id, mode, slots, queues, host, pid, token, started_at, heartbeat_at, stopped_at, stop_reason, stale
  FROM jr_runner WHERE stopped_at IS NULL OR :all ORDER BY id;

-- name: runner
SELECT id, mode, slots, queues, host, pid, token, started_at, heartbeat_at, stopped_at, stop_reason, stale
  FROM jr_runner WHERE id = :runner;

-- name: list
-- Newest first. Every condition is off when its parameter is NULL.
SELECT i.id
  FROM jr_invocation AS i
 WHERE (:statuses IS NULL OR i.status IN (SELECT value FROM json_each(:statuses)))
   AND (:queue IS NULL OR i.queue = :queue)
   AND (:task IS NULL OR instr(i.task, :task))
   AND (:label IS NULL OR instr(i.label, :label))
   AND (:since IS NULL OR i.created_at >= :since)
   AND (:until IS NULL OR i.created_at < :until)
   AND (:before IS NULL OR i.id < :before)
   AND (:parent IS NULL OR i.parent = :parent)
   AND (:schedule IS NULL OR i.schedule = :schedule)
   AND (:batch IS NULL OR i.batch IN (SELECT id FROM jr_batch WHERE name = :batch))
   AND (:error IS NULL OR EXISTS (SELECT 1 FROM jr_attempt AS a WHERE a.invocation = i.id
                                     AND instr(a.error_type || ': ' || a.error_message, :error)))
   AND (:text IS NULL OR instr(i.task, :text) OR instr(i.label, :text) OR instr(i.args, :text))
 ORDER BY i.id DESC LIMIT :limit;

-- Schedules ---------------------------------------------------------------------------------------

-- name: put_schedule
-- The fields of a Plan in their order, then its source, the present, and its next instant.
INSERT INTO jr_schedule(name, spec, zone, task, kind, args, overlap, missed, missed_age, jitter, until, queue, priority, label,
                        policy, limit_key, limit_size, limit_drop, limit_rate, limit_period, source, created_at, next_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
    ON CONFLICT (name) DO UPDATE
   SET spec = ?2, zone = ?3, task = ?4, kind = ?5, args = ?6, overlap = ?7, missed = ?8, missed_age = ?9, jitter = ?10,
       until = ?11, queue = ?12, priority = ?13, label = ?14, policy = ?15, limit_key = ?16, limit_size = ?17,
       limit_drop = ?18, limit_rate = ?19, limit_period = ?20, source = ?21, next_at = ?23, vanished_at = NULL;

-- name: schedules
-- :schedule is NULL for all.
SELECT name, spec, zone, task, kind, args, overlap, missed, missed_age, jitter, until, queue, priority, label,
       policy, limit_key, limit_size, limit_drop, limit_rate, limit_period, source, created_at, next_at, last_at, paused, paused_until, vanished_at
  FROM jr_schedule WHERE :schedule IS NULL OR name = :schedule ORDER BY name;

-- name: due_schedules
SELECT name FROM jr_schedule
 WHERE next_at <= :now AND name NOT IN (SELECT value FROM json_each(:without)) ORDER BY next_at LIMIT :limit;

-- name: put_fire
-- No row comes back where the instant has been decided before.
INSERT INTO jr_fire(schedule, instant, at, reason, more) VALUES (:schedule, :instant, :now, :reason, :more)
    ON CONFLICT (schedule, instant) DO NOTHING RETURNING instant;

-- name: fire_is_job
UPDATE jr_fire SET invocation = :id WHERE schedule = :schedule AND instant = :instant;

-- name: move_schedule
UPDATE jr_schedule SET next_at = :next_at, last_at = coalesce(:last_at, last_at) WHERE name = :schedule;

-- name: pause_schedule
UPDATE jr_schedule SET paused = :paused, paused_until = :until, next_at = :next_at WHERE name = :schedule;

-- name: vanish_schedule
UPDATE jr_schedule SET vanished_at = :now, next_at = NULL WHERE name = :schedule;

-- name: remove_schedule
DELETE FROM jr_schedule WHERE name = :schedule RETURNING name;

-- name: runs_of_schedule
SELECT id FROM jr_invocation WHERE schedule = :schedule AND schedule IS NOT NULL AND finished_at IS NULL ORDER BY id;

-- name: fires
SELECT schedule, instant, at, invocation, reason, more FROM jr_fire
 WHERE schedule = :schedule ORDER BY instant DESC LIMIT :limit;

-- Outboxes ----------------------------------------------------------------------------------------

-- name: drained
SELECT last FROM jr_drained WHERE outbox = :outbox;

-- name: set_drained
INSERT INTO jr_drained(outbox, file, last, at) VALUES (:outbox, :file, :last, :now)
    ON CONFLICT (outbox) DO UPDATE SET file = :file, last = max(last, :last), at = :now;

-- name: has_outbox
-- In the application's database, as all that follows.
SELECT count(*) = 3 FROM sqlite_schema WHERE type = 'table' AND name IN ('jr_outbox', 'jr_outbox_refused', 'jr_outbox_name');

-- name: outbox_name
SELECT name FROM jr_outbox_name;

-- name: outbox_last
-- The largest number that it has given.
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'jr_outbox'), 0);

-- name: outbox_rows
SELECT id, job, at FROM jr_outbox WHERE id > :after ORDER BY id LIMIT :limit;

-- name: outbox_has_drained
SELECT EXISTS (SELECT 1 FROM jr_outbox WHERE id <= :last);

-- name: forget_outbox
DELETE FROM jr_outbox WHERE id <= :last;

-- name: put_in_outbox
INSERT INTO jr_outbox(job) VALUES (?1) RETURNING id;

-- name: refuse_in_outbox
INSERT OR REPLACE INTO jr_outbox_refused(id, job, at, error) SELECT id, job, at, ?2 FROM jr_outbox WHERE id = ?1;

-- name: remove_from_outbox
DELETE FROM jr_outbox WHERE id = ?1;

-- name: outbox_refused
SELECT id, job, at, error FROM jr_outbox_refused ORDER BY id;

-- name: outbox_retry
INSERT INTO jr_outbox(job, at) SELECT job, at FROM jr_outbox_refused
 WHERE :ids IS NULL OR id IN (SELECT value FROM json_each(:ids)) ORDER BY id RETURNING id;

-- name: forget_refused
DELETE FROM jr_outbox_refused WHERE :ids IS NULL OR id IN (SELECT value FROM json_each(:ids));

-- Forgetting --------------------------------------------------------------------------------------

-- name: first_kept
-- Of each task the oldest finished job that stays, where `keep` stay; no row where there are fewer.
SELECT task, id FROM (SELECT task, id, row_number() OVER (PARTITION BY task ORDER BY id DESC) AS place
                        FROM jr_invocation WHERE finished_at IS NOT NULL)
 WHERE place = :keep;

-- name: prunable
-- The next jobs by number, and whether each is to go; by number, so that a pass looks at every row once. Who is waited for
-- stays, and whose result is to be an argument of somebody unfinished.
SELECT job.id,
       job.finished_at IS NOT NULL
         AND (:before IS NULL OR job.finished_at < :before)
         AND job.status IN (SELECT value FROM json_each(:statuses))
         AND (:kept IS NULL OR EXISTS (SELECT 1 FROM json_each(:kept) AS first
                                        WHERE first.key = job.task AND job.id < first.value))
         AND job.dependents = 0 AND (job.batch IS NULL OR job.counted > 0)
         AND NOT EXISTS (SELECT 1 FROM jr_edge WHERE awaited = job.id)
         AND NOT EXISTS (SELECT 1 FROM jr_dependency AS edge JOIN jr_invocation AS needy ON needy.id = edge.invocation
                           JOIN jr_argument AS argument ON argument.invocation = needy.id
                          WHERE edge.on_id = job.id AND needy.finished_at IS NULL AND argument.outputs = 1)
  FROM (SELECT * FROM jr_invocation WHERE id > :after AND id < (SELECT max(id) FROM jr_invocation)
         ORDER BY id LIMIT :limit) AS job
 ORDER BY job.id;

-- name: oldest_finished
SELECT id FROM jr_invocation
 WHERE finished_at IS NOT NULL AND finished_at < :before AND id < (SELECT max(id) FROM jr_invocation)
   AND dependents = 0 AND (batch IS NULL OR counted > 0)
   AND NOT EXISTS (SELECT 1 FROM jr_edge WHERE awaited = jr_invocation.id)
   AND NOT EXISTS (SELECT 1 FROM jr_dependency AS edge JOIN jr_invocation AS needy ON needy.id = edge.invocation
                     JOIN jr_argument AS argument ON argument.invocation = needy.id
                    WHERE edge.on_id = jr_invocation.id AND needy.finished_at IS NULL AND argument.outputs = 1)
 ORDER BY finished_at LIMIT :limit;

-- name: forget_jobs
-- All that belongs to them goes with them. Somebody may have had one done again in the meantime.
DELETE FROM jr_invocation
 WHERE id IN (SELECT value FROM json_each(:ids)) AND finished_at IS NOT NULL
   AND (:before IS NULL OR finished_at < :before)
   AND status IN (SELECT value FROM json_each(:statuses))
   AND dependents = 0 AND (batch IS NULL OR counted > 0)
   AND NOT EXISTS (SELECT 1 FROM jr_edge WHERE awaited = jr_invocation.id)
   AND NOT EXISTS (SELECT 1 FROM jr_dependency AS edge JOIN jr_invocation AS needy ON needy.id = edge.invocation
                     JOIN jr_argument AS argument ON argument.invocation = needy.id
                    WHERE edge.on_id = jr_invocation.id AND needy.finished_at IS NULL AND argument.outputs = 1)
RETURNING id;

-- name: forget_fires
-- Never the newest of a schedule, nor what it may come to again: each instant is decided once.
DELETE FROM jr_fire WHERE (schedule, instant) IN (
    SELECT fire.schedule, fire.instant FROM jr_schedule AS one CROSS JOIN jr_fire AS fire ON fire.schedule = one.name
     WHERE fire.instant < min(:before, coalesce(one.next_at, :before)) AND fire.at < :before
       AND fire.instant < (SELECT max(instant) FROM jr_fire WHERE schedule = one.name)
     LIMIT :limit)
RETURNING instant;

-- name: old_fires
SELECT count(*) FROM jr_schedule AS one CROSS JOIN jr_fire AS fire ON fire.schedule = one.name
 WHERE fire.instant < min(:before, coalesce(one.next_at, :before)) AND fire.at < :before
   AND fire.instant < (SELECT max(instant) FROM jr_fire WHERE schedule = one.name);

-- name: forget_batches
-- Those that are complete, and of which no member is left.
DELETE FROM jr_batch
 WHERE id IN (SELECT value FROM json_each(:ids)) AND finished_at IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM jr_invocation WHERE batch = jr_batch.id AND batch IS NOT NULL);

-- name: empty_batches
SELECT id FROM jr_batch
 WHERE finished_at < :before AND NOT EXISTS (SELECT 1 FROM jr_invocation WHERE batch = jr_batch.id AND batch IS NOT NULL);

-- name: idle_runners
-- Those of earlier attempts stay, too, as long as their job does.
SELECT id FROM jr_runner
 WHERE stopped_at < :before AND id < (SELECT max(id) FROM jr_runner)
   AND id NOT IN (SELECT runner FROM jr_invocation WHERE runner IS NOT NULL
                  UNION SELECT runner FROM jr_attempt
                  UNION SELECT runner FROM jr_history WHERE runner IS NOT NULL);

-- name: forget_runners
DELETE FROM jr_runner WHERE id IN (SELECT value FROM json_each(:ids)) AND stopped_at IS NOT NULL;

-- Diagnosis ---------------------------------------------------------------------------------------

-- name: quick_check
PRAGMA quick_check(5);

-- name: lost_references
SELECT "table", rowid, parent FROM pragma_foreign_key_check LIMIT 5;

-- name: objects
SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL;

-- name: forsaken
-- Runners that have stopped, or never were, and jobs that are said to run with them.
SELECT job.runner, count(*) FROM jr_invocation AS job LEFT JOIN jr_runner AS runner ON runner.id = job.runner
 WHERE (job.status = 'running' OR job.status = 'paused' OR job.status = 'resumed')
   AND (runner.id IS NULL OR runner.stopped_at IS NOT NULL)
 GROUP BY job.runner;

-- name: left_killed
SELECT id, claim FROM jr_invocation WHERE status = 'killed';

-- name: lost_edges
SELECT waiter FROM jr_edge WHERE waiter NOT IN (SELECT id FROM jr_invocation WHERE status = 'paused');

-- name: drop_lost_edges
DELETE FROM jr_edge WHERE waiter NOT IN (SELECT id FROM jr_invocation WHERE status = 'paused');

-- name: miscounted
SELECT id FROM jr_invocation
 WHERE finished_at IS NULL AND waiters <> (SELECT count(*) FROM jr_edge WHERE awaited = jr_invocation.id);

-- name: recount_waiters
UPDATE jr_invocation SET waiters = (SELECT count(*) FROM jr_edge WHERE awaited = jr_invocation.id)
 WHERE finished_at IS NULL AND waiters <> (SELECT count(*) FROM jr_edge WHERE awaited = jr_invocation.id);


-- name: all_stale
SELECT coalesce(sum(stale), 0) FROM jr_runner;

-- name: jumps
SELECT jumps, last FROM jr_clock WHERE boot_id = :boot_id AND jumps > 0;

-- name: from_the_future
SELECT count(*), max(max(created_at, coalesce(started_at, 0))) FROM jr_invocation
 WHERE created_at > :soon OR started_at > :soon;
