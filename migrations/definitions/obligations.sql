-- What must be undone whatever happens.

-- Writes down that the snapshot has to be removed, and returns the time; NULL without the fence.
CREATE OR REPLACE FUNCTION virtuozo_core.record_snapshot_obligation(guest_run uuid, under bigint, obligation uuid, snapshot text)
RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, guest_run_fence, snapshot_name)
    SELECT obligation, 'remove_snapshot', g.host_id, g.guest_id, g.id, g.fence, snapshot
      FROM virtuozo_core.guest_runs g
     WHERE g.id = guest_run AND g.fence = under AND (g.state = 'running') IS TRUE
    ON CONFLICT (guest_id, snapshot_name) WHERE kind = 'remove_snapshot'
    DO UPDATE SET guest_run_id = excluded.guest_run_id, guest_run_fence = excluded.guest_run_fence;
    RETURN CASE WHEN FOUND THEN now() END;
END $$;
