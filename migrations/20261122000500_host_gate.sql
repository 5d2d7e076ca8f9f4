-- A host that does not answer costs one connection attempt in each pause, over the whole fleet.

-- A row: the host does not answer. Nobody connects to it before shut_until; then the first who asks claims the
-- right to try, the probe, by shutting the gate for one lease more. A probe that succeeds deletes the row.
CREATE TABLE virtuozo_core.host_gates (
    host_id       uuid PRIMARY KEY REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    failed_probes integer NOT NULL CHECK (failed_probes >= 0),  -- in a row
    error         text NOT NULL,                                -- of the last one
    failed_at     timestamptz NOT NULL DEFAULT now(),
    shut_at       timestamptz NOT NULL DEFAULT now(),
    shut_until    timestamptz NOT NULL,
    probe_id      uuid                                          -- somebody tries; ends with shut_until
);

-- Hosts of which nothing is begun, because they do not answer.
CREATE VIEW virtuozo_core.shut_hosts AS
SELECT host_id FROM virtuozo_core.host_gates WHERE shut_until > now();

-- Hosts of which a guest may be begun, as far as the host is concerned; of one that is down one is enough, to
-- probe it.
CREATE VIEW virtuozo_core.ready_hosts AS
SELECT h.id AS host_id, x.host_id IS NOT NULL AS is_down
  FROM virtuozo_core.hosts h
  LEFT JOIN virtuozo_core.host_gates x ON x.host_id = h.id
 WHERE NOT virtuozo_core.is_paused(h.id)
   AND (x.shut_until <= now()) IS NOT FALSE
   AND EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = h.id AND s.guest_run_id IS NULL);

-- Somebody means "now": the count begins anew, and the next who asks tries. Without a host: all of them.
CREATE FUNCTION virtuozo_core.probe_now(host uuid) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE virtuozo_core.host_gates SET failed_probes = 0, shut_until = now(), probe_id = NULL
     WHERE host_id IN (SELECT x.host_id FROM virtuozo_core.host_gates x
                        WHERE host IS NULL OR x.host_id = host ORDER BY x.host_id FOR UPDATE);
END;

-- Admission under caps, as before, of those hosts.
CREATE OR REPLACE FUNCTION virtuozo_core.admit_under_caps() RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    next record;
    reached text;
    all_reached text[] := '{}';
    busy_hosts uuid[] := '{}';
BEGIN
    PERFORM pg_advisory_xact_lock(7316, 3);
    FOR next IN
        SELECT g.id, g.host_id, g.guest_id, 'repository ' || coalesce(u.destination, s.destination) AS repository, r.is_down
          FROM virtuozo_core.guest_runs g
          JOIN virtuozo_core.ready_hosts r ON r.host_id = g.host_id
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         WHERE g.state = 'waiting' AND g.run_after <= now()
         ORDER BY g.created_at, g.id
    LOOP
        EXIT WHEN 'fleet' = ANY (all_reached);
        CONTINUE WHEN next.host_id = ANY (busy_hosts) OR next.repository = ANY (all_reached);
        -- Who pairs slots with runs, or claims obligations, of one host does so alone; whoever has a host
        -- now admits its runs next.
        PERFORM 1 FROM virtuozo_core.hosts h WHERE h.id = next.host_id FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            busy_hosts := busy_hosts || next.host_id;
            CONTINUE;
        END IF;
        PERFORM 1
           FROM virtuozo_core.guest_runs g
          WHERE g.id = next.id AND g.state = 'waiting'
            AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                             WHERE o.guest_id = g.guest_id AND o.state IN ('admitted', 'running'))
            AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                             WHERE o.guest_id = g.guest_id AND o.state = 'waiting' AND o.run_after <= now()
                               AND (o.created_at, o.id) < (g.created_at, g.id))
            AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                             WHERE o.guest_id = g.guest_id AND o.claimed_until > now())
            FOR UPDATE OF g SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        SELECT c.what INTO reached FROM virtuozo_core.caps(next.guest_id) c WHERE c.busy >= c.cap LIMIT 1;
        IF FOUND THEN
            -- Names of datastores are those of one host only.
            IF NOT starts_with(reached, 'datastore ') THEN
                all_reached := all_reached || reached;
            END IF;
            CONTINUE;
        END IF;
        UPDATE virtuozo_core.guest_slots
           SET guest_run_id = next.id, taken_at = now()
         WHERE host_id = next.host_id
           AND slot_no = (SELECT f.slot_no FROM virtuozo_core.guest_slots f
                           WHERE f.host_id = next.host_id AND f.guest_run_id IS NULL
                           ORDER BY f.slot_no LIMIT 1 FOR UPDATE SKIP LOCKED);
        IF NOT FOUND OR next.is_down THEN
            busy_hosts := busy_hosts || next.host_id;
        END IF;
        CONTINUE WHEN NOT FOUND;
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        RETURN NEXT next.id;
    END LOOP;
END $$;

-- Why something waits: one function for each kind of reason, NULL where it does not hold. In plpgsql, which keeps
-- the plans: a list asks for each of its rows. Those that views call run with their owner's rights. ----------

-- How a host that does not answer stands, to go after its name.
CREATE FUNCTION virtuozo_core.down_reason(host uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT CASE WHEN x.failed_probes = 0 THEN format('did not answer at %s: %s', date_trunc('second', x.failed_at), x.error)
                        ELSE format('does not answer (attempt %s%s failed at %s: %s)', x.failed_probes,
                                    CASE WHEN x.failed_probes <= s.max_attempts THEN format(' of %s', s.max_attempts) END,
                                    date_trunc('second', x.failed_at), x.error) END
                   || CASE WHEN x.shut_until <= now() THEN '; a probe is due'
                           WHEN x.probe_id IS NOT NULL THEN '; it is being probed'
                           ELSE format('; next probe at %s', date_trunc('second', x.shut_until)) END
              FROM virtuozo_core.host_gates x CROSS JOIN virtuozo_core.settings s
             WHERE x.host_id = host);
END $$;

-- Nothing of the host is begun.
CREATE FUNCTION virtuozo_core.held_reason(host uuid) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE paused_at IS NOT NULL) THEN 'all hosts are paused'
        WHEN virtuozo_core.is_paused(host) THEN 'its host is paused'
        ELSE 'its host ' || virtuozo_core.down_reason(host)
    END;
END $$;

-- No process of a kind is there to do anything.
CREATE FUNCTION virtuozo_core.process_reason(wanted text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                                  WHERE w.kind = wanted AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
                THEN format('no %s runs', wanted) END;
END $$;

-- The guest run, or its guest, is not ready.
CREATE FUNCTION virtuozo_core.guest_reason(g virtuozo_core.guest_runs) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN g.run_after > now() THEN format('its next attempt begins at %s', date_trunc('second', g.run_after))
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                      WHERE o.guest_id = g.guest_id AND o.state IN ('admitted', 'running'))
            THEN 'another run works on the guest'
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                      WHERE o.guest_id = g.guest_id AND o.claimed_until > now())
            THEN 'what an earlier run left behind is being undone'
    END;
END $$;

-- Others have what it needs.
CREATE FUNCTION virtuozo_core.room_reason(g virtuozo_core.guest_runs) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s WHERE s.host_id = g.host_id AND s.guest_run_id IS NULL)
            THEN format('all %s slots of its host are taken',
                        (SELECT count(*) FROM virtuozo_core.guest_slots s WHERE s.host_id = g.host_id))
        WHEN virtuozo_core.has_caps()
            THEN (SELECT format('cap reached: %s, %s of %s guests in work', c.what, c.busy, c.cap)
                    FROM virtuozo_core.caps(g.guest_id) c WHERE c.busy >= c.cap LIMIT 1)
    END;
END $$;

-- Why a guest run does not go on; NULL where it does, or has ended.
CREATE OR REPLACE FUNCTION virtuozo_core.waiting_reason(g virtuozo_core.guest_runs) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN g.state IN ('waiting', 'admitted') THEN coalesce(
        virtuozo_core.process_reason('worker'),
        CASE g.state WHEN 'admitted' THEN 'has a slot; the next worker with room for its host takes it' END,
        virtuozo_core.held_reason(g.host_id),
        virtuozo_core.guest_reason(g),
        virtuozo_core.room_reason(g),
        virtuozo_core.process_reason('scheduler'),
        'its turn comes with the next look of the scheduler')
    END;
END $$;

-- What operators see ---------------------------------------------------------------------------------

CREATE OR REPLACE VIEW virtuozo.hosts AS
SELECT h.id, h.name, h.kind, h.address, h.ignored, h.state,
       coalesce(virtuozo_core.down_reason(h.id), h.state_reason) AS state_reason, h.checked_at,
       coalesce(h.paused_at, s.paused_at) AS paused_since,
       (SELECT count(*) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots,
       (SELECT count(x.guest_run_id) FROM virtuozo_core.guest_slots x WHERE x.host_id = h.id) AS slots_taken,
       (SELECT count(*) FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting') AS guests_waiting,
       d.shut_at AS down_since, d.failed_probes, d.shut_until AS next_probe_at
  FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
  LEFT JOIN virtuozo_core.host_gates d ON d.host_id = h.id;

CREATE OR REPLACE VIEW virtuozo.obligations AS
SELECT o.id, o.kind, h.name AS host, u.name AS guest, o.snapshot_name, o.guest_run_id, g.run_id,
       o.claimed_until > now() AS in_work, o.attempts, o.next_attempt_at,
       coalesce('its host ' || virtuozo_core.down_reason(o.host_id), o.last_error) AS last_error, o.created_at
  FROM virtuozo_core.obligations o
  JOIN virtuozo_core.hosts h ON h.id = o.host_id
  JOIN virtuozo_core.guests u ON u.id = o.guest_id
  JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id;

-- What was there, and hosts that do not answer while something of them waits for that.
ALTER VIEW virtuozo.stuck RENAME TO stuck_work;
ALTER VIEW virtuozo.stuck_work SET SCHEMA virtuozo_core;
CREATE VIEW virtuozo.stuck AS
SELECT w.* FROM virtuozo_core.stuck_work w
 WHERE w.kind <> 'host'
    OR w.host NOT IN (SELECT h.name FROM virtuozo_core.hosts h JOIN virtuozo_core.host_gates x ON x.host_id = h.id)
UNION ALL
SELECT 'host_down', h.id, h.name, NULL, x.shut_at, 'it ' || virtuozo_core.down_reason(h.id),
       'start the host, or mend its address; virtuozo host check looks at once'
  FROM virtuozo_core.host_gates x
  JOIN virtuozo_core.hosts h ON h.id = x.host_id
 WHERE EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = h.id AND g.state = 'waiting')
    OR EXISTS (SELECT 1 FROM virtuozo_core.host_runs r WHERE r.host_id = h.id AND r.state = 'queued')
    OR EXISTS (SELECT 1 FROM virtuozo_core.obligations o WHERE o.host_id = h.id);

-- What operators do: their "again" is a "now" for the host too --------------------------------------------

ALTER FUNCTION virtuozo.requeue(uuid) SET SCHEMA virtuozo_core;
CREATE FUNCTION virtuozo.requeue(guest_run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM virtuozo_core.alone();
    -- Gates before runs, as those lock them who give a host's runs up.
    PERFORM virtuozo_core.probe_now(g.host_id) FROM virtuozo_core.guest_runs g WHERE g.id = requeue.guest_run_id;
    RETURN virtuozo_core.requeue(guest_run_id);
END $$;

ALTER FUNCTION virtuozo.retry_failed(uuid) SET SCHEMA virtuozo_core;
CREATE FUNCTION virtuozo.retry_failed(run_id uuid) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM virtuozo_core.alone();
    PERFORM virtuozo_core.probe_now(h.host_id)
       FROM (SELECT x.host_id FROM virtuozo_core.host_runs x WHERE x.run_id = retry_failed.run_id ORDER BY x.host_id) h;
    RETURN virtuozo_core.retry_failed(run_id);
END $$;

CREATE OR REPLACE FUNCTION virtuozo.resume(host_or_all text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said CONSTANT text := virtuozo_core.set_paused(host_or_all, false);
BEGIN
    PERFORM virtuozo_core.probe_now(CASE WHEN host_or_all <> 'all' THEN h.id END)
       FROM (SELECT (SELECT x.id FROM virtuozo_core.hosts x WHERE x.name = host_or_all) AS id) h;
    RETURN said;
END $$;

SELECT virtuozo_core.grant_roles();
