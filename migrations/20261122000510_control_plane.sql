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

-- Due to the microsecond: of jobs with equal times any may come first, and with whole seconds one could wait
-- for a second while younger ones pass it.
CREATE OR REPLACE FUNCTION virtuozo_core.push_job(queue text, key text, id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at)
    VALUES (apalis.generate_ulid(), queue, convert_to(format('{"%s":"%s"}', key, id), 'UTF8'), 'Pending', 0, 25, now());
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

-- Frees the slot of a guest run that ends, and holds the host for the admission that follows as a statement of
-- its own. Tells whether any cap reaches over hosts.
CREATE FUNCTION virtuozo_core.leave_slot(guest_run uuid, host uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM virtuozo_core.free_slots(ARRAY[guest_run]);
    PERFORM 1 FROM virtuozo_core.hosts WHERE id = host FOR NO KEY UPDATE;
    RETURN virtuozo_core.has_caps();
END $$;

-- The guard of the queues as one trigger: the condition of each of five was made anew for each statement.
-- That of the metadata stays: only at its creation the schema of hstore is sure to be found.
CREATE FUNCTION virtuozo_core.guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    why text;
BEGIN
    IF new.job_type NOT LIKE 'virtuozo-%' THEN
        RETURN new;
    END IF;
    IF new.id !~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$' THEN
        why := 'its id is no ULID, which apalis.generate_ulid() makes';
    ELSIF least(new.run_at, new.lock_at, new.done_at) < '1970-01-02'
       OR greatest(new.run_at, new.lock_at, new.done_at) > '9999-01-01' THEN
        why := 'a time in it is before 1970 or after 9999';
    ELSIF new.attempts < 0 OR new.max_attempts < 1 OR new.priority < 0 THEN
        why := 'attempts, max_attempts or priority is below what apalis reads';
    ELSIF new.status NOT IN ('Pending', 'Queued', 'Running', 'Done', 'Failed', 'Killed') THEN
        why := 'its status is none of Pending, Queued, Running, Done, Failed, Killed';
    ELSIF new.job_type IN ('virtuozo-host', 'virtuozo-guest', 'virtuozo-undo')
      AND (tg_op = 'INSERT' OR new.job IS DISTINCT FROM old.job OR new.job_type IS DISTINCT FROM old.job_type)
      AND NOT virtuozo_core.is_deliverable(new.job_type, new.job) THEN
        why := 'its payload is not a JSON object with the id of a host run, guest run or guest';
    ELSE
        RETURN new;
    END IF;
    RAISE EXCEPTION 'this row would stop every worker of the queue %: %', new.job_type, why
        USING ERRCODE = 'check_violation', HINT = 'Use the functions of the schema virtuozo instead of apalis.jobs.';
END $$;
DROP TRIGGER virtuozo_refuse_id ON apalis.jobs;
DROP TRIGGER virtuozo_refuse_time ON apalis.jobs;
DROP TRIGGER virtuozo_refuse_number ON apalis.jobs;
DROP TRIGGER virtuozo_refuse_status ON apalis.jobs;
DROP TRIGGER virtuozo_refuse_payload ON apalis.jobs;
CREATE TRIGGER virtuozo_guard BEFORE INSERT OR UPDATE ON apalis.jobs FOR EACH ROW EXECUTE FUNCTION virtuozo_core.guard_job();

CREATE OR REPLACE FUNCTION virtuozo_core.is_deliverable(queue text, job bytea) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    key text := CASE queue WHEN 'virtuozo-host' THEN 'host_run_id' WHEN 'virtuozo-guest' THEN 'guest_run_id' ELSE 'guest_id' END;
BEGIN
    RETURN coalesce(virtuozo_core.uuid_or_null(virtuozo_core.payload(job) ->> key) IS NOT NULL, false);
END $$;

-- Whether a run still has something to do on one host is asked at the end of each of its guest runs.
DROP INDEX virtuozo_core.guest_runs_open;
CREATE INDEX guest_runs_open ON virtuozo_core.guest_runs (run_id, host_id) WHERE state IN ('waiting', 'admitted', 'running');

-- Rows that change several times in their short life leave room beside them for their next version.
ALTER TABLE virtuozo_core.guest_runs SET (fillfactor = 70);
ALTER TABLE virtuozo_core.steps SET (fillfactor = 70);
ALTER TABLE virtuozo_core.guest_slots SET (fillfactor = 50);
