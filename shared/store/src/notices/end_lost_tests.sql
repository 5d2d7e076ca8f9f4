-- Tests whose sender is gone: nobody waits for them any more, and no scheduler sends them.
UPDATE virtuozo_core.notices
   SET state = 'failed', lease_until = NULL, owner_id = NULL, ended_at = now(), last_error = 'the test was interrupted'
 WHERE kind = 'test'
   AND ((state = 'sending' AND virtuozo_core.is_over(lease_until))
        OR (state = 'waiting' AND run_after < now() - interval '1 minute'))
