-- $1: host or NULL; $2: name, path of the .vmx or id of the guest.
SELECT g.id, g.host_id, h.name AS host_name, g.vmx_path, g.name, g.configured, g.ignored, g.destination, g.mode,
       g.resume_power_state, g.backup_when_off, g.keep_last, g.state, g.state_reason, g.power, g.checked_at
  FROM virtuozo.guests g
  JOIN virtuozo.hosts h ON h.id = g.host_id
 WHERE ($1::text IS NULL OR h.name = $1)
   AND (g.name = $2 OR g.vmx_path = $2 OR g.id::text = $2)
 ORDER BY h.name, g.vmx_path
