DELETE FROM apalis.jobs
 WHERE job_type LIKE 'virtuozo-%' AND status IN ('Done', 'Failed', 'Killed') AND done_at < now() - interval '1 hour'
