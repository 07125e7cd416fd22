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
INSERT INTO jobs (id, queue, actor, priority, state, created_at, run_at, counted, sequenced)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: backlog
SELECT count(*) FROM (
SELECT 1 FROM jobs INDEXED BY jobs_backlog WHERE queue = ? AND counted AND finished_at IS NULL LIMIT ?
);

-- name: unsent
SELECT job_id, ticket FROM tickets WHERE job_id IN (SELECT value FROM json_each(?));

-- name: insert_payload
INSERT INTO payloads (job_id, message_id, body, producer) VALUES (?, ?, ?, ?);

-- name: insert_ticket
INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at) VALUES (?, ?, ?, ?, ?, ?);

-- name: replace_ticket
INSERT OR REPLACE INTO tickets (job_id, queue, priority, ticket, ready, due_at) VALUES (?, ?, ?, ?, ?, ?);

-- name: insert_journal
INSERT INTO journal (job_id, at, event, actor, detail) VALUES (?, ?, ?, ?, ?);

-- name: next_tx
UPDATE feed SET last = last + 1 WHERE kept RETURNING last;

-- name: insert_told
-- A line that is also told to those who follow the feed.
INSERT INTO journal (job_id, at, event, actor, detail, tx) VALUES (?, ?, ?, ?, ?, ?);

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
SELECT j.id, j.state, j.ticket, j.epoch, j.attempts, j.crashes, j.created_at, j.run_at, j.queue, j.priority, c.worker_id,
j.sequenced, j.attempts > 0 OR j.crashes > 0 OR j.epoch > 0
AND EXISTS (SELECT 1 FROM attempts WHERE job_id = j.id AND outcome IN ('snoozed', 'interrupted'))
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
SELECT t.job_id, t.ticket, j.epoch, j.attempts, j.crashes, j.created_at, j.run_at, t.priority, p.message_id, p.body,
j.sequenced, j.attempts > 0 OR j.crashes > 0 OR j.epoch > 0
AND EXISTS (SELECT 1 FROM attempts WHERE job_id = j.id AND outcome IN ('snoozed', 'interrupted'))
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

-- gates --------------------------------------------------------------------------------------

-- name: keep_gate
INSERT INTO gates (key, rule, capacity) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET rule = excluded.rule, capacity = excluded.capacity
WHERE rule <> excluded.rule OR capacity <> excluded.capacity;

-- name: gates_of
SELECT key, rule FROM gates WHERE key IN (
SELECT gate FROM slots WHERE job_id IN (SELECT value FROM json_each(?1))
UNION ALL
SELECT key FROM lines WHERE job_id IN (SELECT value FROM json_each(?1)) AND open
);

-- name: rooms
SELECT g.key, coalesce((SELECT CAST(count AS INTEGER) FROM limit_rules WHERE rule = g.rule), g.capacity), s.job_id
FROM json_each(?1) AS wanted
CROSS JOIN gates AS g ON g.key = wanted.value
LEFT JOIN slots AS s ON s.gate = g.key
AND EXISTS (SELECT 1 FROM claims AS c WHERE c.job_id = s.job_id AND c.epoch = s.epoch);

-- name: entering
SELECT j.cancel_requested, j.priority, j.run_at, c.worker_id, c.claimed_at
FROM jobs AS j JOIN claims AS c ON c.job_id = j.id AND c.epoch = j.epoch
WHERE j.id = ? AND j.epoch = ? AND j.state = 'active';

-- name: insert_slot
INSERT OR REPLACE INTO slots (gate, job_id, epoch) VALUES (?, ?, ?);

-- name: drop_blocked
DELETE FROM blocked WHERE job_id = ?;

-- name: block
INSERT INTO blocked (job_id, gate, priority, due_at, since) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (job_id) DO UPDATE SET gate = excluded.gate, woken_at = NULL;

-- name: put_off
UPDATE jobs SET state = 'delayed' WHERE id = ?;

-- name: drop_dead_slots
DELETE FROM slots WHERE gate = ?
AND NOT EXISTS (SELECT 1 FROM claims AS c WHERE c.job_id = slots.job_id AND c.epoch = slots.epoch);

-- name: drop_strays
DELETE FROM blocked WHERE gate = ? AND woken_at <= ?
AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.id = blocked.job_id AND j.state IN ('delayed', 'waiting', 'active'));

-- name: room
SELECT coalesce((SELECT CAST(count AS INTEGER) FROM limit_rules WHERE rule = g.rule), g.capacity)
- (SELECT count(*) FROM slots WHERE gate = g.key)
- (SELECT count(*) FROM blocked WHERE gate = g.key AND woken_at > ?2)
FROM gates AS g WHERE g.key = ?1;

-- name: next_blocked
SELECT job_id FROM blocked WHERE gate = ? AND woken_at IS NULL ORDER BY priority, due_at LIMIT ?;

-- name: woken
UPDATE blocked SET woken_at = ? WHERE job_id = ?;

-- name: any_in_line
SELECT 1 FROM lines WHERE key = ? AND open LIMIT 1;

-- name: insert_line
INSERT INTO lines (key, job_id, hold, called, open, since) VALUES (?, ?, ?, ?, 1, ?);

-- name: first_in_line
SELECT l.place, l.job_id, l.called, l.hold, coalesce(j.state, h.state, 'gone')
FROM lines AS l LEFT JOIN jobs AS j ON j.id = l.job_id LEFT JOIN history AS h ON h.id = l.job_id
WHERE l.key = ? AND l.open ORDER BY l.place LIMIT 1;

-- name: drop_place
DELETE FROM lines WHERE place = ?;

-- name: close_place
UPDATE lines SET open = 0 WHERE place = ?;

-- name: called
UPDATE lines SET called = 1 WHERE job_id = ?;

-- name: wake_look
SELECT j.id, j.queue, j.priority, j.actor, j.run_at, j.ticket + 1, p.message_id, p.body
FROM jobs AS j JOIN payloads AS p ON p.job_id = j.id WHERE j.id = ? AND j.state = 'delayed';

-- name: call_up
UPDATE jobs SET state = ?, ticket = ? WHERE id = ?;

-- name: any_looks
SELECT 1 FROM gates WHERE look LIMIT 1;

-- name: looks
SELECT key, rule FROM gates WHERE look ORDER BY key LIMIT ?;

-- name: looked
UPDATE gates SET look = 0 WHERE key = ?;

-- name: look
UPDATE gates SET look = 1 WHERE key = ? AND NOT look;

-- name: look_of
UPDATE gates SET look = 1 WHERE NOT look AND key IN (
SELECT gate FROM slots WHERE job_id = ?1 UNION ALL SELECT key FROM lines WHERE job_id = ?1 AND open
);

-- name: survey
SELECT g.key, NOT EXISTS (SELECT 1 FROM slots WHERE gate = g.key) AND NOT EXISTS (SELECT 1 FROM blocked WHERE gate = g.key)
AND NOT EXISTS (SELECT 1 FROM lines WHERE key = g.key AND open),
EXISTS (SELECT 1 FROM blocked WHERE gate = g.key AND woken_at <= ?3)
OR EXISTS (SELECT 1 FROM slots AS s WHERE s.gate = g.key
AND NOT EXISTS (SELECT 1 FROM claims AS c WHERE c.job_id = s.job_id AND c.epoch = s.epoch))
OR EXISTS (SELECT 1 FROM blocked WHERE gate = g.key AND woken_at IS NULL)
AND (SELECT count(*) FROM slots WHERE gate = g.key)
+ (SELECT count(*) FROM blocked WHERE gate = g.key AND woken_at IS NOT NULL)
< coalesce((SELECT count FROM limit_rules WHERE rule = g.rule), g.capacity)
OR coalesce((SELECT NOT l.called OR NOT l.hold AND (j.id IS NULL OR j.finished_at IS NOT NULL)
FROM lines AS l LEFT JOIN jobs AS j ON j.id = l.job_id WHERE l.key = g.key AND l.open ORDER BY l.place LIMIT 1), 0)
FROM gates AS g WHERE g.key > ?1 ORDER BY g.key LIMIT ?2;

-- name: drop_gate
DELETE FROM gates WHERE key = ?;

-- name: drop_line_of
DELETE FROM lines WHERE job_id = ?;

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
(job_id, epoch, number, outcome, worker_id, started_at, finished_at, run_at, error_type, error_message, traceback, tx)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

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

-- name: orders
-- What the worker is asked for, and what operators have changed of queues; small tables, asked every second.
SELECT 'wish', '', wish, 0.0, 0.0, 0 FROM worker_requests WHERE worker_id = ?
UNION ALL SELECT 'rule', rule, '', count, per_s, burst FROM limit_rules
UNION ALL SELECT 'draining', name, coalesce(draining_by, ''), 0.0, 0.0, 0 FROM queues WHERE draining_at IS NOT NULL;

-- name: report_worker
INSERT INTO worker_reports (worker_id, mode, ends, master, busy, rss, slots, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (worker_id) DO UPDATE SET mode = excluded.mode, ends = excluded.ends, master = excluded.master,
busy = excluded.busy, rss = excluded.rss, slots = excluded.slots, at = excluded.at;

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
-- Who was tried says the claim, in the same words.
SELECT x.job_id, j.state, j.attempts > 0 OR j.crashes > 0 OR j.epoch > 0
AND EXISTS (SELECT 1 FROM attempts WHERE job_id = j.id AND outcome IN ('snoozed', 'interrupted'))
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
SELECT paid_at, coalesce(begun_at, 0) FROM limits WHERE key = ?;

-- name: changed_limit
SELECT count, per_s, burst FROM limit_rules WHERE rule = ?;

-- name: reserved
SELECT slot_at, rules FROM reservations WHERE job_id = ?;

-- name: pay
INSERT INTO limits (key, paid_at, begun_at) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET paid_at = excluded.paid_at, begun_at = excluded.begun_at;

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

-- name: circuit
SELECT term, until, length_us, openings, counted, why FROM circuits WHERE name = ?;

-- name: keep_circuit
INSERT INTO circuits (name, term, until, length_us, openings, counted, why, since, changed_by)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, CASE WHEN ?10 THEN ?9 ELSE '' END)
ON CONFLICT (name) DO UPDATE SET term = excluded.term, until = excluded.until, length_us = excluded.length_us,
openings = excluded.openings, counted = excluded.counted, why = excluded.why,
since = CASE WHEN ?10 THEN excluded.since ELSE since END,
changed_by = CASE WHEN ?10 THEN excluded.changed_by ELSE changed_by END;

-- name: drop_ended_probes
-- A probe's slot is its claim: finishing gives it back, and so does the rescuer when its worker has died.
DELETE FROM probes WHERE circuit = ?
AND NOT EXISTS (SELECT 1 FROM claims WHERE claims.job_id = probes.job_id AND claims.epoch = probes.epoch);

-- name: probes
SELECT job_id FROM probes WHERE circuit = ? AND term = ? AND job_id <> ?;

-- name: keep_probe
INSERT OR REPLACE INTO probes (job_id, epoch, circuit, term) VALUES (?, ?, ?, ?);

-- name: defer
INSERT OR REPLACE INTO deferrals (job_id, ticket, circuit) VALUES (?, ?, ?);

-- name: any_deferred_by_closed
SELECT 1 FROM circuits AS c WHERE until IS NULL AND EXISTS (SELECT 1 FROM deferrals WHERE circuit = c.name) LIMIT 1;

-- name: deferred_by_closed
SELECT d.job_id, d.ticket FROM circuits AS c CROSS JOIN deferrals AS d ON d.circuit = c.name
WHERE c.until IS NULL LIMIT ?;

-- name: recall
UPDATE tickets SET due_at = ?1
WHERE job_id = ?2 AND ticket = ?3 AND NOT ready AND due_at > ?4 AND due_at < 9223372036854775807;

-- name: drop_deferral
DELETE FROM deferrals WHERE job_id = ?;

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

-- name: drop_failure
DELETE FROM failures WHERE job_id = ?;

-- name: drop_search_text
DELETE FROM search_texts WHERE job_id = ?;

-- name: drop_edit
DELETE FROM edits WHERE job_id = ?;

-- name: raise_floor
-- Who follows the feed and has not read the events of these jobs yet cannot any more, and is to be told.
UPDATE feed SET floor = max(floor,
coalesce((SELECT max(tx) FROM attempts WHERE job_id IN (SELECT value FROM json_each(?1))), 0),
coalesce((SELECT max(tx) FROM journal WHERE job_id IN (SELECT value FROM json_each(?1))), 0))
WHERE kept;

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
DELETE FROM groups WHERE id IN (SELECT id FROM groups WHERE expires_at <= ? LIMIT ?);

-- name: expire_ticks
DELETE FROM ticks WHERE rowid IN (SELECT rowid FROM ticks WHERE fire_at < ? ORDER BY fire_at LIMIT ?);

-- name: expire_workers
-- By heartbeat_at, which has an index; a worker that still owns something is the rescuer's.
DELETE FROM workers WHERE id IN (
SELECT id FROM workers WHERE state IN ('stopped', 'dead') AND heartbeat_at < ?
AND NOT EXISTS (SELECT 1 FROM claims WHERE worker_id = workers.id)
LIMIT ?
);

-- name: expire_requests
DELETE FROM worker_requests WHERE worker_id NOT IN (SELECT id FROM workers);

-- name: expire_reports
DELETE FROM worker_reports WHERE worker_id NOT IN (SELECT id FROM workers);

-- name: loose_journal
-- Lines without a job, and those that tell of a job's removal.
SELECT id, job_id FROM journal WHERE (job_id IS NULL OR event IN ('removed', 'discarded')) AND at < ? ORDER BY at LIMIT ?;

-- name: drop_line
DELETE FROM journal WHERE id = ?;

-- name: drop_journal_of_removed
-- An id that came back keeps its lines.
DELETE FROM journal WHERE job_id = ?1
AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = ?1) AND NOT EXISTS (SELECT 1 FROM history WHERE id = ?1);

-- flows (ledger/flows/drive.py) --------------------------------------------------------------

-- name: add_definition
INSERT INTO flow_definitions (name, version, body, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: add_flow
INSERT INTO flows (id, name, version, key, state, created_at) VALUES (?, ?, ?, ?, 'running', ?)
ON CONFLICT DO NOTHING RETURNING 1;

-- name: same_flow
SELECT coalesce((SELECT id FROM flows WHERE id = ?1), (SELECT id FROM flows WHERE name = ?2 AND key = ?3));

-- name: add_flow_step
INSERT INTO flow_steps (flow_id, step, place, state) VALUES (?, ?, ?, 'waiting');

-- name: flow
SELECT name, version, state FROM flows WHERE id = ?;

-- name: flow_definition
SELECT body FROM flow_definitions WHERE name = ? AND version = ?;

-- name: flow_steps
SELECT step, state, jobs, remaining, failed, truth, error, coalesce(due_at <= ?2, 0)
FROM flow_steps WHERE flow_id = ?1 ORDER BY place;

-- name: write_flow_step
UPDATE flow_steps SET state = ?, jobs = ?, remaining = ?, failed = ?, truth = ?, error = ?, due_at = ?
WHERE flow_id = ? AND step = ?;

-- name: move_flow
UPDATE flows SET state = ?, finished_at = ? WHERE id = ?;

-- name: tally_flow_step
UPDATE flow_steps SET remaining = remaining - ?3, failed = failed + ?4, truth = coalesce(?5, truth)
WHERE flow_id = ?1 AND step = ?2 RETURNING remaining;

-- name: hire
INSERT INTO flow_jobs (flow_id, step, item, job_id, state) VALUES (?, ?, ?, ?, 'live')
ON CONFLICT (flow_id, step, item) DO UPDATE SET job_id = excluded.job_id, state = excluded.state;

-- name: end_flow_jobs
UPDATE flow_jobs SET state = ? WHERE job_id IN (SELECT value FROM json_each(?)) AND state = 'live'
RETURNING job_id;

-- name: flow_items
SELECT item FROM flow_jobs WHERE flow_id = ? AND step = ? AND (state = 'completed') = ? ORDER BY item;

-- name: flow_value
SELECT body FROM flow_values WHERE flow_id = ? AND name = ? AND item = ?;

-- name: keep_flow_value
INSERT OR REPLACE INTO flow_values (flow_id, name, item, body) VALUES (?, ?, ?, ?);

-- name: flow_results
SELECT j.item, (SELECT v.body FROM flow_values v WHERE v.flow_id = j.flow_id AND v.name = j.step AND v.item = j.item)
FROM flow_jobs j WHERE flow_id = ? AND step = ? AND item > ? AND state = 'completed' ORDER BY item LIMIT ?;

-- name: count_flow_results
SELECT jobs - remaining - failed FROM flow_steps WHERE flow_id = ? AND step = ?;

-- name: due_flows
SELECT flow_id FROM flow_steps WHERE due_at <= ? ORDER BY due_at LIMIT ?;

-- name: lost_flow_jobs
SELECT * FROM (
SELECT j.flow_id, j.step, j.item, j.job_id, coalesce(
(SELECT state FROM jobs WHERE id = j.job_id), (SELECT state FROM history WHERE id = j.job_id), 'failed') AS now
FROM flows AS f CROSS JOIN flow_jobs AS j ON j.flow_id = f.id
WHERE f.finished_at IS NULL AND j.state = 'live'
) WHERE now NOT IN ('delayed', 'waiting', 'active') LIMIT ?;

-- name: live_flow_jobs
SELECT f.step, f.job_id, j.state FROM flow_jobs AS f CROSS JOIN jobs AS j ON j.id = f.job_id
WHERE f.flow_id = ? AND f.state = 'live' AND j.state IN ('delayed', 'waiting', 'active');

-- name: cancel_job
UPDATE jobs SET state = 'cancelled', finished_at = ?, cancel_requested = 0 WHERE id = ?;

-- name: expire_operations
DELETE FROM operations WHERE id IN (SELECT id FROM operations WHERE finished_at < ? ORDER BY finished_at LIMIT ?);

-- name: old_flows
SELECT id FROM flows WHERE finished_at < ? ORDER BY finished_at LIMIT ?;

-- name: drop_flow_steps
DELETE FROM flow_steps WHERE flow_id = ?;

-- name: drop_flow_jobs
DELETE FROM flow_jobs WHERE flow_id = ?;

-- name: drop_flow_values
DELETE FROM flow_values WHERE flow_id = ?;

-- name: drop_flow
DELETE FROM flows WHERE id = ?;

-- name: audit_head
SELECT seq, hash FROM (
    SELECT * FROM (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) UNION ALL
    SELECT * FROM (SELECT seq, hash FROM audit_anchors ORDER BY seq DESC LIMIT 1) UNION ALL
    SELECT 0, '0000000000000000000000000000000000000000000000000000000000000000'
) ORDER BY seq DESC LIMIT 1;

-- name: audit_append
INSERT INTO audit (seq, at, name, via, role, token, address, request, operation, target, count, change, result, hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);
