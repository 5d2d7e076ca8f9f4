-- What a guest run costs once more: its end, and the admission of the next, as one call, and jobs that are
-- pushed without reading the same payload over and over.

-- The id that a payload of the program's own form names; NULL where it has another form. Of the bytes only,
-- since what is no text at all must not be an error.
CREATE FUNCTION virtuozo_core.named_id(job bytea, key text) RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    head bytea := convert_to(format('{"%s":"', key), 'UTF8');
BEGIN
    IF length(job) <> length(head) + 38 OR substr(job, 1, length(head)) <> head THEN
        RETURN NULL;
    END IF;
    RETURN virtuozo_core.uuid_or_null(encode(substr(job, length(head) + 1, 36), 'escape'));
END $$;

-- The id that a payload names in any form.
CREATE FUNCTION virtuozo_core.payload_id(job bytea, key text) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(virtuozo_core.named_id(job, key), virtuozo_core.uuid_or_null(virtuozo_core.payload(job) ->> key));
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.is_deliverable(queue text, job bytea) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN virtuozo_core.payload_id(job, CASE queue
               WHEN 'virtuozo-host' THEN 'host_run_id'
               WHEN 'virtuozo-guest' THEN 'guest_run_id'
               WHEN 'virtuozo-notice' THEN 'notice_id'
               ELSE 'guest_id' END) IS NOT NULL;
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.trace_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    parent text;
BEGIN
    IF new.job_type = 'virtuozo-guest' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.guest_runs g JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE g.id = virtuozo_core.payload_id(new.job, 'guest_run_id');
    ELSIF new.job_type = 'virtuozo-host' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), h.id, 0) INTO parent
          FROM virtuozo_core.host_runs h JOIN virtuozo_core.runs r ON r.id = h.run_id
         WHERE h.id = virtuozo_core.payload_id(new.job, 'host_run_id');
    ELSIF new.job_type = 'virtuozo-undo' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.obligations o
          JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id
          JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE o.guest_id = virtuozo_core.payload_id(new.job, 'guest_id')
         ORDER BY o.created_at LIMIT 1;
    END IF;
    IF parent IS NOT NULL AND coalesce(new.metadata::text, '') = '' THEN
        -- As text, which is read as hstore wherever that extension lives.
        new.metadata := format('"traceparent"=>"%s"', parent);
    END IF;
    RETURN new;
END $$;

-- A ULID, as apalis makes them, without its loop over bits: the time in milliseconds, then 64 random bits in
-- hexadecimal digits, which are digits of Crockford's Base32 too.
CREATE FUNCTION virtuozo_core.job_id() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    digits CONSTANT text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    at bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    id text := upper(substr(replace(gen_random_uuid()::text, '-', ''), 1, 8) || right(gen_random_uuid()::text, 8));
BEGIN
    FOR place IN 1..10 LOOP
        id := substr(digits, (at & 31)::integer + 1, 1) || id;
        at := at >> 5;
    END LOOP;
    RETURN id;
END $$;

CREATE OR REPLACE FUNCTION virtuozo_core.push_job(queue text, key text, id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at)
    VALUES (virtuozo_core.job_id(), queue, convert_to(format('{"%s":"%s"}', key, id), 'UTF8'), 'Pending', 0, 25, now());
END $$;

-- Pairs the free slots of a host with its oldest waiting guest runs and pushes their jobs; of a guest run that
-- ends, its slot is freed before. A guest in work, or being undone, waits; of two runs of one guest the older
-- goes first; a paused host gets nothing, nor does one whose gate is shut. One that did not answer is to be
-- probed first: one guest is enough for that, also one that is still on its way. Where any cap reaches over hosts, all hosts are looked at.
-- Holds the host's row until the transaction ends: who pairs slots with runs of a host does so alone. Returns
-- the run of each that was admitted.
CREATE FUNCTION virtuozo_core.admit(host uuid, ended uuid) RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    cap integer;
    slot integer;
    next record;
    gate record;
BEGIN
    SELECT coalesce(h.guest_threads, s.guest_threads) INTO cap
      FROM virtuozo_core.hosts h CROSS JOIN virtuozo_core.settings s
     WHERE h.id = host
       FOR NO KEY UPDATE OF h;
    -- A slot beyond the host's cap goes away with its use.
    UPDATE virtuozo_core.guest_slots SET guest_run_id = NULL, taken_at = NULL WHERE guest_run_id = ended
 RETURNING slot_no INTO slot;
    IF slot > cap THEN
        DELETE FROM virtuozo_core.guest_slots WHERE host_id = host AND slot_no = slot;
    END IF;
    IF virtuozo_core.has_caps() THEN
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
    SELECT g.shut_until INTO gate FROM virtuozo_core.host_gates g WHERE g.host_id = host;
    IF gate.shut_until > now() OR virtuozo_core.is_paused(host) THEN
        RETURN;
    END IF;
    IF gate.shut_until IS NOT NULL
       AND EXISTS (SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.host_id = host AND g.state = 'admitted') THEN
        RETURN;
    END IF;
    LOOP
        SELECT s.slot_no INTO slot
          FROM virtuozo_core.guest_slots s
         WHERE s.host_id = host AND s.guest_run_id IS NULL
         ORDER BY s.slot_no
         LIMIT 1
           FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        SELECT g.id, g.run_id INTO next
          FROM virtuozo_core.guest_runs g
         WHERE g.host_id = host AND g.state = 'waiting' AND g.run_after <= now()
           AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                            WHERE o.guest_id = g.guest_id AND o.state IN ('admitted', 'running'))
           AND NOT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs o
                            WHERE o.guest_id = g.guest_id AND o.state = 'waiting' AND o.run_after <= now()
                              AND (o.created_at, o.id) < (g.created_at, g.id))
           AND NOT EXISTS (SELECT 1 FROM virtuozo_core.obligations o
                            WHERE o.guest_id = g.guest_id AND o.claimed_until > now())
         ORDER BY g.created_at, g.id
         LIMIT 1
           FOR UPDATE OF g SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        UPDATE virtuozo_core.guest_slots SET guest_run_id = next.id, taken_at = now()
         WHERE host_id = host AND slot_no = slot;
        UPDATE virtuozo_core.guest_runs SET state = 'admitted', admitted_at = now() WHERE id = next.id;
        PERFORM virtuozo_core.push_job('virtuozo-guest', 'guest_run_id', next.id);
        RETURN NEXT next.run_id;
        EXIT WHEN gate.shut_until IS NOT NULL;
    END LOOP;
END $$;
