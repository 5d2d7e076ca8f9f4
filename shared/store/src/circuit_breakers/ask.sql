-- Whether a host may be connected to: without a row, it may. The probe of a circuit breaker that is half-open goes to $2,
-- the first who asks; who asks again under the same id, because the answer was lost, has it still.
WITH probe AS (
    UPDATE virtuozo_core.circuit_breakers x
       SET (fence, owner_id, lease_until) = (SELECT * FROM virtuozo_core.lease_taken_again(x.fence, x.owner_id, $2, s.lease_secs))
      FROM virtuozo_core.settings s
     WHERE x.host_id = $1 AND (NOT virtuozo_core.is_open(x.open_until, x.lease_until) OR x.owner_id = $2)
 RETURNING x.fence
)
SELECT (SELECT fence FROM probe) AS fence, x.failed_probes, x.error, x.login_refused, s.max_attempts, s.lease_secs
  FROM virtuozo_core.circuit_breakers x CROSS JOIN virtuozo_core.settings s
 WHERE x.host_id = $1
