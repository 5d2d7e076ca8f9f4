SELECT g.id, g.host_id, h.name AS host_name, g.vmx_path, g.name, g.configured, g.ignored, g.destination, g.mode,
       g.resume_power_state, g.backup_when_off, g.keep_last, g.rpo_secs, g.state, g.state_reason, g.power, g.checked_at,
       coalesce((SELECT k.hooks FROM virtuozo_core.guest_hooks k WHERE k.guest_id = g.id), '[]') AS hooks
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
 WHERE g.id = $1
