-- The password goes where the host has another address or user, as it is not for that one. What the last validation found
-- stays, unless another host may be meant, or be seen another way, from now on.
UPDATE virtuozo_core.hosts
   SET password_sealed = CASE WHEN is_same_place THEN password_sealed END, name = $2, kind = $3, address = $4, user_name = $5, properties = $6, ignored = $7, guest_threads = $8,
       state = CASE WHEN is_same THEN state ELSE 'unknown' END,
       state_reason = CASE WHEN is_same THEN state_reason END, updated_at = now()
  FROM (SELECT (kind, address, user_name, properties) IS NOT DISTINCT FROM ($3, $4, $5, $6) AS is_same,
               (address, user_name) IS NOT DISTINCT FROM ($4, $5) AS is_same_place
          FROM virtuozo_core.hosts WHERE id = $1) x
 WHERE id = $1
RETURNING virtuozo_core.probe_now(id)
