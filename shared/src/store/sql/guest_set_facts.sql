-- What validation found out about a guest and its disks. A guest about which nobody has decided stays so,
-- whatever state it is in. Disks that its configuration no longer names are marked, so that what was said
-- about them (ignored) is still known should they come back.
WITH guest AS (
    UPDATE virtuozo_core.guests
       SET name = $2, power = $3,
           state = CASE WHEN configured THEN $4 ELSE 'not_configured' END,
           state_reason = $5, checked_at = now()
     WHERE id = $1
), gone AS (
    UPDATE virtuozo_core.disks
       SET state = 'not_in_inventory', state_reason = 'the guest''s configuration does not name it',
           checked_at = now()
     WHERE guest_id = $1 AND device <> ALL ($6::text[])
)
INSERT INTO virtuozo_core.disks (id, guest_id, device, file_name, capacity_bytes, state, state_reason, checked_at)
SELECT gen_random_uuid(), $1, seen.device, seen.file_name, seen.capacity_bytes,
       CASE WHEN seen.problem IS NULL THEN 'ok' ELSE 'invalid' END, seen.problem, now()
  FROM unnest($6::text[], $7::text[], $8::bigint[], $9::text[])
       AS seen (device, file_name, capacity_bytes, problem)
ON CONFLICT (guest_id, device) DO UPDATE
   SET file_name = excluded.file_name, capacity_bytes = coalesce(excluded.capacity_bytes, disks.capacity_bytes),
       state = excluded.state, state_reason = excluded.state_reason, checked_at = excluded.checked_at
