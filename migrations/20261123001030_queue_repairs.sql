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
