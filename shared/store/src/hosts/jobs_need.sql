-- Jobs of a host ($1) that wait for a worker need what the host takes now.
UPDATE apalis.jobs j
   SET (needs_kind, needs_locations) = (
       SELECT n.kind, n.locations FROM virtuozo_core.job_needs(j.job_type, virtuozo_core.job_subject(j.job_type, j.job)) n)
 WHERE j.status = 'Pending' AND j.job_type LIKE 'virtuozo-%' AND j.needs_host = $1
