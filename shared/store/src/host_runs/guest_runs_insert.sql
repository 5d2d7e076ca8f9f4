-- A guest that cannot be backed up gets a run that has ended at once, with the reason.
INSERT INTO virtuozo_core.guest_runs (id, run_id, host_run_id, host_id, guest_id, state, error, error_class, ended_at)
SELECT n.id, $1, $2, $3, n.guest_id, n.state, n.error, n.error_class, CASE WHEN n.state <> 'waiting' THEN now() END
  FROM unnest($4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[]) AS n (id, guest_id, state, error, error_class)
ON CONFLICT (run_id, guest_id) DO NOTHING
