-- Whether a run has something open on a host. Whoever ends guest runs of the host, and admits the next, does
-- so alone, so of two the second sees the first.
SELECT EXISTS (SELECT 1 FROM virtuozo_core.guest_runs
                WHERE run_id = $1 AND host_id = $2 AND state IN ('waiting', 'admitted', 'running'))
