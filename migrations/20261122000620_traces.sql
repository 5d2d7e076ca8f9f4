-- What traces need to be known beforehand and afterwards. The ids of all spans of a run follow from its
-- trace id and the ids of its rows; docs/TRACING.md says how.

ALTER TABLE virtuozo_core.runs
    ADD COLUMN trace_id uuid,                          -- NULL: the run's own id; a run that is reopened gets another
    ADD COLUMN trace_before uuid,                      -- the trace that it had before it was reopened
    ADD COLUMN trace_since timestamptz,                -- when that was
    ADD COLUMN traced boolean NOT NULL DEFAULT false;  -- its span is sent, or left out on purpose
CREATE INDEX runs_untraced ON virtuozo_core.runs (ended_at) WHERE NOT traced;

ALTER TABLE virtuozo_core.guest_runs
    ADD COLUMN trace_fence bigint NOT NULL DEFAULT 0,  -- attempts up to this one belong to a span that was sent
    ADD COLUMN trace_since timestamptz,                -- when an operator put it back; NULL: never
    ADD COLUMN traced boolean NOT NULL DEFAULT false;

ALTER TABLE virtuozo_core.steps
    ADD COLUMN worker_id uuid,
    ADD COLUMN error_type text,
    ADD COLUMN error_code bigint;                      -- the hypervisor's own

-- A trace id as it is written everywhere outside of this database.
CREATE FUNCTION virtuozo_core.trace_hex(trace uuid) RETURNS text LANGUAGE sql IMMUTABLE
RETURN replace(trace::text, '-', '');

-- What a job carries (W3C Trace Context): the trace, and the span of the host run or guest run. A span's id
-- is the second half of the id of its row; of a guest run that was put back, changed by its trace_fence.
CREATE FUNCTION virtuozo_core.traceparent(trace uuid, id uuid, trace_fence bigint) RETURNS text LANGUAGE sql STABLE
RETURN format('00-%s-%s-01', virtuozo_core.trace_hex(trace),
              lpad(to_hex((('x' || right(virtuozo_core.trace_hex(id), 16))::bit(64)::bigint) # trace_fence), 16, '0'));

-- Jobs are pushed in several ways, and all come past here. One without a run has no trace.
CREATE FUNCTION virtuozo_core.trace_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent text;
BEGIN
    IF new.job_type = 'virtuozo-guest' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.guest_runs g JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE g.id = virtuozo_core.uuid_or_null(virtuozo_core.payload(new.job) ->> 'guest_run_id');
    ELSIF new.job_type = 'virtuozo-host' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), h.id, 0) INTO parent
          FROM virtuozo_core.host_runs h JOIN virtuozo_core.runs r ON r.id = h.run_id
         WHERE h.id = virtuozo_core.uuid_or_null(virtuozo_core.payload(new.job) ->> 'host_run_id');
    ELSIF new.job_type = 'virtuozo-undo' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.obligations o
          JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id
          JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE o.guest_id = virtuozo_core.uuid_or_null(virtuozo_core.payload(new.job) ->> 'guest_id')
         ORDER BY o.created_at LIMIT 1;
    END IF;
    IF parent IS NOT NULL AND coalesce(new.metadata::text, '') = '' THEN
        -- As text, which is read as hstore wherever that extension lives.
        new.metadata := format('"traceparent"=>"%s"', parent);
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER virtuozo_trace BEFORE INSERT ON apalis.jobs FOR EACH ROW EXECUTE FUNCTION virtuozo_core.trace_job();

CREATE OR REPLACE FUNCTION virtuozo_core.wait_again(guest_run uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r virtuozo_core.runs;
BEGIN
    UPDATE virtuozo_core.guest_runs
       SET state = 'waiting', ended_at = NULL, cancel_requested = false, attempts = 0, crashes = 0, run_after = now(),
           admitted_at = NULL, attempt_fence = NULL, mode = NULL, step = NULL, started_at = NULL,
           bytes_total = NULL, bytes_copied = 0, progress_at = NULL,
           trace_fence = fence, trace_since = now(), traced = false
     WHERE id = guest_run AND state IN ('failed', 'cancelled');
    -- Locked after the guest run, as those do who end one; what is read is what they have committed.
    SELECT * INTO r FROM virtuozo_core.runs
     WHERE id = (SELECT run_id FROM virtuozo_core.guest_runs WHERE id = guest_run) FOR NO KEY UPDATE;
    PERFORM virtuozo_core.reopen(r);
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.reopen(r virtuozo_core.runs) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF r.state = 'running' AND r.cancel_requested THEN
        RAISE EXCEPTION 'the run % is being cancelled', r.id
            USING ERRCODE = '55000', HINT = 'Try again when it has ended, or start a new run.';
    END IF;
    -- The trace of what ended is sent, or is about to be.
    UPDATE virtuozo_core.runs SET state = 'running', ended_at = NULL, error = NULL, cancel_requested = false,
           trace_before = coalesce(trace_id, id), trace_id = gen_random_uuid(), trace_since = now(), traced = false
     WHERE id = r.id AND state <> 'running';
END $$;

-- The views below are those that stood, with trace_id at the end.

CREATE OR REPLACE VIEW virtuozo.runs AS
SELECT r.id, r.state, r.requested_by, s.name AS schedule, r.due_at, r.cancel_requested, r.error,
       r.created_at, r.ended_at, coalesce(r.ended_at, now()) - r.created_at AS duration,
       h.open AS hosts_open, h.failed AS hosts_failed,
       g.guests, g.open AS guests_open, g.succeeded AS guests_succeeded, g.failed AS guests_failed,
       g.skipped AS guests_skipped, g.cancelled AS guests_cancelled, g.bytes_copied,
       virtuozo_core.trace_hex(coalesce(r.trace_id, r.id)) AS trace_id
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

CREATE OR REPLACE VIEW virtuozo.guest_runs AS
SELECT g.id, g.run_id, h.name AS host, u.name AS guest, g.state, g.mode, g.step,
       virtuozo_core.waiting_reason(g) AS waiting_reason, w.name AS worker, g.fence, g.lease_until,
       g.attempts, g.crashes, g.error AS last_error, g.error_class, g.run_after, g.cancel_requested,
       g.bytes_total, g.bytes_copied, g.progress_at, g.created_at, g.started_at, g.ended_at,
       p.repository || '/' || p.path AS restore_point, p.verified_at,
       virtuozo_core.trace_hex(coalesce(r.trace_id, r.id)) AS trace_id
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.runs r ON r.id = g.run_id
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.workers w ON w.id = g.owner_id
  LEFT JOIN virtuozo_core.restore_points p ON p.guest_run_id = g.id;

SELECT virtuozo_core.grant_roles();
