INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence)
SELECT $2, 'power_on', g.host_id, g.guest_id, g.id, g.fence
  FROM virtuozo_core.guest_runs g
 WHERE g.id = $1
ON CONFLICT (guest_id) WHERE kind = 'power_on' DO UPDATE SET id = EXCLUDED.id
