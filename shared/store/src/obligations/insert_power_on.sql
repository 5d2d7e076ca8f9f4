-- A guest has at most one obligation to be powered on; a later run takes an earlier one's over.
INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence)
SELECT $3, 'power_on', g.host_id, g.guest_id, g.id, g.fence
  FROM virtuozo_core.guest_runs g
 WHERE g.id = $1 AND g.fence = $2 AND (g.state = 'running') IS TRUE
ON CONFLICT (guest_id) WHERE kind = 'power_on'
DO UPDATE SET guest_run_id = EXCLUDED.guest_run_id, guest_run_fence = EXCLUDED.guest_run_fence
RETURNING id
