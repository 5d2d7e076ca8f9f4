-- Fewer statements for a guest run, and less work in those that stay: what a worker needs to begin is one look,
-- the record of its validation is one statement, and rows that a statement holds anyway are not looked up again
-- by a foreign key.

-- A guest as it is read everywhere.
CREATE VIEW virtuozo_core.guest_details AS
SELECT g.id, g.host_id, h.name AS host_name, g.vmx_path, g.name, g.configured, g.ignored, g.destination, g.mode,
       g.resume_power_state, g.backup_when_off, g.keep_last, g.rpo_secs, g.state, g.state_reason, g.power, g.checked_at,
       coalesce((SELECT k.hooks FROM virtuozo_core.guest_hooks k WHERE k.guest_id = g.id), '[]') AS hooks
  FROM virtuozo_core.guests g
  JOIN virtuozo_core.hosts h ON h.id = g.host_id;

-- What validation found out about a guest and its disks. A guest about which nobody has decided stays so,
-- whatever state it is in. Disks that its configuration no longer names are marked, so that what was said
-- about them (ignored) is still known should they come back.
CREATE FUNCTION virtuozo_core.guest_seen(guest uuid, its_name text, its_power text, its_state text, reason text,
                                         devices text[], files text[], capacities bigint[], problems text[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE virtuozo_core.guests
       SET name = its_name, power = its_power,
           state = CASE WHEN configured THEN its_state ELSE 'not_configured' END,
           state_reason = reason, checked_at = now()
     WHERE id = guest;
    UPDATE virtuozo_core.disks
       SET state = 'not_in_inventory', state_reason = 'the guest''s configuration does not name it',
           checked_at = now()
     WHERE guest_id = guest AND device <> ALL (devices);
    INSERT INTO virtuozo_core.disks (id, guest_id, device, file_name, capacity_bytes, state, state_reason, checked_at)
    SELECT gen_random_uuid(), guest, seen.device, seen.file_name, seen.capacity_bytes,
           CASE WHEN seen.problem IS NULL THEN 'ok' ELSE 'invalid' END, seen.problem, now()
      FROM unnest(devices, files, capacities, problems) AS seen (device, file_name, capacity_bytes, problem)
    ON CONFLICT (guest_id, device) DO UPDATE
       SET file_name = excluded.file_name, capacity_bytes = coalesce(excluded.capacity_bytes, disks.capacity_bytes),
           state = excluded.state, state_reason = excluded.state_reason, checked_at = excluded.checked_at;
END $$;

-- Writes down that the snapshot has to be removed, and returns the time; NULL without the fence.
CREATE FUNCTION virtuozo_core.owe_snapshot(guest_run uuid, under bigint, obligation uuid, snapshot text)
RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO virtuozo_core.obligations (id, kind, host_id, guest_id, guest_run_id, fence, snapshot_name)
    SELECT obligation, 'remove_snapshot', g.host_id, g.guest_id, g.id, g.fence, snapshot
      FROM virtuozo_core.guest_runs g
     WHERE g.id = guest_run AND g.fence = under AND (g.state = 'running') IS TRUE
    ON CONFLICT (guest_id, snapshot_name) WHERE kind = 'remove_snapshot'
    DO UPDATE SET guest_run_id = excluded.guest_run_id, fence = excluded.fence;
    RETURN CASE WHEN FOUND THEN now() END;
END $$;

-- A step's output, the begin of the next, and what else is known with it, all or none: without the fence
-- nothing happens, and it is false. devices, totals and copied: how far the copy is; met and met_fences:
-- obligations that were seen to be met, each with the fence that it had then, as a newer run may have renewed it.
CREATE FUNCTION virtuozo_core.step_done(guest_run uuid, under bigint, done text, left_behind jsonb, begun text, plan text,
                                        devices text[], totals bigint[], copied bigint[], met uuid[], met_fences bigint[])
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    to_copy bigint;
    so_far bigint;
    owner uuid;
BEGIN
    IF cardinality(devices) > 0 THEN
        SELECT sum(p.total), sum(p.copied) INTO to_copy, so_far FROM unnest(totals, copied) AS p (total, copied);
    END IF;
    -- IS TRUE: the row is to be found by its key. For the bare condition a plan may go through all that is in
    -- work, along an index that has nothing else.
    UPDATE virtuozo_core.guest_runs
       SET step = coalesce(begun, step), mode = coalesce(plan, mode),
           bytes_total = coalesce(to_copy, bytes_total), bytes_copied = coalesce(so_far, bytes_copied),
           progress_at = CASE WHEN to_copy IS NULL THEN progress_at ELSE now() END
     WHERE id = guest_run AND fence = under AND (state = 'running') IS TRUE
 RETURNING owner_id INTO owner;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE virtuozo_core.steps SET state = 'done', output = left_behind, ended_at = now()
     WHERE guest_run_id = guest_run AND fence = under AND name = done;
    IF begun IS NOT NULL THEN
        INSERT INTO virtuozo_core.steps (guest_run_id, fence, name, worker_id) VALUES (guest_run, under, begun, owner)
        ON CONFLICT (guest_run_id, fence, name)
        DO UPDATE SET state = 'running', output = NULL, error = NULL, error_type = NULL, error_code = NULL,
                      started_at = now(), ended_at = NULL;
    END IF;
    IF cardinality(devices) > 0 THEN
        INSERT INTO virtuozo_core.disk_progress (guest_run_id, device, bytes_total, bytes_copied)
        SELECT guest_run, p.device, p.total, p.copied FROM unnest(devices, totals, copied) AS p (device, total, copied)
        ON CONFLICT (guest_run_id, device)
        DO UPDATE SET bytes_total = excluded.bytes_total, bytes_copied = excluded.bytes_copied, updated_at = now();
    END IF;
    IF cardinality(met) > 0 THEN
        DELETE FROM virtuozo_core.obligations o
         USING unnest(met, met_fences) AS m (id, fence)
         WHERE o.id = m.id AND o.guest_run_id = guest_run AND o.fence = m.fence;
    END IF;
    RETURN true;
END $$;

-- Frees a slot, or removes it where it lies beyond its host's cap.
CREATE FUNCTION virtuozo_core.leave_slot_no(host uuid, slot integer, cap integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF slot > cap THEN
        DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND slot_no = slot;
    ELSE
        UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL, taken_at = NULL WHERE host_id = host AND slot_no = slot;
    END IF;
END $$;

-- Pairs the free slots of a host with its oldest waiting guest runs and pushes their jobs; of a guest run that
-- ends, its slot goes to the next one or becomes free. A guest in work, or being undone, waits; of two runs of one
-- guest the older goes first; a paused host gets nothing, nor does one whose gate is shut. One that did not answer
-- is to be probed first: one guest is enough for that, also one that is still on its way. Where any cap reaches
-- over hosts, all hosts are looked at. Holds the host's row until the transaction ends: who pairs slots with runs
-- of a host does so alone. Returns the run of each that was admitted.
CREATE OR REPLACE FUNCTION virtuozo_core.admit(host uuid, ended uuid) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    this record;
    own integer;
    slot integer;
    next record;
BEGIN
    PERFORM 1 FROM virtuozo_core.hosts WHERE id = host FOR NO KEY UPDATE;
    -- As a statement of its own, which sees what was committed while this one waited for the host.
    SELECT coalesce(h.guest_threads, s.guest_threads) AS cap, g.shut_until,
           s.paused_at IS NOT NULL OR h.paused_at IS NOT NULL OR g.shut_until > now() AS held_back,
           virtuozo_core.has_caps() AS capped,
           (SELECT o.slot_no FROM virtuozo_core.guest_slots o WHERE o.guest_run_id = ended) AS own,
           EXISTS (SELECT 1 FROM virtuozo_core.guest_slots o
                    WHERE o.host_id = h.id AND o.slot_no > coalesce(h.guest_threads, s.guest_threads)) AS is_over
      INTO this
      FROM virtuozo_core.settings s
     CROSS JOIN virtuozo_core.hosts h
      LEFT JOIN virtuozo_core.host_gates g ON g.host_id = h.id
     WHERE h.id = host;
    own := this.own;
    -- Of a host with more in work than it may have since its cap was lowered, no slot goes to the next one.
    IF own IS NOT NULL AND (this.capped OR this.is_over) THEN
        PERFORM virtuozo_core.leave_slot_no(host, own, this.cap);
        own := NULL;
    END IF;
    IF this.capped THEN
        FOR next IN
            SELECT g.id, g.run_id
              FROM virtuozo_core.admit_under_caps() AS a (id)
              JOIN virtuozo_core.guest_runs g ON g.id = a.id
        LOOP
            PERFORM virtuozo_core.push_job('virtuozo-guest', 'guest_run_id', next.id);
            RETURN NEXT next.run_id;
        END LOOP;
        RETURN;
    END IF;
    IF this.held_back IS NOT TRUE
       AND (this.shut_until IS NULL
            OR NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = host AND g.state = 'admitted')) THEN
        LOOP
            IF own IS NOT NULL THEN
                slot := own;
            ELSE
                SELECT s.slot_no INTO slot
                  FROM virtuozo_core.guest_slots s
                 WHERE s.host_id = host AND s.guest_run_id IS NULL
                 ORDER BY s.slot_no
                 LIMIT 1
                   FOR UPDATE SKIP LOCKED;
                EXIT WHEN NOT FOUND;
            END IF;
            -- OFFSET 0: each is asked for the one guest run that comes first, not joined to all that wait.
            SELECT g.id, g.run_id INTO next
              FROM virtuozo_core.guest_runs g
             WHERE g.host_id = host AND g.state = 'waiting' AND g.run_after <= now()
               AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                                WHERE o.guest_id = g.guest_id AND (o.state IN ('admitted', 'running')) IS TRUE
                               OFFSET 0)
               AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                                WHERE o.guest_id = g.guest_id AND o.state = 'waiting' AND o.run_after <= now()
                                  AND (o.created_at, o.id) < (g.created_at, g.id)
                               OFFSET 0)
               AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                                WHERE o.guest_id = g.guest_id AND o.claimed_until > now()
                               OFFSET 0)
             ORDER BY g.created_at, g.id
             LIMIT 1
               FOR UPDATE OF g SKIP LOCKED;
            EXIT WHEN NOT FOUND;
            UPDATE virtuozo_core.guest_slots SET guest_run_id = next.id, taken_at = now()
             WHERE host_id = host AND slot_no = slot;
            IF slot = own THEN
                own := NULL;
            END IF;
            UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
            PERFORM virtuozo_core.push_job('virtuozo-guest', 'guest_run_id', next.id);
            RETURN NEXT next.run_id;
            EXIT WHEN this.shut_until IS NOT NULL;
        END LOOP;
    END IF;
    IF own IS NOT NULL THEN
        PERFORM virtuozo_core.leave_slot_no(host, own, this.cap);
    END IF;
END $$;

-- Steps and events are written by statements that hold the guest run, or name what was there a moment ago. That
-- cost a look for each reference, the most for what is written most. What they are about takes them along when
-- it goes, as before.
ALTER TABLE virtuozo_core.steps DROP CONSTRAINT steps_guest_run_id_fkey;
ALTER TABLE virtuozo_core.events
    DROP CONSTRAINT events_run_id_fkey,
    DROP CONSTRAINT events_host_id_fkey,
    DROP CONSTRAINT events_guest_id_fkey,
    DROP CONSTRAINT events_guest_run_id_fkey;

CREATE FUNCTION virtuozo_core.goes_with_guest_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM virtuozo_core.steps s USING gone WHERE s.guest_run_id = gone.id;
    DELETE FROM virtuozo_core.events e USING gone WHERE e.guest_run_id = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER virtuozo_goes_with AFTER DELETE ON virtuozo_core.guest_runs REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION virtuozo_core.goes_with_guest_runs();

CREATE FUNCTION virtuozo_core.goes_with_runs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM virtuozo_core.events e USING gone WHERE e.run_id = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER virtuozo_goes_with AFTER DELETE ON virtuozo_core.runs REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION virtuozo_core.goes_with_runs();

CREATE FUNCTION virtuozo_core.goes_with_hosts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM virtuozo_core.events e USING gone WHERE e.host_id = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER virtuozo_goes_with AFTER DELETE ON virtuozo_core.hosts REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION virtuozo_core.goes_with_hosts();

CREATE FUNCTION virtuozo_core.goes_with_guests() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM virtuozo_core.events e USING gone WHERE e.guest_id = gone.id;
    RETURN NULL;
END $$;
CREATE TRIGGER virtuozo_goes_with AFTER DELETE ON virtuozo_core.guests REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION virtuozo_core.goes_with_guests();

-- The server reads the text of each CHECK of a table again for each statement that changes a row of it, which
-- came to a tenth of its time. What is allowed is the same as before.
CREATE FUNCTION virtuozo_core.is_guest_run(state text, mode text, step text, error_class text,
                                           lease_until timestamptz, ended_at timestamptz)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN state IN ('waiting', 'admitted', 'running', 'succeeded', 'failed', 'skipped', 'cancelled')
       AND (mode IS NULL OR mode IN ('hot', 'cold'))
       AND (step IS NULL OR step IN ('validate', 'snapshot', 'power_off', 'copy', 'commit', 'power_on', 'publish'))
       AND (error_class IS NULL OR error_class IN ('retry', 'permanent', 'operator'))
       AND (state = 'running') = (lease_until IS NOT NULL)
       AND (state IN ('waiting', 'admitted', 'running')) = (ended_at IS NULL);
END $$;

CREATE FUNCTION virtuozo_core.is_step(name text, state text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN name IN ('validate', 'snapshot', 'power_off', 'copy', 'commit', 'power_on', 'publish')
       AND state IN ('running', 'done', 'failed');
END $$;

CREATE FUNCTION virtuozo_core.is_guest(vmx_path text, destination text, mode text, keep_last integer, state text,
                                       power text, rpo_secs integer)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN vmx_path <> ''
       AND (destination IS NULL OR destination <> '')
       AND (mode IS NULL OR mode IN ('hot', 'cold', 'auto'))
       AND (keep_last IS NULL OR keep_last >= 1)
       AND state IN ('unknown', 'ok', 'not_in_inventory', 'not_configured', 'invalid', 'powered_off')
       AND (power IS NULL OR power IN ('on', 'off', 'suspended', 'blocked_on_question'))
       AND (rpo_secs IS NULL OR rpo_secs >= 0);
END $$;

CREATE FUNCTION virtuozo_core.is_obligation(kind text, snapshot_name text, claim_id uuid, claimed_until timestamptz)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN kind IN ('remove_snapshot', 'power_on')
       AND (kind = 'remove_snapshot') = (snapshot_name IS NOT NULL)
       AND (claim_id IS NULL) = (claimed_until IS NULL);
END $$;

-- NOT VALID: the rows that are there have passed the others.
ALTER TABLE virtuozo_core.guest_runs
    ADD CONSTRAINT guest_runs_row CHECK (virtuozo_core.is_guest_run(state, mode, step, error_class, lease_until, ended_at)) NOT VALID,
    DROP CONSTRAINT guest_runs_state_check,
    DROP CONSTRAINT guest_runs_mode_check,
    DROP CONSTRAINT guest_runs_step_check,
    DROP CONSTRAINT guest_runs_error_class_check,
    DROP CONSTRAINT guest_runs_check,
    DROP CONSTRAINT guest_runs_check1;
ALTER TABLE virtuozo_core.steps
    ADD CONSTRAINT steps_row CHECK (virtuozo_core.is_step(name, state)) NOT VALID,
    DROP CONSTRAINT steps_name_check,
    DROP CONSTRAINT steps_state_check;
ALTER TABLE virtuozo_core.guests
    ADD CONSTRAINT guests_row
        CHECK (virtuozo_core.is_guest(vmx_path, destination, mode, keep_last, state, power, rpo_secs)) NOT VALID,
    DROP CONSTRAINT guests_vmx_path_check,
    DROP CONSTRAINT guests_destination_check,
    DROP CONSTRAINT guests_mode_check,
    DROP CONSTRAINT guests_keep_last_check,
    DROP CONSTRAINT guests_state_check,
    DROP CONSTRAINT guests_power_check,
    DROP CONSTRAINT guests_rpo_secs_check;
ALTER TABLE virtuozo_core.obligations
    ADD CONSTRAINT obligations_row
        CHECK (virtuozo_core.is_obligation(kind, snapshot_name, claim_id, claimed_until)) NOT VALID,
    DROP CONSTRAINT obligations_kind_check,
    DROP CONSTRAINT obligations_check,
    DROP CONSTRAINT obligations_check1;

-- What a guest is owed is asked at each admission.
CREATE INDEX obligations_guest ON virtuozo_core.obligations (guest_id);

-- Leases that ran out are found along guest_runs_one_active, which has only what is in work; without an index of
-- their own they are renewed in place.
DROP INDEX virtuozo_core.guest_runs_lease;

-- Claims leave the metadata of a job alone.
DO $$
DECLARE
    definition text;
BEGIN
    SELECT replace(pg_get_triggerdef(oid), 'INSERT OR UPDATE ON', 'INSERT OR UPDATE OF metadata ON') INTO STRICT definition
      FROM pg_trigger WHERE tgrelid = 'apalis.jobs'::regclass AND tgname = 'virtuozo_refuse_metadata';
    DROP TRIGGER virtuozo_refuse_metadata ON apalis.jobs;
    EXECUTE definition;
END $$;
