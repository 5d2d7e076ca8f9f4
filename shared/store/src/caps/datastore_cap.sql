UPDATE virtuozo_core.datastores SET guest_threads = $3
 WHERE host_id = $1 AND name = $2
RETURNING name
