-- The interface for operators: schema virtuozo holds views and functions, and nothing else. They stay as
-- they are while the tables in virtuozo_core change; docs/OPERATIONS.md shows their use.

CREATE SCHEMA virtuozo;

ALTER TABLE virtuozo_core.settings ADD COLUMN paused_at timestamptz;    -- no guest of any host is begun
ALTER TABLE virtuozo_core.hosts ADD COLUMN paused_at timestamptz;       -- no guest of this host is begun
ALTER TABLE virtuozo_core.guest_runs ADD COLUMN cancel_requested boolean NOT NULL DEFAULT false;

-- Building blocks ------------------------------------------------------------------------------------

-- Functions that views call run with the rights of whoever reads the view, who has none on the tables;
-- so those that read tables run with their owner's.
CREATE FUNCTION virtuozo_core.is_paused(host uuid) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE paused_at IS NOT NULL)
    OR EXISTS (SELECT 1 FROM virtuozo_core.hosts WHERE id = host AND paused_at IS NOT NULL);

-- A process that gives no sign of life for this long is no longer counted on.
CREATE FUNCTION virtuozo_core.is_alive(heartbeat_at timestamptz, stopped_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE
RETURN stopped_at IS NULL AND heartbeat_at > now() - interval '15 seconds';

CREATE FUNCTION virtuozo_core.uuid_or_null(text) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN CASE WHEN $1 ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN $1::uuid END;

-- The payload of a job, or NULL where the bytes are no JSON object.
CREATE FUNCTION virtuozo_core.payload(job bytea) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    doc jsonb;
BEGIN
    doc := convert_from(job, 'UTF8')::jsonb;
    RETURN CASE WHEN jsonb_typeof(doc) = 'object' THEN doc END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

CREATE FUNCTION virtuozo_core.is_deliverable(queue text, job bytea) RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(virtuozo_core.uuid_or_null(virtuozo_core.payload(job) ->> CASE queue
           WHEN 'virtuozo-host' THEN 'host_run_id'
           WHEN 'virtuozo-guest' THEN 'guest_run_id'
           ELSE 'guest_id' END) IS NOT NULL, false);

-- Pushes a job as the program does, byte for byte: its sweeps compare payloads.
CREATE FUNCTION virtuozo_core.push_job(queue text, key text, id uuid) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at)
    VALUES (apalis.generate_ulid(), queue, convert_to(format('{"%s":"%s"}', key, id), 'UTF8'), 'Pending', 0, 25,
            date_trunc('second', now()));
END;

-- What operators do is told to everybody, and the schedulers look at once.
CREATE FUNCTION virtuozo_core.tell(message text, run uuid, host uuid, guest uuid, guest_run uuid) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.events (code, severity, message, run_id, host_id, guest_id, guest_run_id)
    VALUES (200, 'warning', format('%s (by the database user %s)', message, session_user), run, host, guest, guest_run);
    PERFORM pg_notify('virtuozo::look', '');
    RETURN message;
END $$;

-- One operator at a time: so no two of these functions wait for each other.
CREATE FUNCTION virtuozo_core.alone() RETURNS void LANGUAGE sql
RETURN pg_advisory_xact_lock(7316, 2);

CREATE FUNCTION virtuozo_core.guest_name(guest uuid) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT h.name || '/' || g.name FROM virtuozo_core.guests g JOIN virtuozo_core.hosts h ON h.id = g.host_id WHERE g.id = guest);

-- Frees the slots of guest runs. A slot beyond the host's cap goes away with its use.
CREATE FUNCTION virtuozo_core.free_slots(guest_runs uuid[]) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    WITH mine AS (
        SELECT s.host_id, s.slot_no, s.slot_no > coalesce(h.guest_threads, x.guest_threads) AS surplus
          FROM virtuozo_core.guest_slots s
          JOIN virtuozo_core.hosts h ON h.id = s.host_id
         CROSS JOIN virtuozo_core.settings x
         WHERE s.guest_run_id = ANY (guest_runs)
    ), gone AS (
        DELETE FROM virtuozo_core.guest_slots s
         USING mine WHERE s.host_id = mine.host_id AND s.slot_no = mine.slot_no AND mine.surplus
    )
    UPDATE virtuozo_core.guest_slots s
       SET guest_run_id = NULL, taken_at = NULL
      FROM mine
     WHERE s.host_id = mine.host_id AND s.slot_no = mine.slot_no AND NOT mine.surplus;
END;

-- Why a guest run does not go on; NULL where it does, or has ended.
CREATE FUNCTION virtuozo_core.waiting_reason(g virtuozo_core.guest_runs) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN CASE
    WHEN g.state NOT IN ('waiting', 'admitted') THEN NULL
    WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                      WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
        THEN 'no worker runs'
    WHEN g.state = 'admitted' THEN 'has a slot; the next worker with room for its host takes it'
    WHEN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE paused_at IS NOT NULL) THEN 'all hosts are paused'
    WHEN virtuozo_core.is_paused(g.host_id) THEN 'its host is paused'
    WHEN g.run_after > now() THEN format('its next attempt begins at %s', date_trunc('second', g.run_after))
    WHEN EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                  WHERE o.guest_id = g.guest_id AND o.state IN ('admitted', 'running'))
        THEN 'another run works on the guest'
    WHEN EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                  WHERE o.guest_id = g.guest_id AND o.claimed_until > now())
        THEN 'what an earlier run left behind is being undone'
    WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = g.host_id AND s.guest_run_id IS NULL)
        THEN format('all %s slots of its host are taken',
                    (SELECT count(*) FROM virtuozo_core.guest_slots s WHERE s.host_id = g.host_id))
    WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                      WHERE w.kind = 'scheduler' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
        THEN 'no scheduler runs'
    ELSE 'its turn comes with the next look of the scheduler'
END;

-- Bad rows in the queues -----------------------------------------------------------------------------

-- A claimed row that apalis cannot read ends the claimer's loop, and again with every restart. So such a
-- row is refused when it is written, whoever writes it.
CREATE FUNCTION virtuozo_core.refuse_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this row would stop every worker of the queue %: %', new.job_type, tg_argv[0]
        USING ERRCODE = 'check_violation', HINT = 'Use the functions of the schema virtuozo instead of apalis.jobs.';
END $$;

CREATE TRIGGER virtuozo_refuse_id BEFORE INSERT OR UPDATE ON apalis.jobs FOR EACH ROW
    WHEN (new.job_type LIKE 'virtuozo-%' AND new.id !~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$')
    EXECUTE FUNCTION virtuozo_core.refuse_job('its id is no ULID, which apalis.generate_ulid() makes');
CREATE TRIGGER virtuozo_refuse_metadata BEFORE INSERT OR UPDATE ON apalis.jobs FOR EACH ROW
    WHEN (new.job_type LIKE 'virtuozo-%' AND array_position(avals(new.metadata), NULL) IS NOT NULL)
    EXECUTE FUNCTION virtuozo_core.refuse_job('its metadata holds a NULL');
CREATE TRIGGER virtuozo_refuse_time BEFORE INSERT OR UPDATE ON apalis.jobs FOR EACH ROW
    WHEN (new.job_type LIKE 'virtuozo-%' AND (least(new.run_at, new.lock_at, new.done_at) < '1970-01-02'
                                              OR greatest(new.run_at, new.lock_at, new.done_at) > '9999-01-01'))
    EXECUTE FUNCTION virtuozo_core.refuse_job('a time in it is before 1970 or after 9999');
CREATE TRIGGER virtuozo_refuse_number BEFORE INSERT OR UPDATE ON apalis.jobs FOR EACH ROW
    WHEN (new.job_type LIKE 'virtuozo-%' AND (new.attempts < 0 OR new.max_attempts < 1 OR new.priority < 0))
    EXECUTE FUNCTION virtuozo_core.refuse_job('attempts, max_attempts or priority is below what apalis reads');
CREATE TRIGGER virtuozo_refuse_status BEFORE INSERT OR UPDATE ON apalis.jobs FOR EACH ROW
    WHEN (new.job_type LIKE 'virtuozo-%'
          AND new.status NOT IN ('Pending', 'Queued', 'Running', 'Done', 'Failed', 'Killed'))
    EXECUTE FUNCTION virtuozo_core.refuse_job('its status is none of Pending, Queued, Running, Done, Failed, Killed');
CREATE TRIGGER virtuozo_refuse_payload BEFORE INSERT OR UPDATE OF job, job_type ON apalis.jobs FOR EACH ROW
    WHEN (new.job_type IN ('virtuozo-host', 'virtuozo-guest', 'virtuozo-undo')
          AND NOT virtuozo_core.is_deliverable(new.job_type, new.job))
    EXECUTE FUNCTION virtuozo_core.refuse_job('its payload is not a JSON object with the id of a host run, guest run or guest');

-- What operators see ---------------------------------------------------------------------------------

CREATE VIEW virtuozo.runs AS
SELECT r.id, r.state, r.requested_by, s.name AS schedule, r.due_at, r.cancel_requested, r.error,
       r.created_at, r.ended_at, coalesce(r.ended_at, now()) - r.created_at AS duration,
       h.open AS hosts_open, h.failed AS hosts_failed,
       g.guests, g.open AS guests_open, g.succeeded AS guests_succeeded, g.failed AS guests_failed,
       g.skipped AS guests_skipped, g.cancelled AS guests_cancelled, g.bytes_copied
  FROM virtuozo_core.runs r
  LEFT JOIN virtuozo_core.schedules s ON s.id = r.schedule_id
 CROSS JOIN LATERAL (
       SELECT count(*) FILTER (WHERE state IN ('queued', 'running')) AS open,
              count(*) FILTER (WHERE state = 'failed') AS failed
         FROM virtuozo_core.host_runs WHERE run_id = r.id) h
 CROSS JOIN LATERAL (
       SELECT count(*) AS guests,
              count(*) FILTER (WHERE state IN ('waiting', 'admitted', 'running')) AS open,
              count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
              count(*) FILTER (WHERE state = 'failed') AS failed,
              count(*) FILTER (WHERE state = 'skipped') AS skipped,
              count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
              coalesce(sum(bytes_copied), 0)::bigint AS bytes_copied
         FROM virtuozo_core.guest_runs WHERE run_id = r.id) g;

CREATE VIEW virtuozo.guest_runs AS
SELECT g.id, g.run_id, h.name AS host, u.name AS guest, g.state, g.mode, g.step,
       virtuozo_core.waiting_reason(g) AS waiting_reason, w.name AS worker, g.fence, g.lease_until,
       g.attempts, g.crashes, g.error AS last_error, g.error_class, g.run_after, g.cancel_requested,
       g.bytes_total, g.bytes_copied, g.progress_at, g.created_at, g.started_at, g.ended_at,
       p.repository || '/' || p.path AS restore_point, p.verified_at
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.workers w ON w.id = g.owner_id
  LEFT JOIN virtuozo_core.restore_points p ON p.guest_run_id = g.id;

CREATE VIEW virtuozo.hosts AS
SELECT h.id, h.name, h.kind, h.address, h.ignored, h.state, h.state_reason, h.checked_at,
       coalesce(h.paused_at, s.paused_at) AS paused_since,
       (SELECT count(*) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots,
       (SELECT count(x.guest_run_id) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots_taken,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting') AS guests_waiting
  FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s;

CREATE VIEW virtuozo.guests AS
SELECT g.id, h.name AS host, g.name AS guest, g.ignored OR h.ignored OR NOT g.configured AS ignored,
       g.state, g.state_reason, g.power, g.checked_at,
       p.taken_at AS last_point_at, p.repository || '/' || p.path AS last_point, p.verified_at AS last_point_verified_at,
       r.state AS last_run_state, r.error AS last_error
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN LATERAL (SELECT * FROM virtuozo_core.restore_points x
                      WHERE x.guest_id = g.id AND x.state = 'published' ORDER BY x.taken_at DESC LIMIT 1) p ON true
  LEFT JOIN LATERAL (SELECT * FROM virtuozo_core.guest_runs x
                      WHERE x.guest_id = g.id ORDER BY x.created_at DESC LIMIT 1) r ON true;

CREATE VIEW virtuozo.workers AS
SELECT w.id, w.kind, w.name, w.machine, w.pid, w.version,
       CASE WHEN w.stopped_at IS NOT NULL THEN 'stopped'
            WHEN virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at) THEN 'alive'
            ELSE 'silent' END AS state,
       w.started_at, w.heartbeat_at, w.stopped_at,
       round(extract(epoch FROM now() - w.heartbeat_at))::bigint AS silent_secs,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.owner_id = w.id AND g.state = 'running') AS guest_runs,
       (SELECT count(*) FROM virtuozo_core.host_runs g WHERE g.owner_id = w.id AND g.state = 'running') AS host_runs
  FROM virtuozo_core.workers w;

CREATE VIEW virtuozo.obligations AS
SELECT o.id, o.kind, h.name AS host, u.name AS guest, o.snapshot_name, o.guest_run_id, g.run_id,
       o.claimed_until > now() AS in_work, o.attempts, o.next_attempt_at, o.last_error, o.created_at
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
  JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id;

CREATE VIEW virtuozo.events AS
SELECT e.id, e.at, e.severity, e.code, e.message, h.name AS host, u.name AS guest, e.run_id, e.guest_run_id, e.detail
  FROM virtuozo_core.events e
  LEFT JOIN virtuozo_core.hosts h ON h.id = e.host_id
  LEFT JOIN virtuozo_core.guests u ON u.id = e.guest_id;

-- One row for each job that apalis delivers or has delivered lately. Guests that wait for a slot have none
-- yet: they are in virtuozo.guest_runs.
CREATE VIEW virtuozo.jobs AS
SELECT j.id, j.job_type AS queue, j.status, p.doc AS payload,
       coalesce(g.run_id, r.run_id) AS run_id, r.id AS host_run_id, g.id AS guest_run_id,
       h.name AS host, u.name AS guest, g.step,
       coalesce(g.attempts, r.attempts, (SELECT max(o.attempts) FROM virtuozo_core.obligations o WHERE o.guest_id = u.id)) AS attempts,
       coalesce(g.error, r.error,
                (SELECT max(o.last_error) FROM virtuozo_core.obligations o WHERE j.job_type = 'virtuozo-undo' AND o.guest_id = u.id),
                j.last_result ->> 'Err') AS last_error,
       nullif(split_part(j.metadata -> 'traceparent', '-', 2), '') AS trace_id,
       CASE WHEN j.status IN ('Queued', 'Running', 'Done', 'Killed') THEN NULL
            WHEN j.status = 'Failed' AND j.attempts >= j.max_attempts THEN NULL
            WHEN p.doc IS NULL THEN 'its payload cannot be read'
            WHEN j.run_at > now() THEN format('due at %s', j.run_at)
            WHEN g.id IS NOT NULL THEN virtuozo_core.waiting_reason(g)
            ELSE 'no worker has claimed it yet' END AS waiting_reason,
       j.attempts AS deliveries, j.run_at, j.lock_at AS claimed_at, w.name AS worker, j.done_at
  FROM apalis.jobs j
 CROSS JOIN LATERAL (SELECT virtuozo_core.payload(j.job) AS doc) p
  LEFT JOIN virtuozo_core.guest_runs g ON g.id = virtuozo_core.uuid_or_null(p.doc ->> 'guest_run_id')
  LEFT JOIN virtuozo_core.host_runs r ON r.id = virtuozo_core.uuid_or_null(p.doc ->> 'host_run_id')
  LEFT JOIN virtuozo_core.guests u ON u.id = coalesce(g.guest_id, virtuozo_core.uuid_or_null(p.doc ->> 'guest_id'))
  LEFT JOIN virtuozo_core.hosts h ON h.id = coalesce(u.host_id, r.host_id)
  LEFT JOIN virtuozo_core.workers w ON w.id = virtuozo_core.uuid_or_null(split_part(j.lock_by, '/', 1))
 WHERE j.job_type LIKE 'virtuozo-%';

-- What should go on by itself and does not.
CREATE VIEW virtuozo.stuck AS
SELECT 'no_scheduler' AS kind, NULL::uuid AS id, NULL AS host, NULL AS guest,
       (SELECT max(heartbeat_at) FROM virtuozo_core.workers WHERE kind = 'scheduler') AS since,
       'no scheduler gives a sign of life' AS reason, 'start virtuozo scheduler' AS advice
 WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'scheduler' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
UNION ALL
SELECT 'no_worker', NULL, NULL, NULL, (SELECT max(heartbeat_at) FROM virtuozo_core.workers WHERE kind = 'worker'),
       'no worker gives a sign of life, and there is work', 'start virtuozo worker'
 WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
   AND EXISTS (SELECT 1 FROM virtuozo_core.runs WHERE state = 'running')
UNION ALL
SELECT 'lease', g.id, h.name, u.name, g.lease_until, format('its worker is silent in step %s', coalesce(g.step, 'validate')),
       'a scheduler hands it to another worker; see that one runs'
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 CROSS JOIN virtuozo_core.settings s
 WHERE g.state = 'running' AND g.lease_until < now() - make_interval(secs => s.lease_secs)
UNION ALL
SELECT 'copy', g.id, h.name, u.name, g.progress_at, format('its copy has not moved on for %s', date_trunc('second', now() - g.progress_at)),
       'look at the host''s storage and the destination; virtuozo.cancel() stops it'
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 WHERE g.state = 'running' AND g.step = 'copy' AND g.progress_at < now() - interval '10 minutes'
UNION ALL
SELECT 'admitted', g.id, h.name, u.name, g.admitted_at, 'it has a slot, and no worker has taken it',
       'start more workers, or see whether they reach the host'
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 WHERE g.state = 'admitted' AND g.admitted_at < now() - interval '2 minutes'
UNION ALL
SELECT 'host', r.id, h.name, NULL, r.run_after, 'its host run is due, and no worker has taken it',
       'start more workers: one serves host_threads hosts at a time'
  FROM virtuozo_core.host_runs r JOIN virtuozo_core.hosts h ON h.id = r.host_id
 WHERE r.state = 'queued' AND r.run_after < now() - interval '2 minutes' AND NOT virtuozo_core.is_paused(r.host_id)
UNION ALL
SELECT 'obligation', o.id, h.name, u.name, o.created_at,
       format('%s could not be undone in %s attempts: %s', CASE o.kind WHEN 'power_on' THEN 'a power off' ELSE 'the snapshot ' || o.snapshot_name END,
              o.attempts, o.last_error),
       'mend the cause on the host, or undo it there by hand: the next attempt sees that'
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
 WHERE o.attempts >= 3;

-- What operators do ----------------------------------------------------------------------------------

-- Refusals have the code object_not_in_prerequisite_state (55000), what is not known no_data_found (P0002).

-- A guest run of this id goes back among the waiting, in the caller's transaction. Reopens its run.
CREATE FUNCTION virtuozo_core.wait_again(guest_run uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r virtuozo_core.runs;
BEGIN
    UPDATE virtuozo_core.guest_runs
       SET state = 'waiting', ended_at = NULL, cancel_requested = false, attempts = 0, crashes = 0, run_after = now(),
           admitted_at = NULL, attempt_fence = NULL, mode = NULL, step = NULL, started_at = NULL,
           bytes_total = NULL, bytes_copied = 0, progress_at = NULL
     WHERE id = guest_run AND state IN ('failed', 'cancelled');
    -- Locked after the guest run, as those do who end one; what is read is what they have committed.
    SELECT * INTO r FROM virtuozo_core.runs
     WHERE id = (SELECT run_id FROM virtuozo_core.guest_runs WHERE id = guest_run) FOR NO KEY UPDATE;
    PERFORM virtuozo_core.reopen(r);
END $$;

-- An ended run goes on. The caller holds its row.
CREATE FUNCTION virtuozo_core.reopen(r virtuozo_core.runs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF r.state = 'running' AND r.cancel_requested THEN
        RAISE EXCEPTION 'the run % is being cancelled', r.id
            USING ERRCODE = '55000', HINT = 'Try again when it has ended, or start a new run.';
    END IF;
    UPDATE virtuozo_core.runs SET state = 'running', ended_at = NULL, error = NULL, cancel_requested = false
     WHERE id = r.id AND state <> 'running';
END $$;

-- A guest run gets another chance: one that failed or was cancelled begins afresh in its run, one that
-- waits for its next attempt does not wait any longer, one that has a slot is delivered again.
CREATE FUNCTION virtuozo.requeue(guest_run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    g virtuozo_core.guest_runs;
    name text;
BEGIN
    PERFORM virtuozo_core.alone();
    SELECT * INTO g FROM virtuozo_core.guest_runs x WHERE x.id = guest_run_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no guest run %', guest_run_id
            USING ERRCODE = 'P0002', HINT = 'virtuozo.guest_runs lists them.';
    END IF;
    name := virtuozo_core.guest_name(g.guest_id);
    CASE g.state
    WHEN 'waiting' THEN
        UPDATE virtuozo_core.guest_runs SET run_after = now() WHERE id = g.id AND run_after > now();
        RETURN virtuozo_core.tell(format('guest %s: its next attempt waits for a slot only', name), g.run_id, g.host_id, g.guest_id, g.id);
    WHEN 'admitted' THEN
        PERFORM virtuozo_core.push_job('virtuozo-guest', 'guest_run_id', g.id);
        RETURN virtuozo_core.tell(format('guest %s: its job is delivered again', name), g.run_id, g.host_id, g.guest_id, g.id);
    WHEN 'failed', 'cancelled' THEN
        PERFORM virtuozo_core.wait_again(g.id);
        RETURN virtuozo_core.tell(format('guest %s: begins afresh in its run', name), g.run_id, g.host_id, g.guest_id, g.id);
    WHEN 'running' THEN
        RAISE EXCEPTION 'a worker works on guest % until its lease ends at %', name, g.lease_until
            USING ERRCODE = '55000', HINT = 'A silent worker is replaced by itself; virtuozo.cancel() stops a working one.';
    ELSE
        RAISE EXCEPTION 'the guest run of % is % and stays so', name, g.state
            USING ERRCODE = '55000', HINT = 'Start a new run: virtuozo run now --guest HOST/GUEST.';
    END CASE;
END $$;

-- Everything in a run that failed gets another chance: guests, and hosts that could not be validated.
CREATE FUNCTION virtuozo.retry_failed(run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    r virtuozo_core.runs;
    guests uuid[];
    hosts uuid[];
    one uuid;
BEGIN
    PERFORM virtuozo_core.alone();
    SELECT array_agg(x.id ORDER BY x.id) INTO guests
      FROM (SELECT g.id FROM virtuozo_core.guest_runs g
             WHERE g.run_id = retry_failed.run_id AND g.state = 'failed' ORDER BY g.id FOR NO KEY UPDATE) x;
    FOREACH one IN ARRAY coalesce(guests, '{}') LOOP
        PERFORM virtuozo_core.wait_again(one);
    END LOOP;
    WITH again AS (
        UPDATE virtuozo_core.host_runs h
           SET state = 'queued', ended_at = NULL, attempts = 0, crashes = 0, run_after = now()
         WHERE h.run_id = retry_failed.run_id AND h.state = 'failed'
     RETURNING h.id)
    SELECT array_agg(id) INTO hosts FROM again;
    FOREACH one IN ARRAY coalesce(hosts, '{}') LOOP
        PERFORM virtuozo_core.push_job('virtuozo-host', 'host_run_id', one);
    END LOOP;
    SELECT * INTO r FROM virtuozo_core.runs x WHERE x.id = retry_failed.run_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no run %', run_id USING ERRCODE = 'P0002', HINT = 'virtuozo.runs lists them.';
    END IF;
    IF guests IS NULL AND hosts IS NULL THEN
        RAISE EXCEPTION 'nothing in the run % has failed', run_id
            USING ERRCODE = '55000', HINT = 'virtuozo.requeue() takes a cancelled guest run; or start a new run.';
    END IF;
    PERFORM virtuozo_core.reopen(r);
    RETURN virtuozo_core.tell(format('%s guests and %s hosts of the run begin afresh',
        coalesce(cardinality(guests), 0), coalesce(cardinality(hosts), 0)), r.id, NULL, NULL, NULL);
END $$;

-- Cancels a run or a guest run: what has not begun ends at once, what is in work is stopped and undone by
-- its worker within about a lease's quarter.
CREATE FUNCTION virtuozo.cancel(run_or_guest_run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target CONSTANT uuid := run_or_guest_run_id;
    r virtuozo_core.runs;
    g virtuozo_core.guest_runs;
    ended uuid[];
BEGIN
    PERFORM virtuozo_core.alone();
    UPDATE virtuozo_core.host_runs SET state = 'cancelled', ended_at = now(), error = 'cancelled before it began'
     WHERE run_id = target AND state = 'queued';
    -- One that begins or ends meanwhile is decided by its row's lock.
    WITH gone AS (
        UPDATE virtuozo_core.guest_runs
           SET state = 'cancelled', ended_at = now(), error = 'cancelled before it began'
         WHERE (run_id = target OR id = target) AND state IN ('waiting', 'admitted')
     RETURNING id)
    SELECT array_agg(id) INTO ended FROM gone;
    PERFORM virtuozo_core.free_slots(ended);
    -- The run's row last, as those do who end a guest run.
    UPDATE virtuozo_core.runs SET cancel_requested = true WHERE id = target AND state = 'running' RETURNING * INTO r;
    IF FOUND THEN
        RETURN virtuozo_core.tell('the run is cancelled', r.id, NULL, NULL, NULL);
    END IF;
    SELECT * INTO r FROM virtuozo_core.runs WHERE id = target;
    IF FOUND THEN
        RAISE EXCEPTION 'the run has ended already (%)', r.state USING ERRCODE = '55000';
    END IF;
    UPDATE virtuozo_core.guest_runs SET cancel_requested = true
     WHERE id = target AND (state = 'running' OR id = ANY (ended)) RETURNING * INTO g;
    IF FOUND THEN
        RETURN virtuozo_core.tell(format('guest %s: is cancelled in its run', virtuozo_core.guest_name(g.guest_id)),
            g.run_id, g.host_id, g.guest_id, g.id);
    END IF;
    SELECT * INTO g FROM virtuozo_core.guest_runs WHERE id = target;
    IF FOUND THEN
        RAISE EXCEPTION 'the guest run of % has ended already (%)', virtuozo_core.guest_name(g.guest_id), g.state
            USING ERRCODE = '55000';
    END IF;
    RAISE EXCEPTION 'there is no run and no guest run %', target
        USING ERRCODE = 'P0002', HINT = 'virtuozo.runs and virtuozo.guest_runs list them.';
END $$;

-- The one place where pausing is switched; target is the name of a host, or 'all'.
CREATE FUNCTION virtuozo_core.set_paused(target text, paused boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    host uuid;
    changed boolean;
    word CONSTANT text := CASE WHEN paused THEN 'paused' ELSE 'resumed' END;
BEGIN
    PERFORM virtuozo_core.alone();
    IF target = 'all' THEN
        UPDATE virtuozo_core.settings SET paused_at = CASE WHEN paused THEN now() END
         WHERE (paused_at IS NOT NULL) <> paused;
        changed := FOUND;
        IF NOT paused THEN
            UPDATE virtuozo_core.hosts SET paused_at = NULL WHERE paused_at IS NOT NULL;
            changed := changed OR FOUND;
        END IF;
    ELSE
        -- The row's lock is the one of admission: nothing is admitted any more when this has committed.
        SELECT id INTO host FROM virtuozo_core.hosts WHERE name = target FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no host %', quote_literal(target)
                USING ERRCODE = 'P0002', HINT = 'Give the name of a host, or all.';
        END IF;
        UPDATE virtuozo_core.hosts SET paused_at = CASE WHEN paused THEN now() END
         WHERE id = host AND (paused_at IS NOT NULL) <> paused;
        changed := FOUND;
        IF NOT paused AND virtuozo_core.is_paused(host) THEN
            RAISE EXCEPTION 'all hosts are paused, % with them', target
                USING ERRCODE = '55000', HINT = 'SELECT virtuozo.resume(''all'').';
        END IF;
    END IF;
    IF NOT changed THEN
        RETURN format('%s: already %s', target, word);
    END IF;
    RETURN virtuozo_core.tell(format('%s: %s', CASE target WHEN 'all' THEN 'all hosts' ELSE 'host ' || target END, word),
        NULL, host, NULL, NULL);
END $$;

-- No guest of the host, or of any host, is begun until virtuozo.resume(). What is in work goes on, and what
-- is owed to guests is undone all the same.
CREATE FUNCTION virtuozo.pause(host_or_all text) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN virtuozo_core.set_paused(host_or_all, true);

-- 'all' also resumes hosts that were paused one by one.
CREATE FUNCTION virtuozo.resume(host_or_all text) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN virtuozo_core.set_paused(host_or_all, false);

-- Roles ----------------------------------------------------------------------------------------------

-- Makes the two roles where they lack and this user may make them, and gives them their rights. Roles belong
-- to the whole server, so two databases may do this at the same time. A migration that adds a view or a
-- function calls it again.
CREATE FUNCTION virtuozo_core.grant_roles() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    role text;
BEGIN
    -- Functions are open to everybody who reaches their schema, unless that is taken away.
    REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA virtuozo FROM PUBLIC;
    FOREACH role IN ARRAY ARRAY['virtuozo_read', 'virtuozo_operator'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION
                WHEN duplicate_object OR unique_violation THEN NULL;
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'the role % is missing and cannot be made by %: make it, then call virtuozo_core.grant_roles()', role, current_user;
            END;
        END IF;
        IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('GRANT USAGE ON SCHEMA virtuozo TO %I', role);
            EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA virtuozo TO %I', role);
        END IF;
    END LOOP;
    IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'virtuozo_operator') THEN
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA virtuozo TO virtuozo_operator;
    END IF;
END $$;
SELECT virtuozo_core.grant_roles();
