-- The host answers. Schedulers look at once for what waited.
WITH gone AS (
    DELETE FROM virtuozo_core.host_gates WHERE host_id = $1 RETURNING host_id
)
UPDATE virtuozo_core.hosts h
   SET state = CASE h.state WHEN 'unreachable' THEN 'ok' ELSE h.state END,
       state_reason = CASE WHEN h.state <> 'unreachable' THEN h.state_reason END
  FROM gone
 WHERE h.id = gone.host_id
RETURNING h.name, pg_notify('virtuozo::look', '')::text
