-- The claim is given up; the next who asks may try.
UPDATE virtuozo_core.host_gates SET probe_id = NULL, shut_until = now() WHERE host_id = $1 AND probe_id = $2
