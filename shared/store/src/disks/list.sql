SELECT id, guest_id, device, file_name, ignored, capacity_bytes, state, state_reason, checked_at
  FROM virtuozo_core.disks
 WHERE $1::uuid IS NULL OR guest_id = $1
 ORDER BY guest_id, device
