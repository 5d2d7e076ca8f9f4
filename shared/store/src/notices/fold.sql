-- All that waits to be told of runs in the same way is told by $1, unless somebody has got part of it. What is
-- locked stays: its run ends just now, and would be told as it was before.
WITH open AS (
    SELECT id FROM virtuozo_core.notices
     WHERE channel = $2 AND kind IN ('failure', 'success', 'obligation') AND state = 'waiting' AND sent_to = '{}' AND id <> $1
       FOR NO KEY UPDATE SKIP LOCKED
), taken AS (
    UPDATE virtuozo_core.notices n
       SET state = 'folded', folded_into = $1, ended_at = now()
      FROM open
     WHERE n.id = open.id
 RETURNING n.id)
UPDATE virtuozo_core.notices n SET folded_into = $1 FROM taken WHERE n.folded_into = taken.id
