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

-- As it stood; the advice about what could not be undone says how to give it up.
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
       format('mend the cause on the host, or undo it there by hand: the next attempt sees that; where neither can ever be, '
              'virtuozo obligation forgive %s --reason WHY', right(replace(o.id::text, '-', ''), 8))
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
 WHERE o.attempts >= 3;

SELECT virtuozo_core.grant_roles();
