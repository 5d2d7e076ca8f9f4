-- Which hosts may be worked on: pauses, circuit breakers, and what workers' machines lack.

-- Hosts that are paused: with all others, or else by their names.
CREATE OR REPLACE VIEW virtuozo_core.paused_hosts AS
SELECT h.id AS host_id, s.paused_at IS NOT NULL AS with_all, coalesce(s.paused_at, h.paused_at) AS since,
       CASE WHEN s.paused_at IS NOT NULL THEN s.paused_by ELSE h.paused_by END AS by
  FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
 WHERE s.paused_at IS NOT NULL OR h.paused_at IS NOT NULL;

-- Functions that operators' views call run with the rights of whoever reads the view, who has none on the tables: so
-- those that read tables run with their owner's. In plpgsql, which keeps its plans for the session: one in LANGUAGE sql
-- that is not inlined is planned anew in each statement that calls it.
CREATE OR REPLACE FUNCTION virtuozo_core.is_paused(host uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE paused_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM virtuozo_core.hosts WHERE id = host AND paused_at IS NOT NULL);
END $$;

-- Whether the circuit breaker of a host keeps everybody from it: the pause after the last failure lasts, or a probe is
-- under way.
CREATE OR REPLACE FUNCTION virtuozo_core.is_open(open_until timestamptz, lease_until timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT open_until > now() OR coalesce(virtuozo_core.is_held(lease_until), false)
$$;

-- Somebody means "now": the count begins anew, and the next who asks tries. Without a host: all of them.
CREATE OR REPLACE FUNCTION virtuozo_core.probe_now(host uuid) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    UPDATE virtuozo_core.circuit_breakers SET failed_probes = 0, open_until = now(), lease_until = NULL, owner_id = NULL
     WHERE host_id IN (SELECT x.host_id FROM virtuozo_core.circuit_breakers x
                        WHERE host IS NULL OR x.host_id = host ORDER BY x.host_id FOR UPDATE);
END;

-- What workers' machines lack now: what was found longer ago may have come back, and is tried again.
CREATE OR REPLACE VIEW virtuozo_core.lacks AS
SELECT worker_id, host_id, location, reason, noted_at
  FROM virtuozo_core.missing_capabilities
 WHERE noted_at > now() - interval '5 minutes';

-- Whether a worker's machine has what the back end of a kind of host needs; '' needs none. One that says nothing of kinds,
-- since its program is older, is taken to serve all.
CREATE OR REPLACE FUNCTION virtuozo_core.serves_kind(worker uuid, wanted text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN wanted = ''
        OR EXISTS (SELECT 1 FROM virtuozo_core.worker_kinds k
                    WHERE k.worker_id = worker AND k.kind = wanted AND k.is_served)
        OR NOT EXISTS (SELECT 1 FROM virtuozo_core.worker_kinds k WHERE k.worker_id = worker);
END $$;

-- Whether a worker leaves jobs that need this to others: its machine lacks some of it, and another worker runs that may have
-- all of it. The one rule of who takes a job of a kind that it serves: the claim asks it, and all that explains it.
CREATE OR REPLACE FUNCTION virtuozo_core.leaves_to_others(worker uuid, kind text, host uuid, locations text[]) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.lacks x
                    WHERE x.worker_id = worker AND (x.host_id = host OR x.location = ANY (locations)))
       AND EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND w.id <> worker AND NOT w.drain_requested
                      AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)
                      AND virtuozo_core.serves_kind(w.id, leaves_to_others.kind)
                      AND NOT EXISTS (SELECT 1 FROM virtuozo_core.lacks x
                                       WHERE x.worker_id = w.id AND (x.host_id = host OR x.location = ANY (locations))));
END $$;

-- What running workers lack, and whether another one runs that may have it.
CREATE OR REPLACE VIEW virtuozo_core.lacking_workers AS
SELECT w.id AS worker_id, w.name, w.machine, h.name AS host, x.location, x.reason, x.noted_at,
       virtuozo_core.leaves_to_others(w.id, coalesce(h.kind, ''), h.id, array_remove(ARRAY[x.location], NULL)) AS leaves_to_others
  FROM virtuozo_core.lacks x
  JOIN virtuozo_core.workers w ON w.id = x.worker_id AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)
  LEFT JOIN virtuozo_core.hosts h ON h.id = x.host_id;

-- Whether a worker runs that serves a kind of host.
CREATE OR REPLACE FUNCTION virtuozo_core.is_served(wanted text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)
                      AND virtuozo_core.serves_kind(w.id, wanted));
END $$;

-- Kinds of host that no running worker serves, whose they are, and what each worker lacks.
CREATE OR REPLACE VIEW virtuozo_core.unserved_kinds AS
SELECT h.kind, array_agg(h.name ORDER BY h.name) AS hosts,
       ARRAY(SELECT DISTINCT format('worker %s on %s: %s', w.name, w.machine,
                                    coalesce(k.found, 'its program knows no hosts of this kind'))
               FROM virtuozo_core.workers w
               LEFT JOIN virtuozo_core.worker_kinds k ON k.worker_id = w.id AND k.kind = h.kind
              WHERE w.kind = 'worker' AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)) AS why
  FROM virtuozo_core.hosts h
 WHERE NOT h.ignored
 GROUP BY h.kind
HAVING NOT virtuozo_core.is_served(h.kind);
