-- The SQLite ledger.  Times are whole microseconds since 1970.  Every statement runs inside one
-- BEGIN IMMEDIATE transaction (the few that only read: alone), so nothing here locks a row.

-- enqueue ------------------------------------------------------------------------------------

-- name: known
SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?1))
UNION ALL
SELECT id FROM history WHERE id IN (SELECT value FROM json_each(?1));

-- name: insert_tick
INSERT INTO ticks (schedule, fire_at, job_id) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET job_id = excluded.job_id, outcome = 'sent', why = '' WHERE ticks.outcome = 'waiting';

-- name: hold_lease
SELECT term FROM leases WHERE name = ? AND holder = ? AND term = ?;

-- name: schedule_rows
SELECT s.key, s.revision, s.done_until, s.last_job_id, coalesce(j.state, h.state), s.failures
FROM schedules s LEFT JOIN jobs j ON j.id = s.last_job_id LEFT JOIN history h ON h.id = s.last_job_id
WHERE s.key IN (SELECT value FROM json_each(?));

-- name: note_tick
INSERT INTO ticks (schedule, fire_at, outcome, why, at, late_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE
SET outcome = excluded.outcome, why = excluded.why, at = excluded.at, late_ms = excluded.late_ms,
job_id = CASE excluded.outcome WHEN 'sent' THEN ticks.job_id END;

-- name: advance_schedule
UPDATE schedules SET done_until = ?, last_job_id = ?, failures = ? WHERE key = ?;

-- name: ask_to_stop
UPDATE jobs SET cancel_requested = 1 WHERE id = ? AND state = 'active';

-- name: cancel
UPDATE jobs SET state = 'cancelled', finished_at = ?, cancel_requested = 0
WHERE id = ? AND state IN ('delayed', 'waiting');

-- name: insert_job
INSERT INTO jobs (id, queue, actor, priority, state, created_at, run_at, counted) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: backlog
SELECT count(*) FROM (
SELECT 1 FROM jobs INDEXED BY jobs_backlog WHERE queue = ? AND counted AND finished_at IS NULL LIMIT ?
);

-- name: insert_payload
INSERT INTO payloads (job_id, message_id, body, producer) VALUES (?, ?, ?, ?);

-- name: insert_ticket
INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at) VALUES (?, ?, ?, ?, ?, ?);

-- name: replace_ticket
INSERT OR REPLACE INTO tickets (job_id, queue, priority, ticket, ready, due_at) VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_journal
INSERT INTO journal (job_id, at, event, actor, detail) VALUES (?, ?, ?, ?, ?);

-- name: insert_dead
INSERT INTO jobs (id, queue, actor, priority, state, reason, created_at, run_at, finished_at)
VALUES (?, ?, ?, 3, 'failed', ?, ?, ?, ?);

-- name: holders
SELECT u.key, u.job_id, u.asked_id, u.message_id, j.state, u.until > ?2
FROM json_each(?1) AS wanted
CROSS JOIN uniques AS u ON u.key = wanted.value
LEFT JOIN jobs AS j ON j.id = u.job_id;

-- name: replace_job
UPDATE jobs SET queue = ?, priority = ?, state = ?, ticket = ticket + 1, run_at = ?, attempts = 0, crashes = 0, charges = 0
WHERE id = ?
RETURNING ticket;

-- name: replaced_message
SELECT message_id FROM payloads WHERE job_id = ?;

-- name: replace_payload
UPDATE payloads SET message_id = ?, body = ?, producer = ? WHERE job_id = ?;

-- name: take_key
INSERT OR REPLACE INTO uniques (key, job_id, asked_id, message_id, until) VALUES (?, ?, ?, ?, ?);

-- name: mark
DELETE FROM tickets WHERE job_id = ? AND ticket = ? AND NOT ready;

-- claim and take -----------------------------------------------------------------------------

-- name: paused
SELECT name FROM queues WHERE paused;

-- name: worker_alive
SELECT 1 FROM workers WHERE id = ? AND state IN ('running', 'stopping');

-- name: claim_look
SELECT j.id, j.state, j.ticket, j.epoch, j.attempts, j.crashes, j.created_at, j.run_at, j.queue, j.priority, c.worker_id
FROM json_each(?) AS wanted
CROSS JOIN jobs AS j ON j.id = wanted.value
LEFT JOIN claims AS c ON c.job_id = j.id;

-- name: past_state
SELECT state FROM history WHERE id = ?;

-- name: any_ready_in
SELECT 1 FROM json_each(?) AS wanted
WHERE EXISTS (SELECT 1 FROM tickets WHERE ready AND queue = wanted.value)
LIMIT 1;

-- name: take_look
SELECT t.job_id, t.ticket, j.epoch, j.attempts, j.crashes, j.created_at, j.run_at, t.priority, p.message_id, p.body
FROM tickets AS t
CROSS JOIN jobs AS j ON j.id = t.job_id
CROSS JOIN payloads AS p ON p.job_id = t.job_id
WHERE t.ready AND t.queue = ? AND j.state = 'waiting'
ORDER BY t.priority, t.due_at
LIMIT ?;

-- name: activate
UPDATE jobs SET state = 'active', epoch = epoch + 1 WHERE id = ?;

-- name: insert_claim
INSERT INTO claims (worker_id, job_id, epoch, ticket, suspect, claimed_at) VALUES (?, ?, ?, ?, ?, ?);

-- name: drop_ticket
DELETE FROM tickets WHERE job_id = ?;


-- name: new_ticket
UPDATE jobs SET ticket = ticket + 1 WHERE id = ?;

-- name: park_delayed
UPDATE jobs SET state = 'delayed', ticket = ticket + 1 WHERE id = ?;

-- finish -------------------------------------------------------------------------------------

-- name: finish_look
SELECT j.id, j.epoch, j.queue, j.priority, j.ticket, j.attempts, j.cancel_requested, c.claimed_at
FROM json_each(?2) AS wanted
CROSS JOIN claims AS c ON c.worker_id = ?1 AND c.job_id = wanted.value
CROSS JOIN jobs AS j ON j.id = c.job_id AND j.epoch = c.epoch AND j.state = 'active';

-- name: ended_before
SELECT coalesce(j.state, h.state)
FROM attempts AS a
LEFT JOIN jobs AS j ON j.id = a.job_id
LEFT JOIN history AS h ON h.id = a.job_id
WHERE a.job_id = ? AND a.epoch = ? AND a.outcome <> 'crashed' AND coalesce(j.state, h.state) IS NOT NULL;

-- name: end
UPDATE jobs SET state = ?, ticket = ?, attempts = ?, reason = ?, run_at = coalesce(?, run_at), finished_at = ?
WHERE id = ?;

-- name: insert_attempt
INSERT INTO attempts
(job_id, epoch, number, outcome, worker_id, started_at, finished_at, run_at, error_type, error_message, traceback)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: drop_claim
DELETE FROM claims WHERE worker_id = ? AND job_id = ?;

-- name: replace_result
INSERT OR REPLACE INTO results (job_id, body, expires_at) VALUES (?, ?, ?);

-- name: count_down
UPDATE groups SET remaining = remaining - 1 WHERE id = ? RETURNING remaining;

-- name: drop_group
DELETE FROM groups WHERE id = ?;

-- name: create_group
-- An expired barrier of the same name counts as gone.
INSERT INTO groups (id, remaining, expires_at) VALUES (?1, ?2, ?3)
ON CONFLICT (id) DO UPDATE SET remaining = excluded.remaining, expires_at = excluded.expires_at WHERE expires_at <= ?4
RETURNING 1;

-- name: progress
INSERT OR REPLACE INTO progress (job_id, done, total, note, at) VALUES (?, ?, ?, ?, ?);

-- name: checkpoint
INSERT OR REPLACE INTO checkpoints (job_id, epoch, body, at)
SELECT id, epoch, ?1, ?2 FROM jobs WHERE id = ?3 AND epoch = ?4 AND state = 'active';

-- name: kept
SELECT body FROM checkpoints WHERE job_id = ?;

-- workers ------------------------------------------------------------------------------------

-- name: join
INSERT INTO workers (host, pid, state, queues, threads, version, started_at, heartbeat_at)
VALUES (?, ?, 'running', ?, ?, ?, ?, ?)
RETURNING id;

-- name: beat
UPDATE workers SET heartbeat_at = ? WHERE id = ? AND state IN ('running', 'stopping');

-- name: announce
UPDATE workers SET state = 'stopping' WHERE id = ? AND state = 'running';

-- name: leave
UPDATE workers SET state = 'stopped', stopped_at = ? WHERE id = ? AND state IN ('running', 'stopping');

-- name: owned_by
SELECT c.job_id, c.epoch, j.queue, j.priority, j.ticket, j.crashes, j.charges, j.cancel_requested,
c.suspect, c.claimed_at, c.worker_id
FROM claims AS c
CROSS JOIN jobs AS j ON j.id = c.job_id
WHERE c.worker_id = ?
ORDER BY c.job_id;

-- name: asked
SELECT c.job_id, c.epoch
FROM claims AS c
CROSS JOIN jobs AS j ON j.id = c.job_id AND j.epoch = c.epoch
WHERE c.worker_id = ? AND j.state = 'active' AND j.cancel_requested;

-- name: silent
SELECT id, state, host, pid FROM workers WHERE state IN ('running', 'stopping') AND heartbeat_at < ? ORDER BY id;

-- name: fence
UPDATE workers SET state = CASE state WHEN 'stopping' THEN 'stopped' ELSE 'dead' END, stopped_at = ? WHERE id = ?;

-- name: ownerless
-- Cannot happen while every claim asks whether its worker is alive; costs one look at a small table.
SELECT DISTINCT c.worker_id FROM claims AS c LEFT JOIN workers AS w ON w.id = c.worker_id
WHERE w.id IS NULL OR w.state NOT IN ('running', 'stopping');

-- name: again
UPDATE jobs SET state = 'waiting', ticket = ?, epoch = ?, crashes = ?, charges = ?, run_at = coalesce(?, run_at) WHERE id = ?;

-- name: end_cancelled
UPDATE jobs SET state = 'cancelled', epoch = ?, crashes = ?, charges = ?, finished_at = ? WHERE id = ?;

-- name: quarantine
UPDATE jobs SET state = 'failed', reason = ?, crashes = ?, charges = ?, epoch = epoch + 1, finished_at = ? WHERE id = ?;

-- relay --------------------------------------------------------------------------------------

-- name: unready
UPDATE tickets SET ready = 0 WHERE ready;

-- name: any_ready
SELECT 1 FROM tickets WHERE ready LIMIT 1;

-- name: due_unsent
SELECT t.job_id, t.ticket, t.queue, t.priority, t.due_at, j.state, j.ticket, j.actor, p.message_id, p.body
FROM tickets AS t
LEFT JOIN jobs AS j ON j.id = t.job_id
LEFT JOIN payloads AS p ON p.job_id = t.job_id
WHERE NOT t.ready AND t.due_at <= ?
ORDER BY t.due_at
LIMIT ?;

-- name: due_ready
SELECT t.job_id, t.ticket, t.queue, t.priority, t.due_at, j.state, j.ticket, j.actor, '', x''
FROM tickets AS t
LEFT JOIN jobs AS j ON j.id = t.job_id
WHERE NOT t.ready AND t.due_at <= ?
ORDER BY t.due_at
LIMIT ?;

-- name: set_expiry
INSERT OR REPLACE INTO expiries (job_id, at) VALUES (?, ?);

-- name: drop_expiry
DELETE FROM expiries WHERE job_id = ?;

-- name: any_expired
SELECT 1 FROM expiries WHERE at <= ? LIMIT 1;

-- name: expired
SELECT x.job_id, j.state IN ('waiting', 'delayed') AND j.epoch = 0
FROM expiries AS x LEFT JOIN jobs AS j ON j.id = x.job_id
WHERE x.at <= ? ORDER BY x.at LIMIT ?;

-- name: fail
UPDATE jobs SET state = 'failed', reason = ?, finished_at = ? WHERE id = ?;

-- name: wake
UPDATE jobs SET state = 'waiting' WHERE id = ?;

-- name: ready
UPDATE tickets SET ready = 1 WHERE job_id = ?;

-- name: stamp
UPDATE tickets SET due_at = ? WHERE job_id = ?;

-- name: next_due
SELECT due_at FROM tickets
WHERE NOT ready AND due_at < 9223372036854775807
ORDER BY due_at
LIMIT 1;

-- name: lost
-- Those sent again since then are left alone: their new message must have had a chance.
SELECT id, queue, priority, ticket FROM jobs
WHERE state = 'waiting' AND run_at <= ?1 AND NOT EXISTS (SELECT 1 FROM tickets WHERE job_id = jobs.id)
AND NOT EXISTS (SELECT 1 FROM journal WHERE job_id = jobs.id AND event = 'resent' AND at > ?1)
AND id > ?2
ORDER BY id
LIMIT ?3;

-- name: lost_of_queue
SELECT id, queue, priority, ticket FROM jobs
WHERE queue = ?4 AND state = 'waiting' AND run_at <= ?1 AND NOT EXISTS (SELECT 1 FROM tickets WHERE job_id = jobs.id)
AND NOT EXISTS (SELECT 1 FROM journal WHERE job_id = jobs.id AND event = 'resent' AND at > ?1)
AND id > ?2
ORDER BY id
LIMIT ?3;

-- name: resent
UPDATE jobs SET ticket = ticket + 1 WHERE id = ?;

-- leases -------------------------------------------------------------------------------------

-- name: lease
INSERT INTO leases (name, holder, term, expires_at) VALUES (?1, ?2, 1, ?3)
ON CONFLICT (name) DO UPDATE
SET term = term + (holder <> excluded.holder), holder = excluded.holder, expires_at = excluded.expires_at
WHERE holder = excluded.holder OR expires_at <= ?4
RETURNING term;

-- name: report
INSERT OR REPLACE INTO duties (name, holder, every_s, at, ago_ms, late_ms, took_ms) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: unlease
UPDATE leases SET expires_at = ? WHERE name = ? AND holder = ?;

-- retention ----------------------------------------------------------------------------------

-- name: finished_queues
-- A walk from one queue's name to the next: as many index probes as there are queues.
WITH RECURSIVE done (queue) AS (
SELECT min(queue) FROM jobs WHERE finished_at IS NOT NULL AND reason IS NULL
UNION ALL
SELECT (SELECT min(queue) FROM jobs WHERE finished_at IS NOT NULL AND reason IS NULL AND queue > done.queue)
FROM done WHERE done.queue IS NOT NULL
), dead (queue) AS (
SELECT min(queue) FROM jobs WHERE finished_at IS NOT NULL AND reason IS NOT NULL
UNION ALL
SELECT (SELECT min(queue) FROM jobs WHERE finished_at IS NOT NULL AND reason IS NOT NULL AND queue > dead.queue)
FROM dead WHERE dead.queue IS NOT NULL
)
SELECT queue FROM done WHERE queue IS NOT NULL UNION SELECT queue FROM dead WHERE queue IS NOT NULL;

-- name: over_done
-- Older than ?2, or not among the newest ?3; an unread result holds its job back until it expires.
SELECT id FROM (
SELECT id FROM jobs WHERE queue = ?1 AND finished_at IS NOT NULL AND reason IS NULL AND finished_at < ?2
UNION
SELECT id FROM (
SELECT id FROM jobs WHERE queue = ?1 AND finished_at IS NOT NULL AND reason IS NULL
ORDER BY finished_at DESC, id DESC LIMIT -1 OFFSET ?3
)
) AS over
WHERE NOT EXISTS (SELECT 1 FROM results WHERE job_id = over.id AND read_at IS NULL AND expires_at > ?5)
LIMIT ?4;

-- name: over_dead
SELECT id FROM jobs WHERE queue = ?1 AND finished_at IS NOT NULL AND reason IS NOT NULL AND finished_at < ?2
UNION
SELECT id FROM (
SELECT id FROM jobs WHERE queue = ?1 AND finished_at IS NOT NULL AND reason IS NOT NULL
ORDER BY finished_at DESC, id DESC LIMIT -1 OFFSET ?3
)
LIMIT ?4;

-- name: archive
INSERT OR REPLACE INTO history
(id, message_id, queue, actor, priority, state, reason, attempts, crashes,
created_at, run_at, finished_at, producer, body, archived_at)
SELECT j.id, p.message_id, j.queue, j.actor, j.priority, j.state, j.reason, j.attempts, j.crashes,
j.created_at, j.run_at, j.finished_at, p.producer, p.body, ?1
FROM jobs AS j CROSS JOIN payloads AS p ON p.job_id = j.id
WHERE j.id = ?2;

-- name: drop_job
DELETE FROM jobs WHERE id = ?;

-- name: limit
SELECT paid_at FROM limits WHERE key = ?;

-- name: changed_limit
SELECT count, per_s, burst FROM limit_rules WHERE rule = ?;

-- name: reserved
SELECT slot_at, rules FROM reservations WHERE job_id = ?;

-- name: pay
INSERT INTO limits (key, paid_at) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET paid_at = excluded.paid_at;

-- name: starting
UPDATE claims SET claimed_at = ? WHERE job_id = ? AND epoch = ?;

-- name: keep_reservation
INSERT INTO reservations (job_id, slot_at, rules) VALUES (?, ?, ?)
ON CONFLICT (job_id) DO UPDATE SET slot_at = excluded.slot_at, rules = excluded.rules;

-- name: drop_reservation
DELETE FROM reservations WHERE job_id = ?;

-- name: expire_reservations
DELETE FROM reservations WHERE job_id IN (SELECT job_id FROM reservations WHERE slot_at < ? LIMIT ?);

-- name: expire_limits
DELETE FROM limits WHERE key IN (SELECT key FROM limits WHERE paid_at < ? LIMIT ?);

-- name: dead_count
SELECT count(*) FROM jobs WHERE queue = ? AND finished_at IS NOT NULL AND reason IS NOT NULL;

-- name: drop_payload
DELETE FROM payloads WHERE job_id = ?;

-- name: drop_progress
DELETE FROM progress WHERE job_id = ?;

-- name: drop_checkpoint
DELETE FROM checkpoints WHERE job_id = ?;

-- name: drop_result
DELETE FROM results WHERE job_id = ?;

-- name: drop_attempts
DELETE FROM attempts WHERE job_id = ?;

-- name: drop_journal
DELETE FROM journal WHERE job_id = ?;

-- name: drop_history
DELETE FROM history WHERE id = ?;

-- name: old_history
SELECT id FROM history WHERE finished_at < ? ORDER BY finished_at LIMIT ?;

-- name: drop_keys_of
DELETE FROM uniques WHERE job_id = ? AND (until IS NULL OR until <= ?);

-- name: passed_keys
SELECT u.key, j.id IS NULL FROM uniques AS u LEFT JOIN jobs AS j ON j.id = u.job_id
WHERE u.until <= ? ORDER BY u.until LIMIT ?;

-- name: drop_key
DELETE FROM uniques WHERE key = ?;

-- name: leave_key
UPDATE uniques SET until = NULL WHERE key = ?;

-- name: expire_results
DELETE FROM results WHERE job_id IN (SELECT job_id FROM results WHERE expires_at <= ? LIMIT ?);

-- name: expire_groups
DELETE FROM groups WHERE expires_at <= ?;

-- name: expire_ticks
DELETE FROM ticks WHERE rowid IN (SELECT rowid FROM ticks WHERE fire_at < ? ORDER BY fire_at LIMIT ?);

-- name: expire_workers
-- By heartbeat_at, which has an index; a worker that still owns something is the rescuer's.
DELETE FROM workers WHERE id IN (
SELECT id FROM workers WHERE state IN ('stopped', 'dead') AND heartbeat_at < ?
AND NOT EXISTS (SELECT 1 FROM claims WHERE worker_id = workers.id)
LIMIT ?
);

-- name: loose_journal
-- Lines without a job, and those that tell of a job's removal.
SELECT id, job_id FROM journal WHERE (job_id IS NULL OR event IN ('removed', 'discarded')) AND at < ? ORDER BY at LIMIT ?;

-- name: drop_line
DELETE FROM journal WHERE id = ?;

-- name: drop_journal_of_removed
-- An id that came back keeps its lines.
DELETE FROM journal WHERE job_id = ?1
AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = ?1) AND NOT EXISTS (SELECT 1 FROM history WHERE id = ?1);
