INSERT INTO virtuozo_core.schedule_targets (schedule_id, host_id, guest_id)
SELECT $1::uuid, host_id, NULL::uuid FROM unnest($2::uuid[]) AS host_id
UNION
SELECT $1::uuid, NULL::uuid, guest_id FROM unnest($3::uuid[]) AS guest_id
