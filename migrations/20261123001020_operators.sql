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

SELECT virtuozo_core.grant_roles();
