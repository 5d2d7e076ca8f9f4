-- Why a host cannot be removed now: guest runs that are not over, and obligations that are not met.
SELECT (SELECT count(*) FROM virtuozo.host_runs
         WHERE host_id = $1 AND state IN ('queued', 'running'))
     + (SELECT count(*) FROM virtuozo.guest_runs
         WHERE host_id = $1 AND state IN ('waiting', 'admitted', 'running')) AS open_runs,
       (SELECT count(*) FROM virtuozo.obligations WHERE host_id = $1) AS obligations
