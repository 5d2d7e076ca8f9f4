-- What a worker found wrong with the machine that it runs on, when it worked for a host: its key does not open the
-- host's password, a datastore or a repository is not mounted there. Others are asked first for a while.
CREATE TABLE virtuozo_core.unfit_workers (
    worker_id uuid NOT NULL REFERENCES virtuozo_core.workers ON DELETE CASCADE,
    host_id   uuid NOT NULL REFERENCES virtuozo_core.hosts ON DELETE CASCADE,
    reason    text NOT NULL,
    noted_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (worker_id, host_id)
);
CREATE INDEX ON virtuozo_core.unfit_workers (host_id);

CREATE FUNCTION virtuozo_core.is_unfit(worker uuid, host uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT 1 FROM virtuozo_core.unfit_workers u
                    WHERE u.worker_id = worker AND u.host_id = host AND u.noted_at > now() - interval '5 minutes');
END $$;

-- Whether a worker leaves what there is to do for a host to others: it cannot do it, and one of them perhaps can.
CREATE FUNCTION virtuozo_core.leaves_to_others(worker uuid, host uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN virtuozo_core.is_unfit(worker, host)
       AND EXISTS (SELECT 1 FROM virtuozo_core.workers w
                    WHERE w.kind = 'worker' AND w.id <> worker AND NOT w.drain_requested
                      AND virtuozo_core.is_alive(w.heartbeat_at, w.stopped_at)
                      AND NOT virtuozo_core.is_unfit(w.id, host));
END $$;

-- Whether a job of what is due now is on its way. One that comes later than any of ours would, or is locked in the
-- future, was changed by hand or under a wrong clock, and is waited for by nobody.
CREATE FUNCTION virtuozo_core.is_on_its_way(queue text, key text, whose uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    -- A job that a worker has given back is due within seconds.
    longest_delay constant interval := '1 minute';
    longest_claim constant interval := '15 seconds';
BEGIN
    RETURN EXISTS (
        SELECT 1 FROM apalis.jobs j
         WHERE j.job_type = queue
           AND j.job = convert_to(format('{"%s":"%s"}', key, whose), 'UTF8')
           AND ((j.status = 'Pending' AND j.run_at < now() + longest_delay)
                OR (j.status IN ('Queued', 'Running')
                    AND j.lock_at > now() - longest_claim AND j.lock_at < now() + longest_claim)));
END $$;

-- Whether a job would find something to do when it is delivered, now or later.
CREATE FUNCTION virtuozo_core.has_purpose(queue text, job bytea) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    doc constant jsonb := virtuozo_core.payload(job);
BEGIN
    RETURN CASE queue
        WHEN 'virtuozo-host' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.host_runs h
             WHERE h.id = virtuozo_core.uuid_or_null(doc ->> 'host_run_id') AND h.state = 'queued')
        WHEN 'virtuozo-guest' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.guest_runs g
             WHERE g.id = virtuozo_core.uuid_or_null(doc ->> 'guest_run_id') AND (g.state = 'admitted') IS TRUE)
        WHEN 'virtuozo-undo' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.obligations o
             WHERE o.guest_id = virtuozo_core.uuid_or_null(doc ->> 'guest_id'))
        WHEN 'virtuozo-notice' THEN EXISTS (
            SELECT 1 FROM virtuozo_core.notices n
             WHERE n.id = virtuozo_core.uuid_or_null(doc ->> 'notice_id') AND n.state IN ('waiting', 'sending'))
        ELSE true
    END;
END $$;
