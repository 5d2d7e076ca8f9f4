INSERT INTO virtuozo.schedule_targets (schedule_id, host_id, guest_id)
SELECT $1, host_id, NULL FROM unnest($2::uuid[]) AS host_id
UNION
SELECT $1, NULL, guest_id FROM unnest($3::uuid[]) AS guest_id
