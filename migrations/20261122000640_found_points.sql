-- Restore points may enter the catalogue from their repository instead of from the run that made them.

-- When a scan entered it; NULL: the run did, which knows its guest for certain.
ALTER TABLE virtuozo_core.restore_points ADD COLUMN found_at timestamptz;
