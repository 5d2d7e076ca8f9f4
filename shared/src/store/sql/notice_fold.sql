-- All that waits to be told of runs in the same way is told by $1, unless somebody has got part of it.
WITH taken AS (
    UPDATE virtuozo_core.notices
       SET state = 'folded', folded_into = $1, ended_at = now()
     WHERE channel = $2 AND kind IN ('failure', 'success', 'owed') AND state = 'waiting' AND sent_to = '{}' AND id <> $1
 RETURNING id)
UPDATE virtuozo_core.notices n SET folded_into = $1 FROM taken WHERE n.folded_into = taken.id
