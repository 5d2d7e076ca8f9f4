-- Who pairs slots with runs, or claims obligations, of one host does so alone.
SELECT id FROM virtuozo.hosts WHERE id = $1 FOR NO KEY UPDATE
