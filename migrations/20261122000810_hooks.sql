-- Hooks: commands before and after a run, and before and after the backup of a guest. docs/HOOKS.md describes
-- them.

CREATE TABLE virtuozo_core.hooks (
    guest_id   uuid REFERENCES virtuozo_core.guests ON DELETE CASCADE,   -- NULL: of the whole site
    moment     text NOT NULL CHECK (moment IN ('before', 'after')),
    command    text[] NOT NULL CHECK (cardinality(command) >= 1 AND command[1] <> ''),
    limit_secs integer NOT NULL CHECK (limit_secs BETWEEN 1 AND 86400),
    on_failure text NOT NULL CHECK (on_failure IN ('fail', 'ignore')),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (guest_id, moment)
);

-- The hooks of guests, as they are read with the guest.
CREATE VIEW virtuozo_core.guest_hooks AS
SELECT guest_id, jsonb_agg(jsonb_build_object('moment', moment, 'command', command, 'limit_secs', limit_secs,
                                              'on_failure', on_failure) ORDER BY moment) AS hooks
  FROM virtuozo_core.hooks
 WHERE guest_id IS NOT NULL
 GROUP BY guest_id;

-- What is owed to a hook, as it was configured then: a row for the command before a run, for the one after it,
-- and for the one after a guest run. The command before a guest's backup is part of its guest run.
CREATE TABLE virtuozo_core.hook_runs (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    run_id       uuid NOT NULL REFERENCES virtuozo_core.runs ON DELETE CASCADE,
    guest_run_id uuid REFERENCES virtuozo_core.guest_runs ON DELETE CASCADE,   -- NULL: of the whole site
    moment       text NOT NULL CHECK (moment IN ('before', 'after')),
    outcome      text CHECK (outcome IN ('succeeded', 'failed', 'cancelled')), -- how what it comes after has ended
    command      text[] NOT NULL,
    limit_secs   integer NOT NULL,
    on_failure   text NOT NULL,
    state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')),
    fence        bigint NOT NULL DEFAULT 0,
    owner_id     uuid,
    lease_until  timestamptz,
    crashes      integer NOT NULL DEFAULT 0,
    exit_code    integer,
    error        text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    started_at   timestamptz,
    ended_at     timestamptz,
    CHECK ((moment = 'after') = (outcome IS NOT NULL)),
    CHECK (moment = 'after' OR guest_run_id IS NULL),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('waiting', 'running')) = (ended_at IS NULL))
);
CREATE INDEX hook_runs_run ON virtuozo_core.hook_runs (run_id);
CREATE INDEX hook_runs_guest_run ON virtuozo_core.hook_runs (guest_run_id) WHERE guest_run_id IS NOT NULL;
CREATE INDEX hook_runs_open ON virtuozo_core.hook_runs (created_at, id) WHERE state IN ('waiting', 'running');

-- Runs of which no host is begun, because the command before them has not ended.
CREATE VIEW virtuozo_core.held_runs AS
SELECT run_id FROM virtuozo_core.hook_runs WHERE moment = 'before' AND state IN ('waiting', 'running');

-- The command before a run, if there is one.
CREATE FUNCTION virtuozo_core.hold_run(run uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.hook_runs (run_id, moment, command, limit_secs, on_failure)
    SELECT run, h.moment, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id IS NULL AND h.moment = 'before';
    RETURN FOUND;
END $$;

-- A run ends in several ways, and all come past here. What has not ended of the command before it is of no use
-- any more: whoever runs that finds its lease lost.
CREATE FUNCTION virtuozo_core.hook_after_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE virtuozo_core.hook_runs
       SET state = 'cancelled', lease_until = NULL, ended_at = now(), error = 'the run ended before it'
     WHERE run_id = new.id AND moment = 'before' AND state IN ('waiting', 'running');
    INSERT INTO virtuozo_core.hook_runs (run_id, moment, outcome, command, limit_secs, on_failure)
    SELECT new.id, h.moment, new.state, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id IS NULL AND h.moment = 'after';
    RETURN NULL;
END $$;
CREATE TRIGGER virtuozo_hook AFTER UPDATE OF state ON virtuozo_core.runs FOR EACH ROW
    WHEN (old.state = 'running' AND new.state <> 'running') EXECUTE FUNCTION virtuozo_core.hook_after_run();

-- The same for guest runs; its worker says which of them have such a command, so the others pay for no look.
ALTER TABLE virtuozo_core.guest_runs ADD COLUMN after_hook boolean NOT NULL DEFAULT false;

CREATE FUNCTION virtuozo_core.hook_after_guest_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.hook_runs (run_id, guest_run_id, moment, outcome, command, limit_secs, on_failure)
    SELECT new.run_id, new.id, h.moment, new.state, h.command, h.limit_secs, h.on_failure
      FROM virtuozo_core.hooks h
     WHERE h.guest_id = new.guest_id AND h.moment = 'after';
    RETURN NULL;
END $$;
CREATE TRIGGER virtuozo_hook AFTER UPDATE OF state ON virtuozo_core.guest_runs FOR EACH ROW
    WHEN (new.after_hook AND old.ended_at IS NULL AND new.ended_at IS NOT NULL)
    EXECUTE FUNCTION virtuozo_core.hook_after_guest_run();

-- Why no host of a run is begun; NULL where that is not because of a hook.
CREATE FUNCTION virtuozo_core.hook_reason(run uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT 'waits for the command before the run, which '
                   || CASE x.state WHEN 'running' THEN format('was begun at %s', date_trunc('second', x.started_at))
                           ELSE coalesce('has not begun: ' || virtuozo_core.process_reason('scheduler'), 'a scheduler begins soon') END
              FROM virtuozo_core.hook_runs x
             WHERE x.run_id = run AND x.moment = 'before' AND x.state IN ('waiting', 'running')
             LIMIT 1);
END $$;

-- What operators see ---------------------------------------------------------------------------------

CREATE VIEW virtuozo.hooks AS
SELECT h.name AS host, u.name AS guest, k.moment, k.command, k.limit_secs, k.on_failure, k.updated_at
  FROM virtuozo_core.hooks k
  LEFT JOIN virtuozo_core.guests u ON u.id = k.guest_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = u.host_id;

CREATE VIEW virtuozo.hook_runs AS
SELECT k.id, k.run_id, k.guest_run_id, h.name AS host, u.name AS guest, k.moment, k.outcome, k.command, k.state,
       k.fence AS attempts, w.name AS process, w.machine, k.exit_code, k.error, k.created_at, k.started_at, k.ended_at
  FROM virtuozo_core.hook_runs k
  LEFT JOIN virtuozo_core.guest_runs g ON g.id = k.guest_run_id
  LEFT JOIN virtuozo_core.guests u ON u.id = g.guest_id
  LEFT JOIN virtuozo_core.hosts h ON h.id = g.host_id
  LEFT JOIN virtuozo_core.workers w ON w.id = k.owner_id;

-- As it stood, with waiting_reason at the end.
CREATE OR REPLACE VIEW virtuozo.runs AS
SELECT r.id, r.state, r.requested_by, s.name AS schedule, r.due_at, r.cancel_requested, r.error,
       r.created_at, r.ended_at, coalesce(r.ended_at, now()) - r.created_at AS duration,
       h.open AS hosts_open, h.failed AS hosts_failed,
       g.guests, g.open AS guests_open, g.succeeded AS guests_succeeded, g.failed AS guests_failed,
       g.skipped AS guests_skipped, g.cancelled AS guests_cancelled, g.bytes_copied,
       virtuozo_core.trace_hex(coalesce(r.trace_id, r.id)) AS trace_id,
       virtuozo_core.hook_reason(r.id) AS waiting_reason
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

-- As it stood, without the hosts of runs that are held.
CREATE OR REPLACE VIEW virtuozo_core.stuck_work AS
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
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.held_runs x WHERE x.run_id = r.run_id)
UNION ALL
SELECT 'obligation', o.id, h.name, u.name, o.created_at,
       format('%s could not be undone in %s attempts: %s', CASE o.kind WHEN 'power_on' THEN 'a power off' ELSE 'the snapshot ' || o.snapshot_name END,
              o.attempts, o.last_error),
       'mend the cause on the host, or undo it there by hand: the next attempt sees that'
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
 WHERE o.attempts >= 3;

-- As it stood; a run that failed because of the command before it begins with that command again.
CREATE OR REPLACE FUNCTION virtuozo.retry_failed(run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said text;
BEGIN
    PERFORM virtuozo_core.alone();
    PERFORM virtuozo_core.probe_now(h.host_id)
       FROM (SELECT x.host_id FROM virtuozo_core.host_runs x WHERE x.run_id = retry_failed.run_id ORDER BY x.host_id) h;
    said := virtuozo_core.retry_failed(run_id);
    PERFORM virtuozo_core.hold_run(x.run_id)
       FROM (SELECT k.run_id, k.state, k.on_failure FROM virtuozo_core.hook_runs k
              WHERE k.run_id = retry_failed.run_id AND k.moment = 'before' ORDER BY k.created_at DESC LIMIT 1) x
      WHERE x.state = 'failed' AND x.on_failure = 'fail';
    RETURN said;
END $$;

SELECT virtuozo_core.grant_roles();
