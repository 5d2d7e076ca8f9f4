-- Guests that the host names and we do not know yet; the setting new_guests decides about them.
INSERT INTO virtuozo_core.guests (id, host_id, vmx_path, name, configured, state)
SELECT gen_random_uuid(), $1, seen.vmx_path, seen.name, s.new_guests = 'backup',
       CASE s.new_guests WHEN 'backup' THEN 'unknown' ELSE 'not_configured' END
  FROM unnest($2::text[], $3::text[]) AS seen (vmx_path, name)
 CROSS JOIN virtuozo_core.settings s
ON CONFLICT (host_id, vmx_path) DO NOTHING
RETURNING id, name, configured
