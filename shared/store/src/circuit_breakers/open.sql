-- A failed connection, counted once: the first while the breaker is closed ($2 is NULL), and each probe ($2) that
-- is still the one. What others found meanwhile is no other failure.
INSERT INTO virtuozo_core.circuit_breakers (host_id, failed_probes, error, open_until, login_refused)
VALUES ($1, 1, $3, now() + make_interval(secs => $4), $5)
    ON CONFLICT (host_id) DO UPDATE
   SET failed_probes = circuit_breakers.failed_probes + 1, error = $3, failed_at = now(),
       open_until = now() + make_interval(secs => $4), lease_until = NULL, owner_id = NULL, login_refused = $5
 WHERE circuit_breakers.owner_id = $2
RETURNING (SELECT h.name FROM virtuozo_core.hosts h WHERE h.id = $1) AS host_name,
          (SELECT count(DISTINCT o.guest_id) FROM virtuozo_core.obligations o WHERE o.host_id = $1) AS guests_with_obligations
