-- $1: a name, of all workers that have it, or an id.
WITH asked AS (
UPDATE virtuozo_core.workers SET drain_requested = true
 WHERE kind = 'worker' AND stopped_at IS NULL AND heartbeat_at > now() - interval '1 hour'
   AND (name = $1 OR id::text = $1)
RETURNING id, virtuozo_core.is_alive(heartbeat_at, stopped_at) AS is_alive)
SELECT asked.id, asked.is_alive FROM asked, pg_notify('virtuozo::drain', asked.id::text)
