-- What every guest run pays. A function in LANGUAGE sql that is not inlined is planned anew in each
-- statement that calls it; one in plpgsql keeps its plans for the session. Their answers are as before.

CREATE OR REPLACE FUNCTION virtuozo_core.is_paused(host uuid) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE paused_at IS NOT NULL)
        OR EXISTS (SELECT 1 FROM virtuozo_core.hosts WHERE id = host AND paused_at IS NOT NULL);
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.has_caps() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.settings WHERE fleet_guest_threads IS NOT NULL)
        OR EXISTS (SELECT 1 FROM virtuozo_core.repositories)
        OR EXISTS (SELECT 1 FROM virtuozo_core.datastores WHERE guest_threads IS NOT NULL);
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.push_job(queue text, key text, id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at)
    VALUES (apalis.generate_ulid(), queue, convert_to(format('{"%s":"%s"}', key, id), 'UTF8'), 'Pending', 0, 25,
            date_trunc('second', now()));
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.free_slots(guest_runs uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH mine AS (
        SELECT s.host_id, s.slot_no, s.slot_no > coalesce(h.guest_threads, x.guest_threads) AS surplus
          FROM virtuozo_core.guest_slots s
          JOIN virtuozo_core.hosts h ON h.id = s.host_id
         CROSS JOIN virtuozo_core.settings x
         WHERE s.guest_run_id = ANY (guest_runs)
    ), gone AS (
        DELETE FROM virtuozo_core.guest_slots s
         USING mine WHERE s.host_id = mine.host_id AND s.slot_no = mine.slot_no AND mine.surplus
    )
    UPDATE virtuozo_core.guest_slots s
       SET guest_run_id = NULL, taken_at = NULL
      FROM mine
     WHERE s.host_id = mine.host_id AND s.slot_no = mine.slot_no AND NOT mine.surplus;
END $$;

-- Whether a run still has something to do on one host is asked at the end of each of its guest runs.
DROP INDEX virtuozo_core.guest_runs_open;
CREATE INDEX guest_runs_open ON virtuozo_core.guest_runs (run_id, host_id) WHERE state IN ('waiting', 'admitted', 'running');

-- Rows that change several times in their short life leave room beside them for their next version.
ALTER TABLE virtuozo_core.guest_runs SET (fillfactor = 70);
ALTER TABLE virtuozo_core.steps SET (fillfactor = 70);
ALTER TABLE virtuozo_core.guest_slots SET (fillfactor = 50);
