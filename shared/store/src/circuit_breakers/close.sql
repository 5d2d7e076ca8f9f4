-- The host answers, and lets us in. Schedulers look at once for what waited.
WITH gone AS (
    DELETE FROM virtuozo_core.circuit_breakers WHERE host_id = $1
 RETURNING host_id, CASE WHEN login_refused THEN 'invalid' ELSE 'unreachable' END AS state
)
UPDATE virtuozo_core.hosts h
   SET state = CASE h.state WHEN gone.state THEN 'ok' ELSE h.state END,
       state_reason = CASE WHEN h.state <> gone.state THEN h.state_reason END
  FROM gone
 WHERE h.id = gone.host_id
RETURNING h.name, pg_notify('virtuozo::look', '')::text
