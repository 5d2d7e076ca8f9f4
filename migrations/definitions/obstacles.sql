-- Who may go, and why not: a function for each kind of reason, NULL where it does not hold. Admission asks them, and so does
-- everything that tells people why something waits. In plpgsql, which keeps its plans for the session: admission asks for
-- each guest run in its way, and a list for each of its rows.

-- How a host that is not to be connected to stands, to go after its name.
CREATE OR REPLACE FUNCTION virtuozo_core.down_reason(host uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT CASE WHEN x.failed_probes = 0
                        THEN format('%s at %s: %s', CASE WHEN x.login_refused THEN 'refused the login' ELSE 'did not answer' END,
                                    date_trunc('second', x.failed_at), x.error)
                        ELSE format('%s (attempt %s%s failed at %s: %s)',
                                    CASE WHEN x.login_refused THEN 'refuses the login' ELSE 'does not answer' END, x.failed_probes,
                                    CASE WHEN x.failed_probes <= s.max_attempts THEN format(' of %s', s.max_attempts) END,
                                    date_trunc('second', x.failed_at), x.error) END
                   || CASE WHEN virtuozo_core.is_held(x.lease_until) THEN '; it is being probed'
                           WHEN x.open_until <= now() THEN '; a probe is due'
                           ELSE format('; next probe at %s', date_trunc('second', x.open_until)) END
              FROM virtuozo_core.circuit_breakers x CROSS JOIN virtuozo_core.settings s
             WHERE x.host_id = host);
END $$;

-- How a host stands that is paused, to go after its name.
CREATE OR REPLACE FUNCTION virtuozo_core.pause_reason(host uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT format('is paused%s since %s%s', CASE WHEN p.with_all THEN ' with all others' END,
                          date_trunc('second', p.since), ' by ' || p.by)
              FROM virtuozo_core.paused_hosts p WHERE p.host_id = host);
END $$;

-- No process of a kind is there to do anything.
CREATE OR REPLACE FUNCTION virtuozo_core.process_reason(wanted text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.workers w
                                  WHERE w.kind = wanted AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at))
                THEN format('no %s runs', wanted) END;
END $$;

-- No worker that runs has what a host's kind needs.
CREATE OR REPLACE FUNCTION virtuozo_core.kind_reason(host uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT format('no running worker serves hosts of the kind %s; virtuozo doctor says why', h.kind)
              FROM virtuozo_core.hosts h WHERE h.id = host AND NOT virtuozo_core.is_served(h.kind));
END $$;

-- Which workers leave a job that needs this to others, and what their machines lack; NULL: none does.
CREATE OR REPLACE FUNCTION virtuozo_core.left_reason(kind text, host uuid, locations text[]) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT 'left to others by ' || string_agg(format('worker %s on %s, which lacks %s (%s)', x.name, x.machine,
                                                             coalesce(x.location, 'what the host ' || x.host || ' takes'), x.reason),
                                                      '; ' ORDER BY x.name, x.worker_id, x.location)
              FROM virtuozo_core.lacking_workers x
             WHERE (x.host = (SELECT h.name FROM virtuozo_core.hosts h WHERE h.id = left_reason.host) OR x.location = ANY (locations))
               AND virtuozo_core.leaves_to_others(x.worker_id, left_reason.kind, left_reason.host, locations));
END $$;

-- Why no host of a run is begun; NULL where that is not because of a hook.
CREATE OR REPLACE FUNCTION virtuozo_core.hook_reason(run uuid) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT 'waits for the command before the run, which '
                   || CASE x.state WHEN 'running' THEN format('was begun at %s', date_trunc('second', x.started_at))
                           ELSE coalesce('has not begun: ' || virtuozo_core.process_reason('scheduler'), 'a scheduler begins soon') END
              FROM virtuozo_core.hook_runs x
             WHERE x.run_id = run AND x.moment = 'before' AND x.state IN ('waiting', 'running')
             LIMIT 1);
END $$;

-- Why nothing of a host is begun.
CREATE OR REPLACE FUNCTION virtuozo_core.held_reason(host uuid) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT CASE
                WHEN s.paused_at IS NOT NULL OR h.paused_at IS NOT NULL
                    THEN 'its host ' || virtuozo_core.pause_reason(h.id)
                WHEN virtuozo_core.is_open(x.open_until, x.lease_until)
                    THEN 'its host ' || virtuozo_core.down_reason(h.id)
                END
              FROM virtuozo_core.settings s
             CROSS JOIN virtuozo_core.hosts h
              LEFT JOIN virtuozo_core.circuit_breakers x ON x.host_id = h.id
             WHERE h.id = host);
END $$;

-- Why a host run is not begun.
CREATE OR REPLACE FUNCTION virtuozo_core.host_run_obstacle(r virtuozo_core.host_runs) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN coalesce(virtuozo_core.hook_reason(r.run_id), virtuozo_core.held_reason(r.host_id));
END $$;

-- Why no guest run of a host is begun. One that did not answer is to be probed first: one guest is enough for that, also
-- one that is still on its way.
CREATE OR REPLACE FUNCTION virtuozo_core.host_reason(host uuid) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    reason CONSTANT text := virtuozo_core.held_reason(host);
BEGIN
    -- Asked one after the other: what is admitted is looked through only for a host that is down.
    IF reason IS NULL AND EXISTS (SELECT 1 FROM virtuozo_core.circuit_breakers x WHERE x.host_id = host) THEN
        IF EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = host AND g.state = 'admitted') THEN
            RETURN 'its host ' || virtuozo_core.down_reason(host) || '; a guest is on its way to try it';
        END IF;
    END IF;
    RETURN reason;
END $$;

-- Why a guest run is not ready: its next attempt is not due, its guest is in work or is being undone, or an older run of
-- the guest goes first. IS TRUE: found by the guest, whatever is in work.
CREATE OR REPLACE FUNCTION virtuozo_core.guest_reason(g virtuozo_core.guest_runs) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN g.run_after > now() THEN format('its next attempt begins at %s', date_trunc('second', g.run_after))
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                      WHERE o.guest_id = g.guest_id AND (o.state IN ('admitted', 'running')) IS TRUE)
            THEN 'another run works on the guest'
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                      WHERE o.guest_id = g.guest_id AND virtuozo_core.is_held(o.lease_until))
            THEN 'what an earlier run left behind is being undone'
        WHEN EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                      WHERE o.guest_id = g.guest_id AND (o.state = 'waiting') IS TRUE AND o.run_after <= now()
                        AND (o.created_at, o.id) < (g.created_at, g.id))
            THEN 'an earlier run of the guest goes first'
    END;
END $$;

-- Why a node of a host has no room for one more guest; without a node: why none of them has.
CREATE OR REPLACE FUNCTION virtuozo_core.slot_reason(host uuid, its_node text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_slots s
                          WHERE s.host_id = host AND s.node = coalesce(its_node, s.node) AND s.guest_run_id IS NULL)
            THEN format('all %s slots of %s are taken',
                        (SELECT count(*) FROM virtuozo_core.guest_slots s
                          WHERE s.host_id = host AND s.node = coalesce(its_node, s.node)),
                        coalesce('its node ' || nullif(its_node, ''), 'its host'))
    END;
END $$;

-- The cap that a guest would go beyond, if any.
CREATE OR REPLACE FUNCTION virtuozo_core.reached_cap(guest uuid) RETURNS TABLE (what text, cap integer, busy bigint)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT c.* FROM virtuozo_core.caps(guest) c WHERE c.busy >= c.cap LIMIT 1;
END $$;

-- Why a waiting guest run may not go now; NULL: it may. The order is that in which people can do something about it.
CREATE OR REPLACE FUNCTION virtuozo_core.obstacle(g virtuozo_core.guest_runs) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(
        virtuozo_core.host_reason(g.host_id),
        virtuozo_core.guest_reason(g),
        virtuozo_core.slot_reason(
            g.host_id, coalesce((SELECT u.node FROM virtuozo_core.guests u WHERE u.id = g.guest_id), '')),
        (SELECT format('cap reached: %s, %s of %s guests in work', c.what, c.busy, c.cap)
           FROM virtuozo_core.reached_cap(g.guest_id) c));
END $$;
