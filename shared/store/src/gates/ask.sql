-- Whether a host may be connected to: no row, it may. A gate whose time has come is taken for a probe by $2, the
-- first who asks; asked again under the same id, because the answer was lost, it is his still.
WITH probe AS (
    UPDATE virtuozo_core.host_gates x
       SET fence = x.fence + CASE WHEN x.owner_id = $2 THEN 0 ELSE 1 END, owner_id = $2,
           lease_until = now() + make_interval(secs => s.lease_secs)
      FROM virtuozo_core.settings s
     WHERE x.host_id = $1 AND (NOT virtuozo_core.is_shut(x.shut_until, x.lease_until) OR x.owner_id = $2)
 RETURNING x.fence
)
SELECT (SELECT fence FROM probe) AS fence, x.failed_probes, x.error, x.login_refused, s.max_attempts, s.lease_secs
  FROM virtuozo_core.host_gates x CROSS JOIN virtuozo_core.settings s
 WHERE x.host_id = $1
