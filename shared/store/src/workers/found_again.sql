-- $1: the worker, $2: locations.
DELETE FROM virtuozo_core.missing_capabilities WHERE worker_id = $1 AND location = ANY ($2)
