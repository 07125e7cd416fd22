-- The statements of the ledger on PostgreSQL.  Four habits explain their shape:
--
-- * Locks before writes, in the order of ids: the ids are sorted first, then each row is locked by a LATERAL … FOR
--   UPDATE.  An `UPDATE … FROM unnest` locks in whatever order its plan happens to read, and deadlocks.  Whoever locks
--   a ticket without its job uses SKIP LOCKED, so never waits.
-- * No statement joins a table: rows are found by a LATERAL subquery that cannot be flattened (FOR UPDATE, OFFSET 0),
--   by a scalar subquery, or by `= ANY (ARRAY(…))`.  Each of these can only be an index lookup.  A join's plan depends
--   on how large the tables were when it was made: one made on empty tables reads a million rows as a whole later.
-- * What tells of a job's end has the number of its transaction, while the feed is kept: else the subquery that asks
--   finds no row, the column is null, and nothing goes into its index.
-- * READ COMMITTED rechecks only the locked row's own columns after a wait, so whatever must still hold (epoch,
--   state, ticket) is compared with a column of jobs, in the same subquery that locks it.

-- name: lock_queues
-- Shared: a pause takes the same lock exclusively.  A statement of its own, since the next one's snapshot must be
-- taken after the lock is granted: only then does it see the pause it waited for.
SELECT pg_advisory_xact_lock_shared(hashtextextended('hareline.queue.' || name, 0))
FROM (SELECT name FROM unnest($1::text[]) AS q(name) ORDER BY name COLLATE "C") AS q;

-- name: claim
WITH judged AS MATERIALIZED (
  SELECT l.*, CASE
      WHEN state = 'active' THEN CASE WHEN EXISTS (
          SELECT FROM claims c
          WHERE c.worker_id = $1::int AND c.job_id = l.id AND c.epoch = l.epoch AND c.ticket = l.asked
        ) THEN 'run' ELSE 'active' END
      WHEN state <> 'waiting' THEN state
      WHEN ticket <> asked THEN 'stale'
      WHEN queue <> ALL ($4::text[]) THEN 'moved'
      WHEN queue = ANY (ARRAY(SELECT name FROM queues WHERE name = ANY ($4::text[]) AND paused)) THEN 'paused'
      WHEN NOT EXISTS (SELECT FROM workers WHERE id = $1::int AND state IN ('running', 'stopping')) THEN 'fenced'
      WHEN crashes > 0 THEN 'suspect'
      ELSE 'take' END AS word
  FROM (
    SELECT a.n, a.ticket AS asked, j.id, j.queue, j.state, j.ticket, j.epoch, j.attempts, j.crashes, j.created_at,
      j.run_at, j.sequenced
    FROM (SELECT * FROM unnest($2::uuid[], $3::int[]) WITH ORDINALITY AS a(id, ticket, n) ORDER BY id OFFSET 0) AS a
    CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = a.id FOR UPDATE) AS j
  ) AS l
), chosen AS MATERIALIZED (
  SELECT *, word = 'take' OR word = 'suspect' AND n IN (
      SELECT n FROM judged WHERE word = 'suspect' ORDER BY n
      LIMIT greatest(0, $5::int - (SELECT count(*) FROM judged WHERE word = 'run' AND crashes > 0))
    ) AS taken
  FROM judged
), moved AS (
  UPDATE jobs SET state = 'active', epoch = epoch + 1 WHERE id = ANY (ARRAY(SELECT id FROM chosen WHERE taken))
), owned AS (
  INSERT INTO claims (worker_id, job_id, epoch, ticket, suspect, claimed_at)
  SELECT $1::int, id, epoch + 1, ticket, crashes > 0, clock_timestamp() FROM chosen WHERE taken
)
SELECT n, CASE WHEN taken THEN 'run' ELSE word END, epoch + taken::int, attempts, crashes, created_at, run_at, queue,
  sequenced, extract(epoch FROM statement_timestamp() - run_at)::float8,
  attempts > 0 OR crashes > 0 OR epoch > 0 AND (SELECT a.epoch FROM attempts a
    WHERE a.job_id = chosen.id AND a.outcome IN ('snoozed', 'interrupted') LIMIT 1) IS NOT NULL
FROM chosen;

-- name: past_states
-- The last condition holds for every row: without it, an index that has the state but begins with something else
-- looks good for being read as a whole.
SELECT id::text, state FROM history WHERE id = ANY ($1::uuid[]) AND archived_at IS NOT NULL;

-- name: take
WITH picked AS MATERIALIZED (
  SELECT t.* FROM unnest($2::text[], $3::int[]) AS w(queue, room) CROSS JOIN LATERAL (
    SELECT job_id, ticket, due_at FROM tickets WHERE queue = w.queue AND ready
    ORDER BY priority, due_at LIMIT w.room FOR UPDATE SKIP LOCKED
  ) AS t
  WHERE w.queue <> ALL (ARRAY(SELECT name FROM queues WHERE name = ANY ($2::text[]) AND paused))
    AND EXISTS (SELECT FROM workers WHERE id = $1::int AND state IN ('running', 'stopping'))
), held AS MATERIALIZED (
  SELECT p.ticket AS asked, p.due_at, j.id, j.queue, j.priority, j.state, j.ticket, j.epoch, j.attempts, j.crashes,
    j.created_at, j.run_at, j.sequenced
  FROM (SELECT * FROM picked ORDER BY job_id OFFSET 0) AS p
  CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = p.job_id FOR UPDATE SKIP LOCKED) AS j
), judged AS MATERIALIZED (
  SELECT *, CASE WHEN state <> 'waiting' OR ticket <> asked THEN 'stale'
      WHEN crashes = 0 THEN 'take'
      WHEN id IN (
        SELECT id FROM held WHERE state = 'waiting' AND ticket = asked AND crashes > 0
        ORDER BY priority, due_at LIMIT $4::int
      ) THEN 'take'
      ELSE 'suspect' END AS word
  FROM held
), moved AS (
  UPDATE jobs SET state = 'active', epoch = epoch + 1
  WHERE id = ANY (ARRAY(SELECT id FROM judged WHERE word = 'take'))
), owned AS (
  INSERT INTO claims (worker_id, job_id, epoch, ticket, suspect, claimed_at)
  SELECT $1::int, id, epoch + 1, ticket, crashes > 0, clock_timestamp() FROM judged WHERE word = 'take'
), used AS (
  DELETE FROM tickets WHERE job_id = ANY (ARRAY(SELECT id FROM judged WHERE word <> 'suspect'))
)
SELECT c.id::text, c.word, c.epoch + 1, c.attempts, c.crashes, c.created_at, c.run_at, c.ticket, c.queue, p.message_id,
  p.body, c.sequenced, extract(epoch FROM statement_timestamp() - c.run_at)::float8,
  attempts > 0 OR crashes > 0 OR epoch > 0 AND (SELECT a.epoch FROM attempts a
    WHERE a.job_id = c.id AND a.outcome IN ('snoozed', 'interrupted') LIMIT 1) IS NOT NULL
FROM judged c CROSS JOIN LATERAL (SELECT * FROM payloads WHERE job_id = c.id OFFSET 0) AS p WHERE c.word <> 'stale'
ORDER BY c.priority, c.due_at;

-- name: payloads
SELECT job_id::text, message_id, body FROM payloads WHERE job_id = ANY ($1::uuid[]);

-- name: park
-- A message used up without a run.  Until the queue is resumed (infinity), for a second, or, when the message was
-- found in another queue than its job's, not at all.
WITH held AS MATERIALIZED (
  SELECT j.id, j.queue, j.priority, j.ticket + 1 AS ticket, a.why,
    CASE WHEN a.why IN ('suspect', 'fenced') THEN 'delayed' ELSE 'waiting' END AS state,
    CASE WHEN a.why IN ('suspect', 'fenced') THEN clock_timestamp() + interval '1 second'
      WHEN (SELECT paused FROM queues q WHERE q.name = j.queue) THEN 'infinity'
      ELSE clock_timestamp() END AS due_at
  FROM (SELECT * FROM unnest($2::uuid[], $3::int[], $4::text[]) AS a(id, ticket, why) ORDER BY id OFFSET 0) AS a
  CROSS JOIN LATERAL (
    SELECT * FROM jobs WHERE id = a.id AND ticket = a.ticket AND state = 'waiting' FOR UPDATE
  ) AS j
), moved AS (
  UPDATE jobs j SET (ticket, state) = (SELECT h.ticket, h.state FROM held h WHERE h.id = j.id)
  WHERE id = ANY (ARRAY(SELECT id FROM held))
), ticketed AS (
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, priority, ticket, false, due_at FROM held ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET ticket = excluded.ticket, ready = excluded.ready, due_at = excluded.due_at
)
INSERT INTO journal (job_id, at, event, actor, detail)
SELECT id, clock_timestamp(), 'parked', 'worker ' || $1, json_build_object('why', why)::text FROM held;

-- name: add_limits
INSERT INTO limits (key, paid_at) SELECT key, to_timestamp(0) FROM unnest($1::text[]) AS k(key)
ON CONFLICT (key) DO NOTHING;

-- name: lock_limits
SELECT l.* FROM (SELECT * FROM unnest($1::text[]) AS k(key) ORDER BY key COLLATE "C" OFFSET 0) AS k
CROSS JOIN LATERAL (
  SELECT key, (extract(epoch FROM paid_at) * 1000000)::bigint,
    (extract(epoch FROM coalesce(begun_at, to_timestamp(0))) * 1000000)::bigint
  FROM limits WHERE key = k.key FOR UPDATE
) AS l;

-- name: changed_limits
SELECT rule, count, per_s, burst FROM limit_rules WHERE rule = ANY ($1::text[]);

-- name: micros
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: reserved
SELECT job_id::text, (extract(epoch FROM slot_at) * 1000000)::bigint, rules FROM reservations
WHERE job_id = ANY ($1::uuid[]);

-- name: pay
UPDATE limits SET (paid_at, begun_at) = (
  SELECT to_timestamp(0) + a.paid * interval '1 microsecond', to_timestamp(0) + a.begun * interval '1 microsecond'
  FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS a(key, paid, begun) WHERE a.key = limits.key
)
WHERE key = ANY ($1::text[]);

-- name: starting
UPDATE claims SET claimed_at = to_timestamp(0) + (
  SELECT a.at FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS a(id, epoch, at)
  WHERE a.id = claims.job_id AND a.epoch = claims.epoch
) * interval '1 microsecond'
WHERE job_id = ANY ($1::uuid[])
  AND EXISTS (SELECT FROM unnest($1::uuid[], $2::int[]) AS a(id, epoch) WHERE a.id = job_id AND a.epoch = claims.epoch);

-- name: keep_reservations
INSERT INTO reservations (job_id, slot_at, rules)
SELECT id, to_timestamp(0) + at * interval '1 microsecond', rules
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS a(id, at, rules)
ON CONFLICT (job_id) DO UPDATE SET slot_at = excluded.slot_at, rules = excluded.rules;

-- name: drop_reservations
DELETE FROM reservations WHERE job_id = ANY ($1::uuid[]);

-- name: expire_reservations
-- Of jobs that were cancelled, or never asked again; an hour late, no slot counts.
DELETE FROM reservations WHERE job_id = ANY (ARRAY(
  SELECT job_id FROM reservations WHERE slot_at < statement_timestamp() - interval '1 hour' ORDER BY slot_at LIMIT $1::int
  FOR UPDATE SKIP LOCKED
));

-- name: expire_limits
-- Paid off is as good as never used.
DELETE FROM limits WHERE key = ANY (ARRAY(
  SELECT key FROM limits WHERE paid_at < statement_timestamp() - interval '1 minute' ORDER BY paid_at LIMIT $1::int
  FOR UPDATE SKIP LOCKED
));

-- name: lock_gates
-- Those given, made where they are not there, and those that these jobs are in; locked until the transaction ends.
INSERT INTO gates AS g (key, rule, capacity)
SELECT key, rule, capacity FROM (
  SELECT key, rule, capacity FROM unnest($1::text[], $2::text[], $3::int[]) AS a(key, rule, capacity)
  UNION ALL
  SELECT key, rule, capacity FROM gates WHERE key <> ALL ($1::text[]) AND key = ANY (ARRAY(
    SELECT gate FROM slots WHERE job_id = ANY ($4::uuid[])
    UNION ALL SELECT key FROM lines WHERE job_id = ANY ($4::uuid[])
  ))
) AS a ORDER BY key
ON CONFLICT (key) DO UPDATE SET rule = excluded.rule,
  capacity = CASE WHEN g.key = ANY ($1::text[]) THEN excluded.capacity ELSE g.capacity END
RETURNING key, rule;

-- name: rooms
SELECT g.key, coalesce((SELECT r.count::int FROM limit_rules r WHERE r.rule = g.rule), g.capacity), s.job_id::text
FROM unnest($1::text[]) AS k(key)
CROSS JOIN LATERAL (SELECT * FROM gates WHERE key = k.key OFFSET 0) AS g
LEFT JOIN LATERAL (
  SELECT job_id FROM slots
  WHERE gate = g.key AND (SELECT c.epoch FROM claims c WHERE c.job_id = slots.job_id AND c.epoch = slots.epoch) IS NOT NULL
  OFFSET 0
) AS s ON true;

-- name: lock_entering
SELECT j.id::text, j.cancel_requested
FROM (SELECT * FROM unnest($1::uuid[], $2::int[]) AS a(id, epoch) ORDER BY id OFFSET 0) AS a
CROSS JOIN LATERAL (
  SELECT id, cancel_requested FROM jobs WHERE id = a.id AND epoch = a.epoch AND state = 'active' FOR UPDATE
) AS j;

-- name: enter
WITH freed AS (
  DELETE FROM blocked WHERE job_id = ANY ($2::uuid[])
), started AS (
  UPDATE claims SET claimed_at = clock_timestamp() WHERE job_id = ANY ($2::uuid[])
)
INSERT INTO slots (gate, job_id, epoch) SELECT * FROM unnest($1::text[], $2::uuid[], $3::int[]) AS a(gate, id, epoch)
ON CONFLICT (job_id, gate) DO UPDATE SET epoch = excluded.epoch;

-- name: block
WITH held AS MATERIALIZED (
  SELECT a.*, j.*, c.*, clock_timestamp() AS at
  FROM unnest($1::uuid[], $2::int[], $3::text[], $4::text[]) AS a(id, epoch, gate, why)
  CROSS JOIN LATERAL (SELECT priority, run_at FROM jobs WHERE id = a.id OFFSET 0) AS j
  CROSS JOIN LATERAL (SELECT worker_id, claimed_at FROM claims WHERE job_id = a.id AND epoch = a.epoch OFFSET 0) AS c
), moved AS (
  UPDATE jobs SET state = 'delayed' WHERE id = ANY (ARRAY(SELECT id FROM held))
), disowned AS (
  DELETE FROM claims WHERE job_id = ANY (ARRAY(SELECT id FROM held))
), kept AS (
  INSERT INTO attempts (job_id, epoch, outcome, worker_id, started_at, finished_at, error_message, tx)
  SELECT id, epoch, 'parked', worker_id, claimed_at, at, why,
    (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept)
  FROM held
)
INSERT INTO blocked (job_id, gate, priority, due_at, since) SELECT id, gate, priority, run_at, at FROM held
ON CONFLICT (job_id) DO UPDATE SET gate = excluded.gate, woken_at = NULL;

-- name: let_in
-- Of each gate as many blocked jobs as it has room for, less those that were woken and are on their way.
WITH rooms AS MATERIALIZED (
  SELECT g.key, greatest(0, coalesce((SELECT r.count::int FROM limit_rules r WHERE r.rule = g.rule), g.capacity)
    - (SELECT count(*) FROM slots s
      WHERE s.gate = g.key AND (SELECT c.epoch FROM claims c WHERE c.job_id = s.job_id AND c.epoch = s.epoch) IS NOT NULL)
    - (SELECT count(*) FROM blocked b
      WHERE b.gate = g.key AND b.woken_at > statement_timestamp() - $2::float8 * interval '1 second')) AS room
  FROM gates g WHERE key = ANY ($1::text[])
), dead AS (
  DELETE FROM slots s
  WHERE gate = ANY ($1::text[]) AND (SELECT c.epoch FROM claims c WHERE c.job_id = s.job_id AND c.epoch = s.epoch) IS NULL
), stray AS (
  DELETE FROM blocked b WHERE gate = ANY ($1::text[]) AND woken_at <= statement_timestamp() - $2::float8 * interval '1 second'
    AND coalesce((SELECT j.state FROM jobs j WHERE j.id = b.job_id), 'gone') NOT IN ('delayed', 'waiting', 'active')
)
SELECT b.job_id::text FROM rooms r CROSS JOIN LATERAL (
  SELECT job_id FROM blocked WHERE gate = r.key AND woken_at IS NULL ORDER BY priority, due_at LIMIT r.room
) AS b;

-- name: unblock
DELETE FROM blocked WHERE job_id = ANY ($1::uuid[]);

-- name: join_lines
-- Jobs just recorded; those that are not first are put off until they are called.
WITH asked AS MATERIALIZED (
  SELECT a.*, n = min(n) OVER (PARTITION BY key)
    AND (SELECT l.place FROM lines l WHERE l.key = a.key AND l.open ORDER BY l.place LIMIT 1) IS NULL AS called
  FROM unnest($1::uuid[], $2::text[], $3::bool[]) WITH ORDINALITY AS a(id, key, hold, n)
), joined AS (
  INSERT INTO lines (key, job_id, hold, called, open, since)
  SELECT key, id, hold, called, true, statement_timestamp() FROM asked ORDER BY n
), moved AS (
  UPDATE jobs SET sequenced = true,
    state = CASE WHEN id = ANY (ARRAY(SELECT id FROM asked WHERE called)) THEN state ELSE 'delayed' END
  WHERE id = ANY (ARRAY(SELECT id FROM asked))
), unsent AS (
  DELETE FROM tickets WHERE job_id = ANY (ARRAY(SELECT id FROM asked WHERE NOT called))
)
SELECT id::text FROM asked WHERE NOT called;

-- name: heads
-- Who is first in these lines and has not been called; those before them have ended, and make room.
WITH heads AS MATERIALIZED (
  SELECT k.key, h.* FROM unnest($1::text[]) AS k(key) LEFT JOIN LATERAL (
    SELECT * FROM (
      SELECT place, job_id, called, hold, coalesce((SELECT j.state FROM jobs j WHERE j.id = l.job_id),
        (SELECT h.state FROM history h WHERE h.id = l.job_id), 'gone') AS state
      FROM lines l WHERE l.key = k.key AND open ORDER BY place OFFSET 0
    ) AS l
    WHERE state IN ('delayed', 'waiting', 'active') OR state = 'failed' AND hold LIMIT 1
  ) AS h ON true
), past AS MATERIALIZED (
  SELECT l.* FROM heads h CROSS JOIN LATERAL (
    SELECT place, coalesce((SELECT j.state FROM jobs j WHERE j.id = l.job_id),
      (SELECT h.state FROM history h WHERE h.id = l.job_id), 'gone') AS state
    FROM lines l WHERE key = h.key AND open AND place < coalesce(h.place, 9223372036854775807) OFFSET 0
  ) AS l
), gone AS (
  DELETE FROM lines WHERE place = ANY (ARRAY(SELECT place FROM past WHERE state NOT IN ('failed', 'cancelled')))
), closed AS (
  UPDATE lines SET open = false WHERE place = ANY (ARRAY(SELECT place FROM past WHERE state IN ('failed', 'cancelled')))
)
SELECT job_id::text FROM heads WHERE NOT called AND state <> 'failed';

-- name: wake
-- Their turn has come: a ticket for each, due at once, or when the job itself is.
WITH held AS MATERIALIZED (
  SELECT j.id, j.queue, j.priority, j.actor, j.run_at, j.ticket + 1 AS ticket,
    CASE WHEN j.run_at > statement_timestamp() THEN 'delayed' ELSE 'waiting' END AS state
  FROM (SELECT * FROM unnest($1::uuid[]) AS a(id) ORDER BY id OFFSET 0) AS a
  CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = a.id AND state = 'delayed' FOR UPDATE) AS j
), moved AS (
  UPDATE jobs j SET (state, ticket) = (SELECT h.state, h.ticket FROM held h WHERE h.id = j.id)
  WHERE id = ANY (ARRAY(SELECT id FROM held))
), ticketed AS (
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, priority, ticket, $2::bool AND state = 'waiting',
    CASE WHEN $2::bool OR state = 'delayed' THEN run_at
      ELSE statement_timestamp() + $3::float8 * interval '1 second' END
  FROM held ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET ticket = excluded.ticket, ready = excluded.ready, due_at = excluded.due_at
), coming AS (
  UPDATE blocked SET woken_at = statement_timestamp() WHERE job_id = ANY (ARRAY(SELECT id FROM held))
), called AS (
  UPDATE lines SET called = true WHERE job_id = ANY (ARRAY(SELECT id FROM held))
), noted AS (
  INSERT INTO journal (job_id, at, event) SELECT id, clock_timestamp(), 'promoted' FROM held WHERE state = 'waiting'
)
SELECT h.state, h.id::text, h.ticket, h.queue, h.priority, h.actor, p.message_id, p.body
FROM held h CROSS JOIN LATERAL (SELECT * FROM payloads WHERE job_id = h.id OFFSET 0) AS p;

-- name: any_looks
SELECT true FROM gates WHERE look LIMIT 1;

-- name: take_looks
UPDATE gates SET look = false WHERE key = ANY (ARRAY(
  SELECT key FROM gates WHERE look ORDER BY key LIMIT $1::int FOR UPDATE SKIP LOCKED
)) RETURNING key, rule;

-- name: survey
-- The next gates in the order of their keys: what there is of each, and whether somebody should be let in.
SELECT g.key, (SELECT s.gate FROM slots s WHERE s.gate = g.key LIMIT 1) IS NULL
    AND (SELECT b.gate FROM blocked b WHERE b.gate = g.key AND woken_at IS NULL LIMIT 1) IS NULL
    AND (SELECT b.gate FROM blocked b WHERE b.gate = g.key AND woken_at IS NOT NULL LIMIT 1) IS NULL
    AND (SELECT l.key FROM lines l WHERE l.key = g.key AND open LIMIT 1) IS NULL,
  coalesce((SELECT b.woken_at <= statement_timestamp() - $3::float8 * interval '1 second' FROM blocked b
      WHERE b.gate = g.key AND woken_at IS NOT NULL ORDER BY woken_at LIMIT 1), false)
    OR (SELECT s.gate FROM slots s WHERE s.gate = g.key
      AND (SELECT c.epoch FROM claims c WHERE c.job_id = s.job_id AND c.epoch = s.epoch) IS NULL LIMIT 1) IS NOT NULL
    OR (SELECT b.gate FROM blocked b WHERE b.gate = g.key AND woken_at IS NULL LIMIT 1) IS NOT NULL
      AND (SELECT count(*) FROM slots s WHERE s.gate = g.key)
        + (SELECT count(*) FROM blocked b WHERE b.gate = g.key AND woken_at IS NOT NULL)
        < coalesce((SELECT r.count::int FROM limit_rules r WHERE r.rule = g.rule), g.capacity)
    OR coalesce((SELECT NOT l.called OR NOT l.hold AND coalesce((SELECT j.finished_at IS NOT NULL FROM jobs j
        WHERE j.id = l.job_id), true)
      FROM lines l WHERE l.key = g.key AND open ORDER BY l.place LIMIT 1), false)
FROM (SELECT * FROM gates WHERE key > $1 ORDER BY key LIMIT $2::int) AS g ORDER BY g.key;

-- name: look
UPDATE gates SET look = true WHERE key = ANY (ARRAY(
  SELECT key FROM gates WHERE key = ANY ($1::text[]) AND NOT look ORDER BY key FOR UPDATE SKIP LOCKED
));

-- name: lock_idle_gates
SELECT key FROM gates WHERE key = ANY ($1::text[]) ORDER BY key FOR UPDATE SKIP LOCKED;

-- name: drop_idle_gates
DELETE FROM gates g WHERE key = ANY ($1::text[])
  AND (SELECT s.gate FROM slots s WHERE s.gate = g.key LIMIT 1) IS NULL
  AND (SELECT b.gate FROM blocked b WHERE b.gate = g.key AND woken_at IS NULL LIMIT 1) IS NULL
  AND (SELECT b.gate FROM blocked b WHERE b.gate = g.key AND woken_at IS NOT NULL LIMIT 1) IS NULL
  AND (SELECT l.key FROM lines l WHERE l.key = g.key AND open LIMIT 1) IS NULL;

-- name: drop_lines
DELETE FROM lines WHERE job_id = ANY ($1::uuid[]);

-- name: add_circuits
INSERT INTO circuits (name, since) SELECT name, clock_timestamp() FROM unnest($1::text[]) AS c(name)
ON CONFLICT (name) DO NOTHING;

-- name: circuits
SELECT name, term, (extract(epoch FROM until) * 1000000)::bigint, length_us, openings, counted, why FROM circuits
WHERE name = ANY ($1::text[]);

-- name: lock_circuits
SELECT l.* FROM (SELECT * FROM unnest($1::text[]) AS c(name) ORDER BY name COLLATE "C" OFFSET 0) AS c
CROSS JOIN LATERAL (
  SELECT name, term, (extract(epoch FROM until) * 1000000)::bigint, length_us, openings, counted, why FROM circuits
  WHERE name = c.name FOR UPDATE
) AS l;

-- name: keep_circuit
UPDATE circuits SET term = $2::int, until = to_timestamp(0) + $3::bigint * interval '1 microsecond',
  length_us = $4::bigint, openings = $5::int, counted = $6, why = $7,
  changed_by = CASE WHEN $9::bool THEN $8 ELSE changed_by END,
  since = CASE WHEN $9::bool THEN clock_timestamp() ELSE since END
WHERE name = $1;

-- name: drop_ended_probes
-- A probe's slot is its claim: finishing gives it back, and so does the rescuer when its worker has died.
DELETE FROM probes p WHERE circuit = $1
  AND (SELECT c.job_id FROM claims c WHERE c.job_id = p.job_id AND c.epoch = p.epoch) IS NULL;

-- name: probes
SELECT job_id FROM probes WHERE circuit = $1 AND term = $2::int AND job_id <> $3::uuid;

-- name: keep_probe
INSERT INTO probes (job_id, epoch, circuit, term) VALUES ($1::uuid, $2::int, $3, $4::int)
ON CONFLICT (job_id) DO UPDATE SET epoch = excluded.epoch, circuit = excluded.circuit, term = excluded.term;

-- name: defer
-- With its ticket: whatever has become of the job since then, it does not wait for the circuit any more.
INSERT INTO deferrals (job_id, ticket, circuit)
SELECT a.id, t.ticket, a.circuit FROM unnest($1::uuid[], $2::text[]) AS a(id, circuit)
CROSS JOIN LATERAL (SELECT ticket FROM tickets WHERE job_id = a.id OFFSET 0) AS t ORDER BY a.id
ON CONFLICT (job_id) DO UPDATE SET ticket = excluded.ticket, circuit = excluded.circuit;

-- name: recall
WITH back AS MATERIALIZED (
  SELECT d.job_id, d.ticket FROM (SELECT name FROM circuits WHERE until IS NULL OFFSET 0) AS c CROSS JOIN LATERAL (
    SELECT job_id, ticket FROM deferrals WHERE circuit = c.name LIMIT $1::int FOR UPDATE SKIP LOCKED
  ) AS d LIMIT $1::int
), held AS MATERIALIZED (
  SELECT t.job_id FROM back CROSS JOIN LATERAL (
    SELECT job_id FROM tickets WHERE job_id = back.job_id AND ticket = back.ticket AND NOT ready
      AND due_at > statement_timestamp() AND due_at < 'infinity' FOR UPDATE SKIP LOCKED
  ) AS t
), moved AS (
  UPDATE tickets SET due_at = statement_timestamp() + random() * $2::float8 * interval '1 second'
  WHERE job_id = ANY (ARRAY(SELECT job_id FROM held))
), dropped AS (
  DELETE FROM deferrals WHERE job_id = ANY (ARRAY(SELECT job_id FROM back))
)
SELECT count(*) FROM back;

-- name: hurry
-- Keys and sequences of what follows may be locked by a send in somebody's open transaction: then the others of the
-- batch are not to wait for it.  Until the end of this transaction.
SELECT set_config('lock_timeout', '1s', true);

-- name: finish_completed
-- The usual batch: everything completed, nothing to keep but that.
WITH held AS MATERIALIZED (
  SELECT a.n, a.outcome, j.*, c.*
  FROM (
    SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[]) WITH ORDINALITY AS a(id, epoch, outcome, n)
    ORDER BY id OFFSET 0
  ) AS a
  CROSS JOIN LATERAL (
    SELECT id, epoch, state, attempts FROM jobs WHERE id = a.id AND epoch = a.epoch FOR UPDATE
  ) AS j
  LEFT JOIN LATERAL (
    SELECT worker_id, claimed_at FROM claims WHERE job_id = a.id AND epoch = a.epoch OFFSET 0
  ) AS c ON true
), moved AS (
  UPDATE jobs SET state = 'completed', attempts = attempts + 1, finished_at = clock_timestamp()
  WHERE id = ANY (ARRAY(SELECT id FROM held WHERE state = 'active'))
), disowned AS (
  DELETE FROM claims WHERE job_id = ANY (ARRAY(SELECT id FROM held WHERE state = 'active'))
), kept AS (
  INSERT INTO attempts (job_id, epoch, number, outcome, worker_id, started_at, finished_at, tx)
  SELECT id, epoch, attempts + 1, outcome, worker_id, claimed_at, clock_timestamp(),
    (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept)
  FROM held WHERE state = 'active'
)
SELECT n, CASE state WHEN 'active' THEN 'completed' ELSE state END, state = 'active', outcome FROM held;

-- name: finish
WITH held AS MATERIALIZED (
  SELECT a.*, j.state, j.ticket, j.queue, j.priority, j.attempts, c.*,
    CASE WHEN j.cancel_requested AND a.outcome IN ('retrying', 'snoozed', 'parked', 'interrupted') THEN 'cancelled'
      ELSE a.outcome END AS ended
  FROM (
    SELECT * FROM ROWS FROM (json_to_recordset($1::json) AS (
      id uuid, epoch int, outcome text, reason text, error_type text, error_message text, traceback text,
      delay_ms bigint, result text, result_ttl_ms bigint
    )) WITH ORDINALITY AS a(id, epoch, outcome, reason, error_type, error_message, traceback, delay_ms, result,
      result_ttl_ms, n)
    ORDER BY id OFFSET 0
  ) AS a
  CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = a.id AND epoch = a.epoch FOR UPDATE) AS j
  LEFT JOIN LATERAL (
    SELECT worker_id, claimed_at FROM claims WHERE job_id = a.id AND epoch = a.epoch OFFSET 0
  ) AS c ON true
), judged AS MATERIALIZED (
  SELECT *, clock_timestamp() AS at,
    CASE WHEN ended IN ('completed', 'skipped') THEN 'completed'
      WHEN ended IN ('failed', 'cancelled') THEN ended
      WHEN ended = 'interrupted' THEN 'waiting'
      ELSE 'delayed' END AS state_now,
    CASE WHEN ended IN ('completed', 'skipped', 'retrying', 'failed') THEN attempts + 1 END AS number
  FROM held WHERE state = 'active'
), done AS MATERIALIZED (
  SELECT *, state_now IN ('waiting', 'delayed') AS again,
    CASE state_now WHEN 'delayed' THEN at + delay_ms * interval '1 ms' WHEN 'waiting' THEN at END AS run_at
  FROM judged
), moved AS (
  UPDATE jobs j SET (state, attempts, ticket, reason, run_at, finished_at) = (
    SELECT d.state_now, coalesce(d.number, j.attempts), j.ticket + d.again::int,
      CASE d.state_now WHEN 'failed' THEN coalesce(d.reason, 'retries_exhausted') END,
      CASE WHEN d.ended = 'parked' THEN j.run_at ELSE coalesce(d.run_at, j.run_at) END, CASE WHEN NOT d.again THEN d.at END
    FROM done d WHERE d.id = j.id
  )
  WHERE id = ANY (ARRAY(SELECT id FROM done))
), disowned AS (
  DELETE FROM claims WHERE job_id = ANY (ARRAY(SELECT id FROM done))
), kept AS (
  INSERT INTO attempts (job_id, epoch, number, outcome, worker_id, started_at, finished_at, run_at,
    error_type, error_message, traceback, tx)
  SELECT id, epoch, number, ended, worker_id, claimed_at, at, run_at, error_type, error_message, traceback,
    (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept)
  FROM done
), ticketed AS (
  -- A start that is reserved is not to be missed behind those who have not asked yet: this once it is critical.
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, CASE WHEN ended = 'parked' AND EXISTS (SELECT FROM reservations r WHERE r.job_id = done.id)
      THEN 1 ELSE priority END,
    ticket + 1, $2::bool AND state_now = 'waiting', run_at
  FROM done WHERE again ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET priority = excluded.priority, ticket = excluded.ticket, ready = excluded.ready,
    due_at = excluded.due_at
), resulted AS (
  INSERT INTO results (job_id, body, expires_at)
  SELECT id, decode(result, 'hex'), at + result_ttl_ms * interval '1 ms' FROM done WHERE result IS NOT NULL ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET body = excluded.body, expires_at = excluded.expires_at, read_at = NULL
)
SELECT n, state_now, true, ended FROM done UNION ALL SELECT n, state, false, outcome FROM held WHERE state <> 'active';

-- name: finished_before
-- Of the finishes that matched no row: those committed earlier, whose job has gone on since.
SELECT n, coalesce((SELECT state FROM jobs j WHERE j.id = a.id), (SELECT state FROM history h WHERE h.id = a.id))
FROM unnest($1::uuid[], $2::int[]) WITH ORDINALITY AS a(id, epoch, n)
WHERE (SELECT outcome FROM attempts t WHERE t.job_id = a.id AND t.epoch = a.epoch) <> 'crashed';

-- name: count_down
-- One row per group, in order: each job of the batch that completes takes one off.
UPDATE groups SET remaining = remaining - $2::int WHERE id = $1 RETURNING remaining;

-- name: drop_group
DELETE FROM groups WHERE id = $1;

-- name: create_group
INSERT INTO groups AS g (id, remaining, expires_at)
VALUES ($1, $2::int, clock_timestamp() + $3::bigint * interval '1 ms')
ON CONFLICT (id) DO UPDATE SET remaining = excluded.remaining, expires_at = excluded.expires_at
WHERE g.expires_at < clock_timestamp()
RETURNING true;

-- name: enqueue
-- The time is the statement's: stable, so that one job's created_at, state and due time agree.
WITH asked AS MATERIALIZED (
  SELECT a.*, coalesce(a.at, statement_timestamp() + a.delay_ms * interval '1 ms') AS run_at
  FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::bytea[], $7::text[], $8::bigint[],
    $9::timestamptz[], $13::bool[]) AS a(id, message_id, queue, actor, priority, body, producer, delay_ms, at, counted)
  WHERE (SELECT h.id FROM history h WHERE h.id = a.id) IS NULL
), fresh AS (
  INSERT INTO jobs (id, queue, actor, priority, state, created_at, run_at, counted)
  SELECT id, queue, actor, priority, CASE WHEN run_at > statement_timestamp() THEN 'delayed' ELSE 'waiting' END,
    statement_timestamp(), run_at, counted
  FROM asked
  ON CONFLICT (id) DO NOTHING
  RETURNING id, queue, priority, state, run_at
), paid AS (
  INSERT INTO payloads (job_id, message_id, body, producer) SELECT id, message_id, body, producer FROM asked
  ON CONFLICT (job_id) DO NOTHING
), ticketed AS (
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, priority, 1, $11::bool AND state = 'waiting',
    CASE WHEN $11::bool OR state = 'delayed' THEN run_at
      ELSE statement_timestamp() + $12::float8 * interval '1 second' END
  FROM fresh WHERE state = 'delayed' OR $11::bool OR id <> ALL ($10::uuid[])
)
SELECT id::text, state FROM fresh;

-- name: backlog
SELECT count(*) FROM (SELECT FROM jobs WHERE queue = $1 AND counted AND finished_at IS NULL LIMIT $2::int) AS b;

-- name: unsent
SELECT job_id::text, ticket FROM tickets WHERE job_id = ANY ($1::uuid[]);

-- name: identity
-- Of the server, of the database, and of the tables that an enqueue finds there by their names.
SELECT extract(epoch FROM pg_postmaster_start_time())::text,
  (SELECT oid::text FROM pg_database WHERE datname = current_database()),
  (SELECT string_agg(coalesce(to_regclass(name)::oid::text, '-'), ',' ORDER BY name)
    FROM unnest('{jobs,payloads,tickets,uniques,expiries,journal,ticks}'::text[]) AS n(name));

-- name: isolation
SELECT current_setting('transaction_isolation');

-- name: claim_ticks
INSERT INTO ticks (schedule, fire_at, job_id)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) AS t(schedule, fire_at, job_id)
ON CONFLICT (schedule, fire_at) DO UPDATE SET job_id = excluded.job_id, outcome = 'sent', why = ''
WHERE ticks.outcome = 'waiting'
RETURNING job_id::text;

-- name: hold_lease
-- Until the transaction ends nobody else can get it.
SELECT term FROM leases WHERE name = $1 AND holder = $2 AND term = $3::int FOR SHARE;

-- name: lock_schedules
SELECT s.key, s.revision, s.done_until, s.last_job_id::text, coalesce(
    (SELECT j.state FROM jobs j WHERE j.id = s.last_job_id), (SELECT h.state FROM history h WHERE h.id = s.last_job_id)
  ), s.failures
FROM schedules s WHERE s.key = ANY ($1::text[])
ORDER BY s.key
FOR UPDATE;

-- name: note_ticks
INSERT INTO ticks (schedule, fire_at, outcome, why, at, late_ms)
SELECT schedule, fire_at, outcome, why, clock_timestamp(),
  greatest(0, extract(epoch FROM clock_timestamp() - due_at) * 1000)::bigint
FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[])
  AS t(schedule, fire_at, due_at, outcome, why)
ON CONFLICT (schedule, fire_at) DO UPDATE
SET outcome = excluded.outcome, why = excluded.why, at = excluded.at, late_ms = excluded.late_ms,
  job_id = CASE excluded.outcome WHEN 'sent' THEN ticks.job_id END;

-- name: advance_schedules
-- By ANY: a join with the arrays may read all schedules for one of them.
UPDATE schedules s SET done_until = ($2::timestamptz[])[array_position($1::text[], s.key)],
  last_job_id = ($3::uuid[])[array_position($1::text[], s.key)], failures = ($4::int[])[array_position($1::text[], s.key)]
WHERE s.key = ANY ($1::text[]);

-- name: overtake
-- Cancelled at once, or asked to stop.
WITH old AS MATERIALIZED (
  SELECT id, state, ($2::text[])[array_position($1::uuid[], id)] AS schedule FROM jobs
  WHERE id = ANY ($1::uuid[]) AND state IN ('delayed', 'waiting', 'active') ORDER BY id FOR UPDATE
), changed AS (
  UPDATE jobs SET cancel_requested = state = 'active',
    state = CASE state WHEN 'active' THEN state ELSE 'cancelled' END,
    finished_at = CASE state WHEN 'active' THEN NULL ELSE clock_timestamp() END
  WHERE id = ANY (ARRAY(SELECT id FROM old))
), unticketed AS (
  DELETE FROM tickets WHERE job_id = ANY (ARRAY(SELECT id FROM old WHERE state <> 'active'))
)
INSERT INTO journal (job_id, at, event, actor, detail)
SELECT id, clock_timestamp(), CASE state WHEN 'active' THEN 'cancel_requested' ELSE 'cancelled' END,
  'schedule ' || schedule, json_build_object('why', 'its next tick came')::text
FROM old;

-- name: lock_keys
-- A row for every key, locked until the transaction ends; a new one holds nothing (its time has passed, its job is not
-- there), so that it may be left behind.  The statements that follow take their snapshots after the lock.
INSERT INTO uniques AS u (key, job_id, asked_id, message_id, until)
SELECT key, id, id, '', statement_timestamp() FROM unnest($1::text[], $2::uuid[]) AS a(key, id) ORDER BY key
ON CONFLICT (key) DO UPDATE SET message_id = u.message_id;

-- name: holders
SELECT u.key, u.job_id::text, u.asked_id::text, u.message_id, (SELECT j.state FROM jobs j WHERE j.id = u.job_id),
  coalesce(u.until > statement_timestamp(), false)
FROM unnest($1::text[]) AS a(key) CROSS JOIN LATERAL (SELECT * FROM uniques WHERE key = a.key OFFSET 0) AS u;

-- name: known
SELECT a.id::text FROM unnest($1::uuid[]) AS a(id)
WHERE (SELECT j.id FROM jobs j WHERE j.id = a.id) IS NOT NULL OR (SELECT h.id FROM history h WHERE h.id = a.id) IS NOT NULL;

-- name: replace
-- Those that have started meanwhile are left alone, and not answered.
WITH held AS MATERIALIZED (
  SELECT a.*, j.ticket + 1 AS ticket, (SELECT p.message_id FROM payloads p WHERE p.job_id = a.id) AS was,
    coalesce(a.at, statement_timestamp() + a.delay_ms * interval '1 ms') AS run_at
  FROM (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::bytea[], $6::text[], $7::bigint[],
      $8::timestamptz[], $9::bool[]) AS a(id, message_id, queue, priority, body, producer, delay_ms, at, served)
    ORDER BY id OFFSET 0
  ) AS a
  CROSS JOIN LATERAL (
    SELECT ticket FROM jobs WHERE id = a.id AND state IN ('waiting', 'delayed') FOR UPDATE
  ) AS j
), judged AS MATERIALIZED (
  SELECT *, CASE WHEN run_at > statement_timestamp() THEN 'delayed' ELSE 'waiting' END AS state FROM held
), moved AS (
  UPDATE jobs j SET (queue, priority, state, ticket, run_at, attempts, crashes, charges) = (
    SELECT h.queue, h.priority, h.state, h.ticket, h.run_at, 0, 0, 0 FROM judged h WHERE h.id = j.id
  )
  WHERE id = ANY (ARRAY(SELECT id FROM judged))
), paid AS (
  UPDATE payloads p SET (message_id, body, producer) = (
    SELECT h.message_id, h.body, h.producer FROM judged h WHERE h.id = p.job_id
  )
  WHERE job_id = ANY (ARRAY(SELECT id FROM judged))
), ticketed AS (
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, priority, ticket, $10::bool AND state = 'waiting',
    CASE WHEN $10::bool OR state = 'delayed' OR served THEN run_at
      ELSE statement_timestamp() + $11::float8 * interval '1 second' END
  FROM judged ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET queue = excluded.queue, priority = excluded.priority, ticket = excluded.ticket,
    ready = excluded.ready, due_at = excluded.due_at
), unblocked AS (
  DELETE FROM blocked WHERE job_id = ANY (ARRAY(SELECT id FROM judged))
), noted AS (
  INSERT INTO journal (job_id, at, event, actor, detail)
  SELECT id, statement_timestamp(), 'replaced', producer, json_build_object('message_id', was)::text FROM judged
)
SELECT id::text, state, ticket FROM judged;

-- name: take_keys
INSERT INTO uniques (key, job_id, asked_id, message_id, until)
SELECT key, job_id, asked_id, message_id, statement_timestamp() + within_ms * interval '1 ms'
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[]) AS a(key, job_id, asked_id, message_id, within_ms)
ORDER BY key
ON CONFLICT (key) DO UPDATE SET job_id = excluded.job_id, asked_id = excluded.asked_id,
  message_id = excluded.message_id, until = excluded.until;

-- name: note
INSERT INTO journal (job_id, at, event, actor, detail)
SELECT id, clock_timestamp(), event, actor, detail
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS t(id, event, actor, detail);

-- name: bury
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[])
    AS a(id, message_id, queue, actor, body, reason, detail)
  WHERE (SELECT h.id FROM history h WHERE h.id = a.id) IS NULL
), fresh AS (
  INSERT INTO jobs (id, queue, actor, priority, state, reason, created_at, run_at, finished_at)
  SELECT id, queue, actor, 3, 'failed', reason, statement_timestamp(), statement_timestamp(), statement_timestamp()
  FROM asked
  ON CONFLICT (id) DO NOTHING
  RETURNING id
), paid AS (
  INSERT INTO payloads (job_id, message_id, body) SELECT id, message_id, body FROM asked ON CONFLICT (job_id) DO NOTHING
)
INSERT INTO journal (job_id, at, event, detail, tx)
SELECT a.id, clock_timestamp(), 'buried', a.detail, (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept)
FROM asked a WHERE a.id IN (SELECT id FROM fresh);

-- name: mark
DELETE FROM tickets WHERE job_id = ANY (ARRAY(
  SELECT t.job_id FROM unnest($1::uuid[], $2::int[]) AS a(id, ticket) CROSS JOIN LATERAL (
    SELECT job_id FROM tickets WHERE job_id = a.id AND ticket = a.ticket AND NOT ready FOR UPDATE SKIP LOCKED
  ) AS t
));

-- name: release
WITH held AS MATERIALIZED (
  SELECT j.id, j.epoch, j.queue, j.priority, j.ticket + 1 AS ticket, j.cancel_requested AS ends, clock_timestamp() AS at
  FROM (SELECT * FROM unnest($2::uuid[], $3::int[]) AS a(id, epoch) ORDER BY id OFFSET 0) AS a
  CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = a.id AND epoch = a.epoch AND state = 'active' FOR UPDATE) AS j
  WHERE (SELECT c.epoch FROM claims c WHERE c.worker_id = $1::int AND c.job_id = a.id) = a.epoch
), moved AS (
  UPDATE jobs SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'waiting' END, epoch = epoch + 1,
    ticket = ticket + (NOT cancel_requested)::int,
    finished_at = CASE WHEN cancel_requested THEN clock_timestamp() END
  WHERE id = ANY (ARRAY(SELECT id FROM held))
), disowned AS (
  DELETE FROM claims WHERE job_id = ANY (ARRAY(SELECT id FROM held))
), ticketed AS (
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, priority, ticket, $5::bool, at FROM held WHERE NOT ends ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET ticket = excluded.ticket, ready = excluded.ready, due_at = excluded.due_at
), gated AS (
  UPDATE gates SET look = true WHERE key = ANY (ARRAY(
    SELECT key FROM gates WHERE key = ANY (ARRAY(
      SELECT gate FROM slots WHERE job_id = ANY (ARRAY(SELECT id FROM held))
      UNION ALL SELECT key FROM lines WHERE job_id = ANY (ARRAY(SELECT id FROM held))
    )) ORDER BY key FOR UPDATE SKIP LOCKED
  ))
), noted AS (
  INSERT INTO journal (job_id, at, event, actor, detail, tx)
  SELECT id, at, CASE WHEN ends THEN 'cancelled' ELSE 'released' END, 'worker ' || $1::int,
    json_build_object('why', $4::text)::text,
    CASE WHEN ends THEN (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept) END
  FROM held
)
SELECT count(*) FROM held;

-- name: progress
INSERT INTO progress (job_id, done, total, note, at)
SELECT id, done, total, note, clock_timestamp()
FROM unnest($1::uuid[], $2::float8[], $3::float8[], $4::text[]) AS p(id, done, total, note) ORDER BY id
ON CONFLICT (job_id) DO UPDATE
SET done = excluded.done, total = excluded.total, note = excluded.note, at = excluded.at;

-- name: checkpoint
-- The lock makes it wait for a rescue under way, and then find another epoch.
WITH held AS MATERIALIZED (
  SELECT id, epoch FROM jobs WHERE id = $1::uuid AND epoch = $2::int AND state = 'active' FOR UPDATE
)
INSERT INTO checkpoints (job_id, epoch, body, at) SELECT id, epoch, $3::bytea, clock_timestamp() FROM held
ON CONFLICT (job_id) DO UPDATE SET epoch = excluded.epoch, body = excluded.body, at = excluded.at
RETURNING true;

-- name: kept
SELECT body FROM checkpoints WHERE job_id = $1::uuid;

-- name: join
INSERT INTO workers (host, pid, state, queues, threads, version, started_at, heartbeat_at)
VALUES ($1, $2::int, 'running', $3, $4::int, $5, clock_timestamp(), clock_timestamp())
RETURNING id;

-- name: beat
UPDATE workers SET heartbeat_at = clock_timestamp() WHERE id = $1::int AND state IN ('running', 'stopping') RETURNING true;

-- name: owned
SELECT c.job_id::text, c.epoch, c.claimed_at < clock_timestamp() - $2::float8 * interval '1 second', j.cancel_requested
FROM (SELECT * FROM claims WHERE worker_id = $1::int OFFSET 0) AS c
CROSS JOIN LATERAL (
  SELECT cancel_requested FROM jobs WHERE id = c.job_id AND epoch = c.epoch AND state = 'active' OFFSET 0
) AS j;

-- name: asked
SELECT c.job_id::text, c.epoch FROM (SELECT * FROM claims WHERE worker_id = $1::int OFFSET 0) AS c
CROSS JOIN LATERAL (
  SELECT FROM jobs WHERE id = c.job_id AND epoch = c.epoch AND state = 'active' AND cancel_requested OFFSET 0
) AS j;

-- name: paused
SELECT name FROM queues WHERE paused;

-- name: orders
-- What worker $1 is asked for, and what operators have changed of queues; small tables, asked every second.
SELECT 'wish', '', wish, 0::float8, 0::float8, 0 FROM worker_requests WHERE worker_id = $1::int
UNION ALL SELECT 'rule', rule, '', count, per_s, burst FROM limit_rules
UNION ALL SELECT 'draining', name, coalesce(draining_by, ''), 0, 0, 0 FROM queues WHERE draining_at IS NOT NULL;

-- name: report_worker
INSERT INTO worker_reports AS r (worker_id, mode, ends, master, busy, rss, slots, at)
VALUES ($1::int, $2, $3, $4::int, $5::int, $6::bigint, $7, clock_timestamp())
ON CONFLICT (worker_id) DO UPDATE SET mode = excluded.mode, ends = excluded.ends, master = excluded.master,
  busy = excluded.busy, rss = excluded.rss, slots = excluded.slots, at = excluded.at;

-- name: announce
UPDATE workers SET state = 'stopping' WHERE id = $1::int AND state = 'running';

-- name: leave
UPDATE workers SET state = 'stopped', stopped_at = clock_timestamp()
WHERE id = $1::int AND state IN ('running', 'stopping');

-- name: lock_paused_queues
-- So that a resume either is seen by the statement that follows, or sees what that one wrote.
SELECT pg_advisory_xact_lock_shared(hashtextextended('hareline.queue.' || name, 0))
FROM (SELECT name FROM queues WHERE paused ORDER BY name COLLATE "C") AS q;

-- name: promote
-- Tickets of paused queues are put off until the resume, so that however many there are, none is read again before.
WITH due AS MATERIALIZED (
  SELECT job_id, priority, ticket, due_at FROM tickets WHERE NOT ready AND due_at <= statement_timestamp()
  ORDER BY due_at LIMIT $1::int FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
  SELECT d.due_at, d.priority, d.ticket AS asked, j.id, j.state, j.ticket, j.queue, j.actor,
    coalesce((SELECT paused FROM queues q WHERE q.name = j.queue), false) AS paused
  FROM (SELECT * FROM due ORDER BY job_id OFFSET 0) AS d
  CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = d.job_id FOR UPDATE SKIP LOCKED) AS j
), judged AS MATERIALIZED (
  SELECT *, CASE WHEN state NOT IN ('waiting', 'delayed') OR ticket <> asked THEN 'drop'
      WHEN paused THEN 'put off' ELSE 'send' END AS word
  FROM held
), moved AS (
  UPDATE jobs SET state = 'waiting'
  WHERE id = ANY (ARRAY(SELECT id FROM judged WHERE word = 'send' AND state = 'delayed'))
), stamped AS (
  UPDATE tickets SET ready = $3::bool,
    due_at = CASE WHEN $3::bool THEN due_at ELSE clock_timestamp() + $2::float8 * interval '1 second' END
  WHERE job_id = ANY (ARRAY(SELECT id FROM judged WHERE word = 'send'))
), put_off AS (
  UPDATE tickets SET due_at = 'infinity' WHERE job_id = ANY (ARRAY(SELECT id FROM judged WHERE word = 'put off'))
), dropped AS (
  DELETE FROM tickets WHERE job_id = ANY (ARRAY(
    SELECT id FROM judged WHERE word = 'drop'
    UNION ALL SELECT job_id FROM due WHERE (SELECT id FROM jobs j WHERE j.id = due.job_id) IS NULL
  ))
), noted AS (
  INSERT INTO journal (job_id, at, event) SELECT id, clock_timestamp(), 'promoted' FROM judged
  WHERE word = 'send' AND state = 'delayed'
)
SELECT h.id::text, h.ticket, h.queue, h.priority, h.actor, p.message_id, p.body,
  extract(epoch FROM clock_timestamp() - h.due_at)::float8
FROM judged h CROSS JOIN LATERAL (SELECT * FROM payloads WHERE job_id = h.id OFFSET 0) AS p WHERE h.word = 'send'
ORDER BY h.priority, h.due_at;

-- name: set_expiries
INSERT INTO expiries (job_id, at) SELECT id, (SELECT run_at FROM jobs j WHERE j.id = a.id) + ms * interval '1 ms'
FROM unnest($1::uuid[], $2::bigint[]) AS a(id, ms) ORDER BY id
ON CONFLICT (job_id) DO UPDATE SET at = excluded.at;

-- name: drop_expiries
DELETE FROM expiries WHERE job_id = ANY ($1::uuid[]);

-- name: any_expired
SELECT true FROM expiries WHERE at <= statement_timestamp() ORDER BY at LIMIT 1;

-- name: expire
-- A job that somebody has locked, or that changes just now, is looked at again the next time; one that a worker has in
-- hand and has not begun a little later: it may be given back.  Who was tried says the claim, in the same words.
WITH due AS MATERIALIZED (
  SELECT job_id FROM expiries WHERE at <= statement_timestamp() ORDER BY at LIMIT $1::int FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
  SELECT j.id, NOT j.tried AND j.state IN ('waiting', 'delayed') AS ends, NOT j.tried AND j.state = 'active' AS stays
  FROM (SELECT * FROM due ORDER BY job_id OFFSET 0) AS d
  CROSS JOIN LATERAL (
    SELECT *, attempts > 0 OR crashes > 0 OR epoch > 0 AND (SELECT a.epoch FROM attempts a
      WHERE a.job_id = jobs.id AND a.outcome IN ('snoozed', 'interrupted') LIMIT 1) IS NOT NULL AS tried
    FROM jobs WHERE id = d.job_id AND ticket = (SELECT s.ticket FROM jobs s WHERE s.id = d.job_id)
    FOR UPDATE SKIP LOCKED
  ) AS j
), moved AS (
  UPDATE jobs SET state = 'failed', reason = 'expired', finished_at = clock_timestamp()
  WHERE id = ANY (ARRAY(SELECT id FROM held WHERE ends))
), unsent AS (
  DELETE FROM tickets WHERE job_id = ANY (ARRAY(SELECT id FROM held WHERE ends))
), later AS (
  UPDATE expiries SET at = statement_timestamp() + $2::float8 * interval '1 second'
  WHERE job_id = ANY (ARRAY(SELECT id FROM held WHERE stays))
), looked AS (
  DELETE FROM expiries WHERE job_id = ANY (ARRAY(
    SELECT id FROM held WHERE NOT stays
    UNION ALL SELECT job_id FROM due WHERE (SELECT id FROM jobs j WHERE j.id = due.job_id) IS NULL
  ))
), gated AS (
  UPDATE gates SET look = true WHERE key = ANY (ARRAY(
    SELECT key FROM gates WHERE key = ANY (ARRAY(
      SELECT gate FROM slots WHERE job_id = ANY (ARRAY(SELECT id FROM held WHERE ends))
      UNION ALL SELECT key FROM lines WHERE job_id = ANY (ARRAY(SELECT id FROM held WHERE ends))
    )) ORDER BY key FOR UPDATE SKIP LOCKED
  ))
), noted AS (
  INSERT INTO journal (job_id, at, event, detail, tx)
  SELECT id, clock_timestamp(), 'failed', json_build_object('reason', 'expired')::text,
    (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept)
  FROM held WHERE ends
)
SELECT id::text FROM held WHERE ends;

-- name: unready
-- Left by a time on the embedded road: RabbitMQ has no message for them.
UPDATE tickets SET ready = false WHERE job_id = ANY (ARRAY(
  SELECT job_id FROM tickets WHERE ready ORDER BY queue, priority, due_at LIMIT $1::int FOR UPDATE SKIP LOCKED
));

-- name: next_due
SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM tickets
WHERE NOT ready AND due_at < 'infinity' ORDER BY due_at LIMIT 1;

-- name: fence
WITH silent AS MATERIALIZED (
  SELECT id, state FROM workers
  WHERE state IN ('running', 'stopping') AND heartbeat_at < statement_timestamp() - $1::float8 * interval '1 second'
  ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE workers w SET state = CASE s.state WHEN 'stopping' THEN 'stopped' ELSE 'dead' END, stopped_at = clock_timestamp()
FROM silent s WHERE w.id = s.id RETURNING w.id;

-- name: rescue
-- Of the workers just fenced ($1) the dead ones crashed; what is owned by any other worker that is gone was claimed
-- after its fencing, or left by an announced shutdown: given back, no crash.
WITH owned AS MATERIALIZED (
  SELECT j.id, j.epoch, j.queue, j.priority, j.ticket, j.crashes, j.charges, j.cancel_requested,
    c.worker_id, c.claimed_at, c.suspect, c.state = 'dead' AND c.worker_id = ANY ($1::int[]) AS crashed,
    'worker ' || c.worker_id || ' on ' || c.host || ' (pid ' || c.pid || ') died or stalled' AS what
  FROM (
    SELECT c.*, w.state, w.host, w.pid
    FROM (SELECT * FROM workers WHERE state IN ('dead', 'stopped') OFFSET 0) AS w
    CROSS JOIN LATERAL (SELECT * FROM claims WHERE worker_id = w.id OFFSET 0) AS c
    ORDER BY c.job_id OFFSET 0
  ) AS c
  CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = c.job_id AND epoch = c.epoch AND state = 'active' FOR UPDATE) AS j
), accused AS (
  SELECT *, clock_timestamp() AS at, crashed AND suspect AS charged,
    crashed AND (suspect OR NOT bool_or(suspect) OVER (PARTITION BY worker_id)) AS blamed
  FROM owned
), judged AS MATERIALIZED (
  SELECT *, CASE WHEN cancel_requested THEN 'cancelled' WHEN charged AND charges >= 2 THEN 'failed' ELSE 'waiting' END
    AS state_now
  FROM accused
), moved AS (
  UPDATE jobs j SET (state, epoch, ticket, crashes, charges, reason, run_at, finished_at) = (
    SELECT h.state_now, j.epoch + 1, j.ticket + (h.state_now = 'waiting')::int, j.crashes + h.blamed::int,
      j.charges + h.charged::int, CASE h.state_now WHEN 'failed' THEN 'poison' END,
      CASE WHEN h.crashed AND h.state_now = 'waiting' THEN h.at ELSE j.run_at END, CASE WHEN h.state_now <> 'waiting' THEN h.at END
    FROM judged h WHERE h.id = j.id
  )
  WHERE id = ANY (ARRAY(SELECT id FROM judged))
), disowned AS (
  DELETE FROM claims WHERE job_id = ANY (ARRAY(SELECT id FROM judged))
), kept AS (
  INSERT INTO attempts (job_id, epoch, outcome, worker_id, started_at, finished_at, error_message, tx)
  SELECT id, epoch, 'crashed', worker_id, claimed_at, at, what,
    (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept)
  FROM judged WHERE crashed
), ticketed AS (
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, priority, ticket + 1, $2::bool, at FROM judged WHERE state_now = 'waiting' ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET ticket = excluded.ticket, ready = excluded.ready, due_at = excluded.due_at
), gated AS (
  UPDATE gates SET look = true WHERE key = ANY (ARRAY(
    SELECT key FROM gates WHERE key = ANY (ARRAY(
      SELECT gate FROM slots WHERE job_id = ANY (ARRAY(SELECT id FROM judged))
      UNION ALL SELECT key FROM lines WHERE job_id = ANY (ARRAY(SELECT id FROM judged))
    )) ORDER BY key FOR UPDATE SKIP LOCKED
  ))
), noted AS (
  INSERT INTO journal (job_id, at, event, actor, detail, tx)
  SELECT id, at, CASE WHEN state_now <> 'waiting' THEN state_now WHEN crashed THEN 'crashed' ELSE 'released' END,
    'worker ' || worker_id,
    CASE WHEN state_now = 'failed' THEN json_build_object('reason', 'poison', 'charges', charges + 1)
      WHEN crashed THEN json_build_object('worker', worker_id, 'charged', charged)
      ELSE json_build_object('why', 'worker is gone') END::text,
    CASE WHEN state_now <> 'waiting' THEN (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept) END
  FROM judged
)
SELECT id::text, state_now FROM judged;

-- name: lost
-- Those sent again no longer ago than that are left alone: their new message must have had a chance.
SELECT id::text FROM jobs j
WHERE id > $1::uuid AND state = 'waiting' AND run_at <= statement_timestamp() - $2::float8 * interval '1 second'
  AND (SELECT t.job_id FROM tickets t WHERE t.job_id = j.id AND (NOT t.ready OR $3::bool)) IS NULL
  AND (SELECT l.id FROM journal l WHERE l.job_id = j.id AND l.event = 'resent'
    AND l.at > statement_timestamp() - $2::float8 * interval '1 second' LIMIT 1) IS NULL
ORDER BY id LIMIT $4::int;

-- name: lost_in_queue
SELECT id::text FROM jobs j
WHERE queue = $5 AND id > $1::uuid AND state = 'waiting'
  AND run_at <= statement_timestamp() - $2::float8 * interval '1 second'
  AND (SELECT t.job_id FROM tickets t WHERE t.job_id = j.id AND (NOT t.ready OR $3::bool)) IS NULL
  AND (SELECT l.id FROM journal l WHERE l.job_id = j.id AND l.event = 'resent'
    AND l.at > statement_timestamp() - $2::float8 * interval '1 second' LIMIT 1) IS NULL
ORDER BY id LIMIT $4::int;

-- name: resend
WITH held AS MATERIALIZED (
  SELECT j.id, j.queue, j.priority, j.ticket + 1 AS ticket, clock_timestamp() AS at
  FROM jobs j WHERE j.id = ANY ($1::uuid[]) AND j.state = 'waiting' ORDER BY j.id FOR UPDATE
), moved AS (
  UPDATE jobs SET ticket = ticket + 1 WHERE id = ANY (ARRAY(SELECT id FROM held))
), ticketed AS (
  INSERT INTO tickets (job_id, queue, priority, ticket, ready, due_at)
  SELECT id, queue, priority, ticket, $2::bool, at FROM held ORDER BY id
  ON CONFLICT (job_id) DO UPDATE SET ticket = excluded.ticket, ready = excluded.ready, due_at = excluded.due_at
), noted AS (
  INSERT INTO journal (job_id, at, event) SELECT id, at, 'resent' FROM held
)
SELECT count(*) FROM held;

-- name: finished_queues
-- A walk from one queue's name to the next: as many index probes as there are queues.  Ordered by finished_at
-- too, an order that only the indexes of finished jobs have.
WITH RECURSIVE done(queue) AS (
  (SELECT queue FROM jobs WHERE finished_at IS NOT NULL AND reason IS NULL ORDER BY queue, finished_at LIMIT 1)
  UNION ALL
  SELECT (SELECT j.queue FROM jobs j WHERE j.finished_at IS NOT NULL AND j.reason IS NULL AND j.queue > d.queue
    ORDER BY j.queue, j.finished_at LIMIT 1)
  FROM done d WHERE d.queue IS NOT NULL
), dead(queue) AS (
  (SELECT queue FROM jobs WHERE finished_at IS NOT NULL AND reason IS NOT NULL ORDER BY queue, finished_at LIMIT 1)
  UNION ALL
  SELECT (SELECT j.queue FROM jobs j WHERE j.finished_at IS NOT NULL AND j.reason IS NOT NULL AND j.queue > d.queue
    ORDER BY j.queue, j.finished_at LIMIT 1)
  FROM dead d WHERE d.queue IS NOT NULL
)
SELECT queue FROM done WHERE queue IS NOT NULL UNION SELECT queue FROM dead WHERE queue IS NOT NULL;

-- name: over_done
(SELECT j.id::text FROM jobs j
  WHERE j.queue = $1 AND j.finished_at < statement_timestamp() - $2::float8 * interval '1 second' AND j.reason IS NULL
    AND (SELECT r.job_id FROM results r
      WHERE r.job_id = j.id AND r.read_at IS NULL AND r.expires_at > statement_timestamp()) IS NULL
  ORDER BY j.finished_at LIMIT $4::int)
UNION
(SELECT j.id::text FROM (
    SELECT id FROM jobs WHERE queue = $1 AND finished_at IS NOT NULL AND reason IS NULL
    ORDER BY finished_at DESC, id DESC OFFSET $3::bigint
  ) AS j
  WHERE (SELECT r.job_id FROM results r
    WHERE r.job_id = j.id AND r.read_at IS NULL AND r.expires_at > statement_timestamp()) IS NULL
  LIMIT $4::int)
LIMIT $4::int;

-- name: over_dead
(SELECT id::text FROM jobs
  WHERE queue = $1 AND finished_at < statement_timestamp() - $2::float8 * interval '1 second' AND reason IS NOT NULL
  ORDER BY finished_at LIMIT $4::int)
UNION
(SELECT id::text FROM jobs WHERE queue = $1 AND finished_at IS NOT NULL AND reason IS NOT NULL
  ORDER BY finished_at DESC, jobs.id DESC OFFSET $3::bigint LIMIT $4::int)
LIMIT $4::int;

-- name: dead_counts
SELECT q.name, (SELECT count(*) FROM jobs WHERE queue = q.name AND finished_at IS NOT NULL AND reason IS NOT NULL)
FROM unnest($1::text[]) AS q(name);

-- name: lock_finished
SELECT id::text FROM jobs WHERE id = ANY ($1::uuid[]) AND finished_at IS NOT NULL ORDER BY id FOR UPDATE SKIP LOCKED;

-- name: archive
INSERT INTO history (id, message_id, queue, actor, priority, state, reason, attempts, crashes, created_at, run_at,
  finished_at, producer, body, archived_at)
SELECT j.id, p.message_id, j.queue, j.actor, j.priority, j.state, j.reason, j.attempts, j.crashes, j.created_at, j.run_at,
  j.finished_at, p.producer, p.body, clock_timestamp()
FROM (SELECT * FROM jobs WHERE id = ANY ($1::uuid[]) OFFSET 0) AS j
CROSS JOIN LATERAL (SELECT * FROM payloads WHERE job_id = j.id OFFSET 0) AS p
ON CONFLICT (id) DO NOTHING;

-- name: old_history
SELECT id::text FROM history WHERE finished_at < statement_timestamp() - $1::float8 * interval '1 second'
ORDER BY finished_at LIMIT $2::int FOR UPDATE SKIP LOCKED;

-- name: drop_jobs
DELETE FROM jobs WHERE id = ANY ($1::uuid[]);

-- name: drop_payloads
DELETE FROM payloads WHERE job_id = ANY ($1::uuid[]);

-- name: drop_progress
DELETE FROM progress WHERE job_id = ANY ($1::uuid[]);

-- name: drop_checkpoints
DELETE FROM checkpoints WHERE job_id = ANY ($1::uuid[]);

-- name: drop_tickets
DELETE FROM tickets WHERE job_id = ANY ($1::uuid[]);

-- name: drop_history
DELETE FROM history WHERE id = ANY ($1::uuid[]);

-- name: drop_attempts
-- Who follows the feed and has not read their events yet cannot any more, and is to be told.
WITH gone AS (DELETE FROM attempts WHERE job_id = ANY ($1::uuid[]) RETURNING tx)
UPDATE feed SET floor = (SELECT max(tx) FROM gone) WHERE kept AND floor < (SELECT max(tx) FROM gone);

-- name: drop_journal
WITH gone AS (DELETE FROM journal WHERE job_id = ANY ($1::uuid[]) RETURNING tx)
UPDATE feed SET floor = (SELECT max(tx) FROM gone) WHERE kept AND floor < (SELECT max(tx) FROM gone);

-- name: drop_results
DELETE FROM results WHERE job_id = ANY ($1::uuid[]);

-- name: drop_failures
DELETE FROM failures WHERE job_id = ANY ($1::uuid[]);

-- name: drop_search_texts
DELETE FROM search_texts WHERE job_id = ANY ($1::uuid[]);

-- name: drop_edits
DELETE FROM edits WHERE job_id = ANY ($1::uuid[]);

-- name: keys_of
SELECT key, job_id::text FROM uniques WHERE job_id = ANY ($1::uuid[]);

-- name: lock_free_keys
-- Never waits: a send in somebody's open transaction may have one of them locked for as long as it likes.
SELECT key FROM uniques WHERE job_id = ANY ($1::uuid[]) ORDER BY key FOR UPDATE SKIP LOCKED;

-- name: drop_keys_of
DELETE FROM uniques WHERE job_id = ANY ($1::uuid[]) AND (until IS NULL OR until <= statement_timestamp());

-- name: lock_passed_keys
SELECT key FROM uniques WHERE until <= statement_timestamp() ORDER BY until LIMIT $1::int FOR UPDATE SKIP LOCKED;

-- name: drop_keys
DELETE FROM uniques WHERE key = ANY ($1::text[]) AND (SELECT j.id FROM jobs j WHERE j.id = job_id) IS NULL;

-- name: leave_keys
UPDATE uniques SET until = NULL WHERE key = ANY ($1::text[]);

-- name: expire_results
DELETE FROM results WHERE job_id = ANY (ARRAY(
  SELECT job_id FROM results WHERE expires_at < statement_timestamp() ORDER BY expires_at LIMIT $1::int
  FOR UPDATE SKIP LOCKED
));

-- name: expire_groups
DELETE FROM groups WHERE id = ANY (ARRAY(
  SELECT id FROM groups WHERE expires_at < statement_timestamp() ORDER BY expires_at LIMIT $1::int
  FOR UPDATE SKIP LOCKED
));

-- name: expire_ticks
DELETE FROM ticks WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM ticks WHERE fire_at < statement_timestamp() - $1::float8 * interval '1 second'
  ORDER BY fire_at LIMIT $2::int FOR UPDATE SKIP LOCKED
));

-- name: expire_workers
-- By heartbeat_at, which has an index; a worker that still owns something is the rescuer's.
WITH gone AS MATERIALIZED (
  SELECT id FROM workers w
  WHERE state IN ('stopped', 'dead') AND heartbeat_at < statement_timestamp() - $1::float8 * interval '1 second'
    AND (SELECT c.worker_id FROM claims c WHERE c.worker_id = w.id LIMIT 1) IS NULL
  LIMIT $2::int FOR UPDATE SKIP LOCKED
), unasked AS (
  DELETE FROM worker_requests WHERE worker_id = ANY (ARRAY(SELECT id FROM gone))
), unreported AS (
  DELETE FROM worker_reports WHERE worker_id = ANY (ARRAY(SELECT id FROM gone))
)
DELETE FROM workers WHERE id = ANY (ARRAY(SELECT id FROM gone));

-- name: expire_journal
-- Lines without a job, and all lines of jobs that an operator removed; an id that came back keeps its others.
WITH old AS MATERIALIZED (
  SELECT id, job_id FROM journal
  WHERE (job_id IS NULL OR event IN ('removed', 'discarded'))
    AND at < statement_timestamp() - $1::float8 * interval '1 second'
  ORDER BY at LIMIT $2::int FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM journal WHERE id = ANY (ARRAY(SELECT id FROM old)) OR job_id = ANY (ARRAY(
    SELECT job_id FROM old WHERE (SELECT j.id FROM jobs j WHERE j.id = old.job_id) IS NULL
      AND (SELECT h.id FROM history h WHERE h.id = old.job_id) IS NULL
  ))
  RETURNING tx
), told AS (
  UPDATE feed SET floor = (SELECT max(tx) FROM gone) WHERE kept AND floor < (SELECT max(tx) FROM gone)
)
SELECT FROM old;

-- name: lease
INSERT INTO leases AS l (name, holder, term, expires_at)
VALUES ($1, $2, 1, clock_timestamp() + $3::float8 * interval '1 second')
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, term = l.term + (l.holder <> excluded.holder)::int, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at < clock_timestamp()
RETURNING term;

-- name: report
INSERT INTO duties AS d (name, holder, every_s, at, ago_ms, late_ms, took_ms)
SELECT name, $2, every_s, clock_timestamp(), ago_s * 1000, late_s * 1000, took_s * 1000
FROM unnest($1::text[], $3::float8[], $4::float8[], $5::float8[], $6::float8[])
  AS t(name, every_s, ago_s, late_s, took_s) ORDER BY name
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, every_s = excluded.every_s, at = excluded.at,
  ago_ms = excluded.ago_ms, late_ms = excluded.late_ms, took_ms = excluded.took_ms;

-- name: unlease
UPDATE leases SET expires_at = '-infinity' WHERE name = $1 AND holder = $2;

-- name: clock
SELECT extract(epoch FROM clock_timestamp())::float8;

-- flows: one at a time, locked by lock_flow (ledger/flows/drive.py) --------------------------

-- name: add_definition
INSERT INTO flow_definitions (name, version, body, created_at) VALUES ($1, $2, $3, statement_timestamp())
ON CONFLICT (name, version) DO NOTHING;

-- name: add_flow
INSERT INTO flows (id, name, version, key, state, created_at)
VALUES ($1::uuid, $2, $3, $4, 'running', statement_timestamp())
ON CONFLICT DO NOTHING RETURNING true;

-- name: same_flow
SELECT coalesce((SELECT id FROM flows WHERE id = $1::uuid), (SELECT id FROM flows WHERE name = $2 AND key = $3))::text;

-- name: add_flow_steps
INSERT INTO flow_steps (flow_id, step, place, state)
SELECT $1::uuid, step, n, 'waiting' FROM unnest($2::text[]) WITH ORDINALITY AS a(step, n);

-- name: lock_flow
SELECT name, version, state FROM flows WHERE id = $1::uuid FOR UPDATE;

-- name: flow_definition
SELECT body FROM flow_definitions WHERE name = $1 AND version = $2;

-- name: flow_steps
SELECT step, state, jobs, remaining, failed, truth, error, coalesce(due_at <= clock_timestamp(), false)
FROM flow_steps WHERE flow_id = $1::uuid ORDER BY place;

-- name: write_flow_step
UPDATE flow_steps SET state = $3, jobs = $4::int, remaining = $5::int, failed = $6::int, truth = $7::bool, error = $8,
  due_at = clock_timestamp() + $9::bigint * interval '1 ms'
WHERE flow_id = $1::uuid AND step = $2;

-- name: move_flow
UPDATE flows SET state = $2, finished_at = CASE WHEN $3::bool THEN clock_timestamp() END WHERE id = $1::uuid;

-- name: tally_flow_step
UPDATE flow_steps SET remaining = remaining - $3::int, failed = failed + $4::int, truth = coalesce($5::bool, truth)
WHERE flow_id = $1::uuid AND step = $2 RETURNING remaining;

-- name: hire
INSERT INTO flow_jobs (flow_id, step, item, job_id, state)
SELECT $1::uuid, $2, item, job, 'live' FROM unnest($3::int[], $4::uuid[]) AS a(item, job)
ON CONFLICT (flow_id, step, item) DO UPDATE SET job_id = excluded.job_id, state = excluded.state;

-- name: end_flow_jobs
UPDATE flow_jobs SET state = $2 WHERE job_id = ANY ($1::uuid[]) AND state = 'live'
RETURNING job_id::text;

-- name: flow_items
SELECT item FROM flow_jobs WHERE flow_id = $1::uuid AND step = $2 AND (state = 'completed') = $3::bool ORDER BY item;

-- name: flow_value
SELECT body FROM flow_values WHERE flow_id = $1::uuid AND name = $2 AND item = $3::int;

-- name: keep_flow_values
INSERT INTO flow_values (flow_id, name, item, body)
SELECT $1::uuid, name, item, body FROM unnest($2::text[], $3::int[], $4::bytea[]) AS a(name, item, body)
ON CONFLICT (flow_id, name, item) DO UPDATE SET body = excluded.body;

-- name: flow_results
SELECT j.item, (SELECT v.body FROM flow_values v WHERE v.flow_id = j.flow_id AND v.name = j.step AND v.item = j.item)
FROM flow_jobs j WHERE flow_id = $1::uuid AND step = $2 AND item > $3::int AND state = 'completed'
ORDER BY item LIMIT $4::int;

-- name: count_flow_results
SELECT jobs - remaining - failed FROM flow_steps WHERE flow_id = $1::uuid AND step = $2;

-- name: due_flows
SELECT flow_id::text FROM flow_steps WHERE due_at <= statement_timestamp() ORDER BY due_at LIMIT $1::int;

-- name: lost_flow_jobs
SELECT j.flow_id::text, j.step, j.item, j.job_id::text, j.now
FROM (SELECT id FROM flows WHERE finished_at IS NULL OFFSET 0) AS f
CROSS JOIN LATERAL (
  SELECT *, coalesce((SELECT state FROM jobs WHERE id = job_id), (SELECT state FROM history WHERE id = job_id), 'failed')
    AS now
  FROM flow_jobs WHERE flow_id = f.id AND state = 'live' OFFSET 0
) AS j
WHERE j.now NOT IN ('delayed', 'waiting', 'active') LIMIT $1::int;

-- name: lock_flow_jobs
SELECT FROM jobs WHERE id = ANY (ARRAY(SELECT job_id FROM flow_jobs WHERE flow_id = $1::uuid AND state = 'live'))
ORDER BY id FOR UPDATE;

-- name: cancel_flow_jobs
WITH held AS MATERIALIZED (
  SELECT id, state FROM jobs
  WHERE id = ANY (ARRAY(SELECT job_id FROM flow_jobs WHERE flow_id = $1::uuid AND state = 'live'))
    AND state IN ('delayed', 'waiting', 'active')
  ORDER BY id FOR UPDATE
), moved AS (
  UPDATE jobs SET state = 'cancelled', finished_at = clock_timestamp(), cancel_requested = false
  WHERE id = ANY (ARRAY(SELECT id FROM held WHERE state <> 'active'))
), asked AS (
  UPDATE jobs SET cancel_requested = true WHERE id = ANY (ARRAY(SELECT id FROM held WHERE state = 'active'))
), unsent AS (
  DELETE FROM tickets WHERE job_id = ANY (ARRAY(SELECT id FROM held WHERE state <> 'active'))
), noted AS (
  INSERT INTO journal (job_id, at, event, actor, detail, tx)
  SELECT id, clock_timestamp(), CASE state WHEN 'active' THEN 'cancel_requested' ELSE 'cancelled' END, $2,
    json_build_object('flow', $1)::text,
    CASE WHEN state <> 'active' THEN (SELECT pg_current_xact_id()::text::bigint FROM feed WHERE kept) END
  FROM held
)
SELECT (SELECT step FROM flow_jobs WHERE job_id = h.id AND flow_id = $1::uuid), id::text FROM held h
WHERE state <> 'active';

-- name: expire_operations
DELETE FROM operations WHERE id = ANY (ARRAY(
  SELECT id FROM operations WHERE finished_at < statement_timestamp() - $1::float8 * interval '1 second'
  ORDER BY finished_at LIMIT $2::int FOR UPDATE SKIP LOCKED
));

-- name: expire_flows
-- A few at a time: one may have ten thousand items.
WITH old AS MATERIALIZED (
  SELECT id FROM flows WHERE finished_at < statement_timestamp() - $1::float8 * interval '1 second'
  ORDER BY finished_at LIMIT $2::int FOR UPDATE SKIP LOCKED
), steps AS (
  DELETE FROM flow_steps WHERE flow_id = ANY (ARRAY(SELECT id FROM old))
), hired AS (
  DELETE FROM flow_jobs WHERE flow_id = ANY (ARRAY(SELECT id FROM old))
), kept AS (
  DELETE FROM flow_values WHERE flow_id = ANY (ARRAY(SELECT id FROM old))
)
DELETE FROM flows WHERE id = ANY (ARRAY(SELECT id FROM old));

-- The last lock of a transaction; as in ledger/audit.py.
-- name: audit_lock
SELECT pg_advisory_xact_lock(hashtextextended('hareline.audit', 0));

-- name: audit_head
SELECT seq, hash FROM (
    (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) UNION ALL
    (SELECT seq, hash FROM audit_anchors ORDER BY seq DESC LIMIT 1) UNION ALL
    SELECT 0, repeat('0', 64)
) heads ORDER BY seq DESC LIMIT 1;

-- name: audit_append
INSERT INTO audit (seq, at, name, via, role, token, address, request, operation, target, count, change, result, hash)
VALUES ($1::bigint, $2::timestamptz, $3, $4, $5, $6, $7, $8, $9, $10, $11::integer, $12, $13, $14);
