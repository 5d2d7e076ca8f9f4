-- Whether a host may be connected to: no row, it may. A gate whose time has come is claimed under $2 by the
-- first who asks; asked again under the same id, because the answer was lost, it is claimed still.
WITH probe AS (
    UPDATE virtuozo_core.host_gates x
       SET probe_id = $2, shut_until = now() + make_interval(secs => s.lease_secs)
      FROM virtuozo_core.settings s
     WHERE x.host_id = $1 AND (x.shut_until <= now() OR x.probe_id = $2)
 RETURNING x.host_id
)
SELECT EXISTS (SELECT 1 FROM probe) AS is_mine, x.failed_probes, x.error, x.login_refused, s.max_attempts, s.lease_secs
  FROM virtuozo_core.host_gates x CROSS JOIN virtuozo_core.settings s
 WHERE x.host_id = $1
