-- The later version's migration: one table more, and one column more in a table that is used all the time.
CREATE TABLE virtuozo_core.noted_jobs (id text PRIMARY KEY, noted_by text NOT NULL);
ALTER TABLE virtuozo_core.guest_runs ADD COLUMN noted text NOT NULL DEFAULT 'not yet';
