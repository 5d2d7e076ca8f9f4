-- $1: host, $2: name of the host, $3: name, path of the .vmx or id as text; NULL: any.
SELECT g.id, g.host_id, h.name AS host_name, g.vmx_path, g.name, g.configured, g.ignored, g.destination, g.mode,
       g.resume_power_state, g.backup_when_off, g.keep_last, g.rpo_secs, g.state, g.state_reason, g.power, g.checked_at,
       coalesce((SELECT k.hooks FROM virtuozo_core.guest_hooks k WHERE k.guest_id = g.id), '[]') AS hooks
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id
 WHERE ($1::uuid IS NULL OR g.host_id = $1)
   AND ($2::text IS NULL OR h.name = $2)
   AND ($3::text IS NULL OR g.name = $3 OR g.vmx_path = $3 OR g.id::text = $3)
 ORDER BY h.name, g.name, g.vmx_path
