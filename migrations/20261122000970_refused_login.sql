-- A host that refuses the login is left alone like one that does not answer: one login in each pause, over the whole
-- fleet, so that no account is locked out. What waits for it says so.

ALTER TABLE virtuozo_core.host_gates ADD COLUMN login_refused boolean NOT NULL DEFAULT false;  -- it answers, and says no

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
                   || CASE WHEN x.shut_until <= now() THEN '; a probe is due'
                           WHEN x.probe_id IS NOT NULL THEN '; it is being probed'
                           ELSE format('; next probe at %s', date_trunc('second', x.shut_until)) END
              FROM virtuozo_core.host_gates x CROSS JOIN virtuozo_core.settings s
             WHERE x.host_id = host);
END $$;

-- What was there; the advice about a host that is down is about what it said.
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
 GROUP BY n.channel;

SELECT virtuozo_core.grant_roles();
