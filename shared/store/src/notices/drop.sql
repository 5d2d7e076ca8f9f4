-- The run of this notice goes on, since an operator gave it another try: its end will be told.
UPDATE virtuozo_core.notices n
   SET state = 'dropped', lease_until = NULL, owner_id = NULL, ended_at = now(), last_error = 'its run goes on'
 WHERE n.id = $1 AND n.fence = $2 AND n.kind IN ('failure', 'success') AND n.sent_to = '{}'
   AND EXISTS (SELECT 1 FROM virtuozo_core.runs r WHERE r.id = n.run_id AND r.state = 'running')
   AND NOT EXISTS (SELECT 1 FROM virtuozo_core.notices f WHERE f.folded_into = n.id)
