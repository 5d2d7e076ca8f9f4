INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, snapshot_name)
SELECT $2, 'remove_snapshot', g.host_id, g.guest_id, g.id, g.fence, $3
  FROM virtuozo_core.guest_runs g
 WHERE g.id = $1
ON CONFLICT (guest_id, snapshot_name) WHERE kind = 'remove_snapshot' DO UPDATE SET id = EXCLUDED.id
