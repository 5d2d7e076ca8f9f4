SELECT id, kind, host_id, guest_id, guest_run_id, fence, snapshot_name, attempts
  FROM virtuozo_core.obligations
 WHERE guest_id = $1
 ORDER BY created_at
