-- What the message of the notice $1 is about.
SELECT coalesce(array_agg(DISTINCT run_id) FILTER (WHERE run_id IS NOT NULL), '{}') AS run_ids,
       bool_or(kind = 'obligation') AS is_obligation, bool_or(held) AS is_held, count(*) AS notices
  FROM virtuozo_core.notices
 WHERE id = $1 OR folded_into = $1
