-- One host run for each host that is asked for and not ignored; no targets at all: the whole site.
INSERT INTO virtuozo_core.host_runs (id, run_id, host_id, guest_ids)
SELECT gen_random_uuid(), $1, h.id,
       CASE WHEN cardinality($2::uuid[]) + cardinality($3::uuid[]) = 0 OR h.id = ANY ($2::uuid[]) THEN NULL
            ELSE (SELECT array_agg(g.id ORDER BY g.id)
                    FROM virtuozo_core.guests g
                   WHERE g.host_id = h.id AND g.id = ANY ($3::uuid[]))
       END
  FROM virtuozo_core.hosts h
 WHERE NOT h.ignored
   AND (cardinality($2::uuid[]) + cardinality($3::uuid[]) = 0
        OR h.id = ANY ($2::uuid[])
        OR EXISTS (SELECT 1 FROM virtuozo_core.guests g WHERE g.host_id = h.id AND g.id = ANY ($3::uuid[])))
 ORDER BY h.name
RETURNING id
