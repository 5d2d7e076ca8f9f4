-- Space in repositories, shared out among the copies under way.

-- Promises `needed` bytes where a guest run copies to, if they fit beside what others were promised there and have not
-- written yet. `free`: what is free there now; NULL: that is not known, and everything fits. Returns what the others
-- still write; it is refused if that and `needed` are more than `free`.
CREATE OR REPLACE FUNCTION virtuozo_core.reserve_space(run uuid, run_fence bigint, place text, on_machine text, on_device bigint,
                                                       needed bigint, free bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    others bigint;
BEGIN
    -- One at a time: otherwise two copies that begin together would not see each other.
    PERFORM pg_advisory_xact_lock(7316, 4);
    DELETE FROM virtuozo_core.space_reservations r
     WHERE NOT EXISTS (SELECT FROM virtuozo_core.guest_runs g WHERE g.id = r.guest_run_id AND g.fence = r.of_fence AND g.state = 'running');
    SELECT coalesce(sum(r.bytes - r.bytes * CASE WHEN g.progress_at > r.reserved_at AND g.bytes_total > 0
                                                 THEN least(g.bytes_copied::numeric / g.bytes_total, 1) ELSE 0 END), 0)
      INTO others
      FROM virtuozo_core.space_reservations r
      JOIN virtuozo_core.guest_runs g ON g.id = r.guest_run_id
     WHERE r.guest_run_id <> run AND (r.repository = place OR (r.machine = on_machine AND r.device = on_device));
    IF free IS NULL OR others + needed <= free THEN
        INSERT INTO virtuozo_core.space_reservations (guest_run_id, of_fence, repository, machine, device, bytes)
        VALUES (run, run_fence, place, on_machine, on_device, needed)
        ON CONFLICT (guest_run_id) DO UPDATE
           SET of_fence = EXCLUDED.of_fence, repository = EXCLUDED.repository, machine = EXCLUDED.machine, device = EXCLUDED.device,
               bytes = EXCLUDED.bytes, reserved_at = now();
    END IF;
    RETURN others;
END $$;
