-- Who pairs slots with runs, or claims obligations, of one host does so alone.
SELECT 1 FROM virtuozo_core.hosts WHERE id = $1 FOR NO KEY UPDATE
