-- From which fence on the copies of these guest runs may still be needed; never of one that has ended.
SELECT id,
       CASE WHEN state IN ('waiting', 'admitted', 'running') AND attempt_fence IS NOT NULL THEN attempt_fence
            ELSE 9223372036854775807 END
  FROM virtuozo_core.guest_runs
 WHERE id = ANY ($1::uuid[])
