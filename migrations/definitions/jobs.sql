-- Jobs in the queues of apalis: how they are pushed, which are refused, which are of use.

-- The id that a payload of the program's own form names; NULL where it has another form. Of the bytes only,
-- since what is no text at all must not be an error.
CREATE OR REPLACE FUNCTION virtuozo_core.named_id(job bytea, key text) RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    head bytea := convert_to(format('{"%s":"', key), 'UTF8');
BEGIN
    IF length(job) <> length(head) + 38 OR substr(job, 1, length(head)) <> head THEN
        RETURN NULL;
    END IF;
    RETURN virtuozo_core.uuid_or_null(encode(substr(job, length(head) + 1, 36), 'escape'));
END $$;

-- The payload of a job, or NULL where the bytes are no JSON object.
CREATE OR REPLACE FUNCTION virtuozo_core.payload(job bytea) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    doc jsonb;
BEGIN
    doc := convert_from(job, 'UTF8')::jsonb;
    RETURN CASE WHEN jsonb_typeof(doc) = 'object' THEN doc END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- The name of what the jobs of a queue are about, in their payload.
CREATE OR REPLACE FUNCTION virtuozo_core.job_key(queue text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE queue
           WHEN 'virtuozo-host' THEN 'host_run_id'
           WHEN 'virtuozo-guest' THEN 'guest_run_id'
           WHEN 'virtuozo-undo' THEN 'guest_id'
           WHEN 'virtuozo-notice' THEN 'notice_id'
           WHEN 'virtuozo-request' THEN 'request_id'
       END;

-- The payload of a job, byte for byte: the sweeps compare payloads.
CREATE OR REPLACE FUNCTION virtuozo_core.job_payload(queue text, id uuid) RETURNS bytea LANGUAGE sql STABLE
RETURN convert_to(format('{"%s":"%s"}', virtuozo_core.job_key(queue), id), 'UTF8');

-- The id of what a job is about, in whatever form its payload is written; NULL: it names none.
CREATE OR REPLACE FUNCTION virtuozo_core.job_subject(queue text, job bytea) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
DECLARE
    key CONSTANT text := virtuozo_core.job_key(queue);
BEGIN
    RETURN coalesce(virtuozo_core.named_id(job, key), virtuozo_core.uuid_or_null(virtuozo_core.payload(job) ->> key));
END $$;

-- A claimed row that apalis cannot read ends the claimer's loop, and again with every restart. So such a row is
-- refused when it is written, whoever writes it. One trigger for all that can be wrong: each one more costs every
-- statement. metadata is an hstore, whose operators lie in a schema that is not known here: it is read as text, where
-- a NULL stands without quotes.
CREATE OR REPLACE FUNCTION virtuozo_core.guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
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
    ELSIF virtuozo_core.job_key(new.job_type) IS NOT NULL
      AND (tg_op = 'INSERT' OR new.job IS DISTINCT FROM old.job OR new.job_type IS DISTINCT FROM old.job_type)
      AND virtuozo_core.job_subject(new.job_type, new.job) IS NULL THEN
        why := 'its payload is not a JSON object with the id of a host run, guest run, guest, notice or request';
    ELSIF new.metadata::text LIKE '%=>NULL%'
      AND (tg_op = 'INSERT' OR new.metadata::text IS DISTINCT FROM old.metadata::text)
      AND regexp_replace(new.metadata::text, '"(\\.|[^"\\])*"', '', 'g') LIKE '%NULL%' THEN
        why := 'its metadata holds a NULL';
    ELSE
        RETURN new;
    END IF;
    RAISE EXCEPTION 'this row would stop every worker of the queue %: %', new.job_type, why
        USING ERRCODE = 'check_violation', HINT = 'Use the functions of the schema virtuozo instead of apalis.jobs.';
END $$;

-- The directories in which workers read what there is of a host, or of one of its guests: those of its datastores, mapped or as
-- the host writes them. A guest of which no datastore is known may have files in each of them.
CREATE OR REPLACE FUNCTION virtuozo_core.locations(host uuid, guest uuid) RETURNS text[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    known CONSTANT text[] := ARRAY(
        SELECT u.datastore FROM virtuozo_core.guests u WHERE u.id = guest AND u.datastore IS NOT NULL
         UNION
        SELECT d.datastore FROM virtuozo_core.disks d WHERE d.guest_id = guest AND NOT d.ignored AND d.datastore IS NOT NULL);
BEGIN
    RETURN ARRAY(
        SELECT DISTINCT coalesce(d.local_path, d.host_path)
          FROM virtuozo_core.datastores d
         WHERE d.host_id = host AND (known = '{}' OR d.name = ANY (known))
           AND coalesce(d.local_path, d.host_path) LIKE '/%');
END $$;

-- What a job about a subject needs of the worker that claims it. One whose subject is not known needs nothing.
CREATE OR REPLACE FUNCTION virtuozo_core.job_needs(queue text, subject uuid, OUT kind text, OUT host_id uuid, OUT locations text[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    guest uuid;
    destination text;
    reads_guests boolean := true;
BEGIN
    IF queue = 'virtuozo-guest' THEN
        SELECT g.host_id, g.guest_id, coalesce(u.destination, s.destination)
          INTO job_needs.host_id, guest, destination
          FROM virtuozo_core.guest_runs g
          JOIN virtuozo_core.guests u ON u.id = g.guest_id
         CROSS JOIN virtuozo_core.settings s
         WHERE g.id = subject;
    ELSIF queue = 'virtuozo-host' THEN
        SELECT r.host_id INTO job_needs.host_id FROM virtuozo_core.host_runs r WHERE r.id = subject;
    ELSIF queue = 'virtuozo-undo' THEN
        SELECT u.host_id, u.id INTO job_needs.host_id, guest FROM virtuozo_core.guests u WHERE u.id = subject;
    ELSIF queue = 'virtuozo-request' THEN
        SELECT q.host_id, q.kind = 'host_check' INTO job_needs.host_id, reads_guests
          FROM virtuozo_core.requests q WHERE q.id = subject;
    END IF;
    kind := coalesce((SELECT h.kind FROM virtuozo_core.hosts h WHERE h.id = job_needs.host_id), '');
    locations := CASE WHEN job_needs.host_id IS NOT NULL AND reads_guests THEN virtuozo_core.locations(job_needs.host_id, guest)
                      ELSE '{}' END;
    IF destination IS NOT NULL AND destination <> ALL (locations) THEN
        locations := locations || destination;
    END IF;
END $$;

-- Jobs are pushed in several ways, and all come past here: what a job needs, and its trace. One without a run has no trace.
CREATE OR REPLACE FUNCTION virtuozo_core.describe_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    subject CONSTANT uuid := virtuozo_core.job_subject(new.job_type, new.job);
    parent text;
BEGIN
    SELECT n.kind, n.host_id, n.locations INTO new.needs_kind, new.needs_host, new.needs_locations
      FROM virtuozo_core.job_needs(new.job_type, subject) n;
    IF new.job_type = 'virtuozo-guest' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.guest_runs g
          JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE g.id = subject;
    ELSIF new.job_type = 'virtuozo-host' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), h.id, 0) INTO parent
          FROM virtuozo_core.host_runs h
          JOIN virtuozo_core.runs r ON r.id = h.run_id
         WHERE h.id = subject;
    ELSIF new.job_type = 'virtuozo-undo' THEN
        SELECT virtuozo_core.traceparent(coalesce(r.trace_id, r.id), g.id, g.trace_fence) INTO parent
          FROM virtuozo_core.obligations o
          JOIN virtuozo_core.guest_runs g ON g.id = o.guest_run_id
          JOIN virtuozo_core.runs r ON r.id = g.run_id
         WHERE o.guest_id = subject
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
CREATE OR REPLACE FUNCTION virtuozo_core.job_id() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    digits CONSTANT text := '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
    at CONSTANT bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
BEGIN
    -- One expression: a loop over the digits costs a third more.
    RETURN substr(digits, (at >> 45 & 31)::integer + 1, 1) || substr(digits, (at >> 40 & 31)::integer + 1, 1)
        || substr(digits, (at >> 35 & 31)::integer + 1, 1) || substr(digits, (at >> 30 & 31)::integer + 1, 1)
        || substr(digits, (at >> 25 & 31)::integer + 1, 1) || substr(digits, (at >> 20 & 31)::integer + 1, 1)
        || substr(digits, (at >> 15 & 31)::integer + 1, 1) || substr(digits, (at >> 10 & 31)::integer + 1, 1)
        || substr(digits, (at >> 5 & 31)::integer + 1, 1) || substr(digits, (at & 31)::integer + 1, 1)
        || upper(substr(replace(gen_random_uuid()::text, '-', ''), 1, 8) || right(gen_random_uuid()::text, 8));
END $$;

-- Pushes jobs about these into a queue, due so many seconds from now. The one way to do so. To the microsecond: of jobs
-- with equal times any may come first, and with whole seconds one could wait for a second while younger ones pass it.
CREATE OR REPLACE FUNCTION virtuozo_core.push_jobs(queue text, subjects uuid[], delay_secs integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at)
    SELECT virtuozo_core.job_id(), queue, virtuozo_core.job_payload(queue, subject), 'Pending', 0, 25,
           now() + make_interval(secs => delay_secs)
      FROM unnest(subjects) subject;
END $$;

-- Whether a job of what is due now is on its way. One that comes later than any of ours would, or is locked in the
-- future, was changed by hand or under a wrong clock, and is waited for by nobody.
CREATE OR REPLACE FUNCTION virtuozo_core.is_on_its_way(queue text, subject uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    -- A job that a worker has given back is due within seconds.
    longest_delay constant interval := '1 minute';
    longest_claim constant interval := '15 seconds';
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM apalis.jobs j
         WHERE j.job_type = queue
           AND j.job = virtuozo_core.job_payload(queue, subject)
           AND ((j.status = 'Pending' AND j.run_at < now() + longest_delay)
                OR (j.status IN ('Queued', 'Running')
                    AND j.lock_at > now() - longest_claim AND j.lock_at < now() + longest_claim)));
END $$;

-- Whether a job would find something to do when it is delivered, now or later.
CREATE OR REPLACE FUNCTION virtuozo_core.has_purpose(queue text, job bytea) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    subject CONSTANT uuid := virtuozo_core.job_subject(queue, job);
BEGIN
    RETURN CASE queue
        WHEN 'virtuozo-host' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.host_runs h WHERE h.id = subject AND h.state = 'queued')
        WHEN 'virtuozo-guest' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.guest_runs g WHERE g.id = subject AND (g.state = 'admitted') IS TRUE)
        WHEN 'virtuozo-undo' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.obligations o WHERE o.guest_id = subject)
        WHEN 'virtuozo-notice' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.notices n WHERE n.id = subject AND n.state IN ('waiting', 'sending'))
        WHEN 'virtuozo-request' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.requests q WHERE q.id = subject AND q.state = 'waiting')
        ELSE true
    END;
END $$;
