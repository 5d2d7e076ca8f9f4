-- What an administrator sees and can do, as a bad night has shown what was missing.

-- Who leads --------------------------------------------------------------------------------------------

-- As it stood, with which scheduler leads.
CREATE OR REPLACE VIEW virtuozo.workers AS
SELECT w.id, w.kind, w.name, w.machine, w.pid, w.version,
       CASE WHEN w.stopped_at IS NOT NULL THEN 'stopped'
            WHEN virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at) THEN 'alive'
            ELSE 'silent' END AS state,
       w.started_at, w.heartbeat_at, w.stopped_at,
       round(extract(epoch FROM now() - w.heartbeat_at))::bigint AS silent_secs,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.owner_id = w.id AND g.state = 'running') AS guest_runs,
       (SELECT count(*) FROM virtuozo_core.host_runs g WHERE g.owner_id = w.id AND g.state = 'running') AS host_runs,
       EXISTS (SELECT 1 FROM virtuozo_core.lead l WHERE l.scheduler_id = w.id AND l.lease_until > now()) AS leads
  FROM virtuozo_core.workers w;

-- What nobody can undo any more ---------------------------------------------------------------------------

-- Gives up one obligation that can never be met: its host is gone for ever, its guest was deleted by hand. What
-- became of the guest is the administrator's from then on. The event belongs to the run only, as those of a host and
-- its guests go when these are removed, which is what comes next as a rule.
CREATE FUNCTION virtuozo.forgive(obligation_id uuid, reason text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    o virtuozo_core.obligations;
    g record;
    name text;
BEGIN
    PERFORM virtuozo_core.alone();
    IF coalesce(btrim(reason), '') = '' THEN
        RAISE EXCEPTION 'no reason is given, for those who find the guest as it was left' USING ERRCODE = '55000';
    END IF;
    -- Who claims what is owed, or admits a run of the guest, holds the row of its host. Those who end a run lock what
    -- it owes first and the host then: so none may be in work when the obligation is locked.
    PERFORM 1 FROM virtuozo_core.hosts h
      WHERE h.id = (SELECT x.host_id FROM virtuozo_core.obligations x WHERE x.id = obligation_id) FOR NO KEY UPDATE;
    SELECT * INTO o FROM virtuozo_core.obligations x WHERE x.id = obligation_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no obligation %', obligation_id
            USING ERRCODE = 'P0002', HINT = 'virtuozo.obligations lists them; one that is met is gone.';
    END IF;
    name := virtuozo_core.guest_name(o.guest_id);
    SELECT x.id, x.state, x.lease_until INTO g FROM virtuozo_core.guest_runs x
     WHERE x.guest_id = o.guest_id AND (x.state IN ('admitted', 'running') OR (x.id = o.guest_run_id AND x.state = 'waiting'))
     ORDER BY x.lease_until NULLS LAST LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'a guest run of % is %, and minds what the guest is owed: wait for its end or cancel it', name,
                        g.state || coalesce(' (its lease ends at ' || date_trunc('second', g.lease_until) || ')', '')
            USING ERRCODE = '55000', HINT = format('virtuozo.cancel(''%s'') ends it.', g.id);
    END IF;
    SELECT * INTO o FROM virtuozo_core.obligations x WHERE x.id = obligation_id FOR UPDATE;
    IF o.claimed_until > now() THEN
        RAISE EXCEPTION 'a worker is at it just now: try again when it has given up, or at %', date_trunc('second', o.claimed_until)
            USING ERRCODE = '55000';
    END IF;
    DELETE FROM virtuozo_core.obligations x WHERE x.id = obligation_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no obligation % any more: it was met just now', obligation_id USING ERRCODE = 'P0002';
    END IF;
    RETURN virtuozo_core.tell(
        CASE o.kind
            WHEN 'power_on' THEN format('guest %s: powering it on again is given up: %s; whether it runs is the administrator''s to '
                                        'look after from now on', name, btrim(reason))
            ELSE format('guest %s: removing its snapshot %s is given up: %s; the snapshot is the administrator''s to look after '
                        'from now on, unless a later backup of the guest finds and removes it', name, o.snapshot_name, btrim(reason))
        END,
        (SELECT x.run_id FROM virtuozo_core.guest_runs x WHERE x.id = o.guest_run_id), NULL, NULL, NULL);
END $$;

-- Whether the server has been up for a lease: before that, nobody has had the time for a sign of life.
CREATE FUNCTION virtuozo_core.is_settled() RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT now() > pg_postmaster_start_time() + make_interval(secs => s.lease_secs) FROM virtuozo_core.settings s);
END $$;

-- As it stood; nobody counts as silent who has had no time yet, and the advice about what could not be undone says how
-- to give it up.
CREATE OR REPLACE VIEW virtuozo_core.stuck_work AS
SELECT 'no_scheduler' AS kind, NULL::uuid AS id, NULL AS host, NULL AS guest,
       (SELECT max(heartbeat_at) FROM virtuozo_core.workers WHERE kind = 'scheduler') AS since,
       'no scheduler gives a sign of life' AS reason, 'start virtuozo scheduler' AS advice
 WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'scheduler' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
   AND virtuozo_core.is_settled()
UNION ALL
SELECT 'no_worker', NULL, NULL, NULL, (SELECT max(heartbeat_at) FROM virtuozo_core.workers WHERE kind = 'worker'),
       'no worker gives a sign of life, and there is work', 'start virtuozo worker'
 WHERE NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
   AND EXISTS (SELECT 1 FROM virtuozo_core.runs WHERE state = 'running')
   AND virtuozo_core.is_settled()
UNION ALL
SELECT 'lease', g.id, h.name, u.name, g.lease_until, format('its worker is silent in step %s', coalesce(g.step, 'validate')),
       'a scheduler hands it to another worker; see that one runs'
  FROM virtuozo_core.guest_runs g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
  JOIN virtuozo_core.guests u ON u.id = g.guest_id
 CROSS JOIN virtuozo_core.settings s
 WHERE g.state = 'running' AND g.lease_until < now() - make_interval(secs => s.lease_secs)
   AND virtuozo_core.is_settled()
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
       format('mend the cause on the host, or undo it there by hand: the next attempt sees that; where neither can ever be, '
              'virtuozo obligation forgive %s --reason WHY', right(replace(o.id::text, '-', ''), 8))
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
 WHERE o.attempts >= 3;

-- Pauses -----------------------------------------------------------------------------------------------

-- The database user who paused; NULL also where that was before it was kept.
ALTER TABLE virtuozo_core.settings ADD COLUMN paused_by text;
ALTER TABLE virtuozo_core.hosts ADD COLUMN paused_by text;

-- Hosts that are paused: with all others, or else by their names.
CREATE VIEW virtuozo_core.paused_hosts AS
SELECT h.id AS host_id, s.paused_at IS NOT NULL AS with_all, coalesce(s.paused_at, h.paused_at) AS since,
       CASE WHEN s.paused_at IS NOT NULL THEN s.paused_by ELSE h.paused_by END AS by
  FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
 WHERE s.paused_at IS NOT NULL OR h.paused_at IS NOT NULL;

-- How a host stands that is paused, to go after its name.
CREATE FUNCTION virtuozo_core.pause_reason(host uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT format('is paused%s since %s%s', CASE WHEN p.with_all THEN ' with all others' END,
                          date_trunc('second', p.since), ' by ' || p.by)
              FROM virtuozo_core.paused_hosts p WHERE p.host_id = host);
END $$;

-- As it stood, with since when and by whom.
CREATE OR REPLACE FUNCTION virtuozo_core.held_reason(host uuid) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN 'its host ' || coalesce(virtuozo_core.pause_reason(host), virtuozo_core.down_reason(host));
END $$;

-- As it stood, with who paused it.
CREATE OR REPLACE VIEW virtuozo.hosts AS
SELECT h.id, h.name, h.kind, h.address, h.ignored, h.state,
       coalesce(virtuozo_core.down_reason(h.id), h.state_reason) AS state_reason, h.checked_at,
       coalesce(h.paused_at, s.paused_at) AS paused_since,
       (SELECT count(*) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots,
       (SELECT count(x.guest_run_id) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots_taken,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting') AS guests_waiting,
       d.shut_at AS down_since, d.failed_probes, d.shut_until AS next_probe_at,
       CASE WHEN h.paused_at IS NOT NULL THEN h.paused_by ELSE s.paused_by END AS paused_by
  FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
  LEFT JOIN virtuozo_core.host_gates d ON d.host_id = h.id;

-- As it stood, with who pauses. The pause of all hosts and that of one are two things: who resumes all lifts the
-- former, and is told which hosts stay paused because somebody has paused them by name.
CREATE OR REPLACE FUNCTION virtuozo_core.set_paused(target text, paused boolean) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    host uuid;
    changed boolean;
    said text := CASE WHEN paused THEN 'paused' ELSE 'resumed' END;
BEGIN
    PERFORM virtuozo_core.alone();
    IF target = 'all' THEN
        UPDATE virtuozo_core.settings
           SET paused_at = CASE WHEN paused THEN now() END, paused_by = CASE WHEN paused THEN session_user END
         WHERE (paused_at IS NOT NULL) <> paused;
        changed := FOUND;
        IF NOT paused THEN
            said := said || coalesce((SELECT '; still paused, each by its name: ' || string_agg(h.name, ', ' ORDER BY h.name)
                                        FROM virtuozo_core.hosts h WHERE h.paused_at IS NOT NULL), '');
        END IF;
    ELSE
        -- The row's lock is the one of admission: nothing is admitted any more when this has committed.
        SELECT id INTO host FROM virtuozo_core.hosts WHERE name = target FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no host %', quote_literal(target)
                USING ERRCODE = 'P0002', HINT = 'Give the name of a host, or all.';
        END IF;
        UPDATE virtuozo_core.hosts
           SET paused_at = CASE WHEN paused THEN now() END, paused_by = CASE WHEN paused THEN session_user END
         WHERE id = host AND (paused_at IS NOT NULL) <> paused;
        changed := FOUND;
        IF NOT paused AND virtuozo_core.is_paused(host) THEN
            RAISE EXCEPTION 'all hosts are paused, % with them', target
                USING ERRCODE = '55000', HINT = 'SELECT virtuozo.resume(''all'').';
        END IF;
    END IF;
    IF NOT changed THEN
        RETURN format('%s: already %s', target, said);
    END IF;
    RETURN virtuozo_core.tell(format('%s: %s', CASE target WHEN 'all' THEN 'all hosts' ELSE 'host ' || target END, said),
        NULL, host, NULL, NULL);
END $$;

-- As it stood, with pauses for whose end something waits.
CREATE OR REPLACE VIEW virtuozo.stuck AS
SELECT w.* FROM virtuozo_core.stuck_work w
 WHERE w.kind <> 'host'
    OR w.host NOT IN (SELECT h.name FROM virtuozo_core.hosts h JOIN virtuozo_core.host_gates x ON x.host_id = h.id)
UNION ALL
SELECT 'host_down', h.id, h.name, NULL, x.shut_at, 'it ' || virtuozo_core.down_reason(h.id),
       CASE WHEN x.login_refused
            THEN format('mend its password or user: virtuozo host password %s, virtuozo host edit; it is tried at once', h.name)
            ELSE 'start the host, or mend its address; virtuozo host check looks at once' END
  FROM virtuozo_core.host_gates x
  JOIN virtuozo_core.hosts h ON h.id = x.host_id
 WHERE EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting')
    OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.host_id = h.id AND r.state = 'queued')
    OR EXISTS (SELECT 1 FROM virtuozo_core.obligations o WHERE o.host_id = h.id)
UNION ALL
SELECT 'notice', NULL, NULL, NULL, min(n.ended_at),
       format('%s by %s could not be sent: %s', CASE count(*) WHEN 1 THEN 'a notice' ELSE count(*) || ' notices' END,
              n.channel, (array_agg(n.last_error ORDER BY n.ended_at DESC))[1]),
       format('mend the cause, which virtuozo notice test %s tries out; virtuozo notice retry sends again', n.channel)
  FROM virtuozo_core.notices n
 WHERE n.state = 'failed' AND n.kind <> 'test' AND n.ended_at > now() - interval '7 days'
 GROUP BY n.channel
UNION ALL
SELECT 'paused', NULL, NULL, NULL, s.paused_at, format('all hosts are paused%s, and work waits for that', ' by ' || s.paused_by),
       'virtuozo host resume all'
  FROM virtuozo_core.settings s
 WHERE s.paused_at IS NOT NULL
   AND (EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.state = 'waiting')
        OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.state = 'queued'))
UNION ALL
SELECT 'paused', h.id, h.name, NULL, p.since, format('it %s, and work waits for that', virtuozo_core.pause_reason(h.id)),
       format('virtuozo host resume %s', h.name)
  FROM virtuozo_core.paused_hosts p JOIN virtuozo_core.hosts h ON h.id = p.host_id
 WHERE NOT p.with_all
   AND (EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting')
        OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.host_id = h.id AND r.state = 'queued'));

-- One spelling of a directory ---------------------------------------------------------------------------

-- Destinations and caps are held against each other as text, and are written in one spelling from now on: without
-- slashes at the end, double ones and dots. What is there already is spelled like that once; where a repository had
-- two caps, the smaller one holds.
CREATE FUNCTION virtuozo_core.plain_path(path text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN coalesce(nullif(regexp_replace(path, '(/\.?)+(?=/|$)', '', 'g'), ''), '/');

UPDATE virtuozo_core.settings SET destination = virtuozo_core.plain_path(destination)
 WHERE destination <> virtuozo_core.plain_path(destination);
UPDATE virtuozo_core.guests SET destination = virtuozo_core.plain_path(destination)
 WHERE destination <> virtuozo_core.plain_path(destination);
DELETE FROM virtuozo_core.repository_space WHERE path <> virtuozo_core.plain_path(path);
WITH spelled AS (
    DELETE FROM virtuozo_core.repositories WHERE path <> virtuozo_core.plain_path(path) RETURNING path, guest_threads
)
INSERT INTO virtuozo_core.repositories AS r (path, guest_threads)
SELECT virtuozo_core.plain_path(path), min(guest_threads) FROM spelled GROUP BY 1
ON CONFLICT (path) DO UPDATE SET guest_threads = least(r.guest_threads, excluded.guest_threads);
DROP FUNCTION virtuozo_core.plain_path(text);

-- Cancelled where ------------------------------------------------------------------------------------------

-- How far a guest run had come that is cancelled while nobody works on it.
CREATE FUNCTION virtuozo_core.cancelled_where(g virtuozo_core.guest_runs) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(
        (SELECT format('cancelled while it waited to go on; step %s ', s.name)
                || CASE s.state WHEN 'done' THEN 'was done' WHEN 'failed' THEN 'had failed' ELSE 'was broken off' END
                || coalesce(': ' || coalesce(s.error, g.error), '')
           FROM virtuozo_core.steps s WHERE s.guest_run_id = g.id
          ORDER BY s.fence DESC, s.started_at DESC LIMIT 1),
        CASE WHEN g.fence = 0 THEN 'cancelled before it began'
             ELSE 'cancelled while it waited to go on' || coalesce(': ' || g.error, '') END);
END $$;

-- As it stood; what has been tried says where it was cancelled.
CREATE OR REPLACE FUNCTION virtuozo.cancel(run_or_guest_run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target CONSTANT uuid := run_or_guest_run_id;
    r virtuozo_core.runs;
    g virtuozo_core.guest_runs;
    ended uuid[];
BEGIN
    PERFORM virtuozo_core.alone();
    UPDATE virtuozo_core.host_runs
       SET state = 'cancelled', ended_at = now(),
           error = CASE WHEN fence = 0 THEN 'cancelled before it began'
                        ELSE 'cancelled while it waited to be tried again' || coalesce('; before that: ' || error, '') END
     WHERE run_id = target AND state = 'queued';
    -- One that begins or ends meanwhile is decided by its row's lock.
    WITH gone AS (
        UPDATE virtuozo_core.guest_runs x
           SET state = 'cancelled', ended_at = now(), error = virtuozo_core.cancelled_where(x)
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

SELECT virtuozo_core.grant_roles();
