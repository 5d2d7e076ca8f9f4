
-- The later version's way to make the id of a job: it notes each one.
CREATE OR REPLACE FUNCTION virtuozo_core.job_id() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    made CONSTANT text := apalis.generate_ulid();
BEGIN
    INSERT INTO virtuozo_core.noted_jobs (id, noted_by) VALUES (made, session_user);
    RETURN made;
END $$;

-- And a column more in a view.
CREATE OR REPLACE VIEW virtuozo.notices AS
SELECT n.id, n.kind, n.channel, n.run_id, n.state, n.folded_into, n.held, n.attempts, n.run_after, n.sent_to,
       n.refused_to, n.last_error, n.created_at, n.ended_at, 'not yet'::text AS noted
  FROM virtuozo_core.notices n;
