-- $1: the guest run, $2: fences up to this one belong to before it was put back to work, $3: what such a failure is called.
SELECT count(*) FROM virtuozo_core.steps
 WHERE guest_run_id = $1 AND fence > $2 AND name = 'verify' AND state = 'failed' AND error_type = $3
