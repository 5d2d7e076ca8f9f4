SELECT g.id, g.host_id, h.name AS host_name, g.vmx_path, g.name, g.configured, g.ignored, g.destination, g.mode,
       g.resume_power_state, g.backup_when_off, g.keep_last, g.state, g.state_reason, g.power, g.checked_at
  FROM virtuozo.guests g
  JOIN virtuozo.hosts h ON h.id = g.host_id
 WHERE $1::uuid IS NULL OR g.host_id = $1
 ORDER BY h.name, g.name, g.vmx_path
