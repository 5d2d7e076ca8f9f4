-- $5: for how long somebody waits for the answer, in seconds.
INSERT INTO virtuozo_core.requests (id, kind, host_id, requested_by, wanted_until)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))
