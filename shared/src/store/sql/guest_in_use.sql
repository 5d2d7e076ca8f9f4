-- Why a guest cannot be removed now.
SELECT (SELECT count(*) FROM virtuozo.guest_runs
         WHERE guest_id = $1 AND state IN ('waiting', 'admitted', 'running')) AS open_runs,
       (SELECT count(*) FROM virtuozo.obligations WHERE guest_id = $1) AS obligations
